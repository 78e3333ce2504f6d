use crate::metric::Severity::{Page, Ticket};
use crate::metric::{Alert, Metric, Unit};

pub const METRICS: &[Metric] = &[
    Metric::gauge("tandem_media_recordings_active", "Recordings that run here."),
    Metric::counter(
        "tandem_media_recordings_finished_total",
        "Recordings that ended and were sealed here.",
    ),
    Metric::counter(
        "tandem_media_recordings_taken_over_total",
        "Recordings that went on here after another process's.",
    ),
    Metric::counter("tandem_media_recording_errors_total", "Recordings that could not be written.")
        .alerts(&[Alert {
            name: "TandemRecordingsLost",
            expression: "increase(tandem_media_recording_errors_total[10m]) > 0",
            lasts: "0m",
            severity: Page,
            summary: "Recordings can't be written: calls go on without.",
            page: "alerts/TandemRecordingsLost.md",
        }]),
    Metric::counter(
        "tandem_media_recorder_late_total",
        "Audio that came too late for its place in a recording.",
    ),
    Metric::counter(
        "tandem_media_recorder_chunks_dropped_total",
        "Seconds of audio that the disk was too slow for: gaps in recordings.",
    ),
    Metric::gauge(
        "tandem_recording_unsafe_tail_seconds",
        "Audio that only this box has, of the recording furthest behind.",
    )
    .unit(Unit::Seconds)
    .alerts(&[Alert {
        name: "TandemRecordingsUnsafe",
        expression: "tandem_recording_unsafe_tail_seconds > 10",
        lasts: "1m",
        severity: Ticket,
        summary: "Recordings are not copied to the other box: lost with this one, they are lost.",
        page: "codes/TD0313.md",
    }]),
    Metric::gauge("tandem_recording_behind", "Recordings of which the other box lacks something."),
    Metric::gauge("tandem_recording_behind_bytes", "Audio that the other box lacks.")
        .unit(Unit::Bytes),
    Metric::gauge("tandem_recording_behind_chunks", "Chunks of audio that the other box lacks."),
    Metric::summary(
        "tandem_recording_tail_at_copy_seconds",
        "Age of the audio that the other box had not, each time it said what it has.",
    )
    .unit(Unit::Seconds),
    Metric::counter(
        "tandem_recording_sent_items_total",
        "Lines of recordings sent to the other box.",
    ),
    Metric::counter(
        "tandem_recording_sent_bytes_total",
        "Bytes of recordings sent to the other box.",
    )
    .unit(Unit::Bytes),
    Metric::counter(
        "tandem_recording_resent_total",
        "Copies that the other box refused and that are tried again.",
    ),
    Metric::counter(
        "tandem_recording_copy_bytes_total",
        "Bytes of the other box's recordings that were taken.",
    )
    .unit(Unit::Bytes),
    Metric::summary("tandem_recording_copy_sync_seconds", "How long one sync of copies takes.")
        .unit(Unit::Seconds),
    Metric::counter(
        "tandem_recording_copies_refused_total",
        "Copies of the other box's recordings that did not go on.",
    ),
    Metric::counter(
        "tandem_recording_copies_put_aside_total",
        "Copies put aside because they were not the beginning of their original.",
    )
    .alerts(&[Alert {
        name: "TandemCopyDiffers",
        expression: "increase(tandem_recording_copies_put_aside_total[10m]) > 0",
        lasts: "0m",
        severity: Ticket,
        summary: "A recording's copy was another than its original, and is put aside.",
        page: "codes/TD0312.md",
    }]),
    Metric::counter(
        "tandem_recording_ends_put_aside_total",
        "Ends of recordings put aside because they went on elsewhere without them.",
    ),
];
