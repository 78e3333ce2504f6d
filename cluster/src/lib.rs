//! Consensus: Raft groups over openraft, their transport, obituaries, the witness, the meta shard.
//! Nothing here knows what a call is.
//!
//! Read in this order: this file (what a voter is started with), [`shard`] (how it is used),
//! [`network`] and [`link`] (how voters talk), [`service`] (what they answer), `detector`, `pulse` and
//! `rest` (who lives and leads, and at what cost), `balance` (who should lead), `snapshot` (to who is
//! far behind), [`pull`] (by who lost its rows), `mending` (of who has wrong ones), `upkeep` (of the log),
//! [`budget`] (of the disk), [`disk`] (who steps away from one), [`meta`].

mod alarm;
mod balance;
pub mod budget;
pub mod changes;
pub mod control;
mod detector;
pub mod disk;
pub mod join;
pub mod link;
mod machine;
mod members;
mod mending;
pub mod meta;
pub mod network;
mod piggyback;
mod plan;
mod priority;
pub mod pull;
mod pulse;
mod reads;
mod rest;
mod roster;
pub mod service;
pub mod shard;
mod snapshot;
mod upkeep;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use parking_lot::Mutex;
use tandem_pki::{Connector, Live as Certificates};
use tandem_storage::log::Log;
use tandem_storage::machine::StateMachine;
use tandem_storage::raft::{NodeId, Peer, ShardId, TypeConfig};
use tandem_storage::state::State;
use tokio::sync::watch;
use tonic::transport::Server;

use budget::{Budgets, Used};
use changes::{Changes, Standing};
use disk::{Disk, Disks};
use link::Me;
pub use machine::AnyMachine;
use members::Directory;
pub use members::{Live, Member, Role};
use mending::{Mending, Outs};
use meta::MetaState;
use network::{Factory, Hub};
use pb::frame::Body;
pub use priority::raise as raise_priority;
use pull::Asking;
use pulse::{Heart, Pulse};
pub use roster::Change;
use service::{Groups, Service};
use shard::Voter;
pub use shard::{Leadership, Shard};
use upkeep::Upkeep;
pub use upkeep::{LOG_MIB_MAX_DEFAULT, LOG_MIB_MAX_LEAST, Limits, STATE_MIB_MAX_DEFAULT};

/// Generated from `proto/tandem/cluster/v1/cluster.proto`.
#[allow(clippy::all)]
pub mod pb {
    tonic::include_proto!("tandem.cluster.v1");
}

pub type Replicated = StateMachine<AnyMachine>;
pub type Raft = openraft::Raft<TypeConfig, Replicated>;

const ENTRIES_PER_APPEND: u64 = 256;
/// One thread of Raft for so many cores: on two, a second one would wake the first for every message,
/// and both would take all of the machine from who makes the commands.
const CORES_PER_RAFT_THREAD: usize = 4;
const RAFT_THREADS_MAX: usize = 4;
/// A task that does not end within this is left behind.
const SHUTDOWN_MS_MAX: u64 = 5_000;
/// Of the answer of who leads a group to the wish that it be given away.
const MOVE_MS_MAX: u64 = 2_000;
/// Of the answer of who leads the meta shard to the wish that members change: it asks who joins first.
const CHANGE_MS_MAX: u64 = 4_500;
/// Between two attempts to found the groups.
const FOUND_AGAIN_MS: u64 = 50;

#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// Between two signs of life.
    pub heartbeat_ms: u64,
    /// Without one for so long a peer is taken for dead. TCP's first retransmission, after 200 ms
    /// (RFC 6298 §2.4 as Linux has it), must not look like a death.
    pub election_ms_min: u64,
    /// The lease of a leader: so long a voter votes for nobody else.
    pub election_ms_max: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self { heartbeat_ms: 50, election_ms_min: 250, election_ms_max: 350 }
    }
}

/// What proves that a process is of the cluster; it may be renewed at any time.
#[derive(Clone)]
pub struct Tls {
    pub certificates: Arc<Certificates>,
    /// The name that every certificate of the cluster answers to.
    pub domain: String,
}

impl Tls {
    pub fn client(&self) -> Connector {
        Connector::new(Arc::clone(&self.certificates), &self.domain)
    }
}

pub struct Options {
    pub cluster: String,
    pub me: NodeId,
    /// This one and those whom it knows of to begin with; who is there, its groups say.
    pub members: Vec<Member>,
    /// It makes the groups out of these members, where they are not made yet.
    pub founds: bool,
    pub incarnation: u64,
    /// Of the build that runs.
    pub version: String,
    pub tls: Tls,
    pub timers: Timers,
    pub limits: Limits,
}

/// What a voter keeps on its disk.
pub struct Stores {
    pub log: Log,
    pub state: State,
    /// On that state.
    pub machines: Vec<(ShardId, Replicated)>,
    /// What the meta shard's machine holds; a witness has none.
    pub meta: Option<MetaState>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is no member of the cluster")]
    NoMember(NodeId),
    #[error("voters' address {address}: {error}")]
    Bind { address: SocketAddr, error: std::io::Error },
    #[error("a group can't be started: {0}")]
    Start(String),
    #[error("a thread can't be started: {0}")]
    Thread(std::io::Error),
}

/// Why a lead stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no {0}")]
    Unknown(String),
    #[error("{0}")]
    Unsafe(String),
}

/// A voter of every shard. Its threads are its own, so that nothing else can starve them into an
/// election; they end with the process.
pub struct Cluster {
    shards: BTreeMap<ShardId, Shard>,
    hub: Arc<Hub>,
    directory: Arc<Directory>,
    changes: Option<Arc<Changes>>,
    log: Log,
    disks: Arc<Disks>,
    outs: Arc<Outs>,
    used: watch::Receiver<Used>,
    groups: Arc<Groups>,
    drained: watch::Sender<BTreeSet<String>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Cluster {
    /// Starts the groups of the stores' machines.
    ///
    /// # Errors
    /// A busy address, or what openraft says of the stores.
    pub async fn start(options: Options, stores: Stores) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / CORES_PER_RAFT_THREAD).clamp(1, RAFT_THREADS_MAX);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("raft")
            .on_thread_start(priority::raise)
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let handle = runtime.handle().clone();
        let (log, disks) = (stores.log.clone(), Arc::<Disks>::default());
        let (me, state) = (options.me, stores.state.clone());
        let outs = Arc::new(Outs { me, state, disks: Arc::clone(&disks) });
        let threads = Threads { raft: handle.clone(), app: tokio::runtime::Handle::current() };
        let budgets = Budgets::new(log.clone(), stores.state.clone(), &options.limits);
        let (used, budgets) = (budgets.used(), Arc::new(budgets));
        let starting = start_groups(options, stores, Arc::clone(&outs), budgets, threads);
        match handle.spawn(starting).await {
            Ok(Ok(Running { shards, hub, directory, changes, groups, drained })) => {
                let runtime = Some(runtime);
                Ok(Self {
                    shards,
                    hub,
                    directory,
                    changes,
                    log,
                    disks,
                    outs,
                    used,
                    groups,
                    drained,
                    runtime,
                })
            }
            Ok(Err(error)) => {
                runtime.shutdown_background();
                Err(error)
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(Error::Start(error.to_string()))
            }
        }
    }

    pub fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(&id)
    }

    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.values()
    }

    /// Returns when nothing of the voter runs any more and its stores are free.
    pub async fn shutdown(mut self) {
        for (id, shard) in &self.shards {
            if let Err(error) = shard.raft.shutdown().await {
                tracing::warn!(shard = %id, %error, "a group did not end in order");
            }
        }
        if let Some(runtime) = self.runtime.take() {
            let within = Duration::from_millis(SHUTDOWN_MS_MAX);
            // Blocks until the tasks are gone, and so must not run on a thread of a runtime.
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(within));
            if let Err(error) = ended.await {
                tracing::warn!(%error, "the voter's threads did not end in order");
            }
        }
    }

    /// Gives the lead of a group to a node, wherever it is now.
    ///
    /// # Errors
    /// In one sentence.
    pub async fn move_leader(&self, shard: &str, node: &str) -> Result<(), Refused> {
        let found = self.shards.values().find(|it| it.id.to_string() == shard);
        let found = found.ok_or_else(|| Refused::Unknown(format!("shard {shard:?}")))?;
        let live = self.live();
        let to = live.named(node);
        let to = to.ok_or_else(|| Refused::Unknown(format!("node {node:?}")))?;
        if to.role == Role::Witness {
            return Err(Refused::Unsafe(format!("{node} is a witness: it runs no calls")));
        }
        if self.drained.borrow().contains(node) {
            return Err(Refused::Unsafe(format!("{node} is drained: it leads nothing")));
        }
        if let Some(Err(why)) = self.disk_of(to.id).map(|disk| disk.check()) {
            return Err(Refused::Unsafe(format!("the disk of {node}: {why}")));
        }
        if self.outs.is_out(to.id, found.id) {
            let why =
                format!("the state of {node} is not what {shard} has: it is being made again");
            return Err(Refused::Unsafe(why));
        }
        let leader = found.leadership().borrow().leader;
        let leader = leader.ok_or_else(|| Refused::Unsafe(format!("nobody leads {shard} now")))?;
        if leader == to.id {
            return Ok(());
        }
        let Some(channel) = self.hub.urgent(leader) else {
            let shard = found.clone();
            let (id, raft) = (to.id, self.runtime.as_ref().map(|it| it.handle().clone()));
            let raft = raft.ok_or_else(|| Refused::Unsafe("the voter ends".to_owned()))?;
            let moved = raft.spawn(async move { shard.move_leader(id).await }).await;
            let moved = moved.map_err(|error| Refused::Unsafe(error.to_string()))?;
            return moved.map_err(|error| Refused::Unsafe(error.to_string()));
        };
        let asked = channel.ask(found.id.0, Body::Move(pb::MoveRequest { to: to.id }));
        let asked = asked.ok_or_else(|| Refused::Unsafe("its leader is away".to_owned()))?;
        match tokio::time::timeout(Duration::from_millis(MOVE_MS_MAX), asked).await {
            Ok(Ok(Body::MoveReply(reply))) if reply.refused.is_empty() => Ok(()),
            Ok(Ok(Body::MoveReply(reply))) => Err(Refused::Unsafe(reply.refused)),
            Ok(Ok(Body::Failure(why))) => Err(Refused::Unsafe(why)),
            Ok(_) => Err(Refused::Unsafe("its leader went away".to_owned())),
            Err(_) => Err(Refused::Unsafe("its leader said nothing".to_owned())),
        }
    }

    /// From now on these nodes lead nothing, wherever another one can.
    pub fn drain(&self, names: BTreeSet<String>) {
        self.drained.send_if_modified(|drained| {
            let changed = *drained != names;
            *drained = names;
            changed
        });
    }

    /// Proposes to a group through whoever leads it, one behind the other; the reply of each, once that
    /// one has applied them.
    ///
    /// # Errors
    /// As [`Shard::propose_all`]; and [`shard::Error::Unavailable`] where the leader went away before
    /// it answered.
    pub async fn propose(
        &self,
        id: ShardId,
        commands: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, shard::Error> {
        let shard = self.shards.get(&id).ok_or(shard::Error::NotLeader)?;
        let leader = shard.leadership().borrow().leader.ok_or(shard::Error::NotLeader)?;
        let Some(channel) = self.hub.urgent(leader) else {
            return shard.propose_all(commands).await;
        };
        let request = Body::Propose(pb::ProposeRequest { commands });
        let asked = channel.ask(id.0, request).ok_or(shard::Error::NotLeader)?;
        // As long as its leader tries, and the way there and back.
        let within = Duration::from_millis(shard::COMMIT_MS_MAX + MOVE_MS_MAX);
        match tokio::time::timeout(within, asked).await {
            Ok(Ok(Body::ProposeReply(reply))) if reply.not_leader => Err(shard::Error::NotLeader),
            Ok(Ok(Body::ProposeReply(reply))) if reply.overloaded => Err(shard::Error::Overloaded),
            Ok(Ok(Body::ProposeReply(reply))) if reply.refused.is_empty() => Ok(reply.replies),
            Ok(_) | Err(_) => Err(shard::Error::Unavailable),
        }
    }

    /// What this voter's log and state take of its disk.
    pub fn used(&self) -> watch::Receiver<Used> {
        self.used.clone()
    }

    /// How this voter's own disk does.
    pub fn disk(&self) -> Disk {
        Disk::of(&self.log)
    }

    /// What another voter has said of its disk within the last two seconds.
    pub fn disk_of(&self, id: NodeId) -> Option<Disk> {
        self.disks.of(id)
    }

    /// The build that another voter runs, where it was heard of within the last two seconds.
    pub fn version_of(&self, id: NodeId) -> Option<String> {
        self.disks.version_of(id)
    }

    /// The shards of which a node's rows are not to be used, as far as this voter knows.
    pub fn outs_of(&self, id: NodeId) -> BTreeSet<ShardId> {
        self.outs.of(id)
    }

    /// Whether this voter has a stream to the other one now.
    pub fn reaches(&self, id: NodeId) -> bool {
        self.hub.urgent(id).is_some_and(|channel| channel.is_up())
    }

    /// Who belongs to the cluster now, as this voter's groups say.
    pub fn live(&self) -> Arc<Live> {
        self.directory.live()
    }

    /// The last life of each process that is proven dead, by name.
    pub fn deaths(&self) -> watch::Receiver<BTreeMap<String, u64>> {
        self.groups.deaths.subscribe()
    }

    /// Whether it is proven that nobody can decide anything: too many voters are dead.
    pub fn is_majority_dead(&self) -> bool {
        self.groups.is_majority_dead()
    }

    /// The same at each change.
    pub fn lives(&self) -> watch::Receiver<Arc<Live>> {
        self.directory.changes()
    }

    /// Whether every group is what an operator asked for last, and who is there. Only who leads the
    /// meta shard tells.
    pub fn standings(&self) -> Option<(bool, Vec<Standing>)> {
        let leads = self.shards.get(&ShardId::META)?.leadership().borrow().leading;
        let changes = self.changes.as_ref().filter(|_| leads)?;
        Some((changes.is_settled(), changes.standings()))
    }

    /// Begins to change who belongs to the cluster, whoever leads it; [`Cluster::standings`] tells
    /// what comes of it.
    ///
    /// # Errors
    /// In one sentence.
    pub async fn change(&self, change: Change) -> Result<(), Refused> {
        let unsafe_now = |why: &str| Refused::Unsafe(why.to_owned());
        let meta = self.shards.get(&ShardId::META);
        let leader = meta.and_then(|meta| meta.leadership().borrow().leader);
        let leader = leader.ok_or_else(|| unsafe_now("nobody leads meta now"))?;
        let Some(channel) = self.hub.urgent(leader) else {
            let changes = self.changes.clone();
            let changes = changes.ok_or_else(|| unsafe_now("a witness changes nothing"))?;
            let raft = self.runtime.as_ref().ok_or_else(|| unsafe_now("the voter ends"))?;
            let asked = raft.handle().spawn(async move { changes.ask(&change).await }).await;
            return asked.map_err(|error| Refused::Unsafe(error.to_string()))?;
        };
        let asked = channel.ask(ShardId::META.0, Body::Change(change.into()));
        let asked = asked.ok_or_else(|| unsafe_now("the leader of meta is away"))?;
        match tokio::time::timeout(Duration::from_millis(CHANGE_MS_MAX), asked).await {
            Ok(Ok(Body::ChangeReply(reply))) if !reply.unknown.is_empty() => {
                Err(Refused::Unknown(reply.unknown))
            }
            Ok(Ok(Body::ChangeReply(reply))) if reply.refused.is_empty() => Ok(()),
            Ok(Ok(Body::ChangeReply(reply))) => Err(Refused::Unsafe(reply.refused)),
            Ok(Ok(Body::Failure(why))) => Err(Refused::Unsafe(why)),
            Ok(_) => Err(unsafe_now("the leader of meta went away; ask again")),
            Err(_) => Err(unsafe_now("the leader of meta said nothing; ask again")),
        }
    }
}

/// What runs where.
struct Threads {
    /// Before all other work.
    raft: tokio::runtime::Handle,
    /// Beside what makes the commands.
    app: tokio::runtime::Handle,
}

struct Running {
    shards: BTreeMap<ShardId, Shard>,
    hub: Arc<Hub>,
    directory: Arc<Directory>,
    changes: Option<Arc<Changes>>,
    groups: Arc<Groups>,
    drained: watch::Sender<BTreeSet<String>>,
}

async fn start_groups(
    options: Options,
    stores: Stores,
    outs: Arc<Outs>,
    budgets: Arc<Budgets>,
    threads: Threads,
) -> Result<Running, Error> {
    let disks = Arc::clone(&outs.disks);
    let Threads { raft: runtime, app } = threads;
    let Stores { log, state, machines, meta } = stores;
    let me = options.members.iter().find(|member| member.id == options.me);
    let me = me.ok_or(Error::NoMember(options.me))?.clone();
    let listener = tokio::net::TcpListener::bind(me.address)
        .await
        .map_err(|error| Error::Bind { address: me.address, error })?;
    let hub = Arc::new(Hub::new(
        me.role == Role::Node,
        speaker(&options, &me),
        options.tls.client(),
        runtime.clone(),
    ));
    let peers = options.members.iter().map(|member| member.id).filter(|id| *id != me.id);
    let heart = Arc::new(Heart::new(me.id, peers, options.timers));
    let directory = Arc::new(Directory::new(
        me.clone(),
        options.members.clone(),
        Arc::clone(&hub),
        Arc::clone(&heart),
    ));
    let config = Arc::new(config(&options, me.role)?);
    let mut rafts = BTreeMap::new();
    for (id, machine) in machines {
        let factory = Factory { shard: id, hub: Arc::clone(&hub) };
        let raft = Raft::new(me.id, Arc::clone(&config), factory, log.shard(id), machine)
            .await
            .map_err(|error| Error::Start(error.to_string()))?;
        rafts.insert(id, raft);
    }
    let start = |(id, raft): (&ShardId, &Raft)| {
        let (heart, directory) = (Arc::clone(&heart), Arc::clone(&directory));
        let voter = Voter::new(heart, directory, Arc::clone(&outs), options.timers.election_ms_max);
        (*id, Shard::start(*id, raft.clone(), &runtime, &app, voter))
    };
    let shards: BTreeMap<ShardId, Shard> = rafts.iter().map(start).collect();
    let changes = meta.map(|values| {
        Arc::new(Changes {
            values,
            shards: shards.clone(),
            directory: Arc::clone(&directory),
            heart: Arc::clone(&heart),
            disks: Arc::clone(&disks),
            speaker: speaker(&options, &me),
            tls: options.tls.clone(),
            turn: tokio::sync::Mutex::default(),
        })
    });
    let groups = Arc::new(Groups {
        cluster: options.cluster.clone(),
        me: me.id,
        shards: shards.clone(),
        heart: Arc::clone(&heart),
        directory: Arc::clone(&directory),
        changes: changes.clone(),
        incarnations: Mutex::default(),
        deaths: watch::Sender::default(),
        state: state.clone(),
        flushed: Mutex::default(),
        disks: Arc::clone(&disks),
        outs: Arc::clone(&outs),
        runtime: runtime.clone(),
    });
    serve(&options, Arc::clone(&groups), listener, &runtime);
    let mending = Mending {
        asking: Asking { speaker: speaker(&options, &me), tls: options.tls.clone() },
        state: state.clone(),
        log: log.clone(),
        heart: Arc::clone(&heart),
        directory: Arc::clone(&directory),
        outs: Arc::clone(&outs),
        shards: shards.clone(),
    };
    runtime.spawn(mending.run());
    let drained = watch::Sender::default();
    let pulse = Pulse {
        role: me.role,
        heart,
        hub: Arc::clone(&hub),
        disks: Arc::clone(&disks),
        timers: options.timers,
        shards: shards.clone(),
        directory: Arc::clone(&directory),
        outs: Arc::clone(&outs),
        drained: drained.subscribe(),
    };
    runtime.spawn(pulse.run());
    if let Some(changes) = &changes {
        runtime.spawn(Arc::clone(changes).run());
    }
    let upkeep = Upkeep { rafts: rafts.clone(), limits: options.limits, log: log.clone(), budgets };
    match me.role {
        Role::Node => {
            let directory = Arc::clone(&directory);
            runtime.spawn(upkeep.of_node(state, Arc::clone(&hub), directory))
        }
        Role::Witness => runtime.spawn(upkeep.of_witness(Arc::clone(&groups))),
    };
    // The others wait to be told.
    if options.founds {
        for raft in rafts.values() {
            runtime.spawn(found(raft.clone(), options.members.clone(), Arc::clone(&hub)));
        }
    }
    let watch = disk::Watch {
        log,
        directory: Arc::clone(&directory),
        disks,
        hub: Arc::clone(&hub),
        shards: shards.clone(),
        outs,
        version: options.version.clone(),
    };
    runtime.spawn(watch.run());
    Ok(Running { shards, hub, directory, changes, groups, drained })
}

fn serve(
    options: &Options,
    groups: Arc<Groups>,
    listener: tokio::net::TcpListener,
    runtime: &tokio::runtime::Handle,
) {
    let service = Service::default();
    let _ = service.groups.set(groups);
    let mut server = Server::builder()
        .initial_stream_window_size(link::WINDOW_BYTES)
        .initial_connection_window_size(2 * link::WINDOW_BYTES);
    let server = server
        .add_service(
            pb::peer_server::PeerServer::new(service.clone())
                .max_decoding_message_size(link::MESSAGE_BYTES_MAX)
                .max_encoding_message_size(link::MESSAGE_BYTES_MAX),
        )
        .add_service(pb::control_server::ControlServer::new(service));
    // Only who has a certificate of the cluster is served.
    let incoming = tandem_pki::server::incoming(listener, Arc::clone(&options.tls.certificates));
    runtime.spawn(async move {
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::error!(%error, "TD0403 the voters' service has ended");
        }
    });
}

fn speaker(options: &Options, me: &Member) -> Me {
    Me {
        cluster: options.cluster.clone(),
        name: me.name.clone(),
        replica: me.id,
        incarnation: options.incarnation,
    }
}

fn config(options: &Options, role: Role) -> Result<openraft::Config, Error> {
    let witness = role == Role::Witness;
    openraft::Config {
        cluster_name: options.cluster.clone(),
        heartbeat_interval: options.timers.heartbeat_ms,
        election_timeout_min: options.timers.election_ms_min,
        election_timeout_max: options.timers.election_ms_max,
        max_payload_entries: ENTRIES_PER_APPEND,
        // Who stands, and when, is decided for all groups at once: see `pulse`. A witness stands only
        // where no node can be elected: see `service`.
        enable_elect: false,
        // Switched on while the group is used: see `rest`.
        enable_tick: false,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        snapshot_policy: if witness {
            SnapshotPolicy::Never
        } else {
            SnapshotPolicy::LogsSinceLast(options.limits.snapshot_every)
        },
        // What a witness purges is told to it: see `upkeep`.
        max_in_snapshot_log_to_keep: if witness { u64::MAX } else { options.limits.log_kept },
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| Error::Start(error.to_string()))
}

/// Founds a group of all members once a majority can be reached; a group that is founded stays so.
async fn found(raft: Raft, members: Vec<Member>, hub: Arc<Hub>) {
    if !matches!(raft.is_initialized().await, Ok(false)) {
        return;
    }
    while hub.all_urgent().iter().filter(|channel| channel.is_up()).count() < members.len() / 2 {
        tokio::time::sleep(Duration::from_millis(FOUND_AGAIN_MS)).await;
    }
    let peers: BTreeMap<NodeId, Peer> =
        members.iter().map(|member| (member.id, member.peer())).collect();
    if let Err(error) = raft.initialize(peers).await {
        tracing::info!(%error, "the group is founded already");
    }
}
