use crate::metric::Severity::{Page, Ticket};
use crate::metric::{Alert, Metric, Unit};

pub const METRICS: &[Metric] = &[
    Metric::gauge("tandem_media_legs_active", "Legs whose audio this gateway carries."),
    Metric::gauge("tandem_media_ports_free", "Pairs of RTP ports that no call uses.").alerts(&[Alert {
        name: "TandemPortsShort",
        expression: "tandem_media_ports_free < 16",
        lasts: "1m",
        severity: Page,
        summary: "A gateway has hardly any RTP port left: the next calls are refused.",
        page: "alerts/TandemPortsShort.md",
    }]),
    Metric::counter("tandem_media_plans_refused_total", "Orders of a leader that the media plane could not follow.")
        .alerts(&[Alert {
            name: "TandemMediaPlanRefused",
            expression: "increase(tandem_media_plans_refused_total[10m]) > 0",
            lasts: "0m",
            severity: Page,
            summary: "A gateway could not connect a call's audio as it was told to.",
            page: "codes/TD0304.md",
        }]),
    Metric::counter("tandem_media_packets_in_total", "RTP packets taken from peers."),
    Metric::counter("tandem_media_packets_out_total", "RTP packets sent."),
    Metric::counter("tandem_media_packets_late_total", "RTP packets taken though behind a newer one."),
    Metric::counter("tandem_media_packets_too_late_total", "RTP packets waited for in vain, of audio that ends here."),
    Metric::counter("tandem_media_dropped_malformed_total", "Dropped: no RTP, or longer than any that we know."),
    Metric::counter("tandem_media_dropped_stranger_total", "Dropped: not from the leg's peer."),
    Metric::counter("tandem_media_dropped_payload_total", "Dropped: a payload type that was not negotiated."),
    Metric::counter("tandem_media_dropped_duplicate_total", "Dropped: had come before."),
    Metric::counter("tandem_media_dropped_astray_total", "Dropped: outside the window of sequence numbers."),
    Metric::counter("tandem_media_dropped_unauthentic_total", "Dropped: protected by no key of the peer's."),
    Metric::counter("tandem_media_dropped_send_total", "Dropped: the kernel did not take what was sent."),
    Metric::counter("tandem_media_rtcp_in_total", "RTCP packets taken from peers."),
    Metric::counter("tandem_media_rtcp_out_total", "RTCP packets sent."),
    Metric::counter("tandem_media_rtcp_dropped_stranger_total", "RTCP dropped: not from the leg's peer."),
    Metric::counter("tandem_media_rtcp_dropped_malformed_total", "RTCP dropped: no compound packet."),
    Metric::counter("tandem_media_ticks_skipped_total", "Generated packets left out because a worker was held up.")
        .alerts(&[Alert {
            name: "TandemMediaHeldUp",
            expression: "rate(tandem_media_ticks_skipped_total[5m]) > 1",
            lasts: "5m",
            severity: Ticket,
            summary: "A gateway's media threads get too little CPU: callers hear gaps in music and prompts.",
            page: "alerts/TandemMediaHeldUp.md",
        }]),
    Metric::counter("tandem_media_recorder_pieces_dropped_total", "Pieces of audio that the recorder's queue had no room for."),
    Metric::counter("tandem_media_events_dropped_total", "Events of the media plane that nobody fetched in time."),
    Metric::counter("tandem_media_music_missing_total", "Music that was to be played and is not there."),
    Metric::counter("tandem_media_prompts_missing_total", "Prompts that were to be played and are not there."),
    Metric::summary("tandem_media_leg_lost_ratio", "Share of a leg's packets that never came, at its end.")
        .unit(Unit::Ratio),
    Metric::summary("tandem_media_leg_jitter_seconds", "A leg's jitter, at its end.").unit(Unit::Seconds),
    Metric::summary("tandem_media_leg_round_trip_seconds", "A leg's round trip by RTCP, at its end.")
        .unit(Unit::Seconds),
    Metric::summary("tandem_media_leg_mos", "Estimated mean opinion score of what a leg's peer sent, 1 to 5, at its end."),
];
