//! Every bound of the model. Those that are a rule of the runtime or the gateway have its value
//! and its name.

// --- the node, as in actors/runtime ---

pub const ADMISSIONS_MAX: usize = 512;
pub const DONE_MAX: usize = 256;
pub const DONE_MS_MAX: u64 = 1_000;
pub const CRASHES_MAX: usize = 5;
pub const CRASH_WINDOW_MS: u64 = 10_000;
pub const RESTART_MS_MIN: u64 = 10;
pub const RESTART_MS_MAX: u64 = 1_000;
pub const DEADLINE_TICK_MS: u64 = 10;
pub const DEADLINE_AGAIN_MS: u64 = 500;
pub const MAILBOX_MAX: usize = 1_024;

// --- the gateway ---

pub const NO_QUORUM_MS_MAX: u64 = 1_000;
pub const EVENT_RETRY_MS: u64 = 1_000;
pub const DONE_BATCH_MAX: usize = 64;
pub const DONE_WAIT_MS_MAX: u64 = 5;
/// How often the gateway looks for peers that send no RTP.
pub const SILENCE_LOOK_MS: u64 = 2_000;
/// Shorter than a real gateway's, so that a run of a minute sees it.
pub const RTP_SILENCE_MS_MAX: u64 = 8_000;
pub use tandem_lease::{DRIFT_PPM_MAX, LEASE_MS, RENEW_MS as LEASE_RENEW_MS};
pub const PPM: u64 = 1_000_000;
/// Packets of one batch: the lease is looked at before each.
pub const PAST_CHECK_MAX: usize = 8;
/// Packets that wait on streams for a lease.
pub const STREAM_PACKETS_MAX: usize = 1_024;
/// Ports that each gateway grants.
pub const PORTS: u16 = 24;

// --- the run ---

/// What a clock shows when a run begins: milliseconds since 1970.
pub const EPOCH_MS: u64 = 1_795_000_000_000;
/// When faults have stopped, everything must have come to rest within this virtual time. It holds
/// the longest chain of deadlines of a call: the longest call, the wait for its release, twice,
/// and the largest jump of a clock.
pub const QUIET_MS_MAX: u64 = 200_000;
/// The log's time is no further from the true time.
pub const CLOCK_MS_MAX: u64 = 12_000;
/// Nor further than that and the drift of a boot clock: takeovers cost it what an entry was late, or
/// what a leader may have been silent where another has just been started.
pub const LOG_TIME_MS_MAX: u64 = 8_000;
/// Of the part of a run in which callers call and faults strike. So long, that the poorest of
/// 100,000 seeds has [`COMMANDS_MIN`] commands.
pub const VIRTUAL_MS_DEFAULT: u64 = 90_000;
/// A seed of fewer commands has not tested much; a batch that must be whole says so.
pub const COMMANDS_MIN: u64 = 500;
pub const VIRTUAL_MS_MAX: u64 = 3_600_000;
/// Events of one run: beyond it the model itself runs in a circle.
pub const EVENTS_MAX: u64 = 4_000_000;
/// Packets that a stopped process finds when it goes on; a socket's buffer holds no more.
pub const BACKLOG_PACKETS_MAX: usize = 256;
/// Whole worlds are compared this often; digests at each entry.
pub const COMPARE_EVERY: u64 = 64;
/// Every so many entries one goes through the encoding of the log.
pub const ENCODE_EVERY: u64 = 16;
/// Attempts of one shrinking.
pub const SHRINK_RUNS_MAX: usize = 600;
/// No planned fault is shorter, and none is shortened beyond it.
pub const FAULT_MS_MIN: u64 = 20;

/// The interval of session timers: so short that a talk is refreshed.
pub const SESSION_S: u32 = 12;
/// So often gateways ask each carrier's switches whether they are there, seconds.
pub const OPTIONS_S: u16 = 1;
/// Seconds for which a carrier's switch that can't take a call asks to be left alone.
pub const RETRY_S: &str = "6";
