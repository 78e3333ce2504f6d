use crate::metric::Severity::{Page, Ticket};
use crate::metric::{Alert, Metric, Unit};

pub const METRICS: &[Metric] = &[
    Metric::gauge("tandem_build_info", "1, with the build and the process as labels.")
        .labels(&["version", "role", "process"]),
    Metric::counter("process_cpu_seconds_total", "CPU time of this process, user and system.")
        .unit(Unit::Seconds),
    Metric::gauge("process_resident_memory_bytes", "Resident memory of this process.")
        .unit(Unit::Bytes),
    Metric::gauge("process_open_fds", "Open file descriptors of this process."),
    Metric::gauge(
        "tandem_certificate_expires_timestamp_seconds",
        "When the process's certificate ends, or the first of the authorities that it trusts.",
    )
    .unit(Unit::Timestamp)
    .labels(&["certificate"])
    .alerts(&[
        Alert {
            name: "TandemCertificateEndsSoon",
            expression: "tandem_certificate_expires_timestamp_seconds - time() < 30 * 86400",
            lasts: "10m",
            severity: Ticket,
            summary: "A certificate between processes ends within 30 days.",
            page: "codes/TD0461.md",
        },
        Alert {
            name: "TandemCertificateEnds",
            expression: "tandem_certificate_expires_timestamp_seconds - time() < 7 * 86400",
            lasts: "10m",
            severity: Page,
            summary: "A certificate between processes ends within 7 days; then nobody takes a new connection of it.",
            page: "codes/TD0462.md",
        },
    ]),
    Metric::gauge(
        "tandem_certificate_authority_trusted",
        "1 for each authority that this process trusts, by the beginning of its fingerprint.",
    )
    .labels(&["authority"]),
    Metric::gauge(
        "tandem_certificate_in_use",
        "1 for the certificate that this process shows, by the beginning of its fingerprint.",
    )
    .labels(&["certificate"]),
    Metric::counter(
        "tandem_certificate_reloads_total",
        "Times that changed certificate files were read, by what came of it.",
    )
    .labels(&["result"])
    .alerts(&[Alert {
        name: "TandemCertificateRefused",
        expression: "increase(tandem_certificate_reloads_total{result=\"refused\"}[10m]) > 0",
        lasts: "0m",
        severity: Ticket,
        summary: "A new certificate is of no use; the old one is kept until it ends.",
        page: "codes/TD0460.md",
    }]),
    Metric::counter(
        "tandem_certificate_refusals_total",
        "Connections between processes that failed for want of a certificate that proves who is there.",
    ),
];
