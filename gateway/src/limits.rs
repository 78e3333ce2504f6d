//! Every bound of the gateway process, and what happens at it. Those of what it decides are in
//! `tandem_control::limits`.

use tandem_control::limits::PENDING_EVENTS_MAX;

/// Messages on the way to one node: more than may wait, so that a full one is a stuck session.
pub const UP_MAX: usize = 2 * PENDING_EVENTS_MAX;
/// Messages of all nodes that wait for the control task; beyond it the streams are not read.
pub const DOWN_MAX: usize = 8_192;

/// Reports of the media plane that wait; beyond it the plane keeps them itself.
pub const MEDIA_EVENTS_MAX: usize = 1_024;

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
/// How long the cluster keeps the answer to a request that its client gave a key: a day.
pub const KEY_MS: u64 = 24 * 3_600 * 1_000;
/// And to one without: only this gateway asks again, while leaders change.
pub const KEY_OF_OURS_MS: u64 = 60_000;

/// A peer that sends no RTP for so long is gone without a BYE. Long, for a waiting caller may be
/// muted, and some peers send nothing while they are silent.
pub const RTP_SILENCE_MS_MAX: u64 = 300_000;

const _: () = assert!(KEY_OF_OURS_MS > API_RETRY_MS_MAX);
