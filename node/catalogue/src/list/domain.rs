use crate::metric::Severity::{Page, Ticket};
use crate::metric::{Alert, Metric, Unit};

pub const METRICS: &[Metric] = &[
    Metric::counter(
        "tandem_calls_at_risk_total",
        "Live calls whose leader or gateway became another process, by death or drain: one each time. \
         Counted once, by the leader that goes on with them.",
    ),
    Metric::counter(
        "tandem_calls_lost_total",
        "Calls that had been at risk and were ended by the system because nobody could go on with them: \
         no ACK, silence, an expired session, a peer out of reach, a failure. Calls preserved are those at risk less these.",
    )
    .alerts(&[
        Alert {
            name: "TandemCallsLostFast",
            expression: "sum(increase(tandem_calls_lost_total[1h])) / sum(increase(tandem_calls_at_risk_total[1h])) > 14.4 * 0.001 \
                         and sum(increase(tandem_calls_lost_total[5m])) / sum(increase(tandem_calls_at_risk_total[5m])) > 14.4 * 0.001",
            lasts: "0m",
            severity: Page,
            summary: "Takeovers cost calls: 2 % of the month's budget within an hour (objective 99.9 % preserved).",
            page: "alerts/TandemCallsLost.md",
        },
        Alert {
            name: "TandemCallsLostSteadily",
            expression: "sum(increase(tandem_calls_lost_total[6h])) / sum(increase(tandem_calls_at_risk_total[6h])) > 6 * 0.001 \
                         and sum(increase(tandem_calls_lost_total[30m])) / sum(increase(tandem_calls_at_risk_total[30m])) > 6 * 0.001",
            lasts: "0m",
            severity: Page,
            summary: "Takeovers cost calls: 5 % of the month's budget within six hours (objective 99.9 % preserved).",
            page: "alerts/TandemCallsLost.md",
        },
        Alert {
            name: "TandemCallsLostSlowly",
            expression: "sum(increase(tandem_calls_lost_total[3d])) / sum(increase(tandem_calls_at_risk_total[3d])) > 0.001 \
                         and sum(increase(tandem_calls_lost_total[6h])) / sum(increase(tandem_calls_at_risk_total[6h])) > 0.001",
            lasts: "0m",
            severity: Ticket,
            summary: "Takeovers cost calls: 10 % of the month's budget within three days (objective 99.9 % preserved).",
            page: "alerts/TandemCallsLost.md",
        },
    ]),
    Metric::summary(
        "tandem_propose_seconds",
        "From the proposal of a command to its commit and reply, on whoever leads.",
    )
    .unit(Unit::Seconds)
    .alerts(&[Alert {
        name: "TandemCommitsSlow",
        expression: "tandem_propose_seconds{quantile=\"0.99\"} > 0.2",
        lasts: "5m",
        severity: Ticket,
        summary: "One command in a hundred takes more than 200 ms, within which an INVITE wants its 100.",
        page: "alerts/TandemCommitsSlow.md",
    }]),
    Metric::counter(
        "tandem_admissions_refused_total",
        "New calls that a leader refused: too many under way, or a disk budget at its end.",
    ),
    Metric::gauge("tandem_outbox_effects", "Effects that no gateway has acknowledged yet.")
        .labels(&["tenant"]),
    Metric::gauge("tandem_actors", "Actors that run here.").labels(&["kind"]),
    Metric::summary("tandem_actors_begin_seconds", "From an election to the moment at which all actors serve.")
        .unit(Unit::Seconds),
    Metric::gauge(
        "tandem_shard_first_commit_timestamp_seconds",
        "When this node last committed the first entry of a term that it leads.",
    )
    .unit(Unit::Timestamp)
    .labels(&["shard"]),
    Metric::counter("tandem_actor_restarts_total", "Actors that crashed and were started anew.")
        .labels(&["kind"]),
    Metric::counter(
        "tandem_actor_quarantined_total",
        "Actors that crashed again and again: their calls are ended.",
    )
    .alerts(&[Alert {
        name: "TandemActorQuarantined",
        expression: "increase(tandem_actor_quarantined_total[10m]) > 0",
        lasts: "0m",
        severity: Page,
        summary: "An actor crashed again and again: what it served was given up.",
        page: "codes/TD0101.md",
    }]),
    Metric::counter("tandem_mailbox_full_total", "Messages that found an actor's mailbox full."),
    Metric::counter(
        "tandem_alarms_total",
        "Broken invariants, states that differ, clocks apart: each is in the log with its code.",
    ),
    Metric::counter("tandem_records_unreadable_total", "Stored records that could not be read.")
        .alerts(&[Alert {
            name: "TandemRecordUnreadable",
            expression: "increase(tandem_records_unreadable_total[10m]) > 0",
            lasts: "0m",
            severity: Ticket,
            summary: "A stored record can't be read.",
            page: "codes/TD0202.md",
        }]),
    Metric::counter("tandem_effects_total", "Effects that a gateway has carried out, by kind.")
        .labels(&["kind"]),
    Metric::counter("tandem_fenced_effects_total", "Effects of a leader that leads no more: not carried out."),
    Metric::counter("tandem_effects_unreadable_total", "Effects that a gateway could not read."),
    Metric::gauge("tandem_link_sessions", "Nodes that this gateway is logged in to."),
    Metric::counter("tandem_link_sessions_cut_total", "Gateways' sessions cut because they did not keep up."),
    Metric::gauge("tandem_link_pending_events", "Events of this gateway that no leader has counted yet."),
    Metric::counter("tandem_link_events_dropped_total", "Events dropped because too many waited for a leader.")
        .alerts(&[Alert {
            name: "TandemEventsDropped",
            expression: "increase(tandem_link_events_dropped_total[10m]) > 0",
            lasts: "0m",
            severity: Page,
            summary: "A gateway had more to tell than it may keep while nobody leads, and dropped some.",
            page: "codes/TD0301.md",
        }]),
    Metric::counter("tandem_link_events_of_nobody_total", "Events about tenants that are no more."),
    Metric::counter("tandem_link_events_unreadable_total", "Events of gateways that a node could not read."),
];
