//! Thousands of histories on a disk that forgets, tears, refuses and lies. What was acknowledged is there
//! after every restart and power cut; where the disk broke its word, the log says so.
//!
//! Where it can't: the last batch. A batch proves that those before it were synced; nothing proves the
//! last one. Lost or damaged it looks like one that was being written when the power went, and is cut.
//! (Another file that says how far the log had come would cost a second sync for each batch, on the same
//! disk.) So a disk that lies about its last sync costs what it was about, and no log on it can tell. Was
//! that a purge, more is gone: the segment that was given away on its word.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::executor::block_on;
use openraft::RaftLogReader as _;
use openraft::storage::RaftLogStorage as _;
use prost::Message as _;

use super::super::segment::{HEADER_BYTES, Kind, RECORD_HEADER_BYTES, u64_at};
use super::super::{Error, Health, Log};
use super::liar::{Batch, Liar, PowerCut, Random, Trouble};
use super::*;
use crate::memory::{MemoryDisk, Twin};

/// `TANDEM_DISK_SEEDS` for more, `TANDEM_DISK_SEED` for one alone.
const SEEDS: u64 = 3_000;
const SHARDS: u64 = 3;
const STEPS_MAX: u64 = 90;

/// What a record says, with nothing of where it stands.
type Said = (u16, Kind, u64, Vec<u8>);

/// What one shard's log comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    /// With what they say, as a checksum.
    entries: Vec<(LogId, u32)>,
    purged: Option<LogId>,
    vote: Option<Vote>,
}

impl View {
    fn last(&self) -> Option<LogId> {
        self.entries.last().map(|(id, _)| *id).or(self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    fn of(mut log: ShardLog) -> Self {
        let entries = read(&log).into_iter().map(|entry| {
            let bytes = wire::entry(&entry).encode_to_vec();
            (entry.log_id, crc32fast::hash(&bytes))
        });
        let entries = entries.collect();
        let purged = block_on(log.get_log_state()).unwrap().last_purged_log_id;
        let vote = block_on(log.read_vote()).unwrap();
        Self { entries, purged, vote }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Views(BTreeMap<u16, View>);

impl Views {
    fn take(&mut self, (shard, kind, index, payload): &Said) {
        let view = self.0.entry(*shard).or_default();
        match kind {
            Kind::Entry => {
                let entry = proto::Entry::decode(payload.as_slice()).unwrap();
                let id = wire::entry_from(entry).unwrap().log_id;
                view.entries.push((id, crc32fast::hash(payload)));
            }
            Kind::Vote => {
                let vote = proto::Vote::decode(payload.as_slice()).unwrap();
                view.vote = Some(wire::vote_from(vote));
            }
            Kind::Truncate => view.entries.retain(|(id, _)| id.index < *index),
            Kind::Purge => {
                let id = proto::LogId::decode(payload.as_slice()).unwrap();
                view.entries.retain(|(id, _)| id.index > *index);
                view.purged = Some(wire::log_id_from(id));
            }
            Kind::Committed => {}
        }
    }
}

/// One history, and what should come of it.
struct History {
    random: Random,
    disk: Arc<Liar>,
    log: Log,
    twin: Arc<Twin>,
    term: u64,
    /// Everything that was asked for, in order; the log has some first part of it.
    asked: Vec<Said>,
    /// What all of it comes to.
    now: Views,
    /// How much of it was acknowledged.
    acknowledged: usize,
    /// Where each batch of the disk's journal ends in what was asked for.
    ends: Vec<usize>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    restarts: u64,
    cuts: u64,
    refusals: u64,
    /// Restarts over damage that the log has found, and over damage that nothing shows.
    found: u64,
    unseen: u64,
    torn: u64,
}

fn open(disk: &Arc<Liar>) -> Result<(Log, Arc<Twin>), Error> {
    let options = Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::default() };
    disk.shared().journal.lock().recording = false;
    let (log, writer) = Log::open_on(Arc::clone(disk) as _, options)?;
    disk.shared().journal.lock().recording = true;
    Ok(Twin::drive(log, writer, Sync::Told))
}

/// The records of a batch, and where each ends in it.
fn said(batch: &Batch) -> Vec<(Said, usize)> {
    let sequence = u64_at(&batch.bytes, 16);
    let mut at = 0;
    let mut found = Vec::new();
    while let Some(next) = record_at(&batch.bytes, at, sequence) {
        at += next.record.bytes() as usize;
        let record = next.record;
        found.push(((record.shard, record.kind, record.index, record.payload), at));
    }
    assert_eq!(at, batch.bytes.len(), "a batch is whole records");
    found
}

/// The live segment of a batch, and how many of its bytes are there before the first damaged record.
fn left_of(batch: &Batch, live: &BTreeMap<u64, (u64, Vec<u8>)>) -> Option<(u64, usize)> {
    let sequence = u64_at(&batch.bytes, 16);
    let (_, bytes) = live.get(&sequence).filter(|(blob, _)| *blob == batch.blob)?;
    let mut left = 0;
    for (said, end) in said(batch) {
        let at = batch.offset as usize + left;
        let len = RECORD_HEADER_BYTES + said.3.len();
        if bytes[at..at + len] != batch.bytes[left..left + len] {
            break;
        }
        left = end;
    }
    Some((sequence, left))
}

impl History {
    fn new(seed: u64) -> Self {
        let disk = Arc::new(Liar::new(Arc::new(MemoryDisk::default()), seed));
        let (log, twin) = open(&disk).unwrap();
        let random = Random(seed ^ 0x7a11);
        let (asked, ends) = (Vec::new(), Vec::new());
        let counts = Counts::default();
        let now = Views::default();
        Self { random, disk, log, twin, term: 1, asked, now, acknowledged: 0, ends, counts }
    }

    fn views(&self, upto: usize) -> Views {
        let mut views = Views::default();
        self.asked[..upto].iter().for_each(|said| views.take(said));
        views
    }

    fn note(&mut self, said: Said) {
        self.now.take(&said);
        self.asked.push(said);
    }

    /// Asks for something, which waits to be written.
    fn ask(&mut self) {
        let shard = self.random.below(SHARDS) as u16;
        let mut log = self.log.shard(ShardId(shard));
        let view = self.now.0.get(&shard).cloned().unwrap_or_default();
        match self.random.below(10) {
            0 => {
                self.term += 1;
                let keep = self.random.below(view.entries.len() as u64 + 1) as usize;
                let last = keep.checked_sub(1).map(|at| view.entries[at].0).or(view.purged);
                let from = last.map_or(0, |last| last.index + 1);
                block_on(log.truncate_after(last)).unwrap();
                self.note((shard, Kind::Truncate, from, Vec::new()));
            }
            1 | 2 => {
                let count = self.random.below(view.entries.len() as u64 + 1) as usize;
                let Some((upto, _)) = count.checked_sub(1).map(|at| &view.entries[at]) else {
                    return;
                };
                block_on(log.purge(*upto)).unwrap();
                let payload = wire::log_id(upto).encode_to_vec();
                self.note((shard, Kind::Purge, upto.index, payload));
            }
            3 => {
                self.term += 1;
                let vote = vote(self.term);
                // It waits for the disk, which waits for us.
                let mut saving = Box::pin(log.save_vote(&vote));
                assert!(saving.as_mut().now_or_never().is_none());
                let payload = wire::vote(&vote).encode_to_vec();
                self.note((shard, Kind::Vote, 0, payload));
                self.twin.sync();
                // Where the disk refuses, the whole of the log does.
                let _ = block_on(saving);
            }
            _ => {
                let next = view.next();
                let count = 1 + self.random.below(5);
                let bytes = self.random.below(9_000) as usize;
                let entries = (next..next + count).map(|index| entry(self.term, index, bytes));
                let entries: Vec<Entry> = entries.collect();
                for entry in &entries {
                    let payload = wire::entry(entry).encode_to_vec();
                    self.note((shard, Kind::Entry, entry.log_id.index, payload));
                }
                drop(start_append(&mut log, entries));
                if let Some(last) = view.last().filter(|_| self.random.one_in(3)) {
                    block_on(log.save_committed(Some(last))).unwrap();
                }
            }
        }
    }

    /// Writes what waits; false where the disk refuses.
    fn sync(&mut self) -> bool {
        self.twin.sync();
        self.follow_journal();
        let well = *self.log.health().borrow() == Health::Well;
        if well {
            self.acknowledged = self.asked.len();
            assert_eq!(self.ends.last().copied().unwrap_or(0), self.acknowledged);
        }
        well
    }

    /// Finds what was asked for in what was written.
    fn follow_journal(&mut self) {
        let journal = self.disk.shared().journal.lock();
        for batch in &journal.batches[self.ends.len()..] {
            let mut end = self.ends.last().copied().unwrap_or(0);
            for (said, _) in said(batch) {
                // Others are votes and purges that a new segment begins with, and commits.
                if self.asked.get(end) == Some(&said) {
                    end += 1;
                }
            }
            self.ends.push(end);
        }
    }

    /// The live segments by their number, as a reader sees them; false where a header is not what was
    /// written.
    fn live(&self) -> (bool, BTreeMap<u64, (u64, Vec<u8>)>) {
        let journal = self.disk.shared().journal.lock();
        let mut live = BTreeMap::new();
        let mut headers_whole = true;
        for name in self.disk.live() {
            let (blob, bytes) = self.disk.seen(&name).unwrap();
            let sequence = u64::from_str_radix(&name[..16], 16).unwrap();
            headers_whole &= journal
                .headers
                .get(&blob)
                .is_some_and(|header| u64_at(header, 16) == sequence && bytes.starts_with(header));
            live.insert(sequence, (blob, bytes));
        }
        (headers_whole, live)
    }

    /// What is synced in a live segment and not there any more: whether it can be known, and how much of
    /// what was asked for stands before it.
    fn damage(&self) -> (bool, Option<(bool, usize)>) {
        let (headers_whole, live) = self.live();
        let mut first: Option<(u64, usize)> = None;
        let mut known = false;
        let journal = self.disk.shared().journal.lock();
        for (at, batch) in journal.batches.iter().enumerate() {
            let Some((sequence, left)) = left_of(batch, &live) else { continue };
            let intact = left == batch.bytes.len();
            match first {
                None if batch.synced && !intact => {
                    let before = at.checked_sub(1).map_or(0, |before| self.ends[before]);
                    first = Some((sequence, before));
                }
                Some(_) if intact => known = true,
                Some(_) | None => {}
            }
        }
        let damage = first.map(|(sequence, before)| {
            let followed = live.keys().next_back().is_some_and(|last| *last > sequence);
            (known || followed, before)
        });
        (headers_whole, damage)
    }

    /// A new process on the same disk. False where it refuses to work on it, rightly.
    fn restart(&mut self) -> bool {
        self.follow_journal();
        *self.disk.shared().trouble.lock() = Trouble::None;
        let (headers_whole, damage) = self.damage();
        let synced = {
            let journal = self.disk.shared().journal.lock();
            let last = journal.batches.iter().rposition(|batch| batch.synced);
            last.map_or(0, |last| self.ends[last])
        };
        let (log, twin) = match open(&self.disk) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(
                    damage.is_some() || !headers_whole,
                    "a disk that kept its word is refused: {error}"
                );
                self.counts.found += 1;
                return false;
            }
        };
        assert!(headers_whole, "a damaged header is passed over");
        let least = match damage {
            None => synced.max(self.acknowledged),
            Some((known, before)) => {
                assert!(!known, "damage behind which there is more is passed over");
                self.counts.unseen += 1;
                before
            }
        };
        let shards = (0..SHARDS as u16).map(|shard| (shard, View::of(log.shard(ShardId(shard)))));
        let found: BTreeMap<u16, View> =
            shards.filter(|(_, view)| *view != View::default()).collect();
        let mut upto = least;
        let mut views = self.views(least);
        loop {
            let is: BTreeMap<_, _> =
                views.0.iter().filter(|(_, view)| **view != View::default()).collect();
            if is.iter().map(|(shard, view)| (**shard, (*view).clone())).eq(found.clone()) {
                break;
            }
            let Some(next) = self.asked.get(upto) else {
                if damage.is_some() && self.asked[least..].iter().any(|said| said.1 == Kind::Purge)
                {
                    return false;
                }
                panic!(
                    "{found:?} is not what {least} to {upto} steps come to, {:?} at the end",
                    views.0
                );
            };
            views.take(next);
            upto += 1;
        }
        for shard in 0..SHARDS as u16 {
            let mut log = log.shard(ShardId(shard));
            let committed = block_on(log.read_committed()).unwrap();
            assert!(committed <= block_on(log.get_log_state()).unwrap().last_log_id);
        }
        self.counts.torn += u64::from(upto < self.asked.len());
        self.forget_behind(upto);
        (self.log, self.twin) = (log, twin);
        self.counts.restarts += 1;
        true
    }

    /// What was cut is not there any more, for us either; what is there is synced.
    fn forget_behind(&mut self, upto: usize) {
        if upto < self.asked.len() {
            self.asked.truncate(upto);
            self.now = self.views(upto);
        }
        self.acknowledged = upto;
        let (_, live) = self.live();
        let journal = &mut *self.disk.shared().journal.lock();
        let ends = std::mem::take(&mut self.ends);
        for (mut batch, end) in std::mem::take(&mut journal.batches).into_iter().zip(ends) {
            if let Some((_, left)) = left_of(&batch, &live) {
                batch.bytes.truncate(left);
            }
            if !batch.bytes.is_empty() {
                batch.synced = true;
                journal.batches.push(batch);
                self.ends.push(end.min(upto));
            }
        }
    }

    fn cut(&mut self) {
        let hows = [PowerCut::Clean, PowerCut::Torn, PowerCut::Reordered];
        self.disk.cut(hows[self.random.below(3) as usize]);
        self.counts.cuts += 1;
    }

    /// Most bits of a segment are of no use; those of its batches are.
    fn flip(&mut self) {
        let live = self.disk.live();
        let name = live[self.random.below(live.len() as u64) as usize].clone();
        let Some((blob, _)) = self.disk.seen(&name) else { return };
        let used = {
            let journal = self.disk.shared().journal.lock();
            let ends = journal.batches.iter().filter(|batch| batch.blob == blob);
            ends.map(|batch| batch.offset + batch.bytes.len() as u64).max().unwrap_or(HEADER_BYTES)
        };
        let at = self.random.below(used + 64);
        self.disk.flip(&name, at, self.random.below(8) as u8);
    }

    fn run(mut self) -> Counts {
        let steps = 10 + self.random.below(STEPS_MAX);
        let (lies, flips) = (self.random.one_in(3), self.random.one_in(3));
        for _ in 0..steps {
            self.ask();
            if self.random.one_in(12) {
                let troubles = [
                    Trouble::Full,
                    Trouble::ReadOnly,
                    Trouble::Write,
                    Trouble::Sync,
                    Trouble::Lies,
                ];
                let at = self.random.below(troubles.len() as u64) as usize;
                let trouble = troubles[at];
                if trouble != Trouble::Lies || lies {
                    *self.disk.shared().trouble.lock() = trouble;
                }
            }
            let refused = self.random.one_in(2) && !self.sync();
            self.counts.refusals += u64::from(refused);
            if refused || self.random.one_in(15) {
                if self.random.one_in(2) {
                    self.cut();
                }
                if flips && self.random.one_in(4) {
                    self.flip();
                }
                if !self.restart() {
                    return self.counts;
                }
            }
        }
        self.sync();
        self.cut();
        self.restart();
        self.counts
    }
}

#[test]
fn log_keeps_what_it_acknowledged_and_says_where_the_disk_did_not() {
    let asked = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = asked("TANDEM_DISK_SEED");
    let seeds = one.map_or(0..asked("TANDEM_DISK_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let mut sum = Counts::default();
    for seed in seeds {
        let run = std::panic::catch_unwind(|| History::new(seed).run());
        let Ok(counts) = run else {
            panic!(
                "seed {seed}; again: TANDEM_DISK_SEED={seed} cargo test --release --locked \
                 --workspace --lib -- log_keeps_what_it_acknowledged"
            );
        };
        sum.restarts += counts.restarts;
        sum.cuts += counts.cuts;
        sum.refusals += counts.refusals;
        sum.found += counts.found;
        sum.unseen += counts.unseen;
        sum.torn += counts.torn;
    }
    println!("{sum:?}");
    if one.is_none() && asked("TANDEM_DISK_SEEDS").is_none() {
        let each = [sum.restarts, sum.cuts, sum.refusals, sum.found, sum.unseen, sum.torn];
        assert!(each.iter().all(|count| *count > 20), "some of it never comes about: {sum:?}");
    }
}

/// The same seed is the same history.
#[test]
fn histories_on_a_lying_disk_can_be_run_again() {
    for seed in 0..20 {
        let counts = [(); 2].map(|()| format!("{:?}", History::new(seed).run()));
        assert_eq!(counts[0], counts[1], "seed {seed}");
    }
}
