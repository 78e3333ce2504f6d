//! The tenants on this node: which group each is in, and the actors of those that this node leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tandem_core::call::state::Call;
use tandem_core::command::{Command, GatewayEvent, Origin};
use tandem_core::effect::EffectId;
use tandem_core::ids::{EntityId, GatewayId};
use tandem_core::rows;
use tandem_core::world::{Reply, World};
use tandem_runtime::tenants::standing::{Phase, Standing};
use tandem_runtime::tenants::{All, Hosted, prefix};
use tandem_runtime::{
    Committed, Consensus, Leadership, Link, ProposeError, ShardRuntime, TenantLog,
};
use tandem_storage::raft::ShardId;
use tandem_storage::state::State;
use tokio::sync::watch;

use super::records::Rows;
use super::shard::{Error, Lead, Records, Shard};
use super::stored::Stored;

/// One group, and the tenants in it.
pub struct Group {
    pub group: tandem_cluster::Shard,
    pub tenants: watch::Receiver<Arc<All>>,
}

/// The actors of one tenant in one epoch.
struct Running {
    group: ShardId,
    epoch: u64,
    runtime: ShardRuntime,
}

pub struct Hosts {
    node: String,
    state: State,
    link: Arc<dyn Link>,
    full: watch::Receiver<bool>,
    groups: BTreeMap<ShardId, Group>,
    running: Mutex<BTreeMap<u16, Vec<Running>>>,
    leads: Mutex<BTreeMap<u16, watch::Sender<Lead>>>,
    /// With each tenant that comes, goes or stands otherwise, in any group.
    changes: watch::Sender<()>,
}

impl Hosts {
    /// Serves tenants as they come and go.
    pub fn start(
        node: String,
        state: State,
        link: Arc<dyn Link>,
        full: watch::Receiver<bool>,
        groups: BTreeMap<ShardId, Group>,
    ) -> Arc<Self> {
        let (running, leads) = (Mutex::default(), Mutex::default());
        let changes = watch::Sender::default();
        let hosts = Arc::new(Self { node, state, link, full, groups, running, leads, changes });
        for (id, group) in &hosts.groups {
            let consensus = Arc::new(GroupLog::new(group.group.clone()));
            let (hosts, tenants) = (Arc::clone(&hosts), group.tenants.clone());
            tokio::spawn(hosts.host(*id, consensus, tenants));
        }
        hosts
    }

    pub fn groups(&self) -> &BTreeMap<ShardId, Group> {
        &self.groups
    }

    async fn host(
        self: Arc<Self>,
        group: ShardId,
        consensus: Arc<GroupLog>,
        mut tenants: watch::Receiver<Arc<All>>,
    ) {
        loop {
            let all = tenants.borrow_and_update().clone();
            for (tenant, serving) in self.serve(group, &consensus, &all) {
                tokio::spawn(Arc::clone(&self).tell_lead(tenant, serving));
            }
            self.changes.send_replace(());
            if tenants.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whenever a tenant comes, goes or stands otherwise in any group on this node.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Stops the actors of those that are not here, and starts those of others, which are returned.
    fn serve(
        &self,
        group: ShardId,
        consensus: &Arc<GroupLog>,
        all: &All,
    ) -> Vec<(u16, watch::Receiver<Leadership>)> {
        let here = |tenant: u16, epoch: u64| {
            all.standing(tenant) == Some(Standing { epoch, phase: Phase::Here })
        };
        let mut running = self.running.lock();
        for (tenant, runs) in running.iter_mut() {
            runs.retain(|it| {
                if it.group != group || here(*tenant, it.epoch) {
                    return true;
                }
                let phase = all.standing(*tenant).map(|standing| standing.phase);
                let is_frozen = phase == Some(Phase::Frozen);
                if is_frozen {
                    it.runtime.pause();
                } else {
                    it.runtime.stop();
                }
                is_frozen
            });
        }
        let mut started = Vec::new();
        for (tenant, hosted) in &all.hosted {
            let epoch = hosted.standing.epoch;
            let runs = running.entry(*tenant).or_default();
            let known = runs.iter().any(|it| it.group == group && it.epoch == epoch);
            if hosted.standing.phase == Phase::Here && !known {
                let runtime = self.run(*tenant, hosted, consensus);
                started.push((*tenant, runtime.serving()));
                runs.push(Running { group, epoch, runtime });
            }
        }
        started
    }

    fn run(&self, tenant: u16, hosted: &Hosted, consensus: &Arc<GroupLog>) -> ShardRuntime {
        let group: Arc<dyn Consensus> = Arc::clone(consensus) as Arc<dyn Consensus>;
        ShardRuntime::start(tandem_runtime::shard::Options {
            node: self.node.clone(),
            replica: Arc::clone(&hosted.replica),
            epoch: hosted.standing.epoch,
            consensus: Arc::new(TenantLog { tenant, group }),
            link: Arc::clone(&self.link),
            full: self.full.clone(),
        })
    }

    /// Ends with the runtime.
    async fn tell_lead(self: Arc<Self>, tenant: u16, mut serving: watch::Receiver<Leadership>) {
        loop {
            serving.mark_unchanged();
            self.find_lead(tenant);
            if serving.changed().await.is_err() {
                self.find_lead(tenant);
                return;
            }
        }
    }

    fn find_lead(&self, tenant: u16) {
        let running = self.running.lock();
        let runs = running.get(&tenant).into_iter().flatten();
        let serving = runs.map(|it| *it.runtime.serving().borrow());
        let best = serving.max_by_key(|now| (now.leading, now.term)).unwrap_or_default();
        self.lead(tenant).send_if_modified(|told| {
            // Of a tenant that has left the last term stays.
            let now = Lead { term: told.term.max(best.term), here: best.leading };
            let changed = *told != now;
            *told = now;
            changed
        });
    }

    fn lead(&self, tenant: u16) -> watch::Sender<Lead> {
        self.leads.lock().entry(tenant).or_default().clone()
    }

    /// The group in which this node knows the tenant to be, and its world there.
    pub fn home(&self, tenant: u16) -> Option<(&Group, Hosted)> {
        let all = self.groups.values().filter_map(|group| {
            let hosted = group.tenants.borrow().hosted.get(&tenant).cloned()?;
            Some((group, hosted))
        });
        all.max_by_key(|(_, hosted)| hosted.standing.epoch)
    }

    /// Every tenant's world on this node.
    pub fn worlds(&self, look: &mut dyn FnMut(&World)) {
        let mut tenants = BTreeMap::new();
        for group in self.groups.values() {
            for (tenant, hosted) in &group.tenants.borrow().hosted {
                let known = tenants.entry(*tenant).or_insert_with(|| hosted.clone());
                if known.standing.epoch < hosted.standing.epoch {
                    *known = hosted.clone();
                }
            }
        }
        for hosted in tenants.values() {
            hosted.replica.read(&mut *look);
        }
    }

    /// Whether any tenant's calls live on that line.
    pub fn has_calls(&self, line: &GatewayId) -> bool {
        let mut has = false;
        self.worlds(&mut |world| {
            let of_line = |call: &Call| call.is_live() && call.gateway == *line;
            has |= world.calls.values().any(of_line);
        });
        has
    }

    /// Where the tenant serves now.
    fn runtime(&self, tenant: u16) -> Option<(ShardId, ShardRuntime)> {
        let running = self.running.lock();
        let latest = running.get(&tenant)?.iter().max_by_key(|it| it.epoch)?;
        Some((latest.group, latest.runtime.clone()))
    }
}

/// A group's log, for the actors of its tenants.
struct GroupLog {
    group: tandem_cluster::Shard,
    leadership: watch::Receiver<Leadership>,
}

impl GroupLog {
    fn new(group: tandem_cluster::Shard) -> Self {
        let (told, leadership) = watch::channel(Leadership::default());
        let mut known = group.leadership();
        tokio::spawn(async move {
            loop {
                let now = *known.borrow_and_update();
                told.send_replace(Leadership { term: now.term, leading: now.leading });
                if known.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { group, leadership }
    }
}

impl Consensus for GroupLog {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'static, Result<Committed, ProposeError>> {
        use tandem_cluster::shard::Error as Refused;
        let proposed = self.group.propose(command);
        Box::pin(async move {
            match proposed.await {
                Ok(done) => Ok(Committed { index: done.index, reply: done.reply }),
                Err(Refused::NotLeader) => Err(ProposeError::NotLeading),
                Err(Refused::Overloaded) => Err(ProposeError::Overloaded),
                Err(other) => Err(ProposeError::Failed(other.to_string())),
            }
        })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }
}

/// A tenant, in whichever group it is.
pub struct Tenant {
    pub number: u16,
    pub hosts: Arc<Hosts>,
}

#[async_trait]
impl Shard for Tenant {
    fn id(&self) -> u16 {
        self.number
    }

    fn lead(&self) -> watch::Receiver<Lead> {
        self.hosts.lead(self.number).subscribe()
    }

    async fn confirm(&self) -> Result<(), Error> {
        use tandem_cluster::shard::Error as Refused;
        let (group, _) = self.hosts.runtime(self.number).ok_or(Error::NotLeading)?;
        let confirming = self.hosts.groups.get(&group).ok_or(Error::NotLeading)?;
        confirming.group.confirm().await.map_err(|error| match error {
            Refused::NotLeader => Error::NotLeading,
            Refused::Overloaded => Error::Overloaded,
            Refused::Unavailable
            | Refused::TooLong(_)
            | Refused::Stopped(_)
            | Refused::Moving
            | Refused::Behind(_)
            | Refused::Out(_) => Error::Unconfirmed,
        })?;
        // What it wrote where it was before may be in one whose rows here are not to be used.
        if self.hosts.groups.keys().any(|id| self.hosts.state.out_since(*id).is_some()) {
            return Err(Error::Unconfirmed);
        }
        // What it wrote last there may not be here yet.
        let lags = |(id, other): (&ShardId, &Group)| {
            let standing = other.tenants.borrow().standing(self.number);
            *id != group && standing.is_some_and(|standing| standing.phase == Phase::Here)
        };
        if self.hosts.groups.iter().any(lags) { Err(Error::Unconfirmed) } else { Ok(()) }
    }

    fn look(&self, at: &mut dyn FnMut(&World)) {
        if let Some((_, hosted)) = self.hosts.home(self.number) {
            hosted.replica.read(|world| at(world));
        }
    }

    async fn propose(&self, command: Command) -> Result<Reply, Error> {
        let (_, runtime) = self.hosts.runtime(self.number).ok_or(Error::NotLeading)?;
        runtime.propose(command).await.map_err(|error| match error {
            ProposeError::Overloaded => Error::Overloaded,
            ProposeError::NotLeading | ProposeError::Failed(_) => Error::NotLeading,
        })
    }

    fn on_event(&self, origin: Origin, event: GatewayEvent) {
        if let Some((_, runtime)) = self.hosts.runtime(self.number) {
            runtime.on_event(origin, event);
        }
    }

    fn on_done(&self, _gateway: &GatewayId, effects: Vec<EffectId>) {
        if let Some((_, runtime)) = self.hosts.runtime(self.number) {
            runtime.on_done(effects);
        }
    }

    fn on_session(&self, gateway: &GatewayId) {
        if let Some((_, runtime)) = self.hosts.runtime(self.number) {
            runtime.on_session(gateway);
        }
    }

    fn records(&self, records: Records) -> Box<dyn Rows + '_> {
        let family = match records {
            Records::Cdrs => rows::CDRS,
            Records::Recordings => rows::RECORDINGS,
            Records::Qualities => rows::QUALITIES,
        };
        // Where it has ever been, the latest first.
        let mut been: Vec<(u64, ShardId)> = Vec::new();
        for (id, group) in &self.hosts.groups {
            if let Some(standing) = group.tenants.borrow().standing(self.number) {
                been.push((standing.epoch, *id));
            }
        }
        been.sort_unstable_by(|one, other| other.cmp(one));
        Box::new(Stored {
            state: self.hosts.state.clone(),
            groups: been.into_iter().map(|(_, id)| id).collect(),
            under: prefix(self.number),
            family,
        })
    }

    fn panic_actor(&self, entity: &EntityId) -> bool {
        let serving = self.hosts.runtime(self.number);
        serving.is_some_and(|(_, runtime)| runtime.panic_actor(entity))
    }
}
