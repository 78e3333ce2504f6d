//! The composition root: which consensus, which actors, which gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use tandem_cluster::meta::{self, MetaState};
use tandem_cluster::shard::Progress;
use tandem_cluster::{AnyMachine, Cluster, Leadership, Limits, Refused, Stores, Timers, pull};
use tandem_core::command::Origin;
use tandem_core::effect::Effect;
use tandem_core::ids::GatewayId;
use tandem_core::{rows, wire};
use tandem_gateway::link::pb;
use tandem_http::backend::{Check, Readiness};
use tandem_lease::{Reign, clock};
use tandem_runtime::tenants::TENANTS;
use tandem_runtime::{Link, LogClock, Tenants, Verdict};
use tandem_storage::faults::Faults;
use tandem_storage::format::DataDir;
use tandem_storage::log::{self, Log};
use tandem_storage::machine::{self, Applied, Machine, Outcome, StateMachine};
use tandem_storage::raft::ShardId;
use tandem_storage::state::{Change, Row, State};
use tandem_storage::witness::NullMachine;
use tokio::sync::watch;

use super::clock::SystemClock;
use super::desk::{ChangeMembers, ClusterStatus, Drain, MoveLeader, MoveTenant, Moved};
use super::disk::{self, DiskCheck};
use super::drains;
use super::hashes::Hashes;
use super::hosts::{self, Hosts, Tenant};
use super::http::Health;
use super::lines::{Lines, Sees};
use super::members;
use super::meta::Meta;
use super::moves::Moves;
use super::process::{Shutdown, Started};
use super::replica::{self, Place};
use super::sessions::Sessions;
use super::shard::{Lead, Shard};
use super::status::{self, Voter};
use super::tenants;
use crate::config;
use crate::dev::pki;
use crate::dev::plan::{RTP_PORT_FIRST, RTP_PORTS};

/// A command that is longer takes milliseconds to apply.
const LONG_COMMAND_BYTES: usize = 32 << 10;

/// Of the pairs of RTP ports in a gateway's range, one in so many may be taken by other programs.
const RTP_PAIRS_SPARE: u16 = 16;
/// What calls said in a day, or some 40,000 calls.
const TRACE_MIB_DEFAULT: u64 = 512;

const FAMILIES: &[&str] = &[
    rows::CALLS,
    rows::INVITES,
    rows::AGENTS,
    rows::QUEUES,
    rows::CHANNELS,
    rows::GATEWAYS,
    rows::COUNTS,
    rows::REFUSED,
    rows::ANSWERED,
    rows::OUTBOX,
    rows::WORLD,
    rows::CDRS,
    rows::RECORDINGS,
    rows::QUALITIES,
    rows::TRUNKS,
    rows::SUBSCRIPTIONS,
    rows::MESSAGES,
    meta::META,
    TENANTS,
];
const _: () = assert!(FAMILIES.len() == tandem_core::FAMILIES.len() + 2);

/// What consensus and actors give to the rest of a node.
pub struct Parts {
    /// A tenant's, by its number.
    pub shard: Arc<dyn Fn(u16) -> Arc<dyn Shard> + Send + Sync>,
    pub meta: Arc<dyn Meta>,
    pub lines: Arc<Lines>,
    pub cluster: ClusterStatus,
    pub move_leader: MoveLeader,
    pub members: ClusterStatus,
    pub change_members: ChangeMembers,
    pub drain: Drain,
    /// Where each is, as who leads the meta shard knows it.
    pub tenants: ClusterStatus,
    pub move_tenant: MoveTenant,
    /// Where gateways log in.
    pub nodes: watch::Receiver<pb::Nodes>,
    pub disk: DiskCheck,
    /// Whether it has room for new calls.
    pub room: DiskCheck,
    pub hashes: Hashes,
    /// Where tests may trouble the disk.
    pub faults: Option<Faults>,
}

/// The tenant shards of a cluster.
fn tenant_shards(started: &Started) -> impl Iterator<Item = ShardId> {
    (0..started.config.cluster.shards).map(ShardId)
}

/// What consensus gives to the rest of a witness.
pub struct WitnessParts {
    pub health: Health,
    pub faults: Option<Faults>,
}

pub async fn node(started: &Started, sessions: Arc<Sessions>) -> Result<Parts> {
    let process = &started.config.process;
    let Opened { log, state, faults, dir, folder } = open(started)?;
    let options = voter(started, &dir, folder).await?;
    let me = options.me;
    // The folder stays locked for as long as the process lives.
    std::mem::forget(dir);
    pull::what_is_gone(&options, &log, &state).await?;
    let meta_state = MetaState::default();
    let meta_machine = StateMachine::open(ShardId::META, state.clone(), meta_state.machine())?;
    let mut machines = vec![(ShardId::META, meta_machine)];
    let mut hosted = Vec::new();
    for id in tenant_shards(started) {
        let log_end = log.shard(id).last_index();
        let clock = Arc::new(LogClock::new(id.0, Arc::new(SystemClock), log_end));
        let machine = Tenants::new(id.0, clock);
        hosted.push((id, machine.all(), machine.chain()));
        let machine = AnyMachine::new(TenantMachine(machine));
        machines.push((id, StateMachine::open(id, state.clone(), machine)?));
    }
    let meta = Some(meta_state.clone());
    let stores = Stores { log, state: state.clone(), machines, meta };
    let cluster = Arc::new(Cluster::start(options, stores).await?);
    let group = |id| cluster.shard(id).cloned().context("the group runs");
    let meta_group = group(ShardId::META)?;
    let mut groups = BTreeMap::new();
    let hashes = Hashes::of(&state);
    for (id, tenants, chain) in hosted {
        hashes.watch(group(id)?, chain);
        groups.insert(id, hosts::Group { group: group(id)?, tenants });
    }
    let link = Arc::new(SessionLink(Arc::clone(&sessions)));
    let full = disk::full(cluster.used());
    let hosts = Hosts::start(process.name.clone(), state, link, full, groups);
    let moves = Arc::new(Moves {
        cluster: Arc::clone(&cluster),
        meta: meta_state.clone(),
        hosts: Arc::clone(&hosts),
    });
    moves.start();
    let (meta_lead, lead) = watch::channel(Lead::default());
    let mut leadership = meta_group.leadership();
    let reign = Arc::new(Mutex::new(Reign::default()));
    let told = Arc::clone(&reign);
    tokio::spawn(async move {
        loop {
            let Leadership { term, leader, leading, .. } = *leadership.borrow_and_update();
            told.lock().see(term, leader == Some(me), leading, clock::boot_ms());
            meta_lead.send_replace(Lead { term, here: leading });
            if leadership.changed().await.is_err() {
                return;
            }
        }
    });
    let meta: Arc<dyn Meta> = {
        let cluster = Arc::clone(&cluster);
        Arc::new(MetaShard { cluster, group: meta_group, state: meta_state, lead, reign })
    };
    let gateways = started.config.cluster.gateways.iter().map(|gateway| gateway.name.clone());
    let drained =
        drains::watch(Arc::clone(&meta), boxes(&cluster, &started.config.cluster.gateways), {
            let cluster = Arc::clone(&cluster);
            move |drained| cluster.drain(drained)
        });
    let worlds = Arc::clone(&hosts);
    let voters = Arc::clone(&cluster);
    let sees = Sees {
        deaths: cluster.deaths(),
        has_calls: Box::new(move |line| worlds.has_calls(&GatewayId::from(line))),
        is_frozen: Box::new(move || voters.is_majority_dead()),
        drained: drained.clone(),
    };
    let lines = Lines::start(Arc::clone(&meta), gateways.collect(), started.incarnation, sees);
    let view = Arc::new(ClusterView {
        cluster: Arc::clone(&cluster),
        lines: Arc::clone(&lines),
        hosts: Arc::clone(&hosts),
        gateways: started.config.cluster.gateways.clone(),
        drained,
    });
    let (of_drain, drains_in) = (Arc::clone(&view), Arc::clone(&meta));
    Ok(Parts {
        shard: Arc::new(move |number| Arc::new(Tenant { number, hosts: Arc::clone(&hosts) })),
        meta,
        lines,
        cluster: Arc::new(move || view.show()),
        disk: {
            let cluster = Arc::clone(&cluster);
            Arc::new(move || cluster.disk().check())
        },
        room: {
            let used = cluster.used();
            Arc::new(move || used.borrow().check())
        },
        drain: Arc::new(move |name, drained| {
            let (view, meta) = (Arc::clone(&of_drain), Arc::clone(&drains_in));
            Box::pin(async move { view.drain(&*meta, &name, drained).await })
        }),
        faults,
        hashes,
        nodes: members::nodes(cluster.lives()),
        members: {
            let cluster = Arc::clone(&cluster);
            Arc::new(move || members::show(&cluster))
        },
        change_members: {
            let cluster = Arc::clone(&cluster);
            Arc::new(move |change| {
                let cluster = Arc::clone(&cluster);
                Box::pin(async move { moved(cluster.change(change).await) })
            })
        },
        move_leader: Arc::new(move |shard, node| {
            let cluster = Arc::clone(&cluster);
            Box::pin(async move { moved(cluster.move_leader(&shard, &node).await) })
        }),
        tenants: {
            let moves = Arc::clone(&moves);
            Arc::new(move || moves.show())
        },
        move_tenant: Arc::new(move |tenant, shard| {
            let moves = Arc::clone(&moves);
            Box::pin(async move { moves.wish(&tenant, &shard).await })
        }),
    })
}

fn moved(done: Result<(), Refused>) -> Moved {
    match done {
        Ok(()) => Moved::Done,
        Err(Refused::Unknown(what)) => Moved::Unknown(what),
        Err(Refused::Unsafe(why)) => Moved::Refused(why),
    }
}

pub async fn witness(started: &Started) -> Result<WitnessParts> {
    let Opened { log, state, faults, dir, folder } = open(started)?;
    let options = voter(started, &dir, folder).await?;
    // The folder stays locked for as long as the process lives.
    std::mem::forget(dir);
    pull::what_is_gone(&options, &log, &state).await?;
    let machine = |id| -> Result<_> {
        Ok((id, StateMachine::open(id, state.clone(), AnyMachine::new(NullMachine))?))
    };
    let all = std::iter::once(ShardId::META).chain(tenant_shards(started));
    let machines = all.map(machine).collect::<Result<_>>()?;
    let stores = Stores { log, state: state.clone(), machines, meta: None };
    let cluster = Arc::new(Cluster::start(options, stores).await?);
    let voter = Arc::clone(&cluster);
    let disk: DiskCheck = Arc::new(move || voter.disk().check());
    let used = cluster.used();
    let room: DiskCheck = Arc::new(move || used.borrow().check());
    let health: Health = Arc::new(move || {
        let led = cluster.shards().all(|shard| shard.leadership().borrow().leader.is_some());
        let why = if led { "every group has a leader" } else { "a group has no leader" };
        let groups = Check { name: "groups".into(), ok: led, why: why.into() };
        let (disk, room) = (disk::check(&disk), disk::check_room(&room));
        Readiness {
            may_take_calls: led && disk.ok && room.ok,
            may_hold_calls: true,
            started: true,
            checks: vec![groups, disk, room],
        }
    });
    Ok(WitnessParts { health, faults })
}

struct Opened {
    log: Log,
    state: State,
    faults: Option<Faults>,
    dir: DataDir,
    folder: replica::Folder,
}

fn open(started: &Started) -> Result<Opened> {
    let process = &started.config.process;
    let cluster = &started.config.cluster.id;
    let dir = DataDir::open(&process.data, cluster, &process.name)?;
    let options = log::Options {
        cluster: cluster.clone(),
        on_thread_start: tandem_cluster::raise_priority,
        faults: process.fault_injection.then(Faults::default),
        ..log::Options::default()
    };
    let faults = options.faults.clone();
    let folder = replica::look(&dir, &started.config)?;
    let log = dir.open_log(options)?;
    let state = State::open_or_begin(&dir.path.join("state"), FAMILIES, rows::HISTORY)?;
    Ok(Opened { log, state, faults, dir, folder })
}

async fn voter(
    started: &Started,
    dir: &DataDir,
    folder: replica::Folder,
) -> Result<tandem_cluster::Options> {
    let config = &started.config;
    let certificates = Arc::clone(&started.certificates);
    let tls = tandem_cluster::Tls { certificates, domain: pki::CLUSTER_NAME.to_owned() };
    let replica = replica::identify(started, dir, folder, &tls).await?;
    Ok(tandem_cluster::Options {
        cluster: config.cluster.id.clone(),
        me: replica.id,
        members: replica.members,
        founds: replica.founds,
        incarnation: started.incarnation,
        version: crate::VERSION.to_owned(),
        tls,
        timers: Timers::default(),
        limits: limits(&config.process),
    })
}

fn limits(process: &config::Process) -> Limits {
    let usual = Limits::default();
    Limits {
        log_bytes_max: process.log_mib_max.map_or(usual.log_bytes_max, |mib| mib << 20),
        state_bytes_max: process.state_mib_max.map_or(usual.state_bytes_max, |mib| mib << 20),
        ..usual
    }
}

// --- the tenants -----------------------------------------------------------------------------

struct TenantMachine(Tenants);

impl Machine for TenantMachine {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), String> {
        self.0.restore(&mut rows.map(|row| (row.family, row.key, row.value)))
    }

    fn apply(&mut self, entry: Applied<'_>) -> Outcome {
        let mut apply = || self.0.apply(entry.index, entry.term, entry.command);
        // Rows of a tenant that comes: the thread has other groups to serve.
        let is_long = entry.command.len() >= LONG_COMMAND_BYTES;
        let outcome = if is_long { machine::apart(apply) } else { apply() };
        let cleared = outcome.cleared.into_iter();
        let cleared = cleared.map(|(family, prefix)| Change::DeleteUnder { family, prefix });
        let rows = outcome.rows.into_iter();
        let rows = rows.map(|row| Change::of(row.family, row.key, row.value));
        Outcome { changes: cleared.chain(rows).collect(), reply: outcome.reply }
    }

    fn after_persist(&mut self, index: u64) {
        self.0.stored(index);
    }

    fn history(&self) -> &'static [&'static str] {
        rows::HISTORY
    }

    fn differs(&self) -> bool {
        self.0.differs()
    }
}

struct SessionLink(Arc<Sessions>);

impl Link for SessionLink {
    fn effect(&self, term: u64, effect: &Effect) -> bool {
        let body = pb::down::Body::Effect(pb::Effect {
            shard: u32::from(effect.id.shard),
            term,
            effect: wire::encode_effect(effect),
        });
        self.0.send(&effect.gateway, body)
    }

    fn accepted(&self, origin: &Origin, shard: u16, verdict: Verdict) {
        let (overloaded, retry_after_s) = match verdict {
            Verdict::Counted => (false, 0),
            Verdict::Overloaded { retry_after_s } => (true, retry_after_s),
        };
        let shard = u32::from(shard);
        let sequence = origin.sequence;
        let accepted = pb::Accepted { shard, sequence, overloaded, retry_after_s };
        let body = pb::down::Body::Accepted(accepted);
        self.0.send_to_life(&origin.gateway, origin.incarnation, body);
    }
}

// --- the meta shard --------------------------------------------------------------------------

struct MetaShard {
    cluster: Arc<Cluster>,
    group: tandem_cluster::Shard,
    state: MetaState,
    lead: watch::Receiver<Lead>,
    reign: Arc<Mutex<Reign>>,
}

#[async_trait]
impl Meta for MetaShard {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state.get(key)
    }

    fn under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.state.under(prefix)
    }

    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        self.group.propose(meta::put(key, value)).await?;
        Ok(())
    }

    async fn replace(
        &self,
        key: &str,
        known: Option<Vec<u8>>,
        value: Vec<u8>,
        also: Vec<(String, Vec<u8>)>,
    ) -> Result<bool> {
        let command = meta::replace_and_put(key, known, value, also);
        let replies = self.cluster.propose(ShardId::META, vec![command]).await?;
        Ok(replies.iter().all(|reply| meta::has_put(reply)))
    }

    fn lead(&self) -> watch::Receiver<Lead> {
        self.lead.clone()
    }

    fn reigns_since_ms(&self) -> u64 {
        self.reign.lock().since_ms(clock::boot_ms())
    }

    async fn confirm(&self) -> Result<()> {
        self.group.confirm().await?;
        Ok(())
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.state.applied()
    }
}

// --- the cluster's state -----------------------------------------------------------------------

struct ClusterView {
    cluster: Arc<Cluster>,
    lines: Arc<Lines>,
    hosts: Arc<Hosts>,
    gateways: Vec<crate::config::Gateway>,
    drained: watch::Receiver<BTreeSet<String>>,
}

/// What is seen, and how long ago a majority last answered to who sees it.
type Seen = (Vec<Voter>, Vec<status::Gateway>, Duration);

impl ClusterView {
    fn show(&self) -> Option<serde_json::Value> {
        let (voters, gateways, age) = self.look()?;
        let version = tandem_runtime::proposer::FEATURE_VERSION;
        Some(status::cluster(&voters, &gateways, version, age))
    }

    /// Empties a process or a box, or lets it have its part again.
    async fn drain(&self, meta: &dyn Meta, name: &str, drained: bool) -> Option<Moved> {
        let (voters, gateways, _) = self.look()?;
        if !status::has(&voters, &gateways, name) {
            return Some(Moved::Unknown(format!("process or box {name:?}")));
        }
        if drained && let Some(why) = status::why_not_drain(&voters, &gateways, name) {
            return Some(Moved::Refused(why));
        }
        Some(drains::set(meta, name, drained).await)
    }

    /// As who leads the shard of the first tenant sees it; another node does not tell.
    fn look(&self) -> Option<Seen> {
        let drained = self.drained.borrow().clone();
        let (home, _) = self.hosts.home(tenants::FIRST)?;
        let tenant = &home.group;
        let leadership = *tenant.leadership().borrow();
        // Who hears no majority tells what it sees, for whoever has to find out why, and how old it is.
        if !leadership.leading && !leadership.unanswered {
            return None;
        }
        let me = leadership.leader?;
        let led =
            self.cluster.shards().filter(|shard| shard.leadership().borrow().leader == Some(me));
        let progress: Vec<Progress> = led.map(tandem_cluster::Shard::progress).collect();
        let age = tenant.alone_for();
        let live = self.cluster.live();
        let voters: Vec<Voter> = live
            .members
            .iter()
            .map(|member| {
                // Of the groups that are led from here; others' leaders know of theirs.
                let behind = |progress: &Progress| {
                    let matched = progress.matched.iter().find(|(id, _)| *id == member.id)?.1?;
                    Some(progress.last.saturating_sub(matched))
                };
                let here = member.id == me;
                let disk =
                    if here { Some(self.cluster.disk()) } else { self.cluster.disk_of(member.id) };
                let writes = disk.as_ref().is_none_or(|disk| disk.check().is_ok());
                let version = if here {
                    Some(crate::VERSION.to_owned())
                } else {
                    self.cluster.version_of(member.id)
                };
                let healthy = writes && (here || self.cluster.reaches(member.id));
                let lag = if here {
                    Some(0)
                } else {
                    let behind: Option<Vec<u64>> = progress.iter().map(behind).collect();
                    behind.and_then(|behind| behind.into_iter().max())
                };
                Voter {
                    name: member.name.clone(),
                    box_name: Place::of(member).box_name,
                    witness: member.is_witness(),
                    votes: live.is_voter(member.id),
                    healthy,
                    version: version.filter(|_| healthy),
                    sync_p99_us: disk.and_then(|disk| disk.sync_p99_us),
                    leads: self.leads(member.id),
                    lag,
                    caught_up: lag.is_some_and(|lag| lag < 1_000),
                    differs: !self.cluster.outs_of(member.id).is_empty(),
                    drained: drained.contains(&member.name),
                }
            })
            .collect();
        let mut calls: BTreeMap<GatewayId, u64> = BTreeMap::new();
        self.hosts.worlds(&mut |world| {
            for call in world.calls.values().filter(|call| call.is_live()) {
                *calls.entry(call.gateway.clone()).or_default() += 1;
            }
        });
        let gateways: Vec<status::Gateway> = self
            .gateways
            .iter()
            .map(|gateway| {
                let lines = self.lines.of(&gateway.name);
                let of_line = |line: &String| calls.get(&line.as_str().into()).copied();
                let served = self.gateways.iter().filter(|other| lines.contains(&other.name));
                status::Gateway {
                    name: gateway.name.clone(),
                    box_name: gateway.box_name.clone(),
                    vips: served.map(|other| other.vip.to_string()).collect(),
                    calls: lines.iter().filter_map(of_line).sum(),
                    logged_in: self.lines.is_here(&gateway.name),
                    version: self.lines.version_of(&gateway.name),
                    drained: drained.contains(&gateway.name),
                }
            })
            .collect();
        Some((voters, gateways, age))
    }

    fn leads(&self, id: u64) -> Vec<String> {
        self.cluster
            .shards()
            .filter(|shard| shard.leadership().borrow().leader == Some(id))
            .map(|shard| shard.id.to_string())
            .collect()
    }
}

/// The box of each process, as the cluster is now.
fn boxes(
    cluster: &Arc<Cluster>,
    gateways: &[config::Gateway],
) -> impl Fn() -> BTreeMap<String, String> + Send + 'static {
    let of = |gateway: &config::Gateway| (gateway.name.clone(), gateway.box_name.clone());
    let gateways: Vec<(String, String)> = gateways.iter().map(of).collect();
    let cluster = Arc::clone(cluster);
    move || {
        let live = cluster.live();
        let members = live.members.iter();
        let members = members.map(|member| (member.name.clone(), Place::of(member).box_name));
        members.chain(gateways.iter().cloned()).collect()
    }
}

pub async fn gateway(started: &Started, shutdown: Shutdown) -> Result<()> {
    let config = &started.config;
    let process = &config.process;
    let me = config.cluster.gateways.iter().find(|gateway| gateway.name == process.name);
    let me = me.with_context(|| format!("{} is no [[cluster.gateway]]", process.name))?;
    // As long as it is locked no other process of this name serves anything.
    let _locked = DataDir::open(&process.data, &config.cluster.id, &process.name)?;
    let token = process.token_hash.as_deref().and_then(tandem_http::TokenHash::from_hex);
    let metrics = started.metrics.clone();
    let port_first = process.rtp_port_first.unwrap_or(RTP_PORT_FIRST);
    let ports = process.rtp_ports.unwrap_or(RTP_PORTS);
    let options = tandem_gateway::Options {
        name: process.name.clone(),
        incarnation: started.incarnation,
        version: crate::VERSION.to_owned(),
        vip: me.vip,
        way: config.address.as_ref().map(Into::into).unwrap_or_default(),
        media_ip: me.vip.ip(),
        api: me.api,
        nodes: config
            .cluster
            .members
            .iter()
            .filter_map(|member| {
                let name = member.name.clone();
                member.link.map(|address| tandem_gateway::Node { name, address })
            })
            .collect(),
        peers: config
            .cluster
            .gateways
            .iter()
            .filter(|gateway| gateway.name != process.name)
            .map(|gateway| tandem_gateway::Peer {
                name: gateway.name.clone(),
                vip: gateway.vip,
                api: gateway.api,
                copies: gateway.copies,
            })
            .collect(),
        copies: me.copies,
        copy_to: copy_to(&config.cluster.gateways, me),
        tls: Some(Arc::clone(&started.certificates)),
        sip_tls: config.sip.tls.as_ref().map(|tls| tandem_gateway::SipTls {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            roots: tls.roots.clone(),
        }),
        websocket: config.sip.websocket.as_ref().map(|it| tandem_gateway::WebSocket {
            ws: it.ws,
            wss: it.wss,
            origins: it.origins.clone(),
        }),
        reload: super::process::hang_ups()?,
        data_dir: process.data.clone(),
        token: token.context("process.token_hash is missing")?,
        rtp_ports: port_first..=port_first.saturating_add(ports - 1),
        media_workers: 1,
        music: config.sounds.music.clone(),
        prompts: config.sounds.prompts.clone(),
        rtp_pairs: rtp_pairs(ports),
        metrics: Arc::new(move || metrics.render()),
        trace_bytes_max: process.trace_mib.unwrap_or(TRACE_MIB_DEFAULT) << 20,
    };
    tandem_gateway::run(options, shutdown.wait()).await?;
    Ok(())
}

/// A pair is an even port and the next one (RFC 3550 §11).
fn rtp_pairs(ports: u16) -> usize {
    let pairs = ports / 2;
    usize::from(pairs - pairs / RTP_PAIRS_SPARE)
}

/// Who has the copies of a gateway's recordings: the next one, in the order of the configuration, that
/// is of another box.
fn copy_to(all: &[config::Gateway], me: &config::Gateway) -> Option<String> {
    let at = all.iter().position(|gateway| gateway.name == me.name)?;
    let (before, after) = all.split_at(at);
    let mut next = after.iter().chain(before);
    let found = next.find(|other| other.box_name != me.box_name && other.copies.is_some());
    if found.is_none() {
        tracing::warn!("TD0315 recordings are on one box only: no other gateway takes copies");
    }
    found.map(|gateway| gateway.name.clone())
}
