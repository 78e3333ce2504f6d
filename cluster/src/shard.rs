//! One group as the rest of the process uses it: propose, and know who leads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal};
use tandem_storage::raft::{Command, NodeId, ShardId, TypeConfig};
use tokio::sync::{mpsc, oneshot, watch};

use crate::members::{Directory, Live};
use crate::mending::Outs;
use crate::pulse::Heart;
use crate::reads::{self, READS_MAX, Read};
use crate::rest::Rest;
use crate::{Raft, Role};

/// Commands under way in one group; beyond it a proposal is refused.
pub const PROPOSALS_MAX: usize = 4_096;
/// Commands that go together. What waits behind them counts to [`PROPOSALS_MAX`].
const BATCH_PROPOSALS_MAX: usize = 256;
/// A longer command is refused: the log would not take it.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// Without a majority a command is given up after this.
pub const COMMIT_MS_MAX: u64 = 2_000;
/// Before a planned move the next leader must have the whole log within this; proposals wait so long.
const CATCH_UP: Duration = Duration::from_millis(200);
/// From there until it leads.
const MOVE: Duration = Duration::from_millis(500);
/// A leader that has heard no majority for so long leads in name only: longer than disks stand still
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
    #[error("the lead is being given away already")]
    Moving,
    #[error("{0} lacks entries of the log")]
    Behind(NodeId),
    #[error("the state of {0} is not what the group has, and is being made again")]
    Out(NodeId),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<NodeId>,
    /// This node leads, has applied an entry of its own term and is not out: all that was acknowledged
    /// before is here.
    pub leading: bool,
    /// This node would lead, but has heard no majority for long: it may have been deposed and
    /// not know. It is not `leading` then.
    pub unanswered: bool,
}

struct Proposal {
    command: Vec<u8>,
    deadline: Instant,
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
    me: NodeId,
    pub(crate) raft: Raft,
    pub(crate) rest: Arc<Rest>,
    heart: Arc<Heart>,
    outs: Arc<Outs>,
    proposals: mpsc::Sender<Proposal>,
    /// Proposals wait where they are.
    held: Arc<watch::Sender<bool>>,
    reads: mpsc::Sender<Read>,
    leadership: watch::Receiver<Leadership>,
    /// The last term in which this node gave the lead away.
    given_away: watch::Sender<u64>,
}

/// Whose group it is, and who may lead it.
pub(crate) struct Voter {
    pub heart: Arc<Heart>,
    pub role: Role,
    pub directory: Arc<Directory>,
    pub outs: Arc<Outs>,
    /// From here on a leader that hears no majority leads in name only.
    pub unanswered_max: Duration,
}

impl Voter {
    pub fn new(
        heart: Arc<Heart>,
        directory: Arc<Directory>,
        outs: Arc<Outs>,
        election_ms_max: u64,
    ) -> Self {
        let timeouts = UNANSWERED_TIMEOUTS * Duration::from_millis(election_ms_max);
        let unanswered_max = UNANSWERED.max(timeouts);
        Self { heart, role: directory.me.role, directory, outs, unanswered_max }
    }
}

impl Shard {
    /// Runs on the group's own runtime.
    pub(crate) fn start(
        id: ShardId,
        raft: Raft,
        runtime: &tokio::runtime::Handle,
        app: &tokio::runtime::Handle,
        voter: Voter,
    ) -> Self {
        let (proposals, queue) = mpsc::channel(PROPOSALS_MAX);
        let (reads, asked) = mpsc::channel(READS_MAX);
        let (told, leadership) = watch::channel(Leadership::default());
        let (held, holds) = watch::channel(false);
        let rest = Arc::new(Rest::default());
        let given_away = watch::Sender::new(0);
        let (me, held) = (voter.heart.me, Arc::new(held));
        let (heart, outs) = (Arc::clone(&voter.heart), Arc::clone(&voter.outs));
        let proposer =
            Proposer { me, raft: raft.clone(), rest: Arc::clone(&rest), queue, held: holds };
        app.spawn(proposer.run());
        runtime.spawn(reads::confirm_in_rounds(raft.clone(), Arc::clone(&rest), asked));
        let shard = Self {
            id,
            me,
            raft,
            rest,
            heart,
            outs,
            proposals,
            reads,
            held,
            leadership,
            given_away,
        };
        runtime.spawn(Watcher { shard: shard.clone(), voter }.watch(told));
        shard
    }

    /// Enters the log in the order of calls; answered when it is committed and applied here.
    pub fn propose(
        &self,
        command: Vec<u8>,
    ) -> impl Future<Output = Result<Committed, Error>> + Send + use<> {
        let (done, answered) = oneshot::channel();
        let len = command.len();
        let deadline = Instant::now() + Duration::from_millis(COMMIT_MS_MAX);
        // It would be committed, and nobody here could say to what end.
        let is_out = self.outs.is_mine_out(self.id);
        let sent = (len <= COMMAND_BYTES_MAX && !is_out)
            .then(|| self.proposals.try_send(Proposal { command, deadline, done }));
        async move {
            let refused = if is_out { Error::NotLeader } else { Error::TooLong(len) };
            let Some(sent) = sent else { return Err(refused) };
            match sent {
                Ok(()) => answered.await.unwrap_or(Err(Error::Unavailable)),
                Err(mpsc::error::TrySendError::Full(_)) => Err(Error::Overloaded),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    Err(Error::Stopped("the process ends".into()))
                }
            }
        }
    }

    /// Several, one behind the other; the reply of each.
    ///
    /// # Errors
    /// That of the first that was not committed; others may be.
    pub async fn propose_all(&self, commands: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Error> {
        // In the log's order before any is waited for.
        let proposed: Vec<_> = commands.into_iter().map(|command| self.propose(command)).collect();
        let done = futures::future::join_all(proposed).await;
        done.into_iter().map(|done| done.map(|done| done.reply)).collect()
    }

    /// Who leads, as this voter knows it now.
    pub(crate) fn known(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// For how long this voter has heard no majority.
    pub fn alone_for(&self) -> Duration {
        self.heart.alone_for()
    }

    /// Where it succeeds, this node led after the call began, and all that was committed by then is
    /// applied here: what is read now is not stale.
    ///
    /// # Errors
    /// Where this node does not lead, or no majority confirms it in time.
    pub async fn confirm(&self) -> Result<(), Error> {
        if self.outs.is_mine_out(self.id) {
            return Err(Error::NotLeader);
        }
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
        }
    }

    /// Gives the lead to another node: what is proposed meanwhile waits, and is then refused for the
    /// new leader to take.
    ///
    /// # Errors
    /// Where this node does not lead, `to` lacks entries, or does not come to lead.
    pub async fn move_leader(&self, to: NodeId) -> Result<(), Error> {
        if self.held.send_replace(true) {
            return Err(Error::Moving);
        }
        let moved = self.try_move(to).await;
        self.held.send_replace(false);
        moved
    }

    async fn try_move(&self, to: NodeId) -> Result<(), Error> {
        let stopped = |error: String| Error::Stopped(error);
        let mut metrics = self.raft.metrics();
        if metrics.borrow_watched().current_leader != Some(self.me) {
            return Err(Error::NotLeader);
        }
        if !votes(&metrics.borrow_watched(), to) {
            return Err(Error::Behind(to));
        }
        if self.outs.is_out(to, self.id) {
            return Err(Error::Out(to));
        }
        self.rest.wake(&self.raft, Instant::now());
        let has_all = async {
            while !has_all(&metrics.borrow_watched(), to) {
                metrics.changed().await.map_err(|error| stopped(error.to_string()))?;
            }
            Ok(())
        };
        tokio::time::timeout(CATCH_UP, has_all).await.map_err(|_| Error::Behind(to))??;
        // From here on openraft takes no proposals, whatever comes of it, until another leads.
        self.rest.set_moving(true);
        let asked = self.raft.trigger().transfer_leader(to).await;
        asked.map_err(|error| stopped(error.to_string()))?;
        let gone = async {
            while metrics.borrow_watched().current_leader == Some(self.me) {
                metrics.changed().await.map_err(|error| stopped(error.to_string()))?;
            }
            Ok(())
        };
        tokio::time::timeout(MOVE, gone).await.map_err(|_| Error::Unavailable)?
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

/// Hands commands over to the group, in the order in which they came. What comes while a batch is on
/// its way waits and goes together: one round and one sync of the disks for all of it. It runs beside
/// what makes the commands, not before it as Raft does: it would take each as it comes, and leave no
/// time to make the next.
struct Proposer {
    me: NodeId,
    raft: Raft,
    rest: Arc<Rest>,
    queue: mpsc::Receiver<Proposal>,
    held: watch::Receiver<bool>,
}

impl Proposer {
    async fn run(mut self) {
        let mut proposals = Vec::new();
        while self.held.wait_for(|held| !held).await.is_ok() {
            tokio::select! {
                biased;
                _ = self.held.changed() => {}
                count = self.queue.recv_many(&mut proposals, BATCH_PROPOSALS_MAX) => {
                    if count == 0 {
                        return;
                    }
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    self.rest.wake_to_propose(self.me, &self.raft, count).await;
                    self.write(std::mem::take(&mut proposals)).await;
                }
            }
        }
    }

    /// Returns when each knows what came of it.
    async fn write(&self, mut proposals: Vec<Proposal>) {
        let now = Instant::now();
        // They have waited in vain, and are told so by this.
        proposals.retain(|proposal| proposal.deadline > now);
        let (commands, waiting): (Vec<_>, Vec<_>) =
            proposals.into_iter().map(|it| (Command(it.command), (it.deadline, it.done))).unzip();
        if commands.is_empty() {
            return;
        }
        let stopped = |error: &dyn std::fmt::Display| Err(Error::Stopped(error.to_string()));
        let mut written = match self.raft.client_write_many(commands).await {
            Ok(written) => written,
            Err(error) => {
                for (_, done) in waiting {
                    let _ = done.send(stopped(&error));
                }
                return;
            }
        };
        for (deadline, done) in waiting {
            let result = match tokio::time::timeout_at(deadline.into(), written.next()).await {
                Ok(Some(Ok(Ok(written)))) => {
                    Ok(Committed { index: written.log_id.index, reply: written.response.bytes })
                }
                Ok(Some(Ok(Err(error)))) => Err(refused(&error)),
                Ok(Some(Err(error))) => stopped(&error),
                Ok(None) | Err(_) => Err(Error::Unavailable),
            };
            // Whoever proposed may have gone.
            let _ = done.send(result);
        }
    }
}

/// Only what was refused before it entered the log was surely not done.
fn refused(error: &ClientWriteError<TypeConfig>) -> Error {
    match error {
        ClientWriteError::ForwardToLeader(_) => Error::NotLeader,
        _ => Error::Unavailable,
    }
}

struct Watcher {
    shard: Shard,
    voter: Voter,
}

impl Watcher {
    async fn watch(self, told: watch::Sender<Leadership>) {
        let Shard { id, me, raft, rest, given_away, .. } = &self.shard;
        let mut given_away = given_away.subscribe();
        let mut alone = self.voter.heart.alone.subscribe();
        let mut outs = self.voter.outs.state.outs();
        let mut metrics = raft.metrics();
        let mut handing_over = HandOver::default();
        let mut noted = None;
        loop {
            let now = metrics.borrow_watched().clone();
            if noted.as_ref() != Some(&now.membership_config) {
                self.voter.directory.note(*id, &now.membership_config);
                noted = Some(Arc::clone(&now.membership_config));
            }
            alone.mark_unchanged();
            let is_out = outs.borrow_and_update().contains_key(id);
            let leadership = self.leadership(&now, *given_away.borrow_and_update());
            let leads = leads(&now, *me);
            let before = *told.borrow();
            if before != leadership {
                told.send_replace(leadership);
                self.changed(before, leadership, leads);
            }
            if let Err(error) = &now.running_state {
                if !matches!(error, Fatal::Stopped) {
                    tracing::error!(shard = %id, %error, "TD0401 a group has stopped");
                }
                return;
            }
            // Whether an entry of its term is committed, a replica that is out can't tell: a follower that
            // has all of its log is enough.
            let is_witness = has_own(&now) && self.voter.role == Role::Witness;
            let hands_over = leads && (is_witness || is_out);
            let would_serve = |to| to != *me && !self.voter.outs.is_out(to, *id);
            if hands_over
                && let Some(to) = caught_up(&now, &self.voter.directory.live(), would_serve)
                && handing_over.is_due(now.current_term, Instant::now())
            {
                rest.set_moving(true);
                if let Err(error) = raft.trigger().transfer_leader(to).await {
                    tracing::error!(%error, "TD0401 a group has stopped");
                }
            }
            let is_alone = alone.borrow().is_some();
            let bearable = self.voter.unanswered_max.saturating_sub(self.voter.heart.alone_for());
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    told.send_modify(|told| *told = Leadership { term: told.term, ..Default::default() });
                    return;
                },
                // An error means that nobody uses the group any more.
                Ok(()) = given_away.changed() => {}
                Ok(()) = alone.changed() => {}
                Ok(()) = outs.changed() => {}
                () = tokio::time::sleep(bearable), if is_alone && leadership.leading => {}
                () = tokio::time::sleep(HAND_OVER_AGAIN), if hands_over => {}
            }
        }
    }

    fn changed(&self, before: Leadership, now: Leadership, leads: bool) {
        let Shard { id, raft, rest, .. } = &self.shard;
        if now.unanswered && !before.unanswered {
            let ms = self.voter.unanswered_max.as_millis();
            tracing::warn!(shard = %id, ms, "TD0430 no majority answers: this node leads no longer");
        }
        if now.leader != before.leader || now.term != before.term {
            rest.set_moving(false);
            if leads {
                // Its followers must hear of it though nobody proposes anything.
                rest.wake(raft, Instant::now());
            }
            self.voter.heart.nudge.notify_one();
        }
        let shard = id.to_string();
        metrics::gauge!("tandem_raft_term", "shard" => shard.clone()).set(now.term as f64);
        let leads = leads && !now.unanswered;
        metrics::gauge!("tandem_raft_leader", "shard" => shard).set(f64::from(u8::from(leads)));
        tracing::info!(shard = %id, leadership = ?now, "leadership");
    }

    fn leadership(&self, now: &RaftMetrics<TypeConfig>, given_away: u64) -> Leadership {
        let me = self.shard.me;
        let has_given = |leader: &NodeId| *leader == me && given_away >= now.current_term;
        let runs = now.running_state.is_ok();
        let leader = now
            .current_leader
            .filter(|leader| runs && now.vote.is_committed() && !has_given(leader));
        let is_well = !self.voter.outs.is_mine_out(self.shard.id);
        let leads = leader == Some(me) && has_own(now) && self.voter.role == Role::Node && is_well;
        let unanswered = leads && self.voter.heart.alone_for() >= self.voter.unanswered_max;
        Leadership { term: now.current_term, leader, leading: leads && !unanswered, unanswered }
    }
}

/// One that would not serve had the longest log; a node that has all of it, and would, is to lead.
fn caught_up(
    now: &RaftMetrics<TypeConfig>,
    live: &Live,
    would_serve: impl Fn(NodeId) -> bool,
) -> Option<NodeId> {
    live.nodes().find(|id| would_serve(*id) && votes(now, *id) && has_all(now, *id))
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

fn votes(now: &RaftMetrics<TypeConfig>, id: NodeId) -> bool {
    now.membership_config.membership().voter_ids().any(|voter| voter == id)
}

/// As the leader knows of a follower.
fn has_all(now: &RaftMetrics<TypeConfig>, id: NodeId) -> bool {
    let matched = now.replication.as_ref().and_then(|matched| matched.get(&id));
    matched.is_some_and(|log_id| log_id.map(|log_id| log_id.index) >= now.last_log_index)
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
