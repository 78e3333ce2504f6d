//! Every bound of the gateway's control, and what happens at it.

/// Without a leader for longer than this, new calls are answered 503.
pub const NO_QUORUM_MS_MAX: u64 = 1_000;
/// `Retry-After` of a 503, seconds.
pub const RETRY_AFTER_S: u32 = 5;

/// Events that wait to be accepted; from here on new calls are answered 503.
pub const PENDING_NEW_CALLS_MAX: usize = 4_096;
/// From here on REGISTERs are answered 503, too.
pub const PENDING_REGISTERS_MAX: usize = 6_144;
/// From here on whatever comes is dropped as if it were lost: the peer sends it again.
pub const PENDING_EVENTS_MAX: usize = 16_384;
/// A refused event of a live call is tried again after this.
pub const EVENT_RETRY_MS: u64 = 1_000;

/// Ids of effects that are remembered, so that none is done twice.
pub const EFFECTS_RECENT_MAX: usize = 65_536;
/// Effects of one `Done`.
pub const DONE_BATCH_MAX: usize = 64;
/// Done effects that are kept while nobody leads; beyond it the oldest is forgotten.
pub const DONE_KEPT_MAX: usize = 4_096;
/// How long a done effect may wait for others.
pub const DONE_WAIT_MS_MAX: u64 = 5;

/// New calls that wait for the first routing of a life; beyond it one is answered 503.
pub const EARLY_MAX: usize = 1_024;
/// Transactions of each side; beyond it new ones are dropped as if they were lost.
pub const TRANSACTIONS_MAX: usize = 65_536;
/// ACKs that are kept to be repeated; the oldest goes first.
pub const ACKS_MAX: usize = 32_768;
/// INVITEs refused here that are remembered; the oldest is forgotten first.
pub const REFUSED_MAX: usize = 4_096;
/// Responses to requests of an earlier life that are remembered.
pub const STRAYS_MAX: usize = 4_096;
/// An INVITE without a final answer is forgotten after this; no call may ring that long.
pub const INVITE_MS_MAX: u64 = 15 * 60_000;
/// Any other request without an answer is forgotten after this: its sender has given up.
pub const REQUEST_MS_MAX: u64 = 33_000;
/// The longest branch, Call-ID or tag that names something here.
pub const NAME_BYTES_MAX: usize = 256;

/// A nonce is good for this long.
pub const NONCE_MS_MAX: u64 = 5 * 60_000;

const _: () = assert!(PENDING_NEW_CALLS_MAX < PENDING_REGISTERS_MAX);
const _: () = assert!(PENDING_REGISTERS_MAX < PENDING_EVENTS_MAX);
const _: () = assert!(PENDING_EVENTS_MAX < tandem_core::limits::EVENTS_AHEAD_MAX);
const _: () = assert!(REQUEST_MS_MAX > tandem_sip::transaction::GIVE_UP_MS);
