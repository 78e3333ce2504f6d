use futures::executor::block_on;
use openraft::RaftLogReader as _;
use openraft::storage::RaftLogStorage as _;

use super::super::segment::RECORD_HEADER_BYTES;
use super::super::{Error, Health, Log, Options};
use super::*;
use crate::memory::Fault;

/// Ten batches of one entry, of which one byte is damaged.
fn damaged(record: usize, byte: usize) -> Result<MemoryLog, Error> {
    let log = MemoryLog::default();
    append_each(&mut log.shard(SHARD), 0..10, 700);
    let at = records(&log, &first_segment(), 1)[record].offset as usize;
    log.disk().flip(&first_segment(), at + byte);
    log.crash()
}

#[test]
fn recovery_stops_at_a_damaged_record_with_a_later_batch_behind() {
    // Its magic, its checksum, its length, its life, its payload.
    for byte in [0, 5, 8, 16, RECORD_HEADER_BYTES + 300] {
        let error = damaged(4, byte).err().unwrap();
        let text = error.to_string();
        assert!(matches!(error, Error::Corrupt { .. }), "byte {byte}: {text}");
        assert!(text.contains("0000000000000001.seg is corrupt at byte "), "{text}");
        assert!(!text.contains('\n'), "one sentence");
    }
}

#[test]
fn recovery_cuts_a_damaged_last_record() {
    for byte in [0, 5, 8, 16, RECORD_HEADER_BYTES + 300] {
        let log = damaged(9, byte).unwrap();
        let mut shard = log.shard(SHARD);
        assert_eq!(indexes(&shard), (0..9).collect::<Vec<_>>(), "byte {byte}");
        append_each(&mut shard, 9..12, 50);
        let log = log.crash().unwrap();
        assert_eq!(indexes(&log.shard(SHARD)), (0..12).collect::<Vec<_>>());
    }
}

#[test]
fn recovery_stops_at_damage_inside_an_acknowledged_batch() {
    let log = MemoryLog::default();
    let mut shard = log.shard(SHARD);
    append(&mut shard, (0..5).map(|index| entry(1, index, 100)).collect());
    append(&mut shard, vec![entry(1, 5, 100)]);
    // The batch of five: good records of it stand before and behind the damage.
    let at = records(&log, &first_segment(), 1)[2].offset as usize;
    log.disk().flip(&first_segment(), at + RECORD_HEADER_BYTES);
    assert!(matches!(log.crash(), Err(Error::Corrupt { .. })));
}

#[test]
fn recovery_keeps_what_was_acknowledged_however_the_last_batch_is_torn() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let log = MemoryLog::new(Sync::Told);
        let mut shard = log.shard(SHARD);
        let acknowledged = start_append(&mut shard, (0..3).map(|at| entry(1, at, 900)).collect());
        log.sync();
        block_on(acknowledged).unwrap().unwrap();
        let lost = start_append(&mut shard, (3..9).map(|at| entry(1, at, 900)).collect());
        log.disk().set_fault(Fault::LosesPower);
        log.sync();
        block_on(lost).unwrap().unwrap_err();

        let log = log.crash_torn(seed).unwrap();
        let mut shard = log.shard(SHARD);
        let found = read(&shard);
        assert!((3..=9).contains(&found.len()), "seed {seed}: {} entries", found.len());
        for (at, found) in (0..).zip(&found) {
            assert_eq!(*found, entry(1, at, 900), "seed {seed}");
        }
        lengths.insert(found.len());
        // What is found counts as stored, so it must survive the next crash.
        let next = found.len() as u64;
        log.set_sync(Sync::Auto);
        append(&mut shard, vec![entry(2, next, 10)]);
        let log = log.crash_torn(seed).unwrap();
        assert_eq!(indexes(&log.shard(SHARD)), (0..=next).collect::<Vec<_>>(), "seed {seed}");
    }
    assert!(lengths.len() > 2, "the seeds tear in several places: {lengths:?}");
}

#[test]
fn crash_before_the_sync_loses_what_nobody_was_told_of() {
    let log = MemoryLog::new(Sync::Told);
    let mut shard = log.shard(SHARD);
    let mut waiting = start_append(&mut shard, vec![entry(1, 0, 10)]);
    assert_eq!(indexes(&shard), [0], "readable at once");
    assert!(waiting.try_recv().is_err(), "but not acknowledged");
    let crashed = log.crash().unwrap();
    assert!(indexes(&crashed.shard(SHARD)).is_empty());
    log.sync();
    block_on(waiting).unwrap().unwrap();
    assert_eq!(indexes(&log.crash().unwrap().shard(SHARD)), [0]);
}

#[test]
fn twin_told_to_sync_writes_all_shards_in_one_batch() {
    let log = MemoryLog::new(Sync::Told);
    let before = log.stats();
    let mut flushed: Vec<Flushed> = (0..8)
        .map(|shard| start_append(&mut log.shard(ShardId(shard)), vec![entry(1, 0, 10)]))
        .collect();
    log.sync();
    for flushed in &mut flushed {
        flushed.try_recv().unwrap().unwrap();
    }
    let after = log.stats();
    assert_eq!((after.syncs - before.syncs, after.operations - before.operations), (1, 8));
}

#[test]
fn disk_fault_fails_every_append_from_then_on_and_says_so() {
    for (fault, says) in
        [(Fault::ReadOnly, "read-only filesystem"), (Fault::Full, "no storage space")]
    {
        let log = short(Sync::Auto);
        let mut shard = log.shard(SHARD);
        append(&mut shard, vec![entry(1, 0, 10)]);
        assert_eq!(*log.log().health().borrow(), Health::Well);
        log.disk().set_fault(fault);
        // A full disk is met when the segment is used up.
        let mut result = Ok(());
        let mut index = 1;
        while result.is_ok() {
            assert!(index < 100, "a fault is met");
            result = block_on(start_append(&mut shard, vec![entry(1, index, 10_000)])).unwrap();
            index += 1;
        }
        log.disk().set_fault(Fault::None);
        let later = start_append(&mut shard, vec![entry(1, index, 10)]);
        block_on(later).unwrap().unwrap_err();
        block_on(shard.save_vote(&vote(3))).unwrap_err();
        match &*log.log().health().borrow() {
            Health::Failed(why) => {
                assert!(why.starts_with("the log at memory/ can't be written: "), "{why}");
                assert!(why.contains(says), "{why}");
            }
            Health::Well => panic!("{fault:?} goes unnoticed"),
        }
        // Started again, all that was acknowledged is there.
        let log = log.crash().unwrap();
        assert!(indexes(&log.shard(SHARD)).len() as u64 >= index - 2);
    }
}

#[test]
fn entry_that_is_too_long_is_refused_and_harms_nothing() {
    let log = short(Sync::Auto);
    let mut shard = log.shard(SHARD);
    let (told, _flushed) = TypeConfig::oneshot();
    let refused = shard.append([entry(1, 0, 20_000)], IOFlushed::signal(told));
    let error = block_on(refused).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    append(&mut shard, vec![entry(1, 0, 16_000)]);
    assert_eq!(indexes(&log.crash().unwrap().shard(SHARD)), [0]);
}

#[test]
fn commit_survives_with_the_next_batch_and_never_exceeds_the_log() {
    let log = MemoryLog::new(Sync::Told);
    let mut shard = log.shard(SHARD);
    drop(start_append(&mut shard, vec![entry(1, 0, 10), entry(1, 1, 10)]));
    block_on(shard.save_committed(Some(id(1, 1)))).unwrap();
    log.sync();
    let reopened = log.crash().unwrap();
    assert_eq!(block_on(reopened.shard(SHARD).read_committed()).unwrap(), Some(id(1, 1)));

    // A quorum of others may commit what this node's disk does not have yet.
    block_on(shard.save_committed(Some(id(1, 7)))).unwrap();
    drop(start_append(&mut log.shard(ShardId(1)), vec![entry(1, 0, 10)]));
    log.sync();
    let reopened = log.crash().unwrap();
    assert_eq!(block_on(reopened.shard(SHARD).read_committed()).unwrap(), Some(id(1, 1)));
}

#[test]
fn log_of_another_cluster_format_or_with_a_gap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = |cluster: &str| Options {
        segment_bytes: SEGMENT_BYTES_MIN,
        cluster: cluster.to_owned(),
        ..Options::default()
    };
    {
        let log = Log::open(dir.path(), options("blue")).unwrap();
        append_each(&mut log.shard(SHARD), 0..12, 16_000);
        block_on(log.drained()).unwrap();
    }
    let sentence = |cluster| {
        let text = Log::open(dir.path(), options(cluster)).err().unwrap().to_string();
        text.replace(&dir.path().display().to_string(), "DIR")
    };
    let first = dir.path().join(first_segment());
    assert_eq!(
        sentence("green"),
        "log file DIR/0000000000000001.seg belongs to cluster blue, not green"
    );
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[8] = 9;
    std::fs::write(&first, &bytes).unwrap();
    assert_eq!(
        sentence("blue"),
        "log file DIR/0000000000000001.seg has format version 9; this build knows 1"
    );
    std::fs::remove_file(dir.path().join(super::super::recovery::name_of(2))).unwrap();
    bytes[8] = 1;
    std::fs::write(&first, &bytes).unwrap();
    let gap = "TD0432 log file DIR/0000000000000002.seg is missing: 1 and 3 are there; ";
    assert_eq!(sentence("blue").strip_prefix(gap), Some(super::super::AMNESIA));
    bytes[2000] = 1;
    std::fs::write(&first, &bytes).unwrap();
    let corrupt = "TD0423 log file DIR/0000000000000001.seg is corrupt at byte 0: ";
    assert!(sentence("blue").starts_with(corrupt), "{}", sentence("blue"));
}

#[test]
fn votes_are_on_the_disk_when_they_are_saved() {
    let log = MemoryLog::default();
    let mut shard = log.shard(SHARD);
    for term in 1..4 {
        block_on(shard.save_vote(&vote(term))).unwrap();
        let mut found = log.crash().unwrap().shard(SHARD);
        assert_eq!(block_on(found.read_vote()).unwrap(), Some(vote(term)));
    }
}

#[test]
fn log_that_cannot_be_made_says_so_in_one_sentence() {
    for (fault, why) in [
        (Fault::Full, "no storage space"),
        (Fault::ReadOnly, "read-only filesystem or storage medium"),
    ] {
        let disk = std::sync::Arc::new(crate::memory::MemoryDisk::default());
        disk.set_fault(fault);
        let refused = MemoryLog::open(disk, Options::default(), Sync::Auto);
        let text = refused.err().unwrap().to_string();
        assert_eq!(text, format!("the log at memory/ can't be used: {why}"));
    }
}
