use std::sync::Arc;

use futures::stream;
use openraft::storage::RaftStateMachine as _;
use openraft::{EntryPayload, RaftSnapshotBuilder as _};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::snapshot::killed;
use crate::machine::{Applied, Change, Machine, Outcome, Row, StateMachine};
use crate::raft::{Command, Entry, ShardId, StoredMembership};
use crate::state::{Options, State, latest};
use crate::{proto, wire};

const FAMILIES: &[&str] = &["words", "other"];
const SHARD: ShardId = ShardId(1);

/// Counts each command; the count is its row.
#[derive(Clone, Default)]
struct Counter {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    restored: Vec<Row>,
    persisted: Vec<u64>,
    count: u8,
    refuses: bool,
}

impl Machine for Counter {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), String> {
        let mut seen = self.seen.lock();
        if seen.refuses {
            return Err("of a later build".to_owned());
        }
        seen.restored = rows.collect();
        Ok(())
    }

    fn apply(&mut self, entry: Applied<'_>) -> Outcome {
        let mut seen = self.seen.lock();
        seen.count += 1;
        let value = (entry.command != b"gone").then(|| vec![seen.count]);
        let key = entry.command.to_vec();
        Outcome { changes: vec![Change::of("words", key, value)], reply: Vec::new() }
    }

    fn after_persist(&mut self, index: u64) {
        self.seen.lock().persisted.push(index);
    }
}

fn entry(index: u64, command: &str) -> Entry {
    let log_id = wire::log_id_from(proto::LogId { term: 1, node: 1, index });
    Entry { log_id, payload: EntryPayload::Normal(Command(command.into())) }
}

async fn apply(machine: &mut StateMachine<Counter>, from: u64, words: &[&str]) {
    let entries = (from..).zip(words).map(|(index, word)| Ok((entry(index, word), None)));
    machine.apply(stream::iter(entries.collect::<Vec<_>>())).await.unwrap();
}

fn keys(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| std::str::from_utf8(&row.key).unwrap()).collect()
}

#[tokio::test]
async fn machine_finds_its_rows_and_applied_id_as_last_flushed() {
    let dir = tempfile::tempdir().unwrap();
    {
        let state = State::open(dir.path(), FAMILIES).unwrap();
        let counter = Counter::default();
        let mut machine = StateMachine::open(SHARD, state.clone(), counter.clone()).unwrap();
        apply(&mut machine, 1, &["a", "gone", "b"]).await;
        assert_eq!(counter.seen.lock().persisted, [3], "one batch, then its effects");
        assert_eq!(state.flushed_index(SHARD), None);
        state.flush().unwrap();
        assert_eq!(state.flushed_index(SHARD), Some(3));
        let view = state.view();
        apply(&mut machine, 4, &["c"]).await;
        assert_eq!(view.rows(SHARD, &[], &[]).unwrap().count(), 2, "a view stays as it is");
        assert_eq!(state.flushed_index(SHARD), Some(3));
        assert_eq!(state.get(SHARD, "words", b"c").unwrap(), Some(vec![4]));
        assert_eq!(state.get(ShardId(2), "words", b"c").unwrap(), None);
        // Like a kill: RocksDB is not closed, and so doesn't flush.
        drop(view);
        std::mem::forget(state);
        std::mem::forget(machine);
    }
    let copy = killed(dir.path());
    let state = State::open(copy.path(), FAMILIES).unwrap();
    assert_eq!(state.flushed_index(SHARD), Some(3));
    let counter = Counter::default();
    let mut machine = StateMachine::open(SHARD, state, counter.clone()).unwrap();
    assert_eq!(machine.applied_state().await.unwrap().0.unwrap().index, 3);
    assert_eq!(keys(&counter.seen.lock().restored), ["a", "b"]);
}

/// Memtables of which each row fills one wait for their flush soon.
#[test]
fn who_will_not_wait_for_the_disk_is_told_so_and_has_written_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { write_buffer_bytes: 64 << 10, ..Options::new(FAMILIES) };
    let state = State::open(dir.path(), options).unwrap();
    let membership = StoredMembership::default();
    let mut stalled = 0;
    for index in 1..10_000_u64 {
        let log_id = wire::log_id_from(proto::LogId { term: 1, node: 1, index });
        let (key, value) = (index.to_be_bytes().to_vec(), Some(vec![7; 256 << 10]));
        let changes = [Change::of("words", key.clone(), value)];
        if !state.write_at_once(SHARD, &changes, Some(&log_id), &membership).unwrap() {
            assert_eq!(state.get(SHARD, "words", &key).unwrap(), None);
            state.write(SHARD, &changes, Some(&log_id), &membership).unwrap();
            stalled += 1;
        }
        assert!(state.get(SHARD, "words", &key).unwrap().is_some());
        if stalled == 3 {
            return;
        }
    }
    panic!("RocksDB never made a writer wait");
}

#[tokio::test]
async fn snapshot_carries_the_rows_of_its_shard_to_another_node() {
    let state = State::in_memory(FAMILIES).unwrap();
    let mut machine = StateMachine::open(SHARD, state.clone(), Counter::default()).unwrap();
    let neighbour = ShardId(SHARD.0 + 1);
    let mut other = StateMachine::open(neighbour, state.clone(), Counter::default()).unwrap();
    apply(&mut machine, 1, &["a", "b"]).await;
    apply(&mut other, 1, &["x"]).await;
    assert!(machine.get_current_snapshot().await.unwrap().is_none());
    let snapshot = machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(state.flushed_index(SHARD), Some(2), "the log behind a snapshot may be purged");

    let target = State::in_memory(FAMILIES).unwrap();
    let counter = Counter::default();
    let mut copy = StateMachine::open(SHARD, target.clone(), counter.clone()).unwrap();
    apply(&mut copy, 1, &["stale"]).await;
    copy.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert_eq!(keys(&counter.seen.lock().restored), ["a", "b"]);
    assert_eq!(target.get(SHARD, "words", b"stale").unwrap(), None);
    assert_eq!(target.flushed_index(SHARD), Some(2));
    assert_eq!(copy.applied_state().await.unwrap().0, snapshot.meta.last_log_id);
    assert!(copy.get_current_snapshot().await.unwrap().is_some());
}

#[tokio::test]
async fn snapshot_that_the_machine_refuses_changes_nothing() {
    let state = State::in_memory(FAMILIES).unwrap();
    let mut machine = StateMachine::open(SHARD, state, Counter::default()).unwrap();
    apply(&mut machine, 1, &["a"]).await;
    let snapshot = machine.get_snapshot_builder().await.build_snapshot().await.unwrap();

    let target = State::in_memory(FAMILIES).unwrap();
    let counter = Counter::default();
    let mut copy = StateMachine::open(SHARD, target.clone(), counter.clone()).unwrap();
    counter.seen.lock().refuses = true;
    copy.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap_err();
    assert_eq!(target.get(SHARD, "words", b"a").unwrap(), None);
    assert_eq!(copy.applied_state().await.unwrap().0, None);
}

#[test]
fn pages_go_down_shard_by_shard_until_nothing_is_left() {
    let state = State::in_memory(FAMILIES).unwrap();
    for shard in [ShardId(0), SHARD, ShardId::META] {
        let changes: Vec<Change> =
            (0..5_u8).map(|key| Change::of("words", vec![0xff, key], Some(vec![key]))).collect();
        state.write(shard, &changes, None, &Default::default()).unwrap();
    }
    for shard in [ShardId(0), SHARD, ShardId::META] {
        let mut before: Option<Vec<u8>> = None;
        let mut values = Vec::new();
        loop {
            let page = state.page_down(shard, "words", before.as_deref(), 2).unwrap();
            values.extend(page.rows.into_iter().flat_map(|(_, value)| value));
            match page.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        assert_eq!(values, [4, 3, 2, 1, 0], "{shard}");
    }
}

#[test]
fn change_of_an_unknown_family_is_an_error_and_writes_nothing() {
    let state = State::in_memory(FAMILIES).unwrap();
    let change = |family| Change::of(family, vec![1], Some(vec![1]));
    let changes = [change("words"), change("unheard of")];
    state.write(SHARD, &changes, None, &Default::default()).unwrap_err();
    assert_eq!(state.get(SHARD, "words", &[1]).unwrap(), None);
}

#[test]
fn rows_under_a_prefix_go_together_after_what_was_written_before_and_leave_their_neighbours() {
    let state = State::in_memory(FAMILIES).unwrap();
    let put = |key: &[u8]| Change::of("words", key.to_vec(), Some(vec![1]));
    let under = |prefix: &[u8]| Change::DeleteUnder { family: "words", prefix: prefix.to_vec() };
    for shard in [SHARD, ShardId::META] {
        let first = [put(&[1]), put(&[2, 0]), put(&[2, 0xff]), put(&[3]), put(&[0xff, 0xff, 7])];
        state.write(shard, &first, None, &Default::default()).unwrap();
        let then = [put(&[2, 9]), under(&[2]), put(&[2, 5]), under(&[0xff, 0xff])];
        state.write(shard, &then, None, &Default::default()).unwrap();
        let keys = |under: &[u8]| -> Vec<Vec<u8>> {
            let view = state.view();
            let rows = view.rows(shard, under, &[]).unwrap();
            rows.map(|row| row.unwrap().key).collect()
        };
        assert_eq!(keys(&[]), [vec![1], vec![2, 5], vec![3]], "{shard}");
        assert_eq!(keys(&[2]), [[5]], "{shard}");
        let mut down = Vec::new();
        let take = |key: &[u8], _: &[u8]| {
            down.push(key.to_vec());
            true
        };
        state.scan_down(shard, "words", &[2], None, take).unwrap();
        assert_eq!(down, [[5]], "{shard}");
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let family = prop_oneof![Just("words"), Just("other")];
    let key = prop::collection::vec(0_u8..3, 1..3);
    (family, key, 0_u8..8).prop_map(|(family, key, kind)| match kind {
        0 => Change::DeleteUnder { family, prefix: key },
        1 | 2 => Change::of(family, key, None),
        value => Change::of(family, key, Some(vec![value])),
    })
}

proptest! {
    #[test]
    fn what_counts_of_each_key_is_what_came_last(
        before in prop::collection::vec(any_change(), 0..8),
        changes in prop::collection::vec(any_change(), 0..24),
    ) {
        let state = State::in_memory(FAMILIES).unwrap();
        let (one_by_one, together) = (SHARD, ShardId(2));
        for shard in [one_by_one, together] {
            state.write(shard, &before, None, &Default::default()).unwrap();
        }
        for change in &changes {
            let change = std::slice::from_ref(change);
            state.write(one_by_one, change, None, &Default::default()).unwrap();
        }
        let fewer = latest(changes.clone());
        state.write(together, &fewer, None, &Default::default()).unwrap();
        let rows = |shard| -> Vec<Row> {
            state.view().rows(shard, &[], &[]).unwrap().map(Result::unwrap).collect()
        };
        prop_assert_eq!(rows(one_by_one), rows(together));
        let keys: std::collections::HashSet<_> = changes.iter().filter_map(named).collect();
        prop_assert_eq!(fewer.iter().filter_map(named).count(), keys.len());
    }
}

fn named(change: &Change) -> Option<(&'static str, &[u8])> {
    match change {
        Change::Put { family, key, .. } | Change::Delete { family, key } => Some((*family, key)),
        Change::DeleteUnder { .. } => None,
    }
}
