//! Leases of lines. A line is a service address with its calls; one process at a time serves it.
//!
//! Who serves a line is written in the log ([`Grant`]). Until when is not: the holder counts from the moment in which it
//! asked, by its own boot clock ([`Fence`]); whoever leads counts from the moment in which it heard that, and adds a margin for the
//! drift of both clocks ([`Book`]). So when the leader takes a lease for over, the holder has been silent already, asleep or
//! awake (Gray and Cheriton, "Leases", 1989, §2 and §5). Only then, or after the proven death of the holder, may
//! another process serve the line.
//!
//! Boot clocks never jump and go on while a machine sleeps or a process is stopped, but each runs at its own rate.

pub mod book;
pub mod clock;
pub mod fence;
pub mod reign;

pub use book::{Asker, Book, Grant, Next};
pub use fence::Fence;
pub use reign::Reign;

/// A process that is not told anything for so long is silent, by its own boot clock. Longer than an election without an
/// obituary takes (500 ms) and what a renewal needs: a leader that is cut off costs no other process its lines.
pub const LEASE_MS: u64 = 900;
/// Between two questions.
pub const RENEW_MS: u64 = 200;
/// No boot clock runs faster or slower by more parts in a million: fifty times what a bad crystal does.
pub const DRIFT_PPM_MAX: u64 = 10_000;
const PPM: u64 = 1_000_000;
/// So much longer a leader waits: its clock may be the fastest and the holder's the slowest; and a millisecond for
/// each of two roundings.
pub const MARGIN_MS: u64 = LEASE_MS * 2 * DRIFT_PPM_MAX / (PPM - DRIFT_PPM_MAX) + 2;
const _: () = assert!(4 * RENEW_MS <= LEASE_MS, "three questions may be lost");
