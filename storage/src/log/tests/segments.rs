use futures::executor::block_on;
use openraft::RaftLogReader as _;
use openraft::storage::RaftLogStorage as _;

use super::super::{CACHE_BYTES_MAX, Health, Log, Pin, SPARE_SEGMENTS_MAX};
use super::*;

#[test]
fn purged_segments_are_used_again_and_their_old_records_are_stale() {
    let log = short(Sync::Auto);
    let mut shard = log.shard(SHARD);
    block_on(shard.save_vote(&vote(5))).unwrap();
    let mut next = 0;
    for round in 0..20 {
        append_each(&mut shard, next..next + 10, 10_000);
        next += 10;
        block_on(shard.purge(id(1, next - 3))).unwrap();
        let files = log.disk().names().len();
        assert!(files <= 4 + SPARE_SEGMENTS_MAX, "round {round}: {files} files");
        let found = log.crash().unwrap();
        let mut found_shard = found.shard(SHARD);
        assert_eq!(indexes(&found_shard), (next - 2..next).collect::<Vec<_>>(), "round {round}");
        let state = block_on(found_shard.get_log_state()).unwrap();
        assert_eq!(state.last_purged_log_id, Some(id(1, next - 3)));
        assert_eq!(state.last_log_id, Some(id(1, next - 1)));
        // Written once, long ago: it is carried from segment to segment.
        assert_eq!(block_on(found_shard.read_vote()).unwrap(), Some(vote(5)));
    }
    assert!(log.stats().segments_live <= 3);
}

#[test]
fn segment_is_kept_while_any_shard_needs_it_and_says_which() {
    let log = short(Sync::Auto);
    let quiet = ShardId(9);
    append(&mut log.shard(quiet), vec![entry(1, 0, 10)]);
    let mut busy = log.shard(SHARD);
    append_each(&mut busy, 0..30, 10_000);
    block_on(busy.purge(id(1, 29))).unwrap();
    assert_eq!(log.log().pins(), [Pin { shard: quiet, index: 0 }]);
    assert!(log.stats().segments_live > 3);
    assert_eq!(indexes(&log.crash().unwrap().shard(quiet)), [0]);
    block_on(log.shard(quiet).purge(id(1, 0))).unwrap();
    assert_eq!(log.log().pins(), []);
    assert_eq!(log.stats().segments_live, 1);
}

#[test]
fn entries_that_left_the_cache_are_read_from_their_segments() {
    let log = MemoryLog::default();
    let mut shard = log.shard(SHARD);
    let bytes = 200 << 10;
    let count = 2 * CACHE_BYTES_MAX / bytes;
    append_each(&mut shard, 0..count as u64, bytes);
    for log in [log.clone(), log.crash().unwrap()] {
        let mut shard = log.shard(SHARD);
        for (at, found) in (0..).zip(read(&shard)) {
            assert!(found == entry(1, at, bytes), "entry {at}");
        }
        assert_eq!(read(&shard).len(), count);
        let some = block_on(shard.limited_get_log_entries(3, count as u64)).unwrap();
        assert!((1..count - 3).contains(&some.len()), "a limited read is limited");
        assert_eq!(some[0].log_id.index, 3);
    }
}

#[test]
fn entry_that_is_damaged_after_it_left_the_cache_is_refused_and_says_so() {
    let log = MemoryLog::default();
    let mut shard = log.shard(SHARD);
    let bytes = 200 << 10;
    append_each(&mut shard, 0..2 * (CACHE_BYTES_MAX / bytes) as u64, bytes);
    let at = records(&log, &first_segment(), 1)[1].offset as usize;
    log.disk().flip(&first_segment(), at + 1_000);
    let error = block_on(shard.limited_get_log_entries(1, 2)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let why = "the log is damaged: entry 1 of s0 can't be read again";
    assert_eq!(*log.log().health().borrow(), Health::Failed(why.to_owned()));
}

#[test]
fn spare_that_began_a_life_without_its_name_is_still_a_spare() {
    let log = short(Sync::Auto);
    let mut shard = log.shard(SHARD);
    append_each(&mut shard, 0..20, 10_000);
    block_on(shard.purge(id(1, 19))).unwrap();
    let spares =
        |log: &MemoryLog| log.disk().names().iter().filter(|name| name.ends_with("spare")).count();
    assert_eq!(spares(&log), SPARE_SEGMENTS_MAX);
    let log = log.crash().unwrap();
    assert_eq!(log.stats().segments_spare, SPARE_SEGMENTS_MAX as u64);
    append_each(&mut log.shard(SHARD), 20..30, 10_000);
    assert!(spares(&log) < SPARE_SEGMENTS_MAX, "they are used before a new file is made");
    assert_eq!(indexes(&log.crash().unwrap().shard(SHARD)), (20..30).collect::<Vec<_>>());
}

#[test]
fn append_longer_than_a_segment_is_spread_over_several() {
    let log = short(Sync::Auto);
    let entries: Vec<Entry> = (0..40).map(|index| entry(1, index, 9_000)).collect();
    append(&mut log.shard(SHARD), entries.clone());
    assert!(log.stats().segments_live > 4);
    assert_eq!(read(&log.crash().unwrap().shard(SHARD)), entries);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_on_a_disk_gathers_what_many_append_and_finds_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::default() };
    let log = Log::open(dir.path(), options.clone()).unwrap();
    let writers = (0..16).map(|shard| {
        let mut log = log.shard(ShardId(shard));
        tokio::spawn(async move {
            for index in 0..40 {
                let (told, flushed) = TypeConfig::oneshot();
                log.append([entry(1, index, 300)], IOFlushed::signal(told)).await.unwrap();
                flushed.await.unwrap().unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let stats = log.stats();
    assert_eq!(stats.operations, 16 * 40);
    assert!(stats.writes < stats.operations, "{stats:?}");
    assert_eq!(log.stalled_ms(), 0);
    log.drained().await.unwrap();
    log.close();
    let log = Log::open(dir.path(), options).unwrap();
    for shard in 0..16 {
        assert_eq!(indexes(&log.shard(ShardId(shard))), (0..40).collect::<Vec<_>>());
    }
}
