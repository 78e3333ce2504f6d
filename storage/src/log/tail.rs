//! What the node knows of one shard's log without asking the disk: every log id that is not
//! purged and where it stands, and the newest entries themselves.

use std::collections::VecDeque;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::entry::RaftEntry as _;
use prost::Message as _;

use super::CACHE_BYTES_MAX;
use super::segment::Place;
use crate::raft::{Entry, LogId, Vote};
use crate::{proto, wire};

#[derive(Default)]
pub struct Tail {
    slots: VecDeque<Slot>,
    purged: Option<LogId>,
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    serial: u64,
    /// Bytes of the entries that are kept, and how many slots at the front keep none.
    cached_bytes: usize,
    bare: usize,
}

struct Slot {
    log_id: LogId,
    serial: u64,
    bytes: usize,
    /// Known when it was written.
    place: Option<Place>,
    /// `None` for an older one: it is read from its place. Most are old, so a slot is kept small.
    entry: Option<Box<Entry>>,
}

/// An entry, or where it is to be read.
pub enum Held {
    Entry(Entry),
    At(u64, Place),
}

impl Tail {
    fn first(&self) -> u64 {
        match self.slots.front() {
            Some(slot) => slot.log_id.index,
            None => self.purged.map_or(0, |purged| purged.index + 1),
        }
    }

    pub fn purged(&self) -> Option<LogId> {
        self.purged
    }

    pub fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.purged)
    }

    /// Returns the serial by which its place is told later.
    pub fn push(&mut self, entry: Entry, bytes: usize) -> Result<u64, wire::Error> {
        let index = entry.index();
        if let Some(last) = self.slots.back() {
            let last = last.log_id.index;
            if last + 1 != index {
                return Err(wire::Error::Hole { last, index });
            }
        }
        self.serial += 1;
        self.cached_bytes += bytes;
        let log_id = entry.log_id;
        let (serial, entry) = (self.serial, Some(Box::new(entry)));
        self.slots.push_back(Slot { log_id, serial, bytes, place: None, entry });
        Ok(serial)
    }

    /// Tells where an entry was written, unless it was truncated since.
    pub fn place(&mut self, index: u64, serial: u64, place: Place) {
        let Some(at) = index.checked_sub(self.first()) else { return };
        if let Some(slot) = self.slots.get_mut(at as usize)
            && slot.serial == serial
        {
            slot.place = Some(place);
        }
        self.evict();
    }

    /// Oldest first: replication and apply read the newest.
    fn evict(&mut self) {
        while self.cached_bytes > CACHE_BYTES_MAX {
            let Some(slot) = self.slots.get_mut(self.bare) else { return };
            if slot.place.is_none() {
                return;
            }
            slot.entry = None;
            self.cached_bytes -= slot.bytes;
            self.bare += 1;
        }
    }

    pub fn truncate_from(&mut self, index: u64) {
        while let Some(slot) = self.slots.pop_back_if(|slot| slot.log_id.index >= index) {
            if slot.entry.is_some() {
                self.cached_bytes -= slot.bytes;
            }
        }
        self.bare = self.bare.min(self.slots.len());
    }

    pub fn purge(&mut self, upto: LogId) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.log_id.index <= upto.index) {
            if slot.entry.is_some() {
                self.cached_bytes -= slot.bytes;
            }
            self.bare = self.bare.saturating_sub(1);
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// After everything was replayed: the entries begin where the purged end, and what is
    /// committed is there. A commit is noted without waiting for the entries themselves, which
    /// may have been lost here while others kept them.
    pub fn settle(&mut self) -> Result<(), wire::Error> {
        if let (Some(purged), Some(first)) = (self.purged, self.slots.front()) {
            let (last, index) = (purged.index, first.log_id.index);
            if last + 1 != index {
                return Err(wire::Error::Hole { last, index });
            }
        }
        let last = self.last();
        if self.committed.map(|id| id.index) > last.map(|id| id.index) {
            self.committed = last;
        }
        Ok(())
    }

    /// Entries of a range, up to about `bytes_max`, at least one.
    pub fn range(&self, range: &impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Held>> {
        let first = self.first();
        let start = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(at) => at.saturating_add(1),
            Bound::Excluded(at) => *at,
            Bound::Unbounded => u64::MAX,
        };
        let start = start.max(first) - first;
        let end = (end.max(first) - first).min(self.slots.len() as u64);
        if start >= end {
            return Ok(Vec::new());
        }
        let mut held = Vec::new();
        let mut bytes = 0_usize;
        for slot in self.slots.range(start as usize..end as usize) {
            if !held.is_empty() && bytes.saturating_add(slot.bytes) > bytes_max {
                break;
            }
            bytes = bytes.saturating_add(slot.bytes);
            held.push(match (&slot.entry, &slot.place) {
                (Some(entry), _) => Held::Entry(Entry::clone(entry)),
                (None, Some(place)) => Held::At(slot.log_id.index, place.clone()),
                (None, None) => return Err(io::Error::other("an entry is nowhere")),
            });
        }
        Ok(held)
    }
}

impl Held {
    /// `None` where the segment was purged and used again since the range was taken.
    pub fn read(self) -> io::Result<Option<Entry>> {
        let (index, place) = match self {
            Self::Entry(entry) => return Ok(Some(entry)),
            Self::At(index, place) => (index, place),
        };
        let Some(record) = place.read()? else { return Ok(None) };
        let entry = proto::Entry::decode(record.payload.as_slice()).map_err(io::Error::other)?;
        let entry = wire::entry_from(entry).map_err(io::Error::other)?;
        assert_eq!(entry.index(), index, "a segment's place holds the entry that was put there");
        Ok(Some(entry))
    }

    pub fn index(&self) -> u64 {
        match self {
            Self::Entry(entry) => entry.index(),
            Self::At(index, _) => *index,
        }
    }
}
