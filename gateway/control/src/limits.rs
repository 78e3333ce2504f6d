//! Every bound of the gateway's control, and what happens at it.

/// Without a leader for longer than this, new calls are answered 503.
pub const NO_QUORUM_MS_MAX: u64 = 1_000;
/// `Retry-After` of a 503, seconds.
pub const RETRY_AFTER_S: u32 = 5;

/// Where every event waits longer than this to be accepted, fewer new calls are let in; the rest is
/// answered 503. A commit on a busy disk takes 10.
pub const NEW_CALLS_DELAY_MS_MAX: u64 = 50;
/// Where every event waits longer than this, fewer requests of agents' phones are, too.
pub const AGENTS_DELAY_MS_MAX: u64 = 200;

/// Events that wait to be accepted; from here on new calls are answered 503.
pub const PENDING_NEW_CALLS_MAX: usize = 4_096;
/// From here on REGISTERs are answered 503, too.
pub const PENDING_REGISTERS_MAX: usize = 6_144;
/// From here on whatever comes is dropped as if it were lost: the peer sends it again.
pub const PENDING_EVENTS_MAX: usize = 16_384;
/// A refused event of a live call is tried again after this.
pub const EVENT_RETRY_MS: u64 = 1_000;
/// An event that the leader has said nothing to is sent to it again after this, or up to twice that:
/// longer than a leader waits for a commit.
pub const EVENT_UNANSWERED_MS: u64 = 3_000;

/// Ids of effects that are remembered, so that none is done twice.
pub const EFFECTS_RECENT_MAX: usize = 65_536;
/// Effects of one `Done`.
pub const DONE_BATCH_MAX: usize = 64;
/// Done effects that are kept while nobody leads; beyond it the oldest is forgotten.
pub const DONE_KEPT_MAX: usize = 4_096;
/// How long a done effect may wait for others.
pub const DONE_WAIT_MS_MAX: u64 = 5;

/// New calls that wait for the first routing of a life, beyond which one is answered 503; and what
/// else happened before, beyond which an event is dropped.
pub const EARLY_MAX: usize = 1_024;
/// Transactions of each side; beyond it new ones are dropped as if they were lost. Each stays for some 32 s
/// (RFC 3261 §17.2), and a call has two: this is for 2,000 calls a second.
pub const TRANSACTIONS_MAX: usize = 131_072;
/// From here on new calls are answered 503, so that those which live have room.
pub const TRANSACTIONS_NEW_CALLS_MAX: usize = TRANSACTIONS_MAX / 8 * 7;
/// ACKs that are kept to be repeated; the oldest goes first.
pub const ACKS_MAX: usize = 32_768;
/// INVITEs refused here that are remembered; the oldest is forgotten first.
pub const REFUSED_MAX: usize = 4_096;
/// Responses to requests of an earlier life that are remembered.
pub const STRAYS_MAX: usize = 4_096;
/// All that is remembered of what is over.
pub const KEPT_MAX: usize =
    ACKS_MAX + REFUSED_MAX + STRAYS_MAX + 2 * EARLY_MAX + NONCES_MAX + 9 * SUSPECTS_MAX + FLOWS_MAX;
/// Connections that somebody has registered over; of one beyond it nobody is told that it is gone.
pub const FLOWS_MAX: usize = 16_384;
/// An INVITE without a final answer is forgotten after this; no call may ring that long.
pub const INVITE_MS_MAX: u64 = 15 * 60_000;
/// Any other request without an answer is forgotten after this: its sender has given up.
pub const REQUEST_MS_MAX: u64 = 33_000;
/// The longest branch, Call-ID or tag that names something here.
pub const NAME_BYTES_MAX: usize = 256;

/// A nonce is good for this long.
pub const NONCE_MS_MAX: u64 = 5 * 60_000;
/// Nonces whose used counts are remembered; of one that was forgotten all count as used.
pub const NONCES_MAX: usize = 16_384;

// --- carriers ----------------------------------------------------------------------------------

/// OPTIONS in a row without an answer, from which on a peer counts as down.
pub const OPTIONS_MISSES_DOWN: u32 = 2;
/// Answers in a row, from which on it counts as up again.
pub const OPTIONS_ANSWERS_UP: u32 = 3;
/// Or it has answered for so long, and missed none.
pub const HOLD_DOWN_MS: u64 = 30_000;
/// How long an answer is waited for, where that is less than the time between two.
pub const OPTIONS_REPLY_MS: u64 = 3_000;
/// So soon it is asked again while it is in doubt.
pub const OPTIONS_DOUBT_MS: u64 = 2_000;
/// Between peers that are asked for the first time.
pub const OPTIONS_APART_MS: u64 = 20;

/// How long a registrar is waited for.
pub const REGISTER_REPLY_MS: u64 = 8_000;
/// Challenges answered and intervals raised in one attempt.
pub const REGISTER_AGAIN_MAX: u32 = 4;
/// The first attempt after one that failed; the wait doubles with each.
pub const REGISTER_RETRY_MS: u64 = 2_000;
pub const REGISTER_RETRY_MS_MAX: u64 = 300_000;
pub const REGISTER_DOUBLINGS: u32 = 8;
/// The longest that a carrier can talk us into: a day.
pub const REGISTER_S_MAX: u32 = 86_400;

// --- those who prove nothing -------------------------------------------------------------------

/// Entries of each kind of memory of them; the one not met for longest goes first.
pub const SUSPECTS_MAX: usize = 4_096;
/// A scanner whose request was answered hears nothing for so long after each.
pub const SCANNER_MS: u64 = 10 * 60_000;
/// Wrong passwords of one source for one account; from the next on each costs time.
pub const WRONG_FREE: u32 = 3;
/// Those of one source, behind which a whole site may be.
pub const WRONG_OF_SOURCE_FREE: u32 = 20;
/// Those for one account, whoever tries.
pub const WRONG_FOR_ACCOUNT_FREE: u32 = 20;
/// What the first of them costs; each further one twice the last.
pub const WRONG_DELAY_MS: u64 = 1_000;
pub const WRONG_DELAY_MS_MAX: u64 = 5 * 60_000;
/// In so long one wrong password is forgiven.
pub const WRONG_FORGIVEN_MS: u64 = 60_000;
/// For so long the source of a proven password is trusted with it: no phone registers for longer.
pub const PROVEN_MS: u64 = 2 * 3_600_000;
/// Unless so many wrong ones came from there since.
pub const WRONG_OF_PROVEN_MAX: u32 = 5;
/// The time in which requests of strangers are counted.
pub const STRANGER_WINDOW_MS: u64 = 10_000;
/// INVITEs in it of a source that is no trunk's, and from which no phone has registered. Beyond it
/// one is answered 503, the rest not at all.
pub const STRANGER_INVITES_MAX: u32 = 20;
/// Requests of one source in it that name a dialog which nobody knows, before an operator hears of it: a takeover leaves a
/// peer with a few that are late.
pub const UNKNOWN_DIALOGS_MAX: u32 = 10;
/// REGISTERs without a proof in it, of a source from which none has come yet: a site that was
/// without power comes back at once. Beyond it likewise.
pub const CHALLENGES_MAX: u32 = 1_000;

const _: () = assert!(NEW_CALLS_DELAY_MS_MAX < AGENTS_DELAY_MS_MAX);
const _: () = assert!(PENDING_NEW_CALLS_MAX < PENDING_REGISTERS_MAX);
const _: () = assert!(PENDING_REGISTERS_MAX < PENDING_EVENTS_MAX);
const _: () = assert!(PENDING_EVENTS_MAX < tandem_core::limits::EVENTS_AHEAD_MAX);
const _: () = assert!(PROVEN_MS > 1_000 * tandem_core::limits::EXPIRES_S_MAX as u64);
const _: () = assert!(REQUEST_MS_MAX > tandem_sip::transaction::GIVE_UP_MS);
