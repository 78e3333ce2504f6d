//! Damage to the files of the state: found when they are opened or read, or without effect. No row is ever
//! another than was written.

use std::fs;
use std::path::Path;

use crate::raft::{LogId, ShardId, StoredMembership};
use crate::state::{Change, Error, Row, State};
use crate::{proto, wire};

const FAMILIES: &[&str] = &["words", "other"];
const SHARD: ShardId = ShardId(3);
const ROWS: u64 = 400;
/// Places in each file where a bit is flipped.
const FLIPS: usize = 24;

fn id(index: u64) -> LogId {
    wire::log_id_from(proto::LogId { term: 1, node: 1, index })
}

/// What a shard has applied, and its rows then.
type Seen = (Option<LogId>, Vec<Row>);

fn seen(state: &State) -> Result<Seen, Error> {
    let view = state.view();
    let (applied, _) = view.applied(SHARD)?;
    let rows = view.rows(SHARD, &[], &[])?.collect::<Result<Vec<_>, _>>()?;
    Ok((applied, rows))
}

fn read(dir: &Path) -> Result<Seen, Error> {
    seen(&State::open(dir, FAMILIES)?)
}

/// Rows of two flushes, and what they came to after each.
fn fill(dir: &Path) -> Vec<Seen> {
    let state = State::open(dir, FAMILIES).unwrap();
    let mut moments = vec![seen(&state).unwrap()];
    for flush in 1..=2 {
        let changes = (0..ROWS).map(|row| {
            let value: Vec<u8> = (0..40).map(|byte| (row * 7 + flush * 3 + byte) as u8).collect();
            let value = (row % 5 != flush).then_some(value);
            let family = FAMILIES[(row % 2) as usize];
            Change::of(family, row.to_be_bytes().to_vec(), value)
        });
        let changes: Vec<_> = changes.collect();
        state.write(SHARD, &changes, Some(&id(flush)), &StoredMembership::default()).unwrap();
        state.flush().unwrap();
        moments.push(seen(&state).unwrap());
    }
    moments
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// Files of these kinds, with what is done to each copy of them.
fn damage(kinds: &[&str], mut change: impl FnMut(&Path, usize) -> bool) -> (u32, u32) {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let moments = fill(&whole);
    let names: Vec<String> = fs::read_dir(&whole)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| kinds.iter().any(|kind| name.contains(kind)))
        .collect();
    assert!(names.len() >= kinds.len(), "{names:?}");
    let (mut found, mut harmless) = (0, 0);
    for name in names {
        for attempt in 0.. {
            let damaged = dir.path().join("damaged");
            copy(&whole, &damaged);
            if !change(&damaged.join(&name), attempt) {
                break;
            }
            match read(&damaged) {
                Err(_) => found += 1,
                Ok(seen) => {
                    // An earlier moment is whole in itself: the log has what came after it.
                    assert!(moments.contains(&seen), "{name}, {attempt}: {:?}", seen.0);
                    harmless += 1;
                }
            }
            fs::remove_dir_all(&damaged).unwrap();
        }
    }
    (found, harmless)
}

#[test]
fn state_whose_file_is_gone_or_too_short_is_refused() {
    let (found, harmless) = damage(&[".sst", "MANIFEST", "CURRENT"], |path, attempt| {
        if attempt == 0 {
            fs::remove_file(path).unwrap();
        }
        attempt == 0
    });
    assert!(found >= 5 && harmless == 0, "{found}, {harmless}");
    let (found, harmless) = damage(&[".sst"], |path, attempt| {
        let len = fs::metadata(path).unwrap().len();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len([len / 2, len - 1, 0][attempt.min(2)]).unwrap();
        attempt < 3
    });
    assert!(found >= 9 && harmless == 0, "{found}, {harmless}");
}

#[test]
fn state_with_a_flipped_bit_gives_no_wrong_row() {
    let (found, harmless) = damage(&[".sst", "MANIFEST", "CURRENT"], |path, attempt| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() * attempt / FLIPS;
        if attempt < FLIPS {
            bytes[at] ^= 1 << (attempt % 8);
            fs::write(path, &bytes).unwrap();
        }
        attempt < FLIPS
    });
    println!("{found} found, {harmless} harmless");
    assert!(found > harmless, "{found} found, {harmless} harmless");
}

#[test]
fn state_without_a_head_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    fs::remove_file(dir.path().join("CURRENT")).unwrap();
    let before = fs::read_dir(dir.path()).unwrap().count();
    let refused = read(dir.path());
    assert!(matches!(refused, Err(Error::Headless { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before, "nothing is touched");
}
