//! One group as the rest of the process uses it: propose, and know who leads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use openraft::Instant as _;
use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use tandem_storage::raft::{Command, NodeId, ShardId, TypeConfig};
use tokio::sync::{mpsc, oneshot, watch};

use crate::reads::{self, READS_MAX, Read};
use crate::{Raft, Role};

/// Commands under way in one group; beyond it a proposal is refused.
pub const PROPOSALS_MAX: usize = 4_096;
/// A longer command is refused: the log would not take it.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// Without a majority a command is given up after this.
pub const COMMIT_MS_MAX: u64 = 2_000;
/// A leader that no majority has answered for so long leads in name only: longer than disks stand still
/// for a moment, and by then another may well lead. At least so many times the longest election timer.
const UNANSWERED: Duration = Duration::from_secs(3);
const UNANSWERED_TIMEOUTS: u32 = 5;
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
    /// This node would lead, but no majority has answered it for long: it may have been deposed and
    /// not know. It is not `leading` then.
    pub unanswered: bool,
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
    /// Since a majority last answered to this node, where it leads and is not alone.
    pub silence: Option<Duration>,
}

#[derive(Clone)]
pub struct Shard {
    pub id: ShardId,
    raft: Raft,
    proposals: mpsc::Sender<Proposal>,
    reads: mpsc::Sender<Read>,
    leadership: watch::Receiver<Leadership>,
}

/// Whose group it is, and who may lead it.
pub(crate) struct Voter {
    pub me: NodeId,
    pub role: Role,
    pub nodes: Vec<NodeId>,
    /// From here on a leader that no majority answers leads in name only.
    pub unanswered_max: Duration,
}

impl Voter {
    pub fn new(me: NodeId, role: Role, nodes: Vec<NodeId>, election_ms_max: u64) -> Self {
        let timeouts = UNANSWERED_TIMEOUTS * Duration::from_millis(election_ms_max);
        let unanswered_max = UNANSWERED.max(timeouts);
        Self { me, role, nodes, unanswered_max }
    }
}

impl Shard {
    /// Runs on the group's own runtime.
    pub(crate) fn start(
        id: ShardId,
        raft: Raft,
        runtime: &tokio::runtime::Handle,
        voter: Voter,
    ) -> Self {
        let (proposals, queue) = mpsc::channel(PROPOSALS_MAX);
        let (reads, asked) = mpsc::channel(READS_MAX);
        let (told, leadership) = watch::channel(Leadership::default());
        runtime.spawn(propose_in_order(raft.clone(), queue));
        runtime.spawn(reads::confirm_in_rounds(raft.clone(), asked));
        runtime.spawn(watch_leadership(id, raft.clone(), told, voter));
        Self { id, raft, proposals, reads, leadership }
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

    /// Where it succeeds, this node led after the call began, and all that was committed by then is
    /// applied here: what is read now is not stale.
    ///
    /// # Errors
    /// Where this node does not lead, or no majority confirms it in time.
    pub async fn confirm(&self) -> Result<(), Error> {
        let (read, confirmed) = oneshot::channel();
        self.reads.try_send(read).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped("the process ends".into()),
        })?;
        confirmed.await.unwrap_or(Err(Error::Unavailable))
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
            silence: silence(&metrics),
        }
    }

    /// # Errors
    /// Where this node does not lead, or the group has stopped.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), Error> {
        let stopped = |error: String| Error::Stopped(error);
        self.raft.trigger().transfer_leader(to).await.map_err(|e| stopped(e.to_string()))
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

/// Of the majority, to a leader; whoever is the only voter has none.
fn silence(now: &RaftMetrics<TypeConfig>) -> Option<Duration> {
    now.last_quorum_acked.as_ref().map(|at| at.elapsed())
}

async fn watch_leadership(id: ShardId, raft: Raft, told: watch::Sender<Leadership>, voter: Voter) {
    let mut metrics = raft.metrics();
    let shard = Arc::<str>::from(id.to_string());
    let mut handing_over = HandOver::default();
    loop {
        let now = metrics.borrow_watched().clone();
        let leads = now.current_leader == Some(voter.me);
        let own =
            now.last_applied.is_some_and(|applied| applied.leader_id.term == now.current_term);
        let node_leads = leads && own && voter.role == Role::Node;
        // Nothing where it can't grow too long.
        let bearable = silence(&now).map(|silence| voter.unanswered_max.saturating_sub(silence));
        let unanswered = node_leads && bearable.is_some_and(|left| left.is_zero());
        let leadership = Leadership {
            term: now.current_term,
            leader: now.current_leader.filter(|_| now.vote.is_committed()),
            leading: node_leads && !unanswered,
            unanswered,
        };
        let before = *told.borrow();
        let changed = before != leadership;
        if changed {
            told.send_replace(leadership);
            tracing::info!(%shard, ?leadership, "leadership");
        }
        if unanswered && !before.unanswered {
            let ms = voter.unanswered_max.as_millis();
            tracing::warn!(%shard, ms, "TD0430 no majority answers: this node leads no longer");
        }
        metrics::gauge!("tandem_raft_term", "shard" => shard.to_string())
            .set(now.current_term as f64);
        metrics::gauge!("tandem_raft_leader", "shard" => shard.to_string())
            .set(f64::from(u8::from(leads && !unanswered)));
        let hands_over = leads && own && voter.role == Role::Witness;
        if hands_over
            && let Some(to) = caught_up(&now, &voter.nodes)
            && handing_over.is_due(now.current_term, Instant::now())
            && let Err(error) = raft.trigger().transfer_leader(to).await
        {
            tracing::error!(%error, "TD0401 a group has stopped");
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(HAND_OVER_AGAIN), if hands_over => {}
            () = tokio::time::sleep(bearable.unwrap_or_default()),
                if leadership.leading && bearable.is_some() => {}
        }
    }
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
