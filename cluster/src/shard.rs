//! One group as the rest of the process uses it: propose, and know who leads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use tandem_storage::raft::{Command, NodeId, ShardId, TypeConfig};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Raft, Role};

/// Commands under way in one group; beyond it a proposal is refused.
pub const PROPOSALS_MAX: usize = 4_096;
/// A longer command is refused: the log would not take it.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// Without a majority a command is given up after this.
pub const COMMIT_MS_MAX: u64 = 2_000;
/// A witness that leads asks a node again to take the lead after this.
const HAND_OVER_AGAIN: Duration = Duration::from_millis(250);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub index: u64,
    pub reply: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("this node does not lead the shard")]
    NotLeader,
    /// It may still be committed later.
    #[error("no majority has answered")]
    Unavailable,
    #[error("too many commands are under way")]
    Overloaded,
    #[error("a command of {0} bytes is longer than {COMMAND_BYTES_MAX}")]
    TooLong(usize),
    #[error("the group has stopped: {0}")]
    Stopped(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<NodeId>,
    /// This node leads and has applied an entry of its own term: all that was acknowledged
    /// before is here.
    pub leading: bool,
}

struct Proposal {
    command: Vec<u8>,
    done: oneshot::Sender<Result<Committed, Error>>,
}

/// How far the group is, as this node sees it.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub last: u64,
    pub applied: u64,
    /// The log begins behind it.
    pub purged: u64,
    /// Of each voter, where this node leads.
    pub matched: Vec<(NodeId, Option<u64>)>,
}

#[derive(Clone)]
pub struct Shard {
    pub id: ShardId,
    raft: Raft,
    proposals: mpsc::Sender<Proposal>,
    leadership: watch::Receiver<Leadership>,
    /// The last term in which this node gave the lead away.
    given_away: watch::Sender<u64>,
}

impl Shard {
    /// Runs on the group's own runtime.
    pub(crate) fn start(
        id: ShardId,
        me: NodeId,
        role: Role,
        raft: Raft,
        runtime: &tokio::runtime::Handle,
        nodes: Vec<NodeId>,
    ) -> Self {
        let (proposals, queue) = mpsc::channel(PROPOSALS_MAX);
        let (told, leadership) = watch::channel(Leadership::default());
        runtime.spawn(propose_in_order(raft.clone(), queue));
        let given_away = watch::Sender::new(0);
        let watcher = Watcher { id, me, role, raft: raft.clone(), nodes };
        runtime.spawn(watcher.watch(told, given_away.subscribe()));
        Self { id, raft, proposals, leadership, given_away }
    }

    /// Enters the log in the order of calls; answered when it is committed and applied here.
    pub fn propose(
        &self,
        command: Vec<u8>,
    ) -> impl Future<Output = Result<Committed, Error>> + Send + use<> {
        let (done, answered) = oneshot::channel();
        let len = command.len();
        let sent =
            (len <= COMMAND_BYTES_MAX).then(|| self.proposals.try_send(Proposal { command, done }));
        async move {
            let Some(sent) = sent else { return Err(Error::TooLong(len)) };
            match sent {
                Ok(()) => answered.await.unwrap_or(Err(Error::Unavailable)),
                Err(mpsc::error::TrySendError::Full(_)) => Err(Error::Overloaded),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    Err(Error::Stopped("the process ends".into()))
                }
            }
        }
    }

    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    pub fn progress(&self) -> Progress {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let matched = metrics.replication.iter().flatten();
        Progress {
            last: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |applied| applied.index),
            purged: metrics.purged.map_or(0, |purged| purged.index),
            matched: matched.map(|(id, log_id)| (*id, log_id.map(|log_id| log_id.index))).collect(),
        }
    }

    /// Leads no more in this term, as far as this process is concerned. Who gives the lead away can't
    /// propose any more, and while its disk is stalled it can't say either who leads instead.
    pub(crate) fn give_away(&self, term: u64) {
        self.given_away.send_if_modified(|last| {
            let later = term > *last;
            *last = term.max(*last);
            later
        });
    }
}

async fn propose_in_order(raft: Raft, mut queue: mpsc::Receiver<Proposal>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            proposal = queue.recv(), if under_way.len() < PROPOSALS_MAX => {
                let Some(Proposal { command, done }) = proposal else { return };
                let raft = raft.clone();
                let write = async move {
                    let within = Duration::from_millis(COMMIT_MS_MAX);
                    let written = raft.client_write(Command(command));
                    let result = match tokio::time::timeout(within, written).await {
                        Ok(Ok(written)) => Ok(Committed {
                            index: written.log_id.index,
                            reply: written.data.bytes,
                        }),
                        Ok(Err(error)) => Err(refused(&error)),
                        Err(_) => Err(Error::Unavailable),
                    };
                    // Whoever proposed may have gone.
                    let _ = done.send(result);
                };
                // The first poll hands the command over: what is polled first is first in the
                // log. Tokio's budget must not put it off.
                let mut write = tokio::task::unconstrained(write).boxed();
                if futures::poll!(&mut write).is_pending() {
                    under_way.push(write);
                }
            }
            Some(()) = under_way.next() => {}
        }
    }
}

/// Only what was refused before it entered the log was surely not done.
fn refused(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match error.api_error() {
        Some(ClientWriteError::ForwardToLeader(_)) => Error::NotLeader,
        Some(_) => Error::Unavailable,
        None => Error::Stopped(error.to_string()),
    }
}

struct Watcher {
    id: ShardId,
    me: NodeId,
    role: Role,
    raft: Raft,
    nodes: Vec<NodeId>,
}

impl Watcher {
    async fn watch(self, told: watch::Sender<Leadership>, mut given_away: watch::Receiver<u64>) {
        let mut metrics = self.raft.metrics();
        let shard = Arc::<str>::from(self.id.to_string());
        let mut handing_over = HandOver::default();
        loop {
            let now = metrics.borrow_watched().clone();
            let leadership = self.leadership(&now, *given_away.borrow_and_update());
            let leads = leads(&now, self.me);
            let changed = told.send_if_modified(|told| {
                let changed = *told != leadership;
                *told = leadership;
                changed
            });
            metrics::gauge!("tandem_raft_term", "shard" => shard.to_string())
                .set(now.current_term as f64);
            metrics::gauge!("tandem_raft_leader", "shard" => shard.to_string())
                .set(f64::from(u8::from(leads)));
            if changed {
                tracing::info!(%shard, ?leadership, "leadership");
            }
            if let Err(error) = &now.running_state {
                if !matches!(error, Fatal::Stopped) {
                    tracing::error!(%shard, %error, "TD0401 a group has stopped");
                }
                return;
            }
            let hands_over = leads && has_own(&now) && self.role == Role::Witness;
            if hands_over
                && let Some(to) = caught_up(&now, &self.nodes)
                && handing_over.is_due(now.current_term, Instant::now())
                && let Err(error) = self.raft.trigger().transfer_leader(to).await
            {
                tracing::error!(%error, "TD0401 a group has stopped");
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    told.send_modify(|told| *told = Leadership { term: told.term, ..Default::default() });
                    return;
                },
                // An error means that nobody uses the group any more.
                Ok(()) = given_away.changed() => {}
                () = tokio::time::sleep(HAND_OVER_AGAIN), if hands_over => {}
            }
        }
    }

    fn leadership(&self, now: &RaftMetrics<TypeConfig>, given_away: u64) -> Leadership {
        let has_given = |leader: &NodeId| *leader == self.me && given_away >= now.current_term;
        let runs = now.running_state.is_ok();
        let leader = now
            .current_leader
            .filter(|leader| runs && now.vote.is_committed() && !has_given(leader));
        let leading = leader == Some(self.me) && has_own(now) && self.role == Role::Node;
        Leadership { term: now.current_term, leader, leading }
    }
}

fn leads(now: &RaftMetrics<TypeConfig>, me: NodeId) -> bool {
    now.current_leader == Some(me) && now.running_state.is_ok()
}

/// It has applied an entry of the term.
fn has_own(now: &RaftMetrics<TypeConfig>) -> bool {
    now.last_applied.is_some_and(|applied| applied.leader_id.term == now.current_term)
}

/// When the witness gave the lead away last. That alone changes the group's metrics, so whoever
/// gave it away at each change would have no time to vote for the node that is to lead.
#[derive(Debug, Default)]
struct HandOver {
    last: Option<(u64, Instant)>,
}

impl HandOver {
    fn is_due(&mut self, term: u64, now: Instant) -> bool {
        let waits = self.last.is_some_and(|(asked_in, at)| {
            asked_in == term && now.saturating_duration_since(at) < HAND_OVER_AGAIN
        });
        if !waits {
            self.last = Some((term, now));
        }
        !waits
    }
}

/// A witness had the longest log; a node that has all of it is to lead.
fn caught_up(now: &RaftMetrics<TypeConfig>, nodes: &[NodeId]) -> Option<NodeId> {
    let last = now.last_log_index;
    let has_all = |id: &NodeId| {
        now.replication
            .as_ref()
            .and_then(|matched| matched.get(id))
            .is_some_and(|log_id| log_id.map(|log_id| log_id.index) >= last)
    };
    nodes.iter().copied().find(has_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handing_over_waits_for_its_outcome() {
        let mut handing_over = HandOver::default();
        let begun = Instant::now();
        assert!(handing_over.is_due(15, begun));
        assert!(
            !handing_over.is_due(15, begun),
            "each change of the metrics would flood the peers"
        );
        assert!(!handing_over.is_due(15, begun + HAND_OVER_AGAIN - Duration::from_millis(1)));
        assert!(handing_over.is_due(15, begun + HAND_OVER_AGAIN), "it was lost");
        assert!(handing_over.is_due(17, begun + HAND_OVER_AGAIN), "another term");
    }
}
