//! A cluster on a block of loopback addresses of its own, with phones: what most tests need.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_media::endpoint::EndpointPool;

use crate::cluster::binary;
use crate::phone::{Incoming, Options, Over, Phone};
use crate::{Api, Cluster};

const SETUP_WITHIN: Duration = Duration::from_secs(15);
const REGISTER_S: u32 = 600;

pub struct House {
    pub cluster: Cluster,
    pub api: Api,
    pub vips: Vec<SocketAddr>,
    pub pool: Arc<EndpointPool>,
    /// Where phones live.
    bind: IpAddr,
    options: Vec<String>,
    /// Removed with the house.
    _dir: tempfile::TempDir,
}

impl House {
    /// `block` is the third octet of the cluster's addresses: 127.0.`block`.x.
    pub async fn open(block: u8) -> Result<Self> {
        Self::open_with(block, "").await
    }

    /// The same with more configuration.
    pub async fn open_with(block: u8, config: &str) -> Result<Self> {
        Self::start(block, config, &[])
    }

    /// With the service addresses at `vip`, and phones at `bind`, which reach it.
    pub async fn open_at(block: u8, vip: IpAddr, bind: IpAddr) -> Result<Self> {
        let house = Self::start(block, "", &["--bind", &vip.to_string()])?;
        Ok(Self { bind, ..house })
    }

    /// The same with actors that can be made to panic, and disks to fail.
    pub async fn open_for_faults(block: u8) -> Result<Self> {
        Self::start(block, "", &["--fault-injection"])
    }

    /// The same, with gateways that may stand still for as long as the test likes, and wake up again.
    pub async fn open_sparing_stopped(block: u8) -> Result<Self> {
        Self::start(block, "", &["--spare-stopped"])
    }

    /// Two nodes that nobody helps when one of them dies.
    pub async fn open_without_witness(block: u8) -> Result<Self> {
        Self::start(block, "", &["--witnesses", "0"])
    }

    fn start(block: u8, config: &str, options: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("house.toml");
        std::fs::write(&file, format!("[dev]\naddress_base = \"127.0.{block}.0\"\n{config}"))?;
        let data = dir.path().join("cluster");
        std::fs::create_dir(&data)?;
        let config = ["--config", file.to_str().context("UTF-8 path")?];
        let options = [config.as_slice(), options].concat();
        let cluster = Cluster::start(&data, &options)?;
        let options = options.into_iter().map(str::to_owned).collect();
        let api = cluster.api()?;
        let vips = cluster
            .processes()?
            .sip
            .iter()
            .map(|vip| vip.vip.parse().with_context(|| format!("VIP {}", vip.vip)))
            .collect::<Result<Vec<SocketAddr>>>()?;
        let pool = Arc::new(EndpointPool::start()?);
        let bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Ok(Self { cluster, api, vips, pool, bind, options, _dir: dir })
    }

    /// A command of `tandem` about this cluster.
    pub fn tandem(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("tandem")?);
        command.args(arguments).arg("--dir").arg(self.cluster.dir());
        Ok(command)
    }

    /// After [`Cluster::power_off`], on the same folders; how long it took until `ready`.
    pub fn power_on(&mut self) -> Result<Duration> {
        let on = std::time::Instant::now();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.cluster = Cluster::start(self.cluster.dir(), &options)?;
        let ready_after = on.elapsed();
        self.api = self.cluster.api()?;
        Ok(ready_after)
    }

    /// A phone that talks TLS to the `at`-th service address.
    pub async fn phone_over_tls(&self, user: &str, at: usize, incoming: Incoming) -> Result<Phone> {
        self.start_over_tls(user, at, incoming, false).await
    }

    /// A caller over TLS who talks over SRTP alone.
    pub async fn caller_over_srtp(&self, user: &str, at: usize) -> Result<Phone> {
        self.start_over_tls(user, at, Incoming::Reject { status: 486 }, true).await
    }

    /// A phone that talks TCP; `listens`: at its Contact, too.
    pub async fn phone_over_tcp(
        &self,
        user: &str,
        at: usize,
        incoming: Incoming,
        listens: bool,
    ) -> Result<Phone> {
        let server = self.vips[at % self.vips.len()];
        self.start_over(&Over::Tcp { listens }, server, user, incoming, false).await
    }

    /// A phone that is a script in a page: over a WebSocket.
    pub async fn phone_over_ws(&self, user: &str, at: usize, incoming: Incoming) -> Result<Phone> {
        let processes = self.cluster.processes()?;
        let server = processes.sip[at % processes.sip.len()].ws.parse()?;
        self.start_over(&Over::Ws, server, user, incoming, false).await
    }

    /// The same with TLS.
    pub async fn phone_over_wss(&self, user: &str, at: usize, incoming: Incoming) -> Result<Phone> {
        let processes = self.cluster.processes()?;
        let server = processes.sip[at % processes.sip.len()].wss.parse()?;
        let over = Over::Wss { roots: processes.sip_ca_file };
        self.start_over(&over, server, user, incoming, false).await
    }

    async fn start_over_tls(
        &self,
        user: &str,
        at: usize,
        incoming: Incoming,
        srtp: bool,
    ) -> Result<Phone> {
        let processes = self.cluster.processes()?;
        let server = processes.sip[at % processes.sip.len()].tls.parse()?;
        let over = Over::Tls { roots: processes.sip_ca_file };
        self.start_over(&over, server, user, incoming, srtp).await
    }

    async fn start_over(
        &self,
        over: &Over,
        server: SocketAddr,
        user: &str,
        incoming: Incoming,
        srtp: bool,
    ) -> Result<Phone> {
        let options = Options {
            user: user.to_owned(),
            password: format!("tandem-{user}"),
            server,
            bind: self.bind,
            incoming,
            tone_hz: 440,
            srtp,
            domain: None,
        };
        Phone::start_over(over, options, Arc::clone(&self.pool)).await
    }

    /// A phone at the `at`-th service address.
    pub async fn phone(&self, user: &str, at: usize, incoming: Incoming) -> Result<Phone> {
        self.phone_with_tone(user, at, incoming, 440).await
    }

    /// The same, that can be told from others by what it plays.
    pub async fn phone_with_tone(
        &self,
        user: &str,
        at: usize,
        incoming: Incoming,
        tone_hz: u32,
    ) -> Result<Phone> {
        let options = Options { tone_hz, ..self.phone_options(user, at, incoming) };
        Phone::start(options, Arc::clone(&self.pool)).await
    }

    /// A phone of the tenant whose domain that is.
    pub async fn phone_in(
        &self,
        domain: &str,
        user: &str,
        at: usize,
        incoming: Incoming,
    ) -> Result<Phone> {
        let domain = Some(domain.to_owned());
        let options = Options { domain, ..self.phone_options(user, at, incoming) };
        Phone::start(options, Arc::clone(&self.pool)).await
    }

    fn phone_options(&self, user: &str, at: usize, incoming: Incoming) -> Options {
        Options {
            user: user.to_owned(),
            password: format!("tandem-{user}"),
            server: self.vips[at % self.vips.len()],
            bind: self.bind,
            incoming,
            tone_hz: 440,
            srtp: false,
            domain: None,
        }
    }

    /// A phone that claims to be `user` and doesn't know the password.
    pub async fn impostor(&self, user: &str) -> Result<Phone> {
        let password = "guessed".into();
        let incoming = Incoming::Reject { status: 486 };
        let options = Options { password, ..self.phone_options(user, 0, incoming) };
        Phone::start(options, Arc::clone(&self.pool)).await
    }

    /// A registered agent who is ready.
    pub async fn agent(&self, id: &str, at: usize, incoming: Incoming) -> Result<Phone> {
        let phone = self.phone(id, at, incoming).await?;
        self.registered(phone, id).await
    }

    /// The same, that can be told from others by what it plays.
    pub async fn agent_with_tone(
        &self,
        id: &str,
        at: usize,
        incoming: Incoming,
        tone_hz: u32,
    ) -> Result<Phone> {
        let phone = self.phone_with_tone(id, at, incoming, tone_hz).await?;
        self.registered(phone, id).await
    }

    /// The same over TLS.
    pub async fn agent_over_tls(&self, id: &str, at: usize, incoming: Incoming) -> Result<Phone> {
        let phone = self.phone_over_tls(id, at, incoming).await?;
        self.registered(phone, id).await
    }

    /// The same over a WebSocket.
    pub async fn agent_over_ws(&self, id: &str, at: usize, incoming: Incoming) -> Result<Phone> {
        let phone = self.phone_over_ws(id, at, incoming).await?;
        self.registered(phone, id).await
    }

    /// The same of a phone that is there.
    pub async fn registered(&self, phone: Phone, id: &str) -> Result<Phone> {
        let status = phone.register(REGISTER_S).await?;
        ensure!(status == 200, "REGISTER of {id} was answered {status}");
        self.agent_is(id, "ready").await?;
        Ok(phone)
    }

    /// A caller of the trunk.
    pub async fn caller(&self, user: &str, at: usize) -> Result<Phone> {
        self.phone(user, at, Incoming::Reject { status: 486 }).await
    }

    /// Dials, is answered, and is in `state`.
    pub async fn call(&self, phone: &Phone, number: &str, state: &str) -> Result<String> {
        let call_id = phone.dial(number)?;
        phone.answered(&call_id, SETUP_WITHIN).await?;
        self.call_is(&call_id, state).await?;
        Ok(call_id)
    }

    pub async fn call_is(&self, sip_call_id: &str, state: &str) -> Result<()> {
        self.api.call_is(sip_call_id, state, SETUP_WITHIN).await
    }

    /// Where a call is in its flow, once it is there: what the API shows as `flow`.
    pub async fn flow_is(
        &self,
        sip_call_id: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<serde_json::Value> {
        let path = format!("/v1/calls?sip_call_id={sip_call_id}");
        let within = SETUP_WITHIN;
        let found = |page: &serde_json::Value| {
            let flow = page["items"].get(0)?.get("flow")?;
            wanted(flow).then(|| flow.clone())
        };
        self.api.until(&path, within, found).await
    }

    /// The first item of a list of the API.
    pub async fn item(&self, path: &str) -> Result<serde_json::Value> {
        self.api.items(path).await?.into_iter().next().with_context(|| format!("{path} is empty"))
    }

    /// Makes the actor of an entity panic at the next thing that it does, on the node that leads.
    pub async fn panic_actor(&self, kind: &str, id: &str) -> Result<()> {
        let leader = self.cluster.process(&self.cluster.leader().await?)?;
        let url = format!("http://{}/fault/panic/{kind}/{id}", leader.http);
        let status = self.api.post_to(&url).await?;
        ensure!(status == 204, "{url} was answered {status}");
        Ok(())
    }

    /// What happens to a node's disk: `stall?ms=N`, or `fail`.
    pub async fn trouble_disk(&self, node: &str, what: &str) -> Result<()> {
        let url = format!("http://{}/fault/disk/{what}", self.cluster.process(node)?.http);
        let status = self.api.post_to(&url).await?;
        ensure!(status == 204, "{url} was answered {status}");
        Ok(())
    }

    /// A figure of one process, summed over its labels.
    pub async fn metric(&self, http: &str, name: &str) -> Result<f64> {
        let (status, text) = self.api.probe(&format!("http://{http}"), "/metrics").await?;
        ensure!(status == 200, "/metrics of {http} was answered {status}");
        let value = |line: &str| line.split_whitespace().last()?.parse::<f64>().ok();
        Ok(text.lines().filter(|line| line.starts_with(name)).filter_map(value).sum())
    }

    pub async fn agent_is(&self, id: &str, state: &str) -> Result<()> {
        self.api.agent_is(id, state, SETUP_WITHIN).await
    }

    /// The one CDR of a call, once it is there; an error if there is more than one.
    pub async fn cdr(&self, sip_call_id: &str) -> Result<serde_json::Value> {
        self.api.cdr(sip_call_id, SETUP_WITHIN).await
    }
}
