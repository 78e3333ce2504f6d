//! Random histories against a list: whatever is acknowledged is there after every crash.

use std::collections::BTreeMap;

use futures::executor::block_on;
use openraft::RaftLogReader as _;
use openraft::storage::RaftLogStorage as _;
use proptest::prelude::*;

use super::super::Log;
use super::*;

const SHARDS: u16 = 3;

#[derive(Clone, Debug)]
enum Step {
    Append { shard: u16, count: u64, bytes: usize },
    Truncate { shard: u16, count: u64 },
    Purge { shard: u16, count: u64 },
    Vote { shard: u16 },
    Reopen { seed: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let shard = 0..SHARDS;
    prop_oneof![
        6 => (shard.clone(), 1..6_u64, 0..9_000_usize)
            .prop_map(|(shard, count, bytes)| Step::Append { shard, count, bytes }),
        1 => (shard.clone(), 0..5_u64).prop_map(|(shard, count)| Step::Truncate { shard, count }),
        2 => (shard.clone(), 0..12_u64).prop_map(|(shard, count)| Step::Purge { shard, count }),
        1 => shard.prop_map(|shard| Step::Vote { shard }),
        1 => any::<u64>().prop_map(|seed| Step::Reopen { seed }),
    ]
}

/// What a shard's log should be.
#[derive(Clone, Debug, Default)]
struct Model {
    entries: Vec<Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    term: u64,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.entries.last().map(|entry| entry.log_id).or(self.purged);
        last.map_or(0, |last| last.index + 1)
    }

    fn take(&mut self, step: &Step, log: &mut ShardLog) {
        match *step {
            Step::Append { count, bytes, .. } => {
                let next = self.next();
                let entries: Vec<Entry> =
                    (next..next + count).map(|index| entry(self.term, index, bytes)).collect();
                self.entries.extend(entries.clone());
                append(log, entries);
            }
            Step::Truncate { count, .. } => {
                self.term += 1;
                let keep = self.entries.len().saturating_sub(count as usize);
                self.entries.truncate(keep);
                let last = self.entries.last().map(|entry| entry.log_id).or(self.purged);
                block_on(log.truncate_after(last)).unwrap();
            }
            Step::Purge { count, .. } => {
                let count = self.entries.len().min(count as usize);
                let gone = self.entries.drain(..count).next_back();
                if let Some(gone) = gone {
                    self.purged = Some(gone.log_id);
                    block_on(log.purge(gone.log_id)).unwrap();
                }
            }
            Step::Vote { .. } => {
                self.term += 1;
                self.vote = Some(vote(self.term));
                block_on(log.save_vote(&vote(self.term))).unwrap();
            }
            Step::Reopen { .. } => {}
        }
    }

    fn check(&self, mut log: ShardLog) {
        assert_eq!(read(&log), self.entries);
        assert_eq!(block_on(log.read_vote()).unwrap(), self.vote);
        let state = block_on(log.get_log_state()).unwrap();
        assert_eq!(state.last_purged_log_id, self.purged);
        let last = self.entries.last().map(|entry| entry.log_id).or(self.purged);
        assert_eq!(state.last_log_id, last);
    }
}

fn shard_of(step: &Step) -> u16 {
    match step {
        Step::Append { shard, .. }
        | Step::Truncate { shard, .. }
        | Step::Purge { shard, .. }
        | Step::Vote { shard } => *shard,
        Step::Reopen { .. } => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn twin_keeps_what_it_acknowledged(steps in prop::collection::vec(step(), 1..120)) {
        let mut log = short(Sync::Auto);
        let mut models = BTreeMap::<u16, Model>::new();
        for step in &steps {
            match step {
                Step::Reopen { seed } => log = log.crash_torn(*seed).unwrap(),
                Step::Append { .. } | Step::Truncate { .. } | Step::Purge { .. }
                | Step::Vote { .. } => {
                    let shard = shard_of(step);
                    models.entry(shard).or_default().take(step, &mut log.shard(ShardId(shard)));
                }
            }
            for (shard, model) in &models {
                model.check(log.shard(ShardId(*shard)));
            }
        }
        let log = log.crash().unwrap();
        for (shard, model) in &models {
            model.check(log.shard(ShardId(*shard)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn disk_keeps_what_it_acknowledged(steps in prop::collection::vec(step(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::default() };
        let mut log = Log::open(dir.path(), options.clone()).unwrap();
        let mut models = BTreeMap::<u16, Model>::new();
        for step in steps.iter().chain([&Step::Reopen { seed: 0 }]) {
            match step {
                Step::Reopen { .. } => {
                    block_on(log.drained()).unwrap();
                    // Its threads may still be filling a file that the next one would take away.
                    log.close();
                    log = Log::open(dir.path(), options.clone()).unwrap();
                    for (shard, model) in &models {
                        model.check(log.shard(ShardId(*shard)));
                    }
                }
                Step::Append { .. } | Step::Truncate { .. } | Step::Purge { .. }
                | Step::Vote { .. } => {
                    let shard = shard_of(step);
                    models.entry(shard).or_default().take(step, &mut log.shard(ShardId(shard)));
                }
            }
        }
    }
}
