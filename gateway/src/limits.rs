//! Every bound of the gateway process, and what happens at it.

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

/// Messages on the way to one node: more than may wait, so that a full one is a stuck session.
pub const UP_MAX: usize = 2 * PENDING_EVENTS_MAX;
/// Messages of all nodes that wait for the control task; beyond it the streams are not read.
pub const DOWN_MAX: usize = 8_192;
/// Ids of effects that are remembered, so that none is done twice.
pub const EFFECTS_RECENT_MAX: usize = 65_536;
/// Effects of one `Done`.
pub const DONE_BATCH_MAX: usize = 64;
/// Done effects that are kept while nobody leads; beyond it the oldest is forgotten.
pub const DONE_KEPT_MAX: usize = 4_096;
/// How long a done effect may wait for others.
pub const DONE_WAIT_MS_MAX: u64 = 5;

/// Reports of the media plane that wait; beyond it the plane keeps them itself.
pub const MEDIA_EVENTS_MAX: usize = 1_024;

/// Transactions of each side; beyond it new ones are dropped as if they were lost.
pub const TRANSACTIONS_MAX: usize = 65_536;
/// ACKs that are kept to be repeated; the oldest goes first.
pub const ACKS_MAX: usize = 32_768;
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

/// The first wait between two attempts to reach a node, and the longest.
pub const CONNECT_WAIT_MS_MIN: u64 = 10;
pub const CONNECT_WAIT_MS_MAX: u64 = 500;
/// An attempt to reach a node takes no longer.
pub const CONNECT_MS_MAX: u64 = 1_000;
/// A node whose host is silent is given up after ping and time-out.
pub const KEEP_ALIVE_MS: u64 = 2_000;
pub const KEEP_ALIVE_ANSWER_MS_MAX: u64 = 2_000;
/// The longest message of a node; a page of calls is the longest there is.
pub const LINK_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a request of the API is tried again while leaders change.
pub const API_RETRY_MS_MAX: u64 = 2_000;
pub const API_RETRY_WAIT_MS: u64 = 20;

const _: () = assert!(PENDING_NEW_CALLS_MAX < PENDING_REGISTERS_MAX);
const _: () = assert!(PENDING_REGISTERS_MAX < PENDING_EVENTS_MAX);
const _: () = assert!(PENDING_EVENTS_MAX < tandem_core::limits::EVENTS_AHEAD_MAX);
const _: () = assert!(REQUEST_MS_MAX > tandem_sip::transaction::GIVE_UP_MS);

/// A peer that sends no RTP for so long is gone without a BYE. Long, for a waiting caller may be
/// muted, and some peers send nothing while they are silent.
pub const RTP_SILENCE_MS_MAX: u64 = 300_000;
