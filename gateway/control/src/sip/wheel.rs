//! The timers of one table: each entry has one, its next deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tandem_sip::Millis;

/// Deadlines in order. An entry that has moved on is found out when its time comes, so that
/// stopping a timer costs nothing.
#[derive(Debug, Default)]
pub struct Wheel {
    heap: BinaryHeap<Reverse<(Millis, u64)>>,
}

impl Wheel {
    /// Sees to it that `entry` is looked at when `deadline` comes. `armed` is the entry's own note
    /// of when it will be.
    pub fn arm(&mut self, entry: u64, armed: &mut Option<Millis>, deadline: Millis) {
        if armed.is_none_or(|at| deadline < at) {
            *armed = Some(deadline);
            self.heap.push(Reverse((deadline, entry)));
        }
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// An entry whose time has come. The caller clears its note and arms it again.
    pub fn pop_due(&mut self, now: Millis) -> Option<u64> {
        let Reverse((at, entry)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some(entry)
    }
}
