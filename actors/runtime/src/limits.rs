//! Every bound of the runtime, and what happens at it.

/// Events and effects that one actor may have before it; its gateway is told to send a further
/// event again later.
pub const MAILBOX_MAX: usize = 1_024;
/// New calls under way to their commit; the next one is refused with 503.
pub const ADMISSIONS_MAX: usize = 512;
/// Acknowledgements that wait for an entry to ride on; at this many an entry is made for them.
pub const DONE_MAX: usize = 256;
/// So long may they wait.
pub const DONE_MS_MAX: u64 = 1_000;
/// A leader that has proposed nothing for so long makes an entry all the same: it tells the log's
/// time to a replica that has just been started, and may have to go on with it.
pub const TIME_TOLD_MS_MAX: u64 = 5_000;
/// Crashes of one actor within the window before it is quarantined.
pub const CRASHES_MAX: usize = 5;
pub const CRASH_WINDOW_MS: u64 = 10_000;
/// Back-off of a restart: doubled with each crash in the window.
pub const RESTART_MS_MIN: u64 = 10;
pub const RESTART_MS_MAX: u64 = 1_000;
/// Deadlines are looked at this often.
pub const DEADLINE_TICK_MS: u64 = 10;
/// A deadline that was proposed and did not come true is proposed again after this.
pub const DEADLINE_AGAIN_MS: u64 = 500;
/// Seconds that a refused caller is told to wait.
pub const RETRY_AFTER_S: u32 = 5;

const _: () = assert!(RESTART_MS_MIN <= RESTART_MS_MAX);
// It is looked at this often.
const _: () =
    assert!((TIME_TOLD_MS_MAX + DONE_MS_MAX) * 1_000_000 <= tandem_core::log_time::TOLD_NS_MAX);
