//! Our voters: those of `tandem dev`. One of its gateways is stopped; the commands come by its link from here.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tandem_core::command::{GatewayEvent, Login, Register, TransactionKey};
use tandem_core::ids::{AgentId, GatewayId};
use tandem_core::wire;
use tandem_gateway::options::Node;
use tandem_sip::{Carrier, Message, Request};
use tandem_tests::Cluster;
use tandem_tests::cluster::binary;
use tandem_tests::offer::Commits;

use super::Side;
use super::gateway::Gateway;
use crate::failover::settled_leader;
use crate::load::users;
use crate::tenant::Tenant;

/// As many phones, so that none of them has two REGISTERs under way.
const AGENTS: u16 = 1_000;
const GATEWAY: &str = "gateway-a";
/// Where the other benches' clusters are not.
const ADDRESS_BASE: &str = "127.0.190.0";
const FIRST_PORT: u16 = 10_000;
const UP_WITHIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);

pub struct Ours {
    cluster: Cluster,
    gateway: Gateway,
    phones: Vec<Phone>,
    said: AtomicU32,
}

/// Who registers, and its request but for what each has of its own.
struct Phone {
    agent: AgentId,
    address: SocketAddr,
    request: Request,
}

impl Ours {
    pub async fn start(dir: &Path) -> Result<Self> {
        let agents = users(u32::from(AGENTS));
        let tenant = Tenant { agents: &agents, channels: 100, record: false, acw_ms: 0 };
        let config = dir.with_extension("toml");
        let text = format!("[dev]\naddress_base = \"{ADDRESS_BASE}\"\n{}", tenant.config()?);
        std::fs::write(&config, text)?;
        std::fs::create_dir_all(dir)?;
        let cluster =
            Cluster::start(dir, &["--config", config.to_str().context("a path in UTF-8")?])?;
        stop(dir, GATEWAY)?;
        // The first of its user to use TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let vip = cluster.processes()?.sip.first().context("a VIP")?.vip.clone();
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let incarnation = u64::try_from(since.as_millis())?;
        let nodes = links(dir)?;
        let gateway = Gateway::start(GATEWAY, incarnation, &vip, &nodes, &dir.join("pki"))?;
        let phones = agents.iter().zip(0..).map(|(user, n)| Phone::new(user, n));
        let phones = phones.collect::<Result<_>>()?;
        let ours = Self { cluster, gateway, phones, said: AtomicU32::new(0) };
        ours.up().await?;
        let login = Login { vip: vip.parse()?, ports: Vec::new() };
        ours.gateway.tell(&GatewayEvent::Login(login)).await?;
        // From here on each REGISTER refreshes.
        for _ in 0..AGENTS {
            ours.commit().await?;
        }
        Ok(ours)
    }

    /// Of one command, as the gateway sends it.
    pub fn command_bytes(&self) -> usize {
        self.phones.first().map_or(0, |phone| wire::encode_event(&phone.register(1)).len())
    }

    async fn up(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.gateway.is_up() {
            ensure!(begun.elapsed() < UP_WITHIN, "the link is not up");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Commits for Ours {
    async fn commit(&self) -> Result<()> {
        let number = self.said.fetch_add(1, Ordering::Relaxed);
        let phone = self.phones.get(number as usize % self.phones.len()).context("a phone")?;
        self.gateway.tell(&phone.register(number)).await
    }
}

impl Side for Ours {
    const NAME: &'static str = "tandem";

    fn voters(&self) -> Result<Vec<(String, i32)>> {
        let processes = self.cluster.processes()?.processes.into_iter();
        let voters = processes.filter(|process| process.role != "gateway" && process.alive);
        Ok(voters.map(|process| (process.name, process.pid)).collect())
    }

    async fn settled(&self) -> Result<String> {
        let leader = settled_leader(&self.cluster).await?;
        self.up().await?;
        Ok(leader)
    }

    fn kill(&self, voter: &str) -> Result<Instant> {
        self.cluster.kill(voter)
    }

    async fn revive(&self, voter: &str) -> Result<()> {
        let begun = Instant::now();
        while self.cluster.process(voter)?.alive {
            ensure!(begun.elapsed() < UP_WITHIN, "{voter} is not missed");
            tokio::time::sleep(LOOK).await;
        }
        self.cluster.revive(voter)
    }
}

impl Phone {
    fn new(user: &str, n: u16) -> Result<Self> {
        let address = SocketAddr::from(([192, 0, 2, 10], FIRST_PORT + n));
        let text = format!(
            "REGISTER sip:demo.tandem SIP/2.0\r\n\
             Via: SIP/2.0/UDP {address};branch=z9hG4bK0;rport\r\n\
             From: <sip:{user}@demo.tandem>;tag=r{n}\r\nTo: <sip:{user}@demo.tandem>\r\n\
             Call-ID: {n}@phone\r\nCSeq: 1 REGISTER\r\nContact: <sip:{user}@{address}>\r\n\
             Max-Forwards: 70\r\nExpires: 3600\r\n\r\n"
        );
        match tandem_sip::parse(text.as_bytes()) {
            Ok(Message::Request(request)) => {
                Ok(Self { agent: AgentId::from(user), address, request })
            }
            Ok(Message::Response(_)) => bail!("a request was parsed as a response"),
            Err(error) => bail!("{error}"),
        }
    }

    /// The `number`-th of all phones.
    fn register(&self, number: u32) -> GatewayEvent {
        let mut request = self.request.clone();
        let branch = format!("z9hG4bK{number:016x}");
        request.headers.cseq.number = number + 1;
        if let Some(via) = request.headers.via.first_mut()
            && let Some(param) = via.params.iter_mut().find(|param| param.name == "branch")
        {
            param.value = Some(branch.clone());
        }
        let transaction = TransactionKey {
            branch: branch.into(),
            sent_by: self.address.to_string().into(),
            method: "REGISTER".into(),
            gateway: GatewayId::from(GATEWAY),
        };
        GatewayEvent::Register(Register {
            transaction,
            source: self.address,
            carrier: Carrier::Udp,
            request: Box::new(request),
            agent: self.agent.clone(),
        })
    }
}

/// Ends one process in order.
fn stop(dir: &Path, name: &str) -> Result<()> {
    let mut command = Command::new(binary("tandem")?);
    let status = command.args(["dev", "stop", name, "--dir"]).arg(dir).status()?;
    ensure!(status.success(), "tandem dev stop {name}: {status}");
    Ok(())
}

/// Where nodes take gateways' links, by a file of the cluster's own.
fn links(dir: &Path) -> Result<Vec<Node>> {
    let path = dir.join("conf").join(format!("{GATEWAY}.toml"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let config: toml::Table = text.parse()?;
    let members = config.get("cluster").and_then(|cluster| cluster.get("member"));
    let members = members.and_then(toml::Value::as_array).context("[[cluster.member]]")?;
    let text = |member: &toml::Value, key: &str| {
        member.get(key).and_then(toml::Value::as_str).map(str::to_owned)
    };
    let links = members.iter().filter_map(|member| Some((member, text(member, "link")?)));
    links
        .map(|(member, link)| {
            Ok(Node { name: text(member, "name").context("a name")?, address: link.parse()? })
        })
        .collect()
}
