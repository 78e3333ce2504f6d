//! The state machine of a shard as consensus drives it: entries in, rows out, replies back.
//!
//! A replica whose machine says that it differs is *out*: from that entry on nothing is applied and nobody
//! has its rows, while consensus goes on with log and votes and hands over what is committed. [`mending`]
//! puts rows of another node in their place, and behind them what was passed over, from the log.

mod mending;

use std::io;

use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};

pub use self::mending::Error as MendError;
use crate::raft::{Entry, Membership, TypeConfig};
pub use crate::raft::{LogId, RaftSnapshot, Reply, ShardId, SnapshotMeta, StoredMembership};
use crate::snapshot::{Here, Received, Snapshot};
pub use crate::state::{Change, Row};
use crate::state::{Error, State, latest};

/// Entries that are stored in one batch.
pub const BATCH_ENTRIES_MAX: usize = 256;

/// What a shard replicates. Deterministic: the same entries give the same rows everywhere.
pub trait Machine: Send + 'static {
    /// Takes in the stored rows, before anything is applied, or in the place of what was.
    ///
    /// # Errors
    /// A sentence: this build can't read them.
    fn restore(&mut self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), String>;

    fn apply(&mut self, entry: Applied<'_>) -> Outcome;

    /// An entry without a command: a new leader's first.
    fn on_blank(&mut self, _log_id: &LogId) {}

    fn on_membership(&mut self, _log_id: &LogId, _membership: &Membership) {}

    /// The rows of every entry up to `index` are stored: what they caused may be seen. Comes once
    /// a batch, before the replies.
    fn after_persist(&mut self, _index: u64) {}

    /// Whether the rows of another node's snapshot are stored here.
    fn keeps_rows(&self) -> bool {
        true
    }

    /// Families that are written and never read back into the machine.
    fn history(&self) -> &'static [&'static str] {
        &[]
    }

    /// What this replica has come to is not what its group has. Asked after each command; true until
    /// other rows are restored.
    fn differs(&self) -> bool {
        false
    }
}

impl<M: Machine + ?Sized> Machine for Box<M> {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), String> {
        (**self).restore(rows)
    }

    fn apply(&mut self, entry: Applied<'_>) -> Outcome {
        (**self).apply(entry)
    }

    fn on_blank(&mut self, log_id: &LogId) {
        (**self).on_blank(log_id);
    }

    fn on_membership(&mut self, log_id: &LogId, membership: &Membership) {
        (**self).on_membership(log_id, membership);
    }

    fn after_persist(&mut self, index: u64) {
        (**self).after_persist(index);
    }

    fn keeps_rows(&self) -> bool {
        (**self).keeps_rows()
    }

    fn history(&self) -> &'static [&'static str] {
        (**self).history()
    }

    fn differs(&self) -> bool {
        (**self).differs()
    }
}

/// A committed command.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    pub shard: ShardId,
    pub index: u64,
    pub term: u64,
    pub command: &'a [u8],
    /// Somebody on this node waits for the reply: it was proposed here, in this life. The rows
    /// must not depend on it.
    pub proposed_here: bool,
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub changes: Vec<Change>,
    pub reply: Vec<u8>,
}

/// A machine on its rows.
pub struct StateMachine<M> {
    shard: ShardId,
    state: State,
    /// Only ever used through `get_mut`: the lock lends the machine the `Sync` that openraft asks.
    machine: Mutex<M>,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// The last entry that consensus has handed over. Before `applied` where rows came that were later,
    /// behind it while this replica is out.
    handed: Option<LogId>,
    out: bool,
}

impl<M: Machine> StateMachine<M> {
    /// # Errors
    /// Where the stored rows can't be read.
    pub fn open(shard: ShardId, state: State, mut machine: M) -> Result<Self, Error> {
        let view = state.view();
        let (applied, membership) = view.applied(shard)?;
        let out = state.out_since(shard).is_some();
        // Rows that are not to be used need not even be readable.
        let restored = if out {
            machine.restore(&mut std::iter::empty())
        } else {
            let rows = view.rows(shard, &[], machine.history())?;
            restore(&mut machine, rows)?
        };
        restored.map_err(|why| Error::Machine(shard, why))?;
        drop(view);
        let (machine, handed) = (Mutex::new(machine), applied);
        Ok(Self { shard, state, machine, applied, membership, handed, out })
    }

    /// Takes in entries, in their order, but those that its rows hold already, and none while it is out.
    async fn take_in<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(first) = entries.next().await {
            let mut batch = Batch::default();
            let mut next = Some(first);
            let mut count = 0;
            while let Some(entry) = next.take() {
                let (entry, responder) = entry?;
                self.handed = self.handed.max(Some(entry.log_id));
                let is_known = self.applied.is_some_and(|known| entry.log_id.index <= known.index);
                // Whoever waits for the reply of one that is passed over hears that nobody can say.
                if !self.out && !is_known {
                    self.add(&mut batch, entry, responder);
                }
                count += 1;
                if count < BATCH_ENTRIES_MAX {
                    next = entries.next().now_or_never().flatten();
                }
            }
            let Some(last) = batch.last else { continue };
            if self.out {
                self.take_out(batch.changes, last).await?;
                continue;
            }
            let Batch { mut changes, replies, .. } = batch;
            if count > 1 {
                changes = latest(changes);
            }
            store(&self.state, self.shard, changes, self.applied, &self.membership).await?;
            self.machine.get_mut().after_persist(last.index);
            for (responder, reply) in replies {
                responder.send(reply);
            }
        }
        Ok(())
    }

    fn add(&mut self, batch: &mut Batch, entry: Entry, responder: Option<Responder>) {
        let machine = self.machine.get_mut();
        let index = entry.log_id.index;
        let mut reply = Reply { index, bytes: Vec::new() };
        match entry.payload {
            EntryPayload::Blank => machine.on_blank(&entry.log_id),
            EntryPayload::Normal(command) => {
                let outcome = machine.apply(Applied {
                    shard: self.shard,
                    index,
                    term: entry.log_id.leader_id.term,
                    command: &command.0,
                    proposed_here: responder.is_some(),
                });
                batch.changes.extend(outcome.changes);
                reply.bytes = outcome.reply;
                self.out = machine.differs();
            }
            EntryPayload::Membership(membership) => {
                machine.on_membership(&entry.log_id, &membership);
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        self.applied = Some(entry.log_id);
        batch.last = Some(entry.log_id);
        if let Some(responder) = responder {
            batch.replies.push((responder, reply));
        }
    }

    /// Rows of another node in the place of those that are here.
    async fn put_rows(&mut self, received: Received, of: &SnapshotMeta) -> Result<(), io::Error> {
        let machine = self.machine.get_mut();
        let history = machine.history();
        let rows = received.parts()?.flat_map(|part| match part {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        });
        let rows = rows.filter(|row| match row {
            Ok(row) => !history.contains(&row.family.as_str()),
            Err(_) => true,
        });
        apart(|| restore(machine, rows))?.map_err(io::Error::other)?;
        let (state, shard, meta) = (self.state.clone(), self.shard, of.clone());
        // As long as it takes: the thread has other groups to serve.
        tokio::task::spawn_blocking(move || state.replace(shard, received, &meta))
            .await
            .map_err(io::Error::other)??;
        Ok(())
    }
}

type Responder = ApplyResponder<TypeConfig>;

/// Entries whose rows are stored together.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    replies: Vec<(Responder, Reply)>,
    last: Option<LogId>,
}

/// Work that takes long, while another thread goes on with the runtime's other tasks.
pub fn apart<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // A test's or simulator's only thread.
        _ => work(),
    }
}

/// What the machine says of the rows, where all of them could be read.
fn restore<M: Machine, E>(
    machine: &mut M,
    rows: impl Iterator<Item = Result<Row, E>>,
) -> Result<Result<(), String>, E> {
    let mut failed = None;
    let mut rows = rows.map_while(|row| row.map_err(|error| failed = Some(error)).ok());
    let restored = machine.restore(&mut rows);
    // What it did not ask for must be readable, too.
    rows.by_ref().for_each(drop);
    drop(rows);
    failed.map_or(Ok(restored), Err)
}

/// On this thread, which has other groups to serve, only where that takes no waiting.
async fn store(
    state: &State,
    shard: ShardId,
    changes: Vec<Change>,
    applied: Option<LogId>,
    membership: &StoredMembership,
) -> Result<(), io::Error> {
    if state.write_at_once(shard, &changes, applied.as_ref(), membership)? {
        return Ok(());
    }
    metrics::counter!("tandem_state_writes_stalled_total").increment(1);
    let (state, membership) = (state.clone(), membership.clone());
    let write = move || state.write(shard, &changes, applied.as_ref(), &membership);
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
    Ok(())
}

impl<M: Machine> RaftStateMachine<TypeConfig> for StateMachine<M> {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        self.take_in(entries).await
    }

    /// None is made of rows that are not to be used, nor of such as consensus does not know of yet.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let can = !self.out && self.applied <= self.handed;
        if force || can { Some(self.get_snapshot_builder().await) } else { None }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta =
            SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Builder { shard: self.shard, state: self.state.clone(), meta }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Snapshot,
    ) -> Result<(), io::Error> {
        let machine = self.machine.get_mut();
        // The machine first: what it can't read must not replace what it can.
        match snapshot {
            _ if !machine.keeps_rows() => {
                machine.restore(&mut std::iter::empty()).map_err(io::Error::other)?;
                self.state.settle(self.shard, meta)?;
            }
            Snapshot::Received(received) => self.put_rows(received, meta).await?,
            Snapshot::Here(Here { state, shard }) => {
                let view = state.view();
                let rows = view.rows(shard, &[], machine.history())?;
                apart(|| restore(machine, rows))?.map_err(io::Error::other)?;
                drop(view);
                self.state.copy(self.shard, &state, shard, meta)?;
            }
        }
        self.applied = meta.last_log_id;
        self.handed = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.let_in();
        self.state.offer_snapshot(self.shard);
        Ok(())
    }

    /// The state is itself on the disk, so a snapshot is never kept beside it: its rows are read
    /// when they are sent, and may be later than it.
    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        if !self.state.offers_snapshot(self.shard) {
            return Ok(None);
        }
        let meta =
            SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        let snapshot = Snapshot::Here(Here { state: self.state.clone(), shard: self.shard });
        Ok(Some(RaftSnapshot { meta, snapshot }))
    }
}

/// What of a shard was applied when this was made, to be on the disk, so that the log behind it may be purged.
pub struct Builder {
    shard: ShardId,
    state: State,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let (state, shard) = (self.state.clone(), self.shard);
        // A flush may take as long as the disk pleases.
        let flushing = tokio::task::spawn_blocking(move || state.flush());
        flushing.await.map_err(io::Error::other)??;
        self.state.offer_snapshot(shard);
        let snapshot = Snapshot::Here(Here { state: self.state.clone(), shard });
        Ok(RaftSnapshot { meta: self.meta.clone(), snapshot })
    }
}
