//! The jitter buffer of a leg whose audio ends here: puts packets in order, and waits only where
//! one is missing. It plays nothing out, so in order they pass at once; how long it waits for one
//! follows from how late they come. Pure: fed with arrival times.

use crate::limits::{
    DATAGRAM_BYTES_MAX, REORDER_GIVE_MS, REORDER_PACKETS_MAX, REORDER_WAIT_MS_FIRST,
    REORDER_WAIT_MS_MAX, REORDER_WAIT_MS_MIN,
};
use crate::rtp::is_before;

const NS_PER_MS: u64 = 1_000_000;

/// What becomes of a packet that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is the next. Those behind it may follow: see [`Reorder::pop`].
    Now,
    /// It waits for those before it.
    Waits,
    /// It was waited for in vain.
    TooLate,
}

pub struct Reorder<T> {
    /// The sequence number that is due; none before the first.
    next: Option<u16>,
    held: Vec<Held<T>>,
    wait_ns: u64,
    /// Since when the packet that was given up last had been waited for.
    given_up: Option<u64>,
}

struct Held<T> {
    sequence: u16,
    arrived_ns: u64,
    meta: T,
    len: usize,
    bytes: [u8; DATAGRAM_BYTES_MAX],
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        let wait_ns = REORDER_WAIT_MS_FIRST * NS_PER_MS;
        Self { next: None, held: Vec::new(), wait_ns, given_up: None }
    }
}

/// One that has waited, at its turn.
#[derive(Debug, PartialEq, Eq)]
pub struct Popped<T> {
    pub arrived_ns: u64,
    pub meta: T,
    pub len: usize,
}

impl<T: Copy> Reorder<T> {
    /// Another sequence begins, or nobody listens any more.
    pub fn restart(&mut self) {
        self.next = None;
        self.held.clear();
        self.given_up = None;
    }

    /// `meta` is what [`Self::pop`] tells of it again. A packet is offered once.
    pub fn offer(&mut self, sequence: u16, now_ns: u64, meta: T, payload: &[u8]) -> Turn {
        let ahead = sequence.wrapping_sub(self.next.unwrap_or(sequence)) as i16;
        match ahead {
            0 => {
                if let Some(since) = self.waits_since() {
                    self.has_come_after(now_ns.saturating_sub(since));
                }
                self.next = Some(sequence.wrapping_add(1));
                Turn::Now
            }
            ..0 => {
                if let Some(since) = self.given_up {
                    self.has_come_after(now_ns.saturating_sub(since));
                }
                Turn::TooLate
            }
            1.. => {
                if self.held.is_empty() {
                    // All that it will ever hold: one loss, and it allocates no more.
                    self.held.reserve_exact(REORDER_PACKETS_MAX);
                }
                let mut bytes = [0; DATAGRAM_BYTES_MAX];
                let len = payload.len().min(DATAGRAM_BYTES_MAX);
                bytes[..len].copy_from_slice(&payload[..len]);
                let at = self.held.partition_point(|held| is_before(held.sequence, sequence));
                self.held.insert(at, Held { sequence, arrived_ns: now_ns, meta, len, bytes });
                Turn::Waits
            }
        }
    }

    /// The next that has waited, if its turn has come: those before it are here, or were waited for
    /// long enough, or there is no more room to wait.
    pub fn pop(&mut self, now_ns: u64, out: &mut [u8]) -> Option<Popped<T>> {
        let due = self.held.first()?.sequence;
        if self.next != Some(due) {
            let since = self.waits_since()?;
            let full = self.held.len() >= REORDER_PACKETS_MAX;
            if !full && now_ns.saturating_sub(since) < self.wait_ns {
                return None;
            }
            self.given_up = Some(since);
            self.wait_ns -= (self.wait_ns / 8).min(self.wait_ns - REORDER_WAIT_MS_MIN * NS_PER_MS);
        }
        let held = self.held.remove(0);
        self.next = Some(due.wrapping_add(1));
        let len = held.len.min(out.len());
        out[..len].copy_from_slice(&held.bytes[..len]);
        Some(Popped { arrived_ns: held.arrived_ns, meta: held.meta, len })
    }

    /// The first behind the gap tells when it was seen.
    fn waits_since(&self) -> Option<u64> {
        self.held.first().map(|held| held.arrived_ns)
    }

    /// A packet came so much behind the one after it: as late ones shall find us waiting.
    fn has_come_after(&mut self, late_ns: u64) {
        let wanted = late_ns.saturating_add(REORDER_GIVE_MS * NS_PER_MS);
        self.wait_ns = self.wait_ns.max(wanted).min(REORDER_WAIT_MS_MAX * NS_PER_MS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = NS_PER_MS;

    fn popped(buffer: &mut Reorder<u16>, now_ns: u64) -> Vec<u16> {
        let mut out = [0; DATAGRAM_BYTES_MAX];
        std::iter::from_fn(|| {
            let popped = buffer.pop(now_ns, &mut out)?;
            assert_eq!(out[..popped.len], popped.meta.to_be_bytes());
            Some(popped.meta)
        })
        .collect()
    }

    fn offer(buffer: &mut Reorder<u16>, sequence: u16, now_ns: u64) -> Turn {
        buffer.offer(sequence, now_ns, sequence, &sequence.to_be_bytes())
    }

    #[test]
    fn packets_in_order_never_wait_and_one_that_is_overtaken_is_put_right() {
        let mut buffer = Reorder::default();
        for sequence in [65_534, 65_535, 0] {
            assert_eq!(offer(&mut buffer, sequence, 0), Turn::Now);
            assert!(popped(&mut buffer, 0).is_empty());
        }
        assert_eq!(offer(&mut buffer, 2, 40 * MS), Turn::Waits);
        assert_eq!(offer(&mut buffer, 3, 60 * MS), Turn::Waits);
        assert!(popped(&mut buffer, 60 * MS).is_empty());
        assert_eq!(offer(&mut buffer, 1, 65 * MS), Turn::Now);
        assert_eq!(popped(&mut buffer, 65 * MS), [2, 3]);
        assert!(buffer.held.is_empty());
    }

    #[test]
    fn lost_packet_is_waited_for_and_then_no_more_and_comes_too_late() {
        let mut buffer = Reorder::default();
        offer(&mut buffer, 1, 0);
        offer(&mut buffer, 3, 40 * MS);
        assert!(popped(&mut buffer, 99 * MS).is_empty());
        assert_eq!(popped(&mut buffer, 100 * MS), [3], "60 ms to begin with");
        assert_eq!(offer(&mut buffer, 2, 150 * MS), Turn::TooLate);
        assert_eq!(offer(&mut buffer, 4, 150 * MS), Turn::Now);
        // It came 110 ms behind the one after it: the next of its kind is waited for.
        offer(&mut buffer, 6, 200 * MS);
        assert!(popped(&mut buffer, 310 * MS).is_empty());
        assert_eq!(offer(&mut buffer, 5, 310 * MS), Turn::Now);
        assert_eq!(popped(&mut buffer, 310 * MS), [6]);
    }

    #[test]
    fn wait_follows_the_peer_within_its_limits() {
        let mut buffer = Reorder::default();
        let mut next = 1;
        // Where nothing ever comes late, losses soon hold up nothing much.
        for _ in 0..40 {
            offer(&mut buffer, next, 0);
            offer(&mut buffer, next + 2, 0);
            popped(&mut buffer, 1000 * MS);
            next += 3;
        }
        assert_eq!(buffer.wait_ns, REORDER_WAIT_MS_MIN * MS);
        offer(&mut buffer, next + 1, 0);
        assert_eq!(offer(&mut buffer, next, 5000 * MS), Turn::Now);
        assert_eq!(buffer.wait_ns, REORDER_WAIT_MS_MAX * MS);
    }

    #[test]
    fn full_buffer_gives_up_the_gap_and_holds_no_more() {
        let mut buffer = Reorder::default();
        offer(&mut buffer, 0, 0);
        for sequence in 2..2 + REORDER_PACKETS_MAX as u16 {
            assert_eq!(offer(&mut buffer, sequence, 0), Turn::Waits);
        }
        assert_eq!(popped(&mut buffer, 0).len(), REORDER_PACKETS_MAX);
        assert_eq!(offer(&mut buffer, 2 + REORDER_PACKETS_MAX as u16, 0), Turn::Now);
    }

    proptest! {
        /// However they are shuffled, they come out in order, each once at most; and where none is
        /// overtaken by more than is waited for, all of them.
        #[test]
        fn order_is_put_right(
            first in any::<u16>(),
            shifts in prop::collection::vec(0_u64..100, 1..200),
        ) {
            let sent = (0_u64..).zip(&shifts);
            let mut came: Vec<(u64, u16)> =
                sent.map(|(at, shift)| (at * 20 + shift, first.wrapping_add(at as u16))).collect();
            // The first is what the others are in order with.
            came[0].0 = 0;
            came.sort_unstable_by_key(|(at, sequence)| (*at, sequence.wrapping_sub(first)));
            let mut buffer = Reorder { wait_ns: 120 * MS, ..Reorder::default() };
            let mut heard = Vec::new();
            for (at_ms, sequence) in came {
                match offer(&mut buffer, sequence, at_ms * MS) {
                    Turn::Now => heard.push(sequence),
                    Turn::Waits => {}
                    Turn::TooLate => prop_assert!(false, "nothing is that late"),
                }
                heard.extend(popped(&mut buffer, at_ms * MS));
                prop_assert!(buffer.held.len() < REORDER_PACKETS_MAX);
            }
            let all: Vec<u16> =
                (0..shifts.len()).map(|at| first.wrapping_add(at as u16)).collect();
            prop_assert_eq!(heard, all);
        }
    }
}
