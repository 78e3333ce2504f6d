//! A gateway as the shard knows it: its life, its address, the ports that it granted, and which
//! of its events have counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::ids::GatewayId;
use crate::limits;

/// Stored in two rows: what a login says, and what every event changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub id: GatewayId,
    pub incarnation: u64,
    /// Where it serves SIP; its media has the same address.
    pub vip: SocketAddr,
    /// What this life granted, and what live calls held when it began.
    pub granted: BTreeSet<u16>,
    /// Granted and held by no leg. Follows from the calls, and is stored nowhere.
    pub free_ports: BTreeSet<u16>,
    pub counts: Counts,
}

/// Which events have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Every event up to this one has counted.
    pub counted: u64,
    /// Events beyond `counted` that have counted, too.
    pub ahead: Runs,
    /// All nodes were dead since then: if its next life begins before it says anything, it was dead, too.
    pub dark: bool,
}

/// Whether an event is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    New,
    Repeated,
    /// Too far ahead of one that is missing, which itself is always taken.
    TooEarly,
}

impl Gateway {
    pub fn judge(&self, sequence: u64) -> Fresh {
        let Counts { counted, ahead, .. } = &self.counts;
        if sequence <= *counted || ahead.contains(sequence) {
            Fresh::Repeated
        } else if ahead.len() >= limits::EVENTS_AHEAD_MAX as u64 && sequence > counted + 1 {
            Fresh::TooEarly
        } else {
            Fresh::New
        }
    }

    pub fn count(&mut self, sequence: u64) {
        let Counts { counted, ahead, dark } = &mut self.counts;
        *dark = false;
        if sequence != *counted + 1 {
            ahead.insert(sequence);
            return;
        }
        *counted = ahead.take_run(sequence + 1).unwrap_or(sequence);
    }
}

/// A set of numbers that mostly follow each other: runs of first and last, none next to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs(BTreeMap<u64, u64>);

impl Runs {
    pub fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, last)| number <= *last)
    }

    /// How many numbers there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let before = self.0.range(..number).next_back().map(|(first, last)| (*first, *last));
        let joined = before.filter(|(_, last)| last + 1 == number);
        let first = joined.map_or(number, |(first, _)| first);
        let last = number.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(number);
        self.0.insert(first, last);
    }

    /// A run behind all that there are; none where it does not lie there.
    pub fn push(&mut self, first: u64, last: u64) -> Option<()> {
        let behind = self.0.last_key_value().is_none_or(|(_, end)| first > end.saturating_add(1));
        if !behind || first > last {
            return None;
        }
        self.0.insert(first, last);
        Some(())
    }

    /// Takes the run out that begins with `first`; its last number.
    fn take_run(&mut self, first: u64) -> Option<u64> {
        self.0.remove(&first)
    }

    /// First and last of each run.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, last)| (*first, *last))
    }
}

impl FromIterator<u64> for Runs {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut runs = Self::default();
        numbers.into_iter().for_each(|number| runs.insert(number));
        runs
    }
}
