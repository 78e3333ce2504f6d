use crate::metric::Severity::{Page, Ticket};
use crate::metric::{Alert, Metric, Unit};

pub const METRICS: &[Metric] = &[
    Metric::summary("tandem_log_fsync_seconds", "How long one sync of the log takes.")
        .unit(Unit::Seconds)
        .alerts(&[Alert {
            name: "TandemDiskSlow",
            expression: "tandem_log_fsync_seconds{quantile=\"0.99\"} > 0.1",
            lasts: "5m",
            severity: Ticket,
            summary: "One sync of the log in a hundred takes more than 100 ms: calls are set up late.",
            page: "alerts/TandemDiskSlow.md",
        }]),
    Metric::gauge("tandem_log_stalled_seconds", "How long the write under way has taken so far.")
        .unit(Unit::Seconds),
    Metric::counter("tandem_log_stalls_total", "Times that the disk failed or stood still for 2 s.")
        .alerts(&[Alert {
            name: "TandemDiskStalled",
            expression: "increase(tandem_log_stalls_total[10m]) > 0",
            lasts: "0m",
            severity: Page,
            summary: "The disk of the log failed or stood still: this process leads nothing meanwhile.",
            page: "codes/TD0420.md",
        }]),
    Metric::gauge("tandem_log_failed", "1 while the log can't be written.").alerts(&[Alert {
        name: "TandemLogFailed",
        expression: "tandem_log_failed == 1",
        lasts: "0m",
        severity: Page,
        summary: "The log can't be written: the next failure of another voter stops all decisions.",
        page: "codes/TD0421.md",
    }]),
    Metric::counter("tandem_log_failures_total", "Writes of the log that the disk refused."),
    Metric::counter(
        "tandem_log_leads_given_away_total",
        "Leads that a process gave away because its disk failed or stood still.",
    ),
    Metric::counter("tandem_log_writes_total", "Writes of the log, each with one sync."),
    Metric::summary("tandem_log_batch_ops", "Operations that one write of the log gathers."),
    Metric::summary("tandem_log_batch_bytes", "Bytes of one write of the log.").unit(Unit::Bytes),
    Metric::gauge("tandem_log_segments", "Segments of the log that hold what is still needed."),
    Metric::gauge("tandem_log_durability", "1 for the mode in use: whether writes are synced.")
        .labels(&["mode"]),
    Metric::gauge("tandem_log_bytes", "Disk that the log takes.").unit(Unit::Bytes).alerts(&[
        Alert {
            name: "TandemLogFull",
            expression: "tandem_log_bytes >= tandem_log_bytes_max",
            lasts: "0m",
            severity: Page,
            summary: "The log has reached its disk budget: new calls are refused here.",
            page: "codes/TD0436.md",
        },
    ]),
    Metric::gauge("tandem_log_bytes_max", "Disk budget of the log.").unit(Unit::Bytes),
    Metric::gauge("tandem_state_bytes", "Disk that the state takes.").unit(Unit::Bytes).alerts(&[
        Alert {
            name: "TandemStateNearlyFull",
            expression: "tandem_state_bytes >= 0.8 * tandem_state_bytes_max",
            lasts: "5m",
            severity: Ticket,
            summary: "The state takes more than 80 % of its disk budget.",
            page: "codes/TD0437.md",
        },
        Alert {
            name: "TandemStateFull",
            expression: "tandem_state_bytes >= tandem_state_bytes_max",
            lasts: "0m",
            severity: Page,
            summary: "The state has reached its disk budget: new calls are refused here.",
            page: "codes/TD0438.md",
        },
    ]),
    Metric::gauge("tandem_state_bytes_max", "Disk budget of the state.").unit(Unit::Bytes),
    Metric::gauge("tandem_state_memory_bytes", "Memory that the state's database holds.")
        .unit(Unit::Bytes)
        .labels(&["part"]),
    Metric::counter(
        "tandem_state_writes_stalled_total",
        "Writes of the state that had to wait for the database.",
    ),
    Metric::counter(
        "tandem_state_damaged_total",
        "Starts at which the state was damaged and was put aside, to be made again.",
    )
    .alerts(&[Alert {
        name: "TandemStateDamaged",
        expression: "tandem_state_damaged_total > 0",
        lasts: "0m",
        severity: Ticket,
        summary: "The state on disk was damaged and is made again: look at the disk.",
        page: "codes/TD0425.md",
    }]),
];
