//! Every bound of the domain, and what happens at it.

/// Live calls of one shard; the next one is answered 503.
pub const CALLS_MAX: usize = 20_000;
/// Effects that wait to be done; beyond it new calls are answered 503, live calls go on.
pub const OUTBOX_MAX: usize = 50_000;
/// Events of a gateway that may be committed out of order; beyond it one is refused and sent again.
pub const EVENTS_AHEAD_MAX: usize = 65_536;
/// Ports that one gateway may grant.
pub const PORTS_MAX: usize = 32_768;
/// Registered longest; a phone that asks for more gets this (RFC 3261 §10.3).
pub const EXPIRES_S_MAX: u32 = 3_600;
/// Registered where the phone names no time.
pub const EXPIRES_S_DEFAULT: u32 = 3_600;
/// How long a released leg waits for its peer's last word: 64·T1 and a second.
pub const RELEASE_MS_MAX: u64 = 33_000;
/// Refused INVITEs that are remembered; beyond it the oldest is forgotten.
pub const REFUSED_MAX: usize = 10_000;
/// How long a refused INVITE is remembered: its caller takes the refusal again for so long (timer
/// D, RFC 3261 §17.1.1.2).
pub const REFUSED_MS: u64 = 64 * tandem_sip::transaction::T1_MS;
/// Keys of operators' commands that are remembered; beyond it the one that would be forgotten first
/// is.
pub const KEYS_MAX: usize = 10_000;
/// The longest that a key is remembered: a day.
pub const KEY_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// The longest key.
pub const KEY_BYTES_MAX: usize = 512;
/// Transfers of one call; the next one is refused.
pub const TRANSFERS_MAX: usize = 32;
/// What is said of how long a REFER's subscription lasts, seconds: longer than anything rings.
pub const REFER_S: u64 = 300;
/// `Retry-After` of a 503, seconds.
pub const RETRY_AFTER_S: u32 = 5;
/// The longest dialled number or name that is looked up.
pub const DIGITS_MAX: usize = 64;

const _: () = assert!(RELEASE_MS_MAX > tandem_sip::transaction::GIVE_UP_MS);
