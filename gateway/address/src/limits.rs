//! Every bound of moving addresses, and what happens at it.

use std::time::Duration;

use tandem_lease::LEASE_MS;

/// How long an address stays on an interface when nobody renews it, in the kernel's whole seconds; it looks about once
/// a second. Longer than a lease, so that a process that is slow for a moment loses no address that it may serve.
pub const VALID_S: u32 = 3;
/// How often it is renewed while the lease is held.
pub const RENEW_MS: u64 = 1_000;
const _: () = assert!(VALID_S as u64 * 1_000 > RENEW_MS + LEASE_MS);

/// When neighbours are told, after the address came: one message may be lost, and one that comes in the moment in which the port of
/// a switch comes up is. The last one is for those who have asked meanwhile, and were answered by who had it before:
/// that one's address is gone by then, whatever became of its process.
pub const ANNOUNCE_AFTER_MS: [u64; 4] = [0, 300, 1_000, 6_000];
const _: () = assert!(ANNOUNCE_AFTER_MS[3] > LEASE_MS + (VALID_S as u64 + 2) * 1_000);

/// Between two answers to another host that claims the address, and between two alarms (`DEFEND_INTERVAL`, RFC 5227 §1.1): two
/// hosts that both insist must not fill the network.
pub const DEFEND_MS: u64 = 10_000;

/// A hook that takes longer is killed, with all that it has started.
pub const HOOK_TAKE: Duration = Duration::from_secs(2);
pub const HOOK_DROP: Duration = Duration::from_secs(2);

/// Orders that wait for the thread that talks to the kernel; whoever has one more waits to give it.
pub const ORDERS_MAX: usize = 64;
/// The kernel answers within microseconds, as a rule; one that does not is given up.
pub const KERNEL_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Addresses of one interface that are looked at, in messages of the kernel's list.
pub const LISTED_MAX: usize = 4_096;
/// Packets of neighbours that are read in one turn.
pub const HEARD_MAX: usize = 64;
