use crate::metric::Severity::{Page, Ticket};
use crate::metric::{Alert, Metric, Unit};

pub const METRICS: &[Metric] = &[
    Metric::gauge("tandem_raft_leader", "1 where this process leads the shard.")
        .labels(&["shard"])
        .alerts(&[Alert {
            name: "TandemShardWithoutLeader",
            expression: "sum by (shard) (tandem_raft_leader) == 0",
            lasts: "15s",
            severity: Page,
            summary: "Nobody leads a shard: its live calls talk on, and nothing else happens for them.",
            page: "alerts/TandemShardWithoutLeader.md",
        }]),
    Metric::gauge("tandem_raft_term", "The shard's term, as this process knows it.")
        .labels(&["shard"]),
    Metric::counter("tandem_raft_candidacies_total", "Times that this process stood for election.")
        .labels(&["shard"]),
    Metric::counter("tandem_raft_reads_total", "Reads that asked the majority who leads."),
    Metric::counter("tandem_raft_read_rounds_total", "Rounds in which such reads were answered."),
    Metric::counter("tandem_raft_snapshot_parts_total", "Parts of snapshots, by whether they were sent or known.")
        .labels(&["kind"]),
    Metric::counter("tandem_raft_snapshots_received_total", "Snapshots that this process has received."),
    Metric::counter(
        "tandem_state_checks_total",
        "Comparisons of this replica's state with its leader's, by outcome.",
    )
    .labels(&["outcome"])
    .alerts(&[Alert {
        name: "TandemStateDiffers",
        expression: "increase(tandem_state_checks_total{outcome=\"differs\"}[1h]) > 0",
        lasts: "0m",
        severity: Page,
        summary: "A node's state is not that of who leads: it serves nobody and is made again.",
        page: "codes/TD0214.md",
    }]),
    Metric::gauge("tandem_state_out", "1 while this node's state of a shard is not to be trusted.")
        .labels(&["shard"])
        .alerts(&[Alert {
            name: "TandemStateNotMended",
            expression: "max by (instance, shard) (tandem_state_out) == 1",
            lasts: "5m",
            severity: Page,
            summary: "A node's state can't be made again: the other node must not be lost.",
            page: "codes/TD0435.md",
        }]),
    Metric::counter("tandem_state_mended_total", "Times that a shard's state was made again from another node."),
    Metric::gauge(
        "tandem_clock_offset_seconds",
        "How far this machine's wall clock is ahead of the log's time.",
    )
    .unit(Unit::Seconds)
    .labels(&["shard"])
    .alerts(&[Alert {
        name: "TandemClockApart",
        expression: "max by (instance) (abs(tandem_clock_offset_seconds)) > 1",
        lasts: "5m",
        severity: Ticket,
        summary: "A machine's clock is not where the log's time is: look at NTP.",
        page: "codes/TD0410.md",
    }]),
];
