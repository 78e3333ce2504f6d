//! The holder's side: what it may send, and until when.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{LEASE_MS, clock};

/// Never over: where nobody leases lines.
const FOR_EVER: u64 = u64::MAX;
/// Over for good.
const ENDED: u64 = 0;

/// One life of a line in this process. Whoever sends from the line's address looks at it before, every time.
#[derive(Debug)]
pub struct Fence {
    /// By the boot clock, in milliseconds.
    until: AtomicU64,
}

impl Fence {
    /// Granted to who asked at that moment.
    pub fn asked_at(asked_ms: u64) -> Self {
        Self { until: AtomicU64::new(asked_ms.saturating_add(LEASE_MS)) }
    }

    /// Of a process that nobody could follow.
    pub fn none() -> Self {
        Self { until: AtomicU64::new(FOR_EVER) }
    }

    /// Granted again to who asked at that moment; answers may overtake each other.
    pub fn renew(&self, asked_ms: u64) {
        let until = asked_ms.saturating_add(LEASE_MS);
        let later = |known: u64| (known != ENDED && known < until).then_some(until);
        // It fails where the lease goes on for longer already, or has ended.
        let _ = self.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }

    /// The same where nobody is there who could have given the line to another, as long as it has not run out: once it
    /// has, somebody may have done so before.
    pub fn keep(&self, asked_ms: u64, now_ms: u64) {
        let until = asked_ms.saturating_add(LEASE_MS);
        let later = |known: u64| (now_ms < known && known < until).then_some(until);
        let _ = self.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }

    /// Nothing more may be sent, whatever is granted from here on.
    pub fn end(&self) {
        self.until.store(ENDED, Ordering::Release);
    }

    /// When the lease is over, by the boot clock.
    pub fn until_ms(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    pub fn has_ended(&self) -> bool {
        self.until.load(Ordering::Acquire) == ENDED
    }

    pub fn is_held(&self) -> bool {
        self.is_held_at(clock::boot_ms())
    }

    /// The same by a clock that was read already.
    pub fn is_held_at(&self, now_ms: u64) -> bool {
        now_ms < self.until.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_is_over_after_its_time_unless_it_is_renewed() {
        let fence = Fence::asked_at(1_000);
        assert!(fence.is_held_at(1_000 + LEASE_MS - 1));
        assert!(!fence.is_held_at(1_000 + LEASE_MS));
        fence.renew(1_500);
        // An answer to an earlier question, late on the way.
        fence.renew(1_200);
        assert!(fence.is_held_at(1_500 + LEASE_MS - 1));
        assert!(!fence.is_held_at(1_500 + LEASE_MS));
    }

    #[test]
    fn lease_that_ran_out_is_renewed_but_not_kept() {
        let fence = Fence::asked_at(1_000);
        fence.keep(1_500, 1_000 + LEASE_MS - 1);
        assert!(fence.is_held_at(1_500 + LEASE_MS - 1));
        fence.keep(5_000, 5_000);
        assert!(!fence.is_held_at(5_000));
        fence.renew(5_000);
        assert!(fence.is_held_at(5_000));
    }

    #[test]
    fn lease_that_has_ended_is_never_held_again() {
        let fence = Fence::asked_at(1_000);
        fence.end();
        fence.renew(2_000);
        assert!(!fence.is_held_at(2_000));
        assert!(Fence::none().is_held());
    }
}
