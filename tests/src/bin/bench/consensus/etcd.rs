//! etcd's voters: three members with its own defaults, in a folder of their own, on an address of their own.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use tandem_tests::offer::Commits;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::Side;

const MEMBERS: u16 = 3;
const ADDRESS: &str = "127.0.191.1";
const CLIENT_PORT_FIRST: u16 = 23_791;
const PEER_PORT_FIRST: u16 = 23_801;
/// Connections to the leader. More of them only cost the client.
const CONNECTIONS: usize = 4;
/// Keys that are written in turn: as many as phones that register.
const KEYS: usize = 1_000;
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);
/// Entries by which a member that has caught up may be behind.
const BEHIND_MAX: u64 = 10;

/// Of `etcdserverpb`, what is needed here.
mod pb {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PutRequest {
        #[prost(bytes = "vec", tag = "1")]
        pub key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Header {
        #[prost(uint64, tag = "2")]
        pub member_id: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PutResponse {
        #[prost(message, optional, tag = "1")]
        pub header: Option<Header>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct StatusRequest {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct StatusResponse {
        #[prost(message, optional, tag = "1")]
        pub header: Option<Header>,
        #[prost(uint64, tag = "4")]
        pub leader: u64,
        #[prost(uint64, tag = "5")]
        pub raft_index: u64,
    }
}

pub struct Etcd {
    program: PathBuf,
    dir: PathBuf,
    members: Mutex<BTreeMap<String, Child>>,
    /// Connections to each member.
    channels: BTreeMap<String, Vec<Channel>>,
    /// Where puts go, in turn.
    aim: Mutex<Vec<Channel>>,
    puts: AtomicUsize,
    value: Vec<u8>,
}

impl Etcd {
    pub async fn start(program: &Path, dir: &Path, value_bytes: usize) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let channels = (0..MEMBERS).map(|at| {
            let address = format!("http://{ADDRESS}:{}", CLIENT_PORT_FIRST + at);
            let endpoint = Endpoint::from_shared(address)?.tcp_nodelay(true).timeout(ANSWER_MAX);
            Ok((name_of(at), (0..CONNECTIONS).map(|_| endpoint.connect_lazy()).collect()))
        });
        let etcd = Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            members: Mutex::default(),
            channels: channels.collect::<Result<_>>()?,
            aim: Mutex::default(),
            puts: AtomicUsize::new(0),
            value: vec![b'x'; value_bytes],
        };
        for at in 0..MEMBERS {
            etcd.begin(&name_of(at))?;
        }
        etcd.settled().await?;
        for _ in 0..KEYS {
            etcd.commit().await?;
        }
        Ok(etcd)
    }

    fn begin(&self, name: &str) -> Result<()> {
        let at = (0..MEMBERS).find(|at| name_of(*at) == name).context("a member")?;
        let client = format!("http://{ADDRESS}:{}", CLIENT_PORT_FIRST + at);
        let peer = |at: u16| format!("http://{ADDRESS}:{}", PEER_PORT_FIRST + at);
        let all: Vec<String> =
            (0..MEMBERS).map(|at| format!("{}={}", name_of(at), peer(at))).collect();
        let log = std::fs::File::create(self.dir.join(format!("{name}.log")))?;
        let mut command = Command::new(&self.program);
        command
            .args(["--name", name, "--data-dir"])
            .arg(self.dir.join(name))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(at), "--initial-advertise-peer-urls", &peer(at)])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--logger", "zap", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // SAFETY: prctl is async-signal-safe. Whoever kills the bench leaves no member behind.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("{}", self.program.display()))?;
        self.members.lock().insert(name.to_owned(), child);
        Ok(())
    }

    /// The leader, where every member says the same, and none is behind.
    async fn leader(&self) -> Result<Option<String>> {
        let mut seen = Vec::new();
        for (name, channels) in &self.channels {
            let channel = channels.first().context("a connection")?;
            let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");
            let status: pb::StatusResponse = ask(channel, path, pb::StatusRequest {}).await?;
            let id = status.header.context("a header")?.member_id;
            seen.push((name, id, status.leader, status.raft_index));
        }
        let most = seen.iter().map(|(.., index)| *index).max().unwrap_or(0);
        let (_, _, leader, _) = seen.first().context("a member")?;
        let agree =
            seen.iter().all(|(_, _, says, index)| says == leader && index + BEHIND_MAX >= most);
        let named = seen.iter().find(|(_, id, ..)| id == leader).filter(|_| agree);
        Ok(named.map(|(name, ..)| (*name).clone()))
    }

    fn aim_at(&self, wanted: impl Fn(&str) -> bool) {
        let named = self.channels.iter().filter(|(name, _)| wanted(name));
        *self.aim.lock() = named.flat_map(|(_, channels)| channels.iter().cloned()).collect();
    }
}

impl Commits for Etcd {
    async fn commit(&self) -> Result<()> {
        let number = self.puts.fetch_add(1, Ordering::Relaxed);
        let channel = {
            let aim = self.aim.lock();
            aim.get(number % aim.len().max(1)).cloned().context("no member to put to")?
        };
        let key = format!("agent/{:05}", number % KEYS).into_bytes();
        let put = pb::PutRequest { key, value: self.value.clone() };
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let _: pb::PutResponse = ask(&channel, path, put).await?;
        Ok(())
    }
}

impl Side for Etcd {
    const NAME: &'static str = "etcd";

    fn voters(&self) -> Result<Vec<(String, i32)>> {
        let members = self.members.lock();
        members.iter().map(|(name, child)| Ok((name.clone(), i32::try_from(child.id())?))).collect()
    }

    async fn settled(&self) -> Result<String> {
        let begun = Instant::now();
        loop {
            // A member that begins refuses connections.
            if let Ok(Some(leader)) = self.leader().await {
                self.aim_at(|name| name == leader);
                return Ok(leader);
            }
            ensure!(begun.elapsed() < SETTLED_WITHIN, "etcd has no leader: see its *.log");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn kill(&self, voter: &str) -> Result<Instant> {
        let mut members = self.members.lock();
        let child = members.get_mut(voter).context("a member")?;
        let at = Instant::now();
        child.kill()?;
        self.aim_at(|name| name != voter);
        Ok(at)
    }

    async fn revive(&self, voter: &str) -> Result<()> {
        let dead = self.members.lock().remove(voter);
        if let Some(mut dead) = dead {
            dead.wait()?;
        }
        self.begin(voter)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in self.members.lock().values_mut() {
            // One that has ended already needs neither.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn name_of(at: u16) -> String {
    format!("etcd-{at}")
}

async fn ask<Q, A>(channel: &Channel, path: PathAndQuery, request: Q) -> Result<A>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let answer = grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await?;
    Ok(answer.into_inner())
}
