//! Every bound of the gateway process, and what happens at it. Those of what it decides are in
//! `tandem_control::limits`.

use tandem_control::limits::PENDING_EVENTS_MAX;

/// Messages on the way to one node: more than may wait, so that a full one is a stuck session.
pub const UP_MAX: usize = 2 * PENDING_EVENTS_MAX;
/// Messages of all nodes that wait for the control task; beyond it the streams are not read.
pub const DOWN_MAX: usize = 8_192;

/// Nodes that are logged in to; one that joined later and is one too many is left out.
pub const NODES_MAX: usize = 32;

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
/// Between two looks at the cluster's state that nobody has asked for.
pub const WATCH_MS: u64 = 1_000;
pub const API_RETRY_WAIT_MS: u64 = 20;
/// How long the cluster keeps the answer to a request that its client gave a key: a day.
pub const KEY_MS: u64 = 24 * 3_600 * 1_000;
/// And to one without: only this gateway asks again, while leaders change.
pub const KEY_OF_OURS_MS: u64 = 60_000;

/// A peer that sends no RTP for so long is gone without a BYE. Long, for a waiting caller may be
/// muted, and some peers send nothing while they are silent.
pub const RTP_SILENCE_MS_MAX: u64 = 300_000;

/// How often it is looked what of the recordings the other box has not yet. With the time in which a
/// chunk settles (1.3 s from its first sample), what the other gathers and its disk, this makes the
/// unsafe tail of 2 s.
pub const COPY_TURN_MS: u64 = 50;
/// Bytes of one recording that are read in one turn.
pub const COPY_TURN_BYTES_MAX: usize = 256 * 1024;
/// Messages on their way to the stream: with the next, 4 MB of chunks.
pub const COPY_UP_MAX: usize = 128;
/// Lines that the other has not said to have: 8 MB of chunks. Beyond it the rest waits on the disk.
pub const COPY_ITEMS_UNDER_WAY_MAX: usize = 256;
/// Recordings that the other was asked for and has not answered of.
pub const COPY_ASKED_MAX: usize = 256;
/// When a copy that was refused is asked for again: a full disk needs a moment.
pub const COPY_AGAIN_MS: u64 = 2_000;
pub const COPY_GAUGES_MS: u64 = 250;
/// Audio that is on one disk only for longer than this is told to the operator.
pub const UNSAFE_TAIL_MS_ALARM: u64 = 10_000;

/// Orders that wait for the thread that writes copies; beyond it the streams are not read.
pub const COPIES_ORDERS_MAX: usize = 256;
/// Answers that wait for one stream; who does not take them asks again.
pub const COPIES_REPLIES_MAX: usize = 1_024;
/// How long lines are gathered for one sync, and of how many recordings.
pub const COPIES_GATHER_MS: u64 = 50;
pub const COPIES_BATCH_MAX: usize = 256;
/// How often it is looked whether somebody is gone.
pub const COPIES_TICK_MS: u64 = 500;
/// A recording that nobody goes on with for so long ends there, until somebody does: longer than a
/// living gateway takes to tell that it goes on, so that a cut cable alone ends none.
pub const CUT_AFTER_MS: u64 = 12_000;
/// Lines on their way to a gateway that repairs its own.
pub const FETCH_ITEMS_MAX: usize = 16;
pub const FETCH_ITEM_MS_MAX: u64 = 10_000;

// Each question and each line has one answer at most: none is ever without room.
const _: () = assert!(COPY_ASKED_MAX + COPY_ITEMS_UNDER_WAY_MAX <= COPIES_REPLIES_MAX);
const _: () = assert!(CUT_AFTER_MS > tandem_media::limits::HOLDINGS_EVERY_MS);
const _: () = assert!(KEY_OF_OURS_MS > API_RETRY_MS_MAX);

/// How long the end of the process waits for carriers to hear that nobody is here any more.
pub const LEAVE: std::time::Duration = std::time::Duration::from_millis(1_000);

/// Questions which lines are ours that wait for one node; one more is not asked there.
pub const ASKS_MAX: usize = 16;
/// What nodes say about lines and waits to be heard; beyond it their streams are not read.
pub const HEARD_MAX: usize = 256;
/// Obituaries that wait; whoever tells them waits, too.
pub const DEATHS_MAX: usize = 16;
/// Questions of which it is known when they were asked: an answer to an older one is of no use, for its lease is over.
pub const ASKED_MAX: usize = 16;
const _: () = assert!(ASKED_MAX as u64 * tandem_lease::RENEW_MS > tandem_lease::LEASE_MS);
/// An address that can't be bound is tried again this often, and for so long; then the line is given back.
pub const SERVE_AGAIN_MS: u64 = 20;
pub const SERVE_MS_MAX: u64 = 2_000;
/// A line that could not be served here is asked for again after the first of these, then after twice as long each time, up to
/// the other: what is wrong lasts, as a rule, and whoever serves the line meanwhile has to give it back for each attempt.
pub const UNABLE_MS_FIRST: u64 = 1_000;
pub const UNABLE_MS_MAX: u64 = 600_000;
/// When the ports of a line that goes on are bound that none of its calls has.
pub const REST_AFTER_MS: u64 = 1_000;
