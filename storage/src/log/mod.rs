//! The Raft log: one file set a node for all its shards, one writer, group commit.
//!
//! Why our own and not `raft-engine`: its tail-tolerant recovery can't tell a damaged record in
//! the middle of its last file from a torn tail, and would silently cut acknowledged entries. Here
//! a record carries its segment's life and its batch, and a batch is written only when the one
//! before it is synced: a damaged record with a later batch behind it stops the node.
//!
//! Read in this order: [`segment`] (what is in a file), `recovery` (reading it at start), `writer`
//! (gather, write, sync, complete), `queue` (the way to the writer), `tail` (what is known without
//! the disk), `shard` (openraft's traits).

pub(crate) mod disk;
pub mod history;
mod queue;
mod recovery;
pub mod segment;
mod shard;
mod syncs;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::faults::Faults;
use crate::raft::ShardId;
use disk::{Disk, Folder};
pub use queue::{Health, Pin, Stats};
pub(crate) use queue::{Operation, Queue};
pub use shard::ShardLog;
use tail::Tail;
pub(crate) use writer::Writer;

/// A segment of a node that carries traffic, and of one on a developer's machine.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
pub const SEGMENT_BYTES_DEV: u64 = 16 << 20;
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Record headers keep offsets in 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 31;
/// An entry is at most this share of a segment, so that one always fits behind the small state.
pub const PAYLOAD_SEGMENT_SHARE: u64 = 4;
/// Operations that may wait for the writer; beyond it callers wait.
pub const QUEUE_OPS_MAX: usize = 4096;
/// Operations and bytes of one write. A batch is longer only by its last entry.
pub const BATCH_OPS_MAX: usize = 4096;
pub const BATCH_BYTES_MAX: u64 = 4 << 20;
/// Purged files that are kept to be used again.
pub const SPARE_SEGMENTS_MAX: usize = 2;
/// Entries of a shard that are kept in memory; older ones are read from their segment.
pub const CACHE_BYTES_MAX: usize = 16 << 20;
/// Entries that one limited read returns.
pub const READ_BYTES_MAX: usize = 4 << 20;

/// What to do about a voter that has lost a part of its log.
pub const AMNESIA: &str = "this voter must not go on without them, nor begin anew with an empty \
     folder: with what it has forgotten a leader could be elected who lacks what was acknowledged. \
     The others go on; bring its files back as they were, or give it an empty folder and say \
     `tandem cluster replace`";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the log at {path} can't be used: {error}", path = path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("log file {path} {what}", path = path.display())]
    Header { path: PathBuf, what: String },
    #[error(
        "TD0423 log file {path} is corrupt at byte {offset}: acknowledged records are damaged or \
         lost; {AMNESIA}", path = path.display()
    )]
    Corrupt { path: PathBuf, offset: u64 },
    #[error(
        "TD0432 log file {path} is missing: {before:x} and {after:x} are there; {AMNESIA}",
        path = path.display()
    )]
    Gap { path: PathBuf, before: u64, after: u64 },
    #[error("log file {path} can't be read: {error}", path = path.display())]
    Record { path: PathBuf, error: crate::wire::Error },
    #[error("log option {0}")]
    Options(&'static str),
}

/// Whether an append is on the disk when it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Fsync,
    /// Survives the death of the process, not of the machine: after a power loss the log may be
    /// found corrupt, and the node is restored from another.
    PageCache,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::PageCache => "page-cache",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub segment_bytes: u64,
    pub durability: Durability,
    /// Stands in every segment: a file of another cluster is refused.
    pub cluster: String,
    /// Run first on the writer's thread: its priority is the caller's to set.
    pub on_thread_start: fn(),
    /// For tests of processes.
    pub faults: Option<Faults>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            durability: Durability::Fsync,
            cluster: String::new(),
            on_thread_start: || {},
            faults: None,
        }
    }
}

impl Options {
    /// The longest entry.
    pub fn payload_bytes_max(&self) -> usize {
        (self.segment_bytes / PAYLOAD_SEGMENT_SHARE) as usize
    }

    fn check(&self) -> Result<(), Error> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(Error::Options("segment_bytes must be from 64 KiB to 2 GiB"));
        }
        if !self.segment_bytes.is_multiple_of(4096) {
            return Err(Error::Options("segment_bytes must be a multiple of 4096"));
        }
        if self.cluster.len() > segment::CLUSTER_BYTES_MAX {
            return Err(Error::Options("cluster is longer than 1024 bytes"));
        }
        Ok(())
    }
}

/// Whether the folder has a segment of a log; nothing of it is changed.
///
/// # Errors
/// What the disk says.
pub fn exists(dir: &Path) -> std::io::Result<bool> {
    if !dir.try_exists()? {
        return Ok(false);
    }
    let live = |name: &String| name.ends_with(&format!(".{}", recovery::LIVE));
    Ok(Folder::open(dir)?.list()?.iter().any(live))
}

type Tails = BTreeMap<ShardId, Arc<Mutex<Tail>>>;

/// The log of a node; cloning it is cheap. Its writer ends with the last handle.
#[derive(Clone)]
pub struct Log {
    queue: Queue,
    tails: Arc<Mutex<Tails>>,
    payload_bytes_max: usize,
    /// None where there is no thread.
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Log {
    /// Opens or makes the log in `dir`, and reads what it holds.
    ///
    /// # Errors
    /// A corrupt or foreign file, or what the disk says.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        let io = |error| Error::Io { path: dir.to_owned(), error };
        let mut disk: Arc<dyn Disk> = Arc::new(Folder::open(dir).map_err(io)?);
        if let Some(faults) = &options.faults {
            disk = faults.over(disk);
        }
        let on_thread_start = options.on_thread_start;
        let (log, writer) = Self::open_on(disk, options)?;
        let (queue, operations) = log.queue.threaded();
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || {
                on_thread_start();
                writer.run(operations);
            })
            .map_err(io)?;
        *log.writer.lock() = Some(thread);
        Ok(Self { queue, ..log })
    }

    /// Returns when nothing touches the folder any more, so that it can be opened again. Waits for
    /// ever where this is not the last handle.
    pub fn close(self) {
        let writer = self.writer.lock().take();
        drop(self);
        if let Some(writer) = writer {
            // One that panicked has ended, too.
            let _ = writer.join();
        }
    }

    /// Everything but the thread: operations go nowhere until the queue is given a way.
    pub(crate) fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Writer), Error> {
        options.check()?;
        let path = disk.path("");
        let mut recovered = recovery::recover(&disk, &options)?;
        let tails: Tails = std::mem::take(&mut recovered.tails)
            .into_iter()
            .map(|(shard, tail)| (ShardId(shard), Arc::new(Mutex::new(tail))))
            .collect();
        let payload_bytes_max = options.payload_bytes_max();
        let queue = Queue::new();
        let writer = Writer::new(disk, options, recovered, queue.shared())
            .map_err(|error| Error::Io { path, error })?;
        let tails = Arc::new(Mutex::new(tails));
        Ok((Self { queue, tails, payload_bytes_max, writer: Arc::default() }, writer))
    }

    pub(crate) fn with_queue(self, queue: Queue) -> Self {
        Self { queue, ..self }
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The log of one shard.
    pub fn shard(&self, shard: ShardId) -> ShardLog {
        let tail = Arc::clone(self.tails.lock().entry(shard).or_default());
        ShardLog::new(shard, self.queue.clone(), tail, self.payload_bytes_max)
    }

    /// The shards that something is known of.
    pub fn shards(&self) -> Vec<ShardId> {
        self.tails.lock().keys().copied().collect()
    }

    /// Waits until everything that was asked for so far is written.
    ///
    /// # Errors
    /// Where the disk failed.
    pub async fn drained(&self) -> std::io::Result<()> {
        self.queue.tell(Vec::new()).await
    }

    /// What the disk said last: a leader steps away from one that failed.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.queue.shared().health.subscribe()
    }

    pub fn stats(&self) -> Stats {
        *self.queue.shared().stats.lock()
    }

    /// How long the write in progress has taken so far; 0 between writes.
    pub fn stalled_ms(&self) -> u64 {
        self.queue.shared().stalled_ms()
    }

    /// Of a hundred syncs of the last minute one took longer, microseconds; none where nothing was synced.
    pub fn sync_p99_us(&self) -> Option<u64> {
        self.queue.shared().syncs.lock().p99_us(Instant::now())
    }

    /// What keeps the oldest segment from being used again, where there is more than one. A quiet
    /// shard keeps its segment until it is purged: whoever runs it should flush and purge it.
    pub fn pins(&self) -> Vec<Pin> {
        self.queue.shared().pins.lock().clone()
    }
}
