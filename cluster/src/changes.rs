//! Membership while the cluster runs. An operator's wish is written into the meta shard by who leads
//! that; from there on whoever leads a group brings it there, one step after the other. So a change
//! outlives any leader, and nobody has to remember how far it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use tandem_storage::raft::{NodeId, ShardId};
use tokio::sync::Mutex;

use crate::disk::Disks;
use crate::join::{self, Said};
use crate::link::Me;
use crate::members::{Directory, Group, Live, Member};
use crate::meta::{self, MetaState};
use crate::plan::{self, Facts, Step};
use crate::pulse::Heart;
use crate::roster::{self, Change, Roster};
use crate::{Refused, Shard, Tls};

/// While a group is not where it shall be, it is looked at this often: how far a learner is tells
/// nobody by itself.
const STEP_MS: u64 = 50;
/// At rest. What is written wakes at once; this is for a lead that has moved.
const LOOK_MS: u64 = 1_000;
/// Of one step. What is committed later all the same is seen by the next look.
const STEP_MS_MAX: u64 = 2_000;
/// A learner that lacks more entries has not caught up.
const LAG_MAX: u64 = 100;

/// On each node.
pub struct Changes {
    pub values: MetaState,
    pub shards: BTreeMap<ShardId, Shard>,
    pub directory: Arc<Directory>,
    pub heart: Arc<Heart>,
    pub disks: Arc<Disks>,
    pub speaker: Me,
    pub tls: Tls,
    /// One wish at a time is looked at.
    pub turn: Mutex<()>,
}

/// A member as an operator sees it.
#[derive(Clone, Debug)]
pub struct Standing {
    pub member: Member,
    /// In every group.
    pub votes: bool,
    pub alive: bool,
    /// Entries that it lacks of each shard, where that is known.
    pub behind: BTreeMap<ShardId, Option<u64>>,
    /// Why it may not be removed.
    pub kept: Option<String>,
}

impl Changes {
    /// Who shall belong to the cluster, as this node knows it.
    pub fn roster(&self) -> Roster {
        self.written().unwrap_or_else(|| Roster::of(&self.directory.live()))
    }

    /// Nothing where nobody has written it down yet, or it has not come here.
    fn written(&self) -> Option<Roster> {
        self.values.get(roster::KEY).and_then(|bytes| Roster::read(&bytes))
    }

    pub fn is_settled(&self) -> bool {
        // Before it is written down nobody has begun.
        self.written().is_some_and(|roster| roster.is_settled(&self.directory.live()))
    }

    fn alive(&self, live: &Live) -> BTreeSet<NodeId> {
        let (detector, now) = (self.heart.detector.lock(), Instant::now());
        let ids = live.members.iter().map(|member| member.id);
        ids.filter(|id| *id == self.heart.me || detector.lives(*id, now)).collect()
    }

    /// Takes an operator's wish; what comes of it is seen in the groups.
    ///
    /// # Errors
    /// Why it is not begun. Only who leads the meta shard may.
    pub async fn ask(&self, change: &Change) -> Result<(), Refused> {
        let _turn = self.turn.lock().await;
        let meta = self.shards.get(&ShardId::META);
        let meta = meta.ok_or_else(|| Refused::Unsafe("there is no meta shard".to_owned()))?;
        let failed = |error: crate::shard::Error| Refused::Unsafe(error.to_string());
        // What is read from here on is not stale, and a majority is there.
        meta.confirm().await.map_err(failed)?;
        let now = self.roster();
        let fresh = self.waiting(&now, change).await?;
        let live = self.directory.live();
        let next = now.changed(change, fresh.as_ref(), &live, &self.alive(&live))?;
        if next == now && self.values.get(roster::KEY).is_some() {
            return Ok(());
        }
        tracing::info!(?change, members = ?next.members, "the cluster's members change");
        meta.propose(meta::put(roster::KEY, next.write())).await.map_err(failed)?;
        Ok(())
    }

    /// Who waits with an empty folder where the change needs somebody.
    async fn waiting(&self, now: &Roster, change: &Change) -> Result<Option<Member>, Refused> {
        let address = match change {
            Change::Remove { .. } => return Ok(None),
            Change::Add { address, .. } => address.clone(),
            Change::Replace { name } => {
                let known = now.named(name);
                let known = known.ok_or_else(|| Refused::Unknown(format!("member {name:?}")))?;
                known.address.to_string()
            }
        };
        let name = change.name();
        match join::ask(&address, &self.tls, &self.speaker, "").await {
            Ok(Said::Fresh(fresh)) if fresh.name == name => Ok(Some(fresh)),
            Ok(Said::Fresh(other)) => {
                Err(Refused::Unsafe(format!("{} waits at {address}, not {name}", other.name)))
            }
            Ok(Said::Runs { .. }) => Err(Refused::Unsafe(format!(
                "{name} at {address} runs, and its folder is not empty: there is nothing to let in"
            ))),
            Err(why) => Err(Refused::Unsafe(format!(
                "{name} does not answer at {address} ({why}): start it with an empty folder first"
            ))),
        }
    }

    /// Until the runtime ends.
    pub async fn run(self: Arc<Self>) {
        let mut applied = self.values.applied();
        let mut changes = self.directory.changes();
        loop {
            applied.mark_unchanged();
            changes.mark_unchanged();
            self.begin().await;
            let live = self.directory.live();
            let asked = self.written().filter(|roster| !roster.is_settled(&live));
            if let Some(roster) = &asked {
                let steps = self.shards.values().map(|shard| self.step(shard, roster));
                futures::future::join_all(steps).await;
            }
            let at_rest = asked.is_none();
            let pause = Duration::from_millis(if at_rest { LOOK_MS } else { STEP_MS });
            tokio::select! {
                told = applied.changed() => if told.is_err() { return },
                told = changes.changed(), if at_rest => if told.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Whoever leads the meta shard writes down who is there, if nobody has.
    async fn begin(&self) {
        let Some(meta) = self.shards.get(&ShardId::META) else { return };
        let live = self.directory.live();
        let is_founded = live.groups.len() == self.shards.len();
        if !meta.known().leading || !is_founded || self.values.get(roster::KEY).is_some() {
            return;
        }
        // A wish that comes meanwhile waits.
        let _turn = self.turn.lock().await;
        let first = Roster::of(&live);
        if self.values.get(roster::KEY).is_none()
            && let Err(error) = meta.propose(meta::put(roster::KEY, first.write())).await
        {
            // Another leads by now, or nobody can; the next leader does the same.
            tracing::info!(%error, "the members were not written down");
        }
    }

    /// One step of a group that this node leads.
    async fn step(&self, shard: &Shard, roster: &Roster) {
        let now = shard.raft.metrics().borrow_watched().clone();
        if !shard.known().leading || now.current_leader != Some(self.heart.me) {
            return;
        }
        let group = Group::of(&now.membership_config);
        let last = now.last_log_index.unwrap_or(0);
        let matched = now.replication.iter().flatten();
        let near = matched.filter_map(|(id, at)| {
            let at = at.as_ref()?.index;
            (at.saturating_add(LAG_MAX) >= last).then_some(*id)
        });
        let mut able: BTreeSet<NodeId> = {
            let (detector, now) = (self.heart.detector.lock(), Instant::now());
            near.filter(|id| detector.lives(*id, now)).collect()
        };
        able.insert(self.heart.me);
        let nodes = roster.members.iter().filter(|member| !member.is_witness());
        let nodes = nodes.map(|member| member.id).collect();
        let facts = Facts { me: self.heart.me, able, nodes };
        let Some(step) = plan::next(&roster.ids(), &group, &facts) else { return };
        let within = Duration::from_millis(STEP_MS_MAX);
        let done = tokio::time::timeout(within, self.take(shard, &step, roster)).await;
        match done {
            Ok(Ok(())) => tracing::info!(shard = %shard.id, ?step, "a step of the membership"),
            Ok(Err(why)) => {
                tracing::info!(shard = %shard.id, ?step, why, "a step of the membership waits");
            }
            Err(_) => tracing::info!(shard = %shard.id, ?step, "a step of the membership is slow"),
        }
    }

    async fn take(&self, shard: &Shard, step: &Step, roster: &Roster) -> Result<(), String> {
        let raft = &shard.raft;
        shard.rest.wake_to_propose(self.heart.me, raft, 1).await;
        let taken = match step {
            Step::Learn(id) => {
                let member = roster.members.iter().find(|member| member.id == *id);
                let Some(member) = member else { return Ok(()) };
                raft.add_learner(*id, member.peer(), false).await
            }
            Step::Vote(voters) => raft.change_membership(voters.clone(), false).await,
            Step::Forget(id) => {
                let gone = ChangeMembers::RemoveNodes(BTreeSet::from([*id]));
                raft.change_membership(gone, true).await
            }
            Step::Lead(to) => {
                return shard.move_leader(*to).await.map_err(|error| error.to_string());
            }
        };
        taken.map(drop).map_err(|error| error.to_string())
    }

    /// Every member, and those that go.
    pub fn standings(&self) -> Vec<Standing> {
        let (roster, live) = (self.roster(), self.directory.live());
        let alive = self.alive(&live);
        let going = live.members.iter().filter(|it| !roster.ids().contains(&it.id)).cloned();
        let all = roster.members.iter().cloned().chain(going);
        all.map(|member| {
            let kept =
                roster.changed(&Change::Remove { name: member.name.clone() }, None, &live, &alive);
            Standing {
                votes: live.groups.values().all(|group| group.is_voter(member.id)),
                alive: alive.contains(&member.id),
                behind: self.behind(member.id),
                kept: kept.err().map(|why| why.to_string()),
                member,
            }
        })
        .collect()
    }

    fn behind(&self, id: NodeId) -> BTreeMap<ShardId, Option<u64>> {
        let told = self.disks.last_of(id);
        let of = |shard: &Shard| {
            let last = shard.progress().last;
            if id == self.heart.me {
                return Some(0);
            }
            Some(last.saturating_sub(*told.as_ref()?.get(&shard.id)?))
        };
        self.shards.values().map(|shard| (shard.id, of(shard))).collect()
    }
}
