//! A replica that strays is out from the entry at which that is found, over restarts, and is what its group
//! has again once it was given rows: whichever moment they are of, and whatever was handed over meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures::stream;
use openraft::storage::RaftStateMachine as _;
use openraft::{EntryPayload, OptionalSend, RaftLogReader, RaftSnapshotBuilder as _};
use proptest::prelude::*;
use tempfile::TempDir;

use super::snapshot::killed;
use crate::machine::{Applied, Change, Machine, MendError, Outcome, Row, StateMachine};
use crate::raft::{Command, Entry, ShardId, SnapshotMeta, TypeConfig, Vote};
use crate::snapshot::{Part, Received};
use crate::state::{Error, State};
use crate::{proto, wire};

const FAMILIES: &[&str] = &["words", "sums"];
const SHARD: ShardId = ShardId(1);
const SUM: &[u8] = b"sum";

/// Words and how often each came, and a sum over all that it has ever written.
#[derive(Default)]
struct Ledger {
    counts: BTreeMap<Vec<u8>, u8>,
    sum: u32,
    differs: bool,
    /// The next word is counted twice.
    strays: Arc<AtomicBool>,
}

impl Machine for Ledger {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), String> {
        (self.sum, self.differs) = (0, false);
        self.counts.clear();
        for Row { family, key, value } in rows {
            if family == "sums" {
                self.sum = u32::from_be_bytes(value.try_into().map_err(|_| "no sum")?);
            } else {
                self.counts.insert(key, value[0]);
            }
        }
        Ok(())
    }

    fn apply(&mut self, entry: Applied<'_>) -> Outcome {
        if let Some(sum) = entry.command.strip_prefix(b"check ") {
            self.differs = sum != self.sum.to_string().as_bytes();
            return Outcome::default();
        }
        let times = 1 + u8::from(self.strays.swap(false, Relaxed));
        let count = self.counts.entry(entry.command.to_vec()).or_default();
        *count = count.wrapping_add(times);
        let wrote = [&self.sum.to_be_bytes(), entry.command, &[*count]].concat();
        self.sum = crc32fast::hash(&wrote);
        let word = Change::of("words", entry.command.to_vec(), Some(vec![*count]));
        let sum = Change::of("sums", SUM.to_vec(), Some(self.sum.to_be_bytes().to_vec()));
        Outcome { changes: vec![word, sum], reply: Vec::new() }
    }

    fn differs(&self) -> bool {
        self.differs
    }
}

/// What the group has committed.
#[derive(Clone, Default)]
struct Committed {
    entries: Vec<Entry>,
    /// Gone from the log up to here.
    purged: u64,
}

impl Committed {
    fn push(&mut self, command: &str) {
        let index = self.last() + 1;
        let log_id = wire::log_id_from(proto::LogId { term: 1, node: 1, index });
        self.entries.push(Entry { log_id, payload: EntryPayload::Normal(Command(command.into())) });
    }

    fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    fn range(&self, range: &impl RangeBounds<u64>) -> Vec<Entry> {
        let all = self.entries.iter().filter(|entry| range.contains(&entry.log_id.index));
        all.filter(|entry| entry.log_id.index > self.purged).cloned().collect()
    }
}

impl RaftLogReader<TypeConfig> for Committed {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.range(&range))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        // In several pieces.
        Ok(self.range(&(start..end.min(start + 3))))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(None)
    }
}

struct Replica {
    dir: TempDir,
    state: State,
    machine: StateMachine<Ledger>,
    handed: u64,
    strays: Arc<AtomicBool>,
}

impl Replica {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    fn open(dir: TempDir) -> Self {
        let state = State::open(dir.path(), FAMILIES).unwrap();
        let ledger = Ledger::default();
        let strays = Arc::clone(&ledger.strays);
        let machine = StateMachine::open(SHARD, state.clone(), ledger).unwrap();
        let handed = state.applied(SHARD).unwrap().0.map_or(0, |last| last.index);
        Self { dir, state, machine, handed, strays }
    }

    /// Killed: what was not flushed is gone.
    fn restart(self) -> Self {
        let copy = killed(self.dir.path());
        Self::open(copy)
    }

    async fn hand_over(&mut self, committed: &Committed, upto: u64) {
        let next = committed.range(&(self.handed + 1..=upto));
        self.handed = upto.max(self.handed);
        let next = next.into_iter().map(|entry| Ok((entry, None)));
        self.machine.apply(stream::iter(next)).await.unwrap();
    }

    fn applied(&self) -> u64 {
        self.state.applied(SHARD).unwrap().0.map_or(0, |last| last.index)
    }

    fn rows(&self) -> Vec<Row> {
        self.state.view().rows(SHARD, &[], &[]).unwrap().map(Result::unwrap).collect()
    }

    fn sum(&self) -> u32 {
        let sum = self.state.get(SHARD, "sums", SUM).unwrap();
        sum.map_or(0, |sum| u32::from_be_bytes(sum.try_into().unwrap()))
    }

    fn is_out(&self) -> bool {
        self.state.out_since(SHARD).is_some()
    }

    async fn mend(&mut self, of: &Self, committed: &Committed) -> Result<(), MendError> {
        let (meta, received) = sent(of, self);
        self.machine.mend(received, &meta, &mut committed.clone()).await
    }
}

/// The rows of one replica, as another one gets them.
fn sent(from: &Replica, to: &Replica) -> (SnapshotMeta, Received) {
    let mut incoming = to.state.receive(SHARD).unwrap();
    let (mut meta, mut count) = (SnapshotMeta::default(), 0);
    let mut take = |part| {
        match part {
            Part::Moment(of) => meta = of,
            Part::Rows(rows) => incoming.put(&rows).unwrap(),
            Part::End { rows } => count = rows,
            Part::Known(_) => unreachable!("nothing is known to it"),
        }
        true
    };
    from.state.here(SHARD).read(true, &HashSet::new(), &mut take).unwrap();
    (meta, incoming.finish(count).unwrap())
}

#[tokio::test]
async fn replica_that_differs_applies_nothing_more_and_gives_its_rows_to_nobody_over_restarts() {
    let mut log = Committed::default();
    let (mut well, mut strays) = (Replica::new(), Replica::new());
    ["a", "b"].iter().for_each(|word| log.push(word));
    strays.strays.store(true, Relaxed);
    well.hand_over(&log, 2).await;
    log.push(&format!("check {}", well.sum()));
    ["c", "d"].iter().for_each(|word| log.push(word));
    for replica in [&mut well, &mut strays] {
        replica.hand_over(&log, 5).await;
    }
    assert_eq!((well.is_out(), well.applied()), (false, 5));
    for _ in 0..2 {
        assert_eq!((strays.state.out_since(SHARD), strays.applied()), (Some(3), 3));
        let read = strays.state.here(SHARD).read(true, &HashSet::new(), &mut |_| true);
        assert!(matches!(read, Err(Error::Out(SHARD))), "{read:?}");
        assert!(strays.machine.try_create_snapshot_builder(false).await.is_none());
        strays = strays.restart();
        strays.hand_over(&log, 5).await;
    }
    // Of a moment before the comparison, or with a gap behind them, they are of no use.
    let mut early = Replica::new();
    early.hand_over(&log, 2).await;
    let mended = strays.mend(&early, &log).await;
    assert!(matches!(mended, Err(MendError::TooOld { came: Some(2), since: 3, .. })), "{mended:?}");
    early.hand_over(&log, 3).await;
    let purged = Committed { purged: 4, ..log.clone() };
    let mended = strays.mend(&early, &purged).await;
    assert!(matches!(mended, Err(MendError::LogGone(4))), "{mended:?}");
    assert!(strays.is_out());

    strays.mend(&early, &log).await.unwrap();
    assert_eq!((strays.is_out(), strays.applied()), (false, 5));
    assert_eq!(strays.rows(), well.rows());
    strays = strays.restart();
    assert!(!strays.is_out());
    log.push(&format!("check {}", well.sum()));
    strays.hand_over(&log, 6).await;
    assert_eq!((strays.is_out(), strays.applied()), (false, 6));
    let snapshot = strays.machine.try_create_snapshot_builder(false).await;
    snapshot.unwrap().build_snapshot().await.unwrap();
}

#[tokio::test]
async fn replica_that_strays_behind_the_rows_that_came_is_out_again_until_others_come() {
    let mut log = Committed::default();
    let (mut well, mut strays) = (Replica::new(), Replica::new());
    log.push("a");
    strays.strays.store(true, Relaxed);
    well.hand_over(&log, 1).await;
    log.push(&format!("check {}", well.sum()));
    well.hand_over(&log, 2).await;
    log.push("b");
    let mut later = Replica::new();
    later.hand_over(&log, 3).await;
    log.push(&format!("check {}", later.sum()));
    later.hand_over(&log, 4).await;
    strays.hand_over(&log, 4).await;
    strays.strays.store(true, Relaxed);
    let mended = strays.mend(&well, &log).await;
    assert!(matches!(mended, Err(MendError::Again(4))), "{mended:?}");
    assert_eq!(strays.state.out_since(SHARD), Some(4));
    strays = strays.restart();
    assert_eq!(strays.state.out_since(SHARD), Some(4));
    strays.mend(&later, &log).await.unwrap();
    assert_eq!((strays.is_out(), strays.rows()), (false, later.rows()));
}

/// A snapshot of the leader, to who was far behind, is as good.
#[tokio::test]
async fn snapshot_lets_a_replica_in_again() {
    let mut log = Committed::default();
    let (mut well, mut strays) = (Replica::new(), Replica::new());
    log.push("a");
    strays.strays.store(true, Relaxed);
    well.hand_over(&log, 1).await;
    log.push(&format!("check {}", well.sum()));
    log.push("b");
    well.hand_over(&log, 3).await;
    strays.hand_over(&log, 2).await;
    assert!(strays.is_out());
    let (meta, received) = sent(&well, &strays);
    let snapshot = crate::snapshot::Snapshot::Received(received);
    strays.machine.install_snapshot(&meta, snapshot).await.unwrap();
    strays.handed = 3;
    assert_eq!((strays.is_out(), strays.rows()), (false, well.rows()));
    // What was asked for before that comes too late, and changes nothing.
    let early = Replica::new();
    strays.mend(&early, &log).await.unwrap();
    assert_eq!(strays.rows(), well.rows());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Word(u8),
    Check,
    Stray,
    /// To who leads and to the other one, so many of those that they lack.
    HandOver(u8, u8),
    Mend,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_u8).prop_map(Step::Word),
        2 => Just(Step::Check),
        1 => Just(Step::Stray),
        6 => (0..5_u8, 0..5_u8).prop_map(|(leads, other)| Step::HandOver(leads, other)),
        2 => Just(Step::Mend),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..50)
}

/// With who leads as its twin. Whether it was out at any time.
async fn stays_what_its_twin_is(steps: &[Step]) -> bool {
    let mut log = Committed::default();
    let (mut leads, mut other) = (Replica::new(), Replica::new());
    let mut was_out = false;
    for step in steps {
        let before = (other.is_out(), other.applied());
        match step {
            Step::Word(word) => log.push(&format!("word {word}")),
            Step::Check => {
                leads.hand_over(&log, log.last()).await;
                log.push(&format!("check {}", leads.sum()));
            }
            Step::Stray => other.strays.store(true, Relaxed),
            Step::HandOver(of_leader, of_other) => {
                let upto =
                    |replica: &Replica, more| log.last().min(replica.handed + u64::from(more));
                let (one, two) = (upto(&leads, *of_leader), upto(&other, *of_other));
                leads.hand_over(&log, one).await;
                other.hand_over(&log, two).await;
                assert!(!before.0 || other.applied() == before.1, "it is out");
            }
            Step::Mend if before.0 => {
                // It does not stray again while it is mended, whatever was asked of it.
                other.strays.store(false, Relaxed);
                let mended = other.mend(&leads, &log).await;
                let is_early = leads.applied() < before.1;
                assert_eq!(mended.is_err(), is_early, "{mended:?}");
                assert_eq!(other.is_out(), is_early);
                let upto = other.handed.max(leads.applied());
                assert_eq!(other.applied(), if is_early { before.1 } else { upto });
            }
            Step::Mend => {}
            Step::Restart => {
                other = other.restart();
                assert!(!before.0 || other.is_out(), "a restart brings back what is wrong");
                // As consensus does: what it knows to be committed comes again.
                other.hand_over(&log, other.handed).await;
            }
        }
        was_out |= other.is_out();
    }
    other.strays.store(false, Relaxed);
    leads.hand_over(&log, log.last()).await;
    log.push(&format!("check {}", leads.sum()));
    for replica in [&mut leads, &mut other] {
        replica.hand_over(&log, log.last()).await;
    }
    if other.is_out() {
        other.mend(&leads, &log).await.unwrap();
    }
    assert_eq!(other.rows(), leads.rows());
    assert_eq!(other.applied(), log.last());
    was_out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..Default::default() })]
    #[test]
    fn replica_is_what_its_twin_is_or_is_out(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(stays_what_its_twin_is(&steps));
    }
}
