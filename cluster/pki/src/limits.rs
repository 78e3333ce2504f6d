//! Every bound of this crate.

/// The longest PEM file: some hundred certificates.
pub const PEM_BYTES_MAX: u64 = 1 << 20;
/// How often the files are looked at. They are taken when two looks found the same.
pub const LOOK_MS: u64 = 2_000;
/// Whoever starts while its files are being replaced waits so long until they fit each other.
pub const REPLACED_MS_MAX: u64 = 2_000;
pub const REPLACED_LOOK_MS: u64 = 50;
/// Handshakes under way; beyond it a connection waits in the kernel's backlog.
pub const HANDSHAKES_MAX: usize = 256;
/// A peer that says nothing is let go of.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;
/// After an accept that failed, for instance because there is no descriptor left.
pub const ACCEPT_AGAIN_MS: u64 = 50;
/// What repeats itself is said once in so long.
pub const SAID_AGAIN_S: u64 = 60;
/// Things said that are remembered; the oldest is forgotten first, and may be said again.
pub const SAID_MAX: usize = 64;
/// From so many days before its end a certificate is warned of, and then urgently.
pub const WARN_DAYS: i64 = 30;
pub const URGENT_DAYS: i64 = 7;
/// An alarm that stands is repeated.
pub const ALARM_AGAIN_S: u64 = 24 * 3_600;

const _: () = assert!(URGENT_DAYS < WARN_DAYS);
