use crate::metric::Severity::{Page, Ticket};
use crate::metric::{Alert, Metric, Unit};

pub const METRICS: &[Metric] = &[
    Metric::counter(
        "tandem_sip_requests_total",
        "SIP requests received, by method, without retransmissions.",
    )
    .labels(&["method"]),
    Metric::counter("tandem_sip_responses_total", "SIP responses sent, by class.")
        .labels(&["class"]),
    Metric::summary("tandem_sip_invite_to_100_seconds", "From an INVITE to its first response.")
        .unit(Unit::Seconds),
    Metric::counter(
        "tandem_sip_retransmissions_absorbed_total",
        "Requests that came again and needed nothing more.",
    ),
    Metric::gauge("tandem_sip_transactions_active", "Transactions under way, by side.")
        .labels(&["side"]),
    Metric::gauge(
        "tandem_sip_new_calls_admitted_ratio",
        "Share of new calls that overload control admits.",
    )
    .unit(Unit::Ratio)
    .alerts(&[Alert {
        name: "TandemOverload",
        expression: "tandem_sip_new_calls_admitted_ratio < 1",
        lasts: "1m",
        severity: Page,
        summary: "A gateway refuses part of the new calls because it is overloaded.",
        page: "alerts/TandemOverload.md",
    }]),
    Metric::counter("tandem_sip_overload_refusals_total", "New calls refused with 503."),
    Metric::counter(
        "tandem_sip_dropped_total",
        "SIP messages dropped without an answer, by reason.",
    )
    .labels(&["reason"]),
    Metric::counter("tandem_sip_malformed_total", "What came in and was no SIP, by reason.")
        .labels(&["reason"]),
    Metric::counter(
        "tandem_sip_send_failures_total",
        "SIP messages that the kernel or a connection did not take.",
    ),
    Metric::counter(
        "tandem_sip_fenced_total",
        "SIP messages not sent because the service address is leased to another.",
    ),
    Metric::counter("tandem_sip_registrations_refused_total", "Requests that proved no password."),
    Metric::counter("tandem_sip_replays_refused_total", "Requests that repeated another's proof."),
    Metric::counter("tandem_sip_scanners_total", "Requests of known scanners."),
    Metric::counter(
        "tandem_sip_unknown_dialogs_total",
        "Requests within dialogs that nobody here knows: late, or forged.",
    )
    .labels(&["method"]),
    Metric::counter(
        "tandem_sip_strangers_put_off_total",
        "Requests of strangers beyond what is looked at.",
    )
    .labels(&["what"]),
    Metric::gauge("tandem_sip_connections", "Connections open: TCP, TLS and WebSocket."),
    Metric::counter("tandem_sip_connections_total", "Connections opened, by who opened them.")
        .labels(&["side", "transport"]),
    Metric::counter("tandem_sip_connections_closed_total", "Connections closed, by reason.")
        .labels(&["reason"]),
    Metric::counter("tandem_sip_connections_refused_total", "Connections refused, by reason.")
        .labels(&["reason"]),
    Metric::counter("tandem_sip_tls_handshakes_total", "TLS handshakes, by how they ended.")
        .labels(&["side", "result"]),
    Metric::counter(
        "tandem_sip_websocket_handshakes_total",
        "WebSocket handshakes, by how they ended.",
    )
    .labels(&["result"]),
    Metric::counter(
        "tandem_sip_certificate_reloads_total",
        "Times that changed SIP certificates were read.",
    )
    .labels(&["result"])
    .alerts(&[Alert {
        name: "TandemSipCertificateRefused",
        expression: "increase(tandem_sip_certificate_reloads_total{result=\"refused\"}[10m]) > 0",
        lasts: "0m",
        severity: Ticket,
        summary: "The new SIP certificate is of no use; the old one is kept until it ends.",
        page: "codes/TD0305.md",
    }]),
    Metric::gauge(
        "tandem_trunk_registered",
        "1 while a carrier holds this gateway's registration.",
    )
    .labels(&["tenant", "trunk"]),
    Metric::gauge("tandem_trunk_peer_up", "1 while a carrier's peer answers OPTIONS.")
        .labels(&["tenant", "trunk", "peer"]),
    Metric::counter("tandem_trunk_options_total", "OPTIONS to carriers, by outcome.")
        .labels(&["outcome"]),
    Metric::counter(
        "tandem_line_address_announcements_total",
        "Times that a service address was announced to its network.",
    ),
    Metric::counter(
        "tandem_line_address_claims_total",
        "Times that another host claimed a service address that is served here.",
    ),
    Metric::counter(
        "tandem_line_address_failures_total",
        "Times that a service address could not be taken or dropped.",
    )
    .labels(&["action"])
    .alerts(&[Alert {
        name: "TandemAddressNotMoved",
        expression: "increase(tandem_line_address_failures_total{action=\"take\"}[10m]) > 0",
        lasts: "0m",
        severity: Page,
        summary: "A service address can't be brought to a host: its line is given back.",
        page: "codes/TD0350.md",
    }]),
    Metric::counter("tandem_trace_dropped_total", "Messages that a trace had no room for."),
    Metric::counter("tandem_trace_write_failures_total", "Writes of traces that the disk refused."),
];
