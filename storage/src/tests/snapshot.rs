//! Snapshots of another node: part by part into a file, and from there into the state, whatever
//! happens between.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::parts::{Digest, Own, PART_BYTES};
use crate::raft::{ShardId, SnapshotMeta, StoredMembership};
use crate::snapshot::{Here, Part, Received};
use crate::state::{Change, Error, Row, State};
use crate::{proto, wire};

const FAMILIES: &[&str] = &["words", "other"];
const SHARD: ShardId = ShardId(1);
/// Of the shard.
const LEFT: &str = "1.left";
const COPIES_MAX: usize = 100;
/// Whose keys have none behind them.
const SHARDS: [ShardId; 2] = [SHARD, ShardId::META];

fn meta(index: u64) -> SnapshotMeta {
    let last_log_id = Some(wire::log_id_from(proto::LogId { term: 1, node: 1, index }));
    SnapshotMeta { last_log_id, last_membership: StoredMembership::default() }
}

fn write(state: &State, shard: ShardId, rows: &[(&'static str, &str, Vec<u8>)], index: u64) {
    let change = |(family, key, value): &(&'static str, &str, Vec<u8>)| {
        Change::of(family, key.as_bytes().to_vec(), Some(value.clone()))
    };
    let changes: Vec<Change> = rows.iter().map(change).collect();
    let of = meta(index);
    state.write(shard, &changes, of.last_log_id.as_ref(), &of.last_membership).unwrap();
}

fn rows(state: &State, shard: ShardId) -> Vec<Row> {
    state.view().rows(shard, &[], &[]).unwrap().map(Result::unwrap).collect()
}

fn parts(state: &State, shard: ShardId, with_rows: bool) -> Vec<Part> {
    parts_for(state, shard, with_rows, &HashSet::new())
}

fn parts_for(state: &State, shard: ShardId, with_rows: bool, known: &HashSet<Digest>) -> Vec<Part> {
    let mut parts = Vec::new();
    let here = Here { state: state.clone(), shard };
    here.read(with_rows, known, &mut |part| {
        parts.push(part);
        true
    })
    .unwrap();
    parts
}

/// Three parts' worth, in two families.
fn source(shard: ShardId) -> State {
    let state = State::in_memory(FAMILIES).unwrap();
    let long = vec![7; PART_BYTES];
    let sent = [("words", "a", long.clone()), ("words", "b", long), ("other", "c", vec![1])];
    write(&state, shard, &sent, 9);
    state
}

fn receive(state: &State, shard: ShardId, parts: &[Part]) -> (SnapshotMeta, Received) {
    let mut incoming = state.receive(shard).unwrap();
    let mut of = None;
    let left = state.left(shard).unwrap();
    let view = state.view();
    let mut own = Own::new(left, view.rows(shard, &[], &[]).unwrap());
    for part in parts {
        match part {
            Part::Known(digest) => incoming.put(&own.find(digest).unwrap().unwrap()).unwrap(),
            Part::Moment(meta) => of = Some(meta.clone()),
            Part::Rows(rows) => incoming.put(rows).unwrap(),
            Part::End { rows } => return (of.unwrap(), incoming.finish(*rows).unwrap()),
        }
    }
    panic!("no end");
}

fn files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("received")).unwrap();
    names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// As a kill leaves the folder: RocksDB's lock is this process's, so another folder is opened. Its
/// threads may take old files away meanwhile; then it is copied once more.
pub(super) fn killed(dir: &Path) -> tempfile::TempDir {
    fn listed(dir: &Path, names: &mut Vec<PathBuf>) -> io::Result<()> {
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            if path.is_dir() {
                listed(&path, names)?;
            }
            names.push(path);
        }
        Ok(())
    }
    fn try_copy(dir: &Path, to: &Path) -> io::Result<bool> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        listed(dir, &mut before)?;
        for path in &before {
            let to = to.join(path.strip_prefix(dir).unwrap());
            if !path.is_dir() {
                fs::create_dir_all(to.parent().unwrap())?;
                fs::copy(path, to)?;
            }
        }
        listed(dir, &mut after)?;
        Ok(before == after)
    }
    for _ in 0..COPIES_MAX {
        let other = tempfile::tempdir().unwrap();
        if try_copy(dir, other.path()).unwrap_or(false) {
            return other;
        }
    }
    panic!("the folder does not come to rest");
}

#[test]
fn received_rows_replace_those_of_their_shard_and_leave_its_neighbours_alone() {
    for shard in SHARDS {
        let source = source(shard);
        let sent = parts(&source, shard, true);
        assert_eq!(sent.len(), 5, "a moment, three parts, an end");

        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), FAMILIES).unwrap();
        let neighbour = ShardId(shard.0 - 1);
        for shard in [shard, neighbour] {
            write(&state, shard, &[("words", "stale", vec![1]), ("other", "x", vec![2])], 2);
        }
        let (of, received) = receive(&state, shard, &sent);
        assert_eq!(files(dir.path()).len(), 1);
        state.replace(shard, received, &of).unwrap();
        assert_eq!(rows(&state, shard), rows(&source, shard));
        assert_eq!(state.applied(shard).unwrap().0, meta(9).last_log_id);
        assert_eq!(state.flushed_index(shard), Some(9));
        assert_eq!(rows(&state, neighbour).len(), 2);
        assert_eq!(files(dir.path()), [""; 0]);
    }
}

#[test]
fn who_keeps_no_rows_is_told_the_moment_alone() {
    let sent = parts(&source(SHARD), SHARD, false);
    assert_eq!(sent, [Part::Moment(meta(9)), Part::End { rows: 0 }]);
}

/// The marker is there, and so are half of the rows: on the disk, for other families were flushed.
#[test]
fn a_node_that_died_while_it_took_rows_in_has_all_of_them_when_it_is_back() {
    for shard in SHARDS {
        let source = source(shard);
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), FAMILIES).unwrap();
        write(&state, shard, &[("words", "stale", vec![1])], 2);
        let (of, received) = receive(&state, shard, &parts(&source, shard, true));
        state.begin_to_take_in(shard, &received, &of).unwrap();
        state.flush().unwrap();
        let at_once = killed(dir.path());
        state.take_half(shard, &received);
        state.flush().unwrap();
        let half = killed(dir.path());
        for dir in [at_once, half] {
            let again = State::open(dir.path(), FAMILIES).unwrap();
            assert_eq!(rows(&again, shard), rows(&source, shard));
            assert_eq!(again.applied(shard).unwrap().0, of.last_log_id);
            assert_eq!(files(dir.path()), [""; 0]);
        }
    }
}

/// It was not taken in yet, so nothing of it is needed.
#[test]
fn of_files_that_nobody_took_in_one_is_left_for_the_next_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path(), FAMILIES).unwrap();
    write(&state, SHARD, &[("words", "own", vec![1])], 2);
    state.flush().unwrap();
    let (_, received) = receive(&state, SHARD, &parts(&source(SHARD), SHARD, true));
    let mut incoming = state.receive(SHARD).unwrap();
    let Part::Rows(part) = &parts(&source(SHARD), SHARD, true)[1] else { panic!("no rows") };
    incoming.put(part).unwrap();
    let after = killed(dir.path());
    let again = State::open(after.path(), FAMILIES).unwrap();
    assert_eq!(rows(&again, SHARD).len(), 1);
    assert_eq!(files(after.path()), [LEFT]);
    // And without a death, too.
    drop((received, incoming));
    assert_eq!(files(dir.path()), [LEFT]);
}

#[test]
fn a_file_that_was_damaged_or_cut_is_told_and_never_half_read() {
    let source = source(SHARD);
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path(), FAMILIES).unwrap();
    let (_, received) = receive(&state, SHARD, &parts(&source, SHARD, true));
    let path = dir.path().join("received").join(received.name().unwrap());
    let whole = fs::read(&path).unwrap();
    let reads = || received.parts().map(|mut parts| parts.all(|part| part.is_ok()));
    assert!(reads().unwrap());
    for at in [0, 9, 13, 40, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        assert!(!reads().unwrap_or(false), "a flipped bit of byte {at}");
        fs::write(&path, &whole[..at]).unwrap();
        assert!(!reads().unwrap_or(false), "cut at byte {at}");
    }
}

#[test]
fn a_stream_that_lacks_rows_or_has_none_for_rows_makes_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path(), FAMILIES).unwrap();
    let sent = parts(&source(SHARD), SHARD, true);
    let mut incoming = state.receive(SHARD).unwrap();
    let Part::Rows(part) = &sent[1] else { panic!("no rows") };
    incoming.put(part).unwrap();
    assert!(incoming.finish(3).is_err());
    let mut incoming = state.receive(SHARD).unwrap();
    incoming.put(b"\xff\xff").unwrap_err();
    incoming.put(b"").unwrap_err();
    drop(incoming);
    assert_eq!(files(dir.path()), [LEFT], "the part that was good");
    assert!(matches!(State::in_memory(FAMILIES).unwrap().receive(SHARD), Err(Error::InMemory)));
}

fn digests(state: &State, shard: ShardId) -> HashSet<Digest> {
    let mut known = HashSet::new();
    let mut take = |digest| {
        known.insert(digest);
        true
    };
    state.digests(shard, &mut take).unwrap();
    known
}

/// Rows as of calls that are over: one kind that grows, and one that is changed.
fn history(state: &State, numbers: std::ops::Range<u32>, index: u64) {
    let rows: Vec<_> = numbers
        .map(|number| {
            let family = if number % 7 == 0 { "other" } else { "words" };
            (family, format!("{number:08}"), number.to_be_bytes().repeat(100))
        })
        .collect();
    let rows: Vec<_> =
        rows.iter().map(|(family, key, value)| (*family, key.as_str(), value.clone())).collect();
    write(state, SHARD, &rows, index);
}

fn sent(parts: &[Part]) -> (usize, usize) {
    let of = |kind: fn(&Part) -> bool| parts.iter().filter(|part| kind(part)).count();
    (of(|part| matches!(part, Part::Rows(_))), of(|part| matches!(part, Part::Known(_))))
}

#[test]
fn only_parts_that_the_other_lacks_are_sent() {
    let source = State::in_memory(FAMILIES).unwrap();
    history(&source, 0..20_000, 9);
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path(), FAMILIES).unwrap();
    history(&state, 0..20_000, 9);
    // More has come, one in the middle was changed, and one is here that should not be.
    history(&source, 20_000..21_000, 10);
    write(&source, SHARD, &[("words", "00010001", vec![9])], 11);
    write(&state, SHARD, &[("words", "00003000x", vec![1])], 9);
    let whole = sent(&parts(&source, SHARD, true)).0;
    let parts = parts_for(&source, SHARD, true, &digests(&state, SHARD));
    let (rows, known) = sent(&parts);
    assert!(known + rows == whole && rows <= 10 && whole > 40, "{rows} and {known} of {whole}");
    let (of, received) = receive(&state, SHARD, &parts);
    state.replace(SHARD, received, &of).unwrap();
    assert_eq!(super::snapshot::rows(&state, SHARD), super::snapshot::rows(&source, SHARD));
    // The same once more is nothing at all.
    let again = parts_for(&source, SHARD, true, &digests(&state, SHARD));
    assert_eq!(sent(&again), (0, whole));
}

#[test]
fn snapshot_that_broke_off_goes_on_where_it_was_also_after_a_restart() {
    let source = State::in_memory(FAMILIES).unwrap();
    history(&source, 0..20_000, 9);
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path(), FAMILIES).unwrap();
    let all = parts(&source, SHARD, true);
    let mut incoming = state.receive(SHARD).unwrap();
    let came = 20;
    for part in all.iter().filter(|part| matches!(part, Part::Rows(_))).take(came) {
        let Part::Rows(rows) = part else { unreachable!() };
        incoming.put(rows).unwrap();
    }
    drop(incoming);
    let killed = killed(dir.path());
    for state in [state, State::open(killed.path(), FAMILIES).unwrap()] {
        assert_eq!(digests(&state, SHARD).len(), came);
        history(&source, 20_000..20_010, 10);
        let parts = parts_for(&source, SHARD, true, &digests(&state, SHARD));
        let (rows, known) = sent(&parts);
        assert!(known >= came - 1, "{known} of {came} are not sent again; {rows} are");
        let (of, received) = receive(&state, SHARD, &parts);
        state.replace(SHARD, received, &of).unwrap();
        assert_eq!(super::snapshot::rows(&state, SHARD), super::snapshot::rows(&source, SHARD));
        assert_eq!(digests(&state, SHARD).len(), rows + known, "nothing is left of it");
    }
}
