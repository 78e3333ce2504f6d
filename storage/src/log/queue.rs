//! The way to the writer, and what it tells of itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::QUEUE_OPS_MAX;
use super::segment::Record;
use super::syncs::Syncs;
use super::tail::Tail;
use crate::memory::Twin;
use crate::raft::{LogId, ShardId, TypeConfig};

/// What the disk said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Well,
    /// No write succeeds any more, or what was written can't be read; the sentence says why.
    Failed(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub writes: u64,
    pub operations: u64,
    pub bytes: u64,
    pub syncs: u64,
    pub sync_us_sum: u64,
    pub sync_us_max: u64,
    pub segments_live: u64,
    pub segments_spare: u64,
    /// Of all files: those that hold entries, spares, and the one that is being filled.
    pub disk_bytes: u64,
}

/// The highest entry of a shard in the oldest segment: purged up to it, the shard lets it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    pub shard: ShardId,
    pub index: u64,
}

pub enum Done {
    Raft(IOFlushed<TypeConfig>),
    Told(oneshot::Sender<io::Result<()>>),
    /// What follows in the queue relies on the order alone.
    Nobody,
}

impl Done {
    pub fn complete(self, outcome: io::Result<()>) {
        match self {
            Self::Raft(callback) => callback.io_completed(outcome),
            // Whoever asked may have gone.
            Self::Told(told) => drop(told.send(outcome)),
            Self::Nobody => {}
        }
    }
}

pub struct Operation {
    /// Of one shard, whose tail learns where they were written.
    pub records: Vec<Record>,
    pub tail: Option<Arc<Mutex<Tail>>>,
    pub done: Done,
}

impl Operation {
    pub fn bytes(&self) -> u64 {
        self.records.iter().map(Record::bytes).sum()
    }
}

/// What the writer and its callers both see.
pub struct Shared {
    pub health: watch::Sender<Health>,
    pub stats: Mutex<Stats>,
    pub pins: Mutex<Vec<Pin>>,
    pub syncs: Mutex<Syncs>,
    /// Commits ride on the next batch: none is worth a write of its own.
    pub committed: Mutex<BTreeMap<u16, LogId>>,
    /// Microseconds since `born` at which the write in progress began, plus one; 0 between writes.
    busy_since: AtomicU64,
    born: Instant,
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Shared {
    pub fn begin(&self) {
        self.busy_since.store(micros(self.born).saturating_add(1), Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// The first failure is told, and stays.
    pub fn fail(&self, why: String) {
        self.health.send_if_modified(|health| {
            let first = *health == Health::Well;
            if first {
                *health = Health::Failed(why);
            }
            first
        });
    }

    pub fn stalled_ms(&self) -> u64 {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => 0,
            since => micros(self.born).saturating_sub(since) / 1000,
        }
    }
}

#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Nowhere,
    Thread(mpsc::Sender<Operation>),
    Twin(Arc<Twin>),
}

impl Queue {
    pub fn new() -> Self {
        let shared = Shared {
            health: watch::Sender::new(Health::Well),
            stats: Mutex::default(),
            pins: Mutex::default(),
            syncs: Mutex::new(Syncs::new(Instant::now())),
            committed: Mutex::default(),
            busy_since: AtomicU64::new(0),
            born: Instant::now(),
        };
        Self { shared: Arc::new(shared), way: Way::Nowhere }
    }

    pub fn threaded(&self) -> (Self, mpsc::Receiver<Operation>) {
        let (sender, operations) = mpsc::channel(QUEUE_OPS_MAX);
        (Self { shared: self.shared(), way: Way::Thread(sender) }, operations)
    }

    pub fn twin(&self, twin: Arc<Twin>) -> Self {
        Self { shared: self.shared(), way: Way::Twin(twin) }
    }

    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Waits where the queue is full: the bound pushes back on whoever appends.
    pub async fn submit(&self, operation: Operation) -> io::Result<()> {
        let ended = || io::Error::other("the log's writer has ended");
        match &self.way {
            Way::Nowhere => Err(ended()),
            Way::Thread(sender) => sender.send(operation).await.map_err(|_| ended()),
            Way::Twin(twin) => {
                twin.submit(operation);
                Ok(())
            }
        }
    }

    /// Writes and waits for the disk.
    pub async fn tell(&self, records: Vec<Record>) -> io::Result<()> {
        let (told, done) = oneshot::channel();
        self.submit(Operation { records, tail: None, done: Done::Told(told) }).await?;
        done.await.map_err(|_| io::Error::other("the log's writer has ended"))?
    }
}
