//! Three voters in one process, on real sockets and real disks: node-a, node-b, witness.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tandem_cluster::join::{self, Identity, Joining};
use tandem_cluster::meta::{self, MetaState};
use tandem_cluster::shard::{Error, Progress};
use tandem_cluster::{
    AnyMachine, Cluster, Leadership, Limits, Member, Options, Role, Stores, Timers, Tls, pull,
};
use tandem_pki::identity::SUPERVISOR;
use tandem_pki::{Live, Texts};
use tandem_storage::faults::Faults;
use tandem_storage::log::{self, Log};
use tandem_storage::machine::StateMachine;
use tandem_storage::raft::{NodeId, ShardId};
use tandem_storage::state::State;
use tandem_storage::witness::NullMachine;

/// So long that whatever is elected within [`WITHIN`] was not elected by a timer.
pub const SLOW: Timers =
    Timers { heartbeat_ms: 2_000, election_ms_min: 60_000, election_ms_max: 61_000 };
pub const WITHIN: Duration = Duration::from_secs(20);
/// Below those that connections leave from.
const PORT: u16 = 7_000;
const DOMAIN: &str = "tandem";
const NAMES: [&str; 3] = ["node-a", "node-b", "witness"];

/// An authority, and what it signs.
pub struct Pki {
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        Self { ca, issuer: Issuer::new(params, key) }
    }

    pub fn tls(&self, name: &str) -> Tls {
        tls_of(&self.texts(name))
    }

    pub fn texts(&self, name: &str) -> Texts {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned(), DOMAIN.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Texts { ca: self.ca.clone(), certificate, key: key.serialize_pem() }
    }

    pub fn supervisor(&self) -> Tls {
        self.tls(SUPERVISOR)
    }
}

pub fn tls_of(texts: &Texts) -> Tls {
    Tls { certificates: Live::of(texts).unwrap(), domain: DOMAIN.to_owned() }
}

pub struct Voter {
    pub cluster: Cluster,
    pub values: MetaState,
    pub log: Log,
    /// What happens to its disk.
    pub faults: Faults,
}

impl Voter {
    /// Returns when its folders are free.
    async fn end(self) {
        let Self { cluster, log, .. } = self;
        cluster.shutdown().await;
        let closed = tokio::task::spawn_blocking(move || log.close());
        tokio::time::timeout(WITHIN, closed).await.expect("the log is still in use").unwrap();
    }

    pub fn leadership(&self) -> Leadership {
        *self.cluster.shard(ShardId::META).unwrap().leadership().borrow()
    }

    /// Proposed when this returns; the log index once it is committed.
    pub fn put(&self, key: &str, value: &str) -> impl Future<Output = Result<u64, Error>> + use<> {
        let command = meta::put(key, value.as_bytes().to_vec());
        let done = self.cluster.shard(ShardId::META).unwrap().propose(command);
        async move { Ok(done.await?.index) }
    }

    /// Until this replica has the value.
    pub async fn has(&self, key: &str, value: &str) {
        let mut applied = self.values.applied();
        let there = async {
            while self.values.get(key).as_deref() != Some(value.as_bytes()) {
                applied.changed().await.unwrap();
            }
        };
        tokio::time::timeout(WITHIN, there).await.unwrap_or_else(|_| panic!("no {key} = {value}"));
    }

    pub fn progress(&self) -> Progress {
        self.cluster.shard(ShardId::META).unwrap().progress()
    }

    /// Until `is` holds of how far this voter is.
    pub async fn reaches(&self, what: &str, is: impl Fn(&Progress) -> bool) {
        let deadline = tokio::time::Instant::now() + WITHIN;
        while !is(&self.progress()) {
            assert!(tokio::time::Instant::now() < deadline, "{what}: {:?}", self.progress());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Until this voter is told who leads, and `is` holds of it.
    pub async fn until(&self, is: impl Fn(&Leadership) -> bool) -> Leadership {
        let mut leadership = self.cluster.shard(ShardId::META).unwrap().leadership();
        let told = tokio::time::timeout(WITHIN, leadership.wait_for(is)).await;
        *told.expect("leadership did not come about").unwrap()
    }
}

pub struct Bench {
    pub pki: Pki,
    pub members: Vec<Member>,
    pub voters: BTreeMap<NodeId, Voter>,
    /// Of who shall not have a new one at each start.
    pub certificates: BTreeMap<NodeId, Tls>,
    /// What the nodes replicate in the group [`QUIET`], where that is not values.
    pub quiet: Option<Box<dyn Fn(NodeId) -> AnyMachine + Send + Sync>>,
    timers: Timers,
    limits: Limits,
    segment_bytes: u64,
    lives: u64,
    dir: tempfile::TempDir,
}

/// A group that nothing is proposed to.
pub const QUIET: ShardId = ShardId(0);

impl Bench {
    pub fn new(timers: Timers) -> Self {
        let member = |(id, name): (NodeId, &str)| Member {
            id,
            name: name.to_owned(),
            role: if name == "witness" { Role::Witness } else { Role::Node },
            address: own_address(),
            folder: format!("folder of {name}"),
            place: String::new(),
        };
        let members = (1..).zip(NAMES).map(member).collect();
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits::default();
        let (pki, voters, certificates) = (Pki::new(), BTreeMap::new(), BTreeMap::new());
        let segment_bytes = 8 << 20;
        Self {
            pki,
            members,
            voters,
            certificates,
            quiet: None,
            timers,
            limits,
            segment_bytes,
            lives: 0,
            dir,
        }
    }

    /// Not yet running.
    pub fn with_limits(limits: Limits, segment_bytes: u64) -> Self {
        let mut bench = Self::new(Timers::default());
        (bench.limits, bench.segment_bytes) = (limits, segment_bytes);
        bench
    }

    /// All three, with a leader that can commit.
    pub async fn running(timers: Timers) -> Self {
        Self::new(timers).run().await
    }

    pub async fn run(mut self) -> Self {
        for id in 1..=3 {
            self.start(id).await;
        }
        self.leader().await;
        self
    }

    pub async fn start(&mut self, id: NodeId) {
        self.start_with(id, id == 1).await;
    }

    async fn start_with(&mut self, id: NodeId, founds: bool) {
        self.lives += 1;
        let member = self.members.iter().find(|member| member.id == id).unwrap();
        let folder = self.dir.path().join(&member.name);
        let values = MetaState::default();
        let state = open_state(&folder.join("state")).await;
        let segment_bytes = self.segment_bytes;
        let faults = Faults::default();
        let given = self.certificates.get(&id).cloned();
        let small =
            log::Options { segment_bytes, faults: Some(faults.clone()), ..log::Options::default() };
        let log = Log::open(&folder.join("log"), small).unwrap();
        let options = Options {
            cluster: "test".to_owned(),
            me: id,
            members: self.members.clone(),
            founds,
            incarnation: self.lives,
            version: "0.1.0".to_owned(),
            tls: given.unwrap_or_else(|| self.pki.tls(&member.name)),
            timers: self.timers,
            limits: self.limits,
        };
        pull::what_is_gone(&options, &log, &state).await.unwrap();
        let of_node = |machine| match member.role {
            Role::Node => machine,
            Role::Witness => AnyMachine::new(NullMachine),
        };
        let machine = |shard, machine| {
            (shard, StateMachine::open(shard, state.clone(), of_node(machine)).unwrap())
        };
        let quiet = self.quiet.as_ref().map(|quiet| quiet(id));
        let quiet = quiet.unwrap_or_else(|| MetaState::default().machine());
        let machines = vec![machine(ShardId::META, values.machine()), machine(QUIET, quiet)];
        let meta = (member.role == Role::Node).then(|| values.clone());
        let stores = Stores { log: log.clone(), state: state.clone(), machines, meta };
        let cluster = Cluster::start(options, stores).await.unwrap();
        self.voters.insert(id, Voter { cluster, values, log, faults });
    }

    /// Ends without a word to the others.
    pub async fn stop(&mut self, id: NodeId) {
        self.voters.remove(&id).unwrap().end().await;
    }

    /// What it has applied is gone, as if its disk had lost it. Log and votes are whole.
    pub fn lose_state(&self, id: NodeId) {
        std::fs::remove_dir_all(self.dir.path().join(self.name(id)).join("state")).unwrap();
    }

    /// Its disk is another one.
    pub fn wipe(&self, id: NodeId) {
        std::fs::remove_dir_all(self.dir.path().join(self.name(id))).unwrap();
    }

    /// A process with the name and the address of a voter, and an empty folder; ends when it is told
    /// which replica it is.
    pub fn wait_to_join(&self, old: NodeId) -> tokio::task::JoinHandle<Identity> {
        let was = self.members.iter().find(|member| member.id == old).unwrap();
        let joining = Joining {
            cluster: "test".to_owned(),
            me: Member { id: 0, folder: format!("another than that of {old}"), ..was.clone() },
            given: self.members.clone(),
            incarnation: self.lives + 1,
            tls: self.pki.tls(&was.name),
        };
        tokio::spawn(async move {
            let (waits, _) = tokio::sync::watch::channel(false);
            tokio::time::timeout(WITHIN, join::identity(&joining, &waits))
                .await
                .expect("nobody lets it in")
                .unwrap()
        })
    }

    /// In the place of `old`, as what it was told.
    pub async fn start_as(&mut self, old: NodeId, identity: Identity) {
        let was = self.members.iter().position(|member| member.id == old).unwrap();
        let now = identity.members.iter().find(|member| member.id == identity.id).unwrap();
        self.members[was] = now.clone();
        self.start_with(identity.id, identity.founds).await;
    }

    pub fn voter(&self, id: NodeId) -> &Voter {
        &self.voters[&id]
    }

    pub fn name(&self, id: NodeId) -> &str {
        &self.members.iter().find(|member| member.id == id).unwrap().name
    }

    pub fn address(&self, id: NodeId) -> SocketAddr {
        self.members.iter().find(|member| member.id == id).unwrap().address
    }

    /// The node that leads and can commit.
    pub async fn leader(&self) -> NodeId {
        let leads = self.voters.iter().map(|(id, voter)| {
            Box::pin(async move {
                voter.until(|leadership| leadership.leading).await;
                *id
            })
        });
        let any = futures::future::select_ok(
            leads.map(|lead| Box::pin(async move { Ok::<NodeId, ()>(lead.await) })),
        );
        any.await.unwrap().0
    }
}

/// A process must not end while RocksDB is open in another of its threads: its statics are gone
/// before those are.
impl Drop for Bench {
    fn drop(&mut self) {
        let voters = std::mem::take(&mut self.voters);
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                for voter in voters.into_values() {
                    voter.end().await;
                }
            });
        });
        // A test that failed already has said why.
        let _ = ended.join();
    }
}

/// An address of its own for each voter of the process. A port that was free a moment ago may be
/// the source of somebody's connection by the time that a voter comes back to it.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Relaxed).to_be_bytes();
    let of_process = 64 + (std::process::id() % 128) as u8;
    SocketAddr::from((Ipv4Addr::new(127, of_process, high, low), PORT))
}

/// RocksDB's own threads may hold the folder for a moment after the voter has ended.
async fn open_state(path: &Path) -> State {
    std::fs::create_dir_all(path).unwrap();
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        match State::open(path, [meta::META].as_slice()) {
            Ok(state) => return state,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
