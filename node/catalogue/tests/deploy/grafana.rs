//! One screen for who is on call: what callers feel first, what explains it below.

use serde_json::{Value, json};

const COLUMNS: u64 = 24;
const PANEL_HEIGHT: u64 = 8;
const PANELS_PER_ROW: u64 = 3;

struct Panel {
    title: &'static str,
    unit: &'static str,
    /// Expression and legend.
    lines: &'static [(&'static str, &'static str)],
}

const PANELS: &[Panel] = &[
    Panel {
        title: "Calls preserved ÷ calls at risk, 30 days",
        unit: "percentunit",
        lines: &[(
            "1 - sum(increase(tandem_calls_lost_total[30d])) / sum(increase(tandem_calls_at_risk_total[30d]))",
            "preserved",
        )],
    },
    Panel {
        title: "Takeovers: calls at risk and calls lost",
        unit: "short",
        lines: &[
            ("sum(increase(tandem_calls_at_risk_total[5m]))", "at risk"),
            ("sum(increase(tandem_calls_lost_total[5m]))", "lost"),
        ],
    },
    Panel {
        title: "Live entities on their leaders",
        unit: "short",
        lines: &[("sum by (kind) (tandem_actors)", "{{kind}}")],
    },
    Panel {
        title: "Who leads",
        unit: "short",
        lines: &[("sum by (instance) (tandem_raft_leader)", "{{instance}}")],
    },
    Panel {
        title: "Commit",
        unit: "s",
        lines: &[
            ("max by (instance) (tandem_propose_seconds{quantile=\"0.5\"})", "{{instance}} p50"),
            ("max by (instance) (tandem_propose_seconds{quantile=\"0.99\"})", "{{instance}} p99"),
        ],
    },
    Panel {
        title: "Sync of the log",
        unit: "s",
        lines: &[
            ("max by (instance) (tandem_log_fsync_seconds{quantile=\"0.5\"})", "{{instance}} p50"),
            ("max by (instance) (tandem_log_fsync_seconds{quantile=\"0.99\"})", "{{instance}} p99"),
        ],
    },
    Panel {
        title: "Actors begin after an election",
        unit: "s",
        lines: &[(
            "max by (instance) (tandem_actors_begin_seconds{quantile=\"0.99\"})",
            "{{instance}} p99",
        )],
    },
    Panel {
        title: "Audio: packets lost and generated packets left out",
        unit: "short",
        lines: &[
            (
                "max by (instance) (tandem_media_leg_lost_ratio{quantile=\"0.99\"})",
                "{{instance}} lost, p99 of legs",
            ),
            (
                "sum by (instance) (rate(tandem_media_ticks_skipped_total[5m]))",
                "{{instance}} left out a second",
            ),
        ],
    },
    Panel {
        title: "Audio: opinion score",
        unit: "short",
        lines: &[
            ("min by (instance) (tandem_media_leg_mos{quantile=\"0.5\"})", "{{instance}} p50"),
            ("min by (instance) (tandem_media_leg_mos{quantile=\"0\"})", "{{instance}} worst"),
        ],
    },
    Panel {
        title: "Legs and free ports",
        unit: "short",
        lines: &[
            ("sum by (instance) (tandem_media_legs_active)", "{{instance}} legs"),
            ("sum by (instance) (tandem_media_ports_free)", "{{instance}} ports free"),
        ],
    },
    Panel {
        title: "Recordings: audio on one disk only",
        unit: "s",
        lines: &[("max by (instance) (tandem_recording_unsafe_tail_seconds)", "{{instance}}")],
    },
    Panel {
        title: "SIP requests",
        unit: "reqps",
        lines: &[("sum by (method) (rate(tandem_sip_requests_total[1m]))", "{{method}}")],
    },
    Panel {
        title: "SIP refusals and what was dropped",
        unit: "reqps",
        lines: &[
            (
                "sum by (class) (rate(tandem_sip_responses_total{class=~\"[456]xx\"}[1m]))",
                "{{class}}",
            ),
            ("sum (rate(tandem_sip_overload_refusals_total[1m]))", "overload"),
            ("sum by (reason) (rate(tandem_sip_dropped_total[1m]))", "dropped: {{reason}}"),
        ],
    },
    Panel {
        title: "INVITE to first response",
        unit: "s",
        lines: &[(
            "max by (instance) (tandem_sip_invite_to_100_seconds{quantile=\"0.99\"})",
            "{{instance}} p99",
        )],
    },
    Panel {
        title: "Carriers",
        unit: "short",
        lines: &[
            ("min by (trunk, peer) (tandem_trunk_peer_up)", "{{trunk}} {{peer}}"),
            ("min by (trunk) (tandem_trunk_registered)", "{{trunk}} registered"),
        ],
    },
    Panel {
        title: "CPU",
        unit: "percentunit",
        lines: &[("rate(process_cpu_seconds_total[1m])", "{{instance}}")],
    },
    Panel {
        title: "Memory",
        unit: "bytes",
        lines: &[("process_resident_memory_bytes", "{{instance}}")],
    },
    Panel {
        title: "Certificates end in",
        unit: "s",
        lines: &[(
            "tandem_certificate_expires_timestamp_seconds - time()",
            "{{instance}} {{certificate}}",
        )],
    },
];

pub fn expressions() -> impl Iterator<Item = &'static str> {
    PANELS.iter().flat_map(|panel| panel.lines.iter().map(|(expression, _)| *expression))
}

fn panel((number, panel): (u64, &Panel)) -> Value {
    let width = COLUMNS / PANELS_PER_ROW;
    let targets = panel.lines.iter().zip('A'..).map(|((expression, legend), name)| {
        json!({ "refId": name.to_string(), "expr": expression, "legendFormat": legend })
    });
    json!({
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": { "type": "prometheus", "uid": "${source}" },
        "gridPos": {
            "x": number % PANELS_PER_ROW * width,
            "y": number / PANELS_PER_ROW * PANEL_HEIGHT,
            "w": width,
            "h": PANEL_HEIGHT,
        },
        "fieldConfig": { "defaults": { "unit": panel.unit }, "overrides": [] },
        "targets": targets.collect::<Vec<_>>(),
    })
}

pub fn dashboard() -> String {
    let panels = (0..).zip(PANELS).map(panel).collect::<Vec<_>>();
    let source = json!({ "name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus" });
    let dashboard = json!({
        "title": "Tandem",
        "uid": "tandem",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [source] },
        "panels": panels,
    });
    let mut text = serde_json::to_string_pretty(&dashboard).expect("a document");
    text.push('\n');
    text
}
