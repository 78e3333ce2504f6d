//! The state machine of a shard as consensus drives it: entries in, rows out, replies back.

use std::io;

use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};

pub use crate::raft::{LogId, RaftSnapshot, Reply, ShardId, SnapshotMeta, StoredMembership};
use crate::raft::{Membership, TypeConfig};
use crate::snapshot::{Here, Snapshot};
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
}

impl<M: Machine> StateMachine<M> {
    /// # Errors
    /// Where the stored rows can't be read.
    pub fn open(shard: ShardId, state: State, mut machine: M) -> Result<Self, Error> {
        let view = state.view();
        let (applied, membership) = view.applied(shard)?;
        let rows = view.rows(shard, &[], machine.history())?;
        restore(&mut machine, rows)?.map_err(|why| Error::Machine(shard, why))?;
        drop(view);
        Ok(Self { shard, state, machine: Mutex::new(machine), applied, membership })
    }
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

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let machine = self.machine.get_mut();
        while let Some(first) = entries.next().await {
            let mut changes = Vec::new();
            let mut replies = Vec::new();
            let mut last = 0;
            let mut next = Some(first);
            let mut count = 0;
            while let Some(entry) = next.take() {
                let (entry, responder) = entry?;
                last = entry.log_id.index;
                let mut reply = Reply { index: last, bytes: Vec::new() };
                match entry.payload {
                    EntryPayload::Blank => machine.on_blank(&entry.log_id),
                    EntryPayload::Normal(command) => {
                        let outcome = machine.apply(Applied {
                            shard: self.shard,
                            index: last,
                            term: entry.log_id.leader_id.term,
                            command: &command.0,
                            proposed_here: responder.is_some(),
                        });
                        changes.extend(outcome.changes);
                        reply.bytes = outcome.reply;
                    }
                    EntryPayload::Membership(membership) => {
                        machine.on_membership(&entry.log_id, &membership);
                        self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    }
                }
                self.applied = Some(entry.log_id);
                if let Some(responder) = responder {
                    replies.push((responder, reply));
                }
                count += 1;
                if count < BATCH_ENTRIES_MAX {
                    next = entries.next().now_or_never().flatten();
                }
            }
            if count > 1 {
                changes = latest(changes);
            }
            store(&self.state, self.shard, changes, self.applied, &self.membership).await?;
            machine.after_persist(last);
            for (responder, reply) in replies {
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shard: self.shard, state: self.state.clone() }
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
            Snapshot::Received(received) => {
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
                let (state, shard, meta) = (self.state.clone(), self.shard, meta.clone());
                // As long as it takes: the thread has other groups to serve.
                tokio::task::spawn_blocking(move || state.replace(shard, received, &meta))
                    .await
                    .map_err(io::Error::other)??;
            }
            Snapshot::Here(Here { state, shard }) => {
                let view = state.view();
                let rows = view.rows(shard, &[], machine.history())?;
                apart(|| restore(machine, rows))?.map_err(io::Error::other)?;
                drop(view);
                self.state.copy(self.shard, &state, shard, meta)?;
            }
        }
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
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

/// What of a shard is on the disk, so that the log behind it may be purged.
pub struct Builder {
    shard: ShardId,
    state: State,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let (state, shard) = (self.state.clone(), self.shard);
        // A flush may take as long as the disk pleases.
        tokio::task::spawn_blocking(move || build(state, shard)).await.map_err(io::Error::other)?
    }
}

fn build(state: State, shard: ShardId) -> io::Result<RaftSnapshot> {
    let (last_log_id, last_membership) = state.applied(shard)?;
    // What was applied then is on the disk after this, and the log behind it may go.
    state.flush()?;
    state.offer_snapshot(shard);
    Ok(RaftSnapshot {
        meta: SnapshotMeta { last_log_id, last_membership },
        snapshot: Snapshot::Here(Here { state, shard }),
    })
}
