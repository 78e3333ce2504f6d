//! What a disk may do to the log, on the twin where chance must be repeatable.

mod faults;
mod liar;
mod lies;
mod model;
mod segments;

use futures::executor::block_on;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use openraft::{EntryPayload, RaftLogReader as _};

use super::segment::{Found, HEADER_BYTES, record_at};
use super::{Options, SEGMENT_BYTES_MIN, ShardLog};
use crate::memory::{MemoryLog, Sync};
use crate::raft::{Command, Entry, LogId, ShardId, TypeConfig, Vote};
use crate::{proto, wire};

const SHARD: ShardId = ShardId(0);

type Flushed = openraft::type_config::alias::OneshotReceiverOf<TypeConfig, std::io::Result<()>>;

fn id(term: u64, index: u64) -> LogId {
    wire::log_id_from(proto::LogId { term, node: 1, index })
}

fn vote(term: u64) -> Vote {
    wire::vote_from(proto::Vote { term, node: 1, committed: false })
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let fill = (term * 31 + index) as u8;
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(Command(vec![fill; bytes])) }
}

fn start_append(log: &mut ShardLog, entries: Vec<Entry>) -> Flushed {
    let (told, flushed) = TypeConfig::oneshot();
    block_on(log.append(entries, IOFlushed::signal(told))).unwrap();
    flushed
}

fn append(log: &mut ShardLog, entries: Vec<Entry>) {
    block_on(start_append(log, entries)).unwrap().unwrap();
}

fn append_each(log: &mut ShardLog, indexes: std::ops::Range<u64>, bytes: usize) {
    for index in indexes {
        append(log, vec![entry(1, index, bytes)]);
    }
}

fn read(log: &ShardLog) -> Vec<Entry> {
    block_on(log.clone().try_get_log_entries(..)).unwrap()
}

fn indexes(log: &ShardLog) -> Vec<u64> {
    read(log).iter().map(|entry| entry.log_id.index).collect()
}

fn short(sync: Sync) -> MemoryLog {
    let options = Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::default() };
    MemoryLog::open(Default::default(), options, sync).unwrap()
}

fn first_segment() -> String {
    super::recovery::name_of(1)
}

/// The records of a segment, as they stand.
fn records(log: &MemoryLog, name: &str, sequence: u64) -> Vec<Found> {
    let bytes = log.disk().read(name).unwrap();
    let mut at = HEADER_BYTES;
    let mut found = Vec::new();
    while let Some(record) = record_at(&bytes, at as usize, sequence) {
        at += record.record.bytes();
        found.push(record);
    }
    found
}
