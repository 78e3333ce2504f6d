//! One shard's view of the log: openraft's log storage.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use prost::Message as _;

use super::READ_BYTES_MAX;
use super::queue::{Done, Operation, Queue};
use super::segment::{Kind, Record};
use super::tail::Tail;
use crate::raft::{Entry, LogId, ShardId, TypeConfig, Vote};
use crate::wire;

/// Reads and appends; cloning it is cheap.
#[derive(Clone)]
pub struct ShardLog {
    shard: ShardId,
    queue: Queue,
    tail: Arc<Mutex<Tail>>,
    payload_bytes_max: usize,
}

impl ShardLog {
    pub(super) fn new(
        shard: ShardId,
        queue: Queue,
        tail: Arc<Mutex<Tail>>,
        payload_bytes_max: usize,
    ) -> Self {
        Self { shard, queue, tail, payload_bytes_max }
    }

    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The log begins behind it.
    pub fn purged(&self) -> Option<LogId> {
        self.tail.lock().purged()
    }

    fn record(&self, kind: Kind, index: u64, payload: Vec<u8>) -> Record {
        Record { shard: self.shard.0, kind, index, payload, serial: 0 }
    }

    /// In order with what follows, but nobody waits for the disk.
    async fn submit(&self, record: Record) -> io::Result<()> {
        let operation = Operation { records: vec![record], tail: None, done: Done::Nobody };
        self.queue.submit(operation).await
    }

    fn read(&self, range: &impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let held = self.tail.lock().range(range, bytes_max)?;
        let mut entries = Vec::with_capacity(held.len());
        for held in held {
            let index = held.index();
            match held.read()? {
                Some(entry) => entries.push(entry),
                // Purged while it was being read, as were those before it.
                None if self.tail.lock().purged().is_some_and(|at| at.index >= index) => {
                    entries.clear();
                }
                None => {
                    let shard = self.shard;
                    let why = format!("entry {index} of {shard} can't be read again");
                    tracing::error!("TD0428 {why}");
                    self.queue.shared().fail(format!("the log is damaged: {why}"));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for ShardLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(&range, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(&(start..end), READ_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.tail.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for ShardLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.tail.lock();
        Ok(LogState { last_purged_log_id: tail.purged(), last_log_id: tail.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let record = self.record(Kind::Vote, 0, wire::vote(vote).encode_to_vec());
        self.queue.tell(vec![record]).await?;
        self.tail.lock().vote = Some(*vote);
        Ok(())
    }

    /// Rides on the next write: what a restart finds may be a little older than the truth.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.tail.lock().committed = committed;
        if let Some(committed) = committed {
            self.queue.shared().committed.lock().insert(self.shard.0, committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.tail.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut encoded = Vec::new();
        for entry in entries {
            let payload = wire::entry(&entry).encode_to_vec();
            if payload.len() > self.payload_bytes_max {
                let (len, most) = (payload.len(), self.payload_bytes_max);
                let why =
                    format!("an entry of {len} bytes is too long for the log: at most {most}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            encoded.push((entry, payload));
        }
        let mut records = Vec::with_capacity(encoded.len());
        {
            let mut tail = self.tail.lock();
            for (entry, payload) in encoded {
                let mut record = self.record(Kind::Entry, entry.index(), payload);
                record.serial = tail.push(entry, record.payload.len()).map_err(io::Error::other)?;
                records.push(record);
            }
        }
        let tail = Some(Arc::clone(&self.tail));
        self.queue.submit(Operation { records, tail, done: Done::Raft(callback) }).await
    }

    /// Was it not written when the machine dies, the entries are there again, as before: nobody
    /// was told that they are gone.
    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1);
        self.tail.lock().truncate_from(from);
        self.submit(self.record(Kind::Truncate, from, Vec::new())).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.tail.lock().purge(upto);
        let payload = wire::log_id(&upto).encode_to_vec();
        self.submit(self.record(Kind::Purge, upto.index, payload)).await
    }
}
