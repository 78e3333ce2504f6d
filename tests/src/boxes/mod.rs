//! A cluster of two boxes and a witness, each with a network of its own: what cuts and silent hosts do to
//! it. Nobody supervises its processes, so that no obituary tells of a death.

mod files;
mod guests;
mod keeper;
pub mod network;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use serde_json::Value;

use crate::cluster::{self, binary};
use crate::{Api, Cluster};
pub use guests::Guests;
use keeper::Keeper;
use network::{Family, Network, Place};

/// From the start of the processes on two busy cores.
const READY_WITHIN: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(25);
/// Entries that a node may be behind and still be taken for one that has caught up.
const LAG_MAX: u64 = 10;

/// How one process is started, and where.
#[derive(Clone, Debug)]
pub struct Process {
    pub name: String,
    /// `node`, `gateway`, `witness`.
    pub role: String,
    pub place: Place,
    /// Of its health, and a gateway's API.
    pub http: String,
}

/// Dropping it ends the processes and removes the network.
pub struct Boxes {
    // Dropped in this order: nothing runs in a namespace that is removed.
    running: Mutex<BTreeMap<String, Child>>,
    keeper: Keeper,
    pub network: Network,
    processes: Vec<Process>,
    api: Api,
    family: Family,
    dir: PathBuf,
    /// Removed with the boxes.
    _removed: tempfile::TempDir,
}

impl Boxes {
    /// `block` is the third octet of the network's addresses, and ready is when each gateway says that
    /// both nodes are there.
    pub async fn open(block: u8) -> Result<Self> {
        Self::open_over(block, Family::V4).await
    }

    /// With service addresses of this family.
    pub async fn open_over(block: u8, family: Family) -> Result<Self> {
        let removed = tempfile::tempdir()?;
        let dir = removed.path().join("cluster");
        std::fs::create_dir(&dir)?;
        let base = removed.path().join("boxes.toml");
        std::fs::write(&base, format!("[dev]\naddress_base = \"127.0.{block}.0\"\n"))?;
        // Its files are what is wanted, not the cluster on one machine.
        let made = Cluster::start(&dir, &["--config", base.to_str().context("UTF-8 path")?])?;
        let shown = made.processes()?;
        made.stop()?;
        std::fs::remove_dir_all(dir.join("data"))?;
        std::fs::create_dir(dir.join("data"))?;
        let network = Network::lay(block)?;
        let moved = files::move_to(&dir, &network, family)?;
        let process = |process: cluster::Process| {
            let place = Place::of_box(&process.box_name)?;
            let http = moved.get(&process.name).context("its address")?.clone();
            Ok(Process { name: process.name, role: process.role, place, http })
        };
        let processes =
            shown.processes.into_iter().map(process).collect::<Result<Vec<Process>>>()?;
        let token = std::fs::read_to_string(&shown.token_file)?;
        let gateways = processes.iter().filter(|process| process.role == "gateway");
        let bases = gateways.map(|gateway| format!("http://{}", gateway.http)).collect();
        let boxes = Self {
            running: Mutex::default(),
            keeper: Keeper::start()?,
            network,
            processes,
            api: Api::new(bases, token.trim().to_owned())?,
            family,
            dir,
            _removed: removed,
        };
        for process in &boxes.processes {
            boxes.start(&process.name)?;
        }
        boxes.settled().await?;
        Ok(boxes)
    }

    /// Of all gateways.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Of the gateway in one box alone.
    pub fn api_of(&self, place: Place) -> Result<Api> {
        let mut gateways = self.processes.iter().filter(|process| process.role == "gateway");
        let at = gateways.position(|gateway| gateway.place == place);
        Ok(self.api.only(at.context("a gateway in this box")?))
    }

    /// The service address of the line of the gateway in a box.
    pub fn vip(&self, place: Place) -> IpAddr {
        self.network.vip(place, self.family)
    }

    pub fn process(&self, name: &str) -> Result<&Process> {
        let found = self.processes.iter().find(|process| process.name == name);
        found.with_context(|| format!("there is no process {name}"))
    }

    pub fn node_in(&self, place: Place) -> Result<&Process> {
        let found = self.processes.iter().find(|p| p.place == place && p.role == "node");
        found.with_context(|| format!("there is no node in {place:?}"))
    }

    pub fn gateway_in(&self, place: Place) -> Result<&Process> {
        let found = self.processes.iter().find(|p| p.place == place && p.role == "gateway");
        found.with_context(|| format!("there is no gateway in {place:?}"))
    }

    /// The box whose node leads the tenant's shard, by the API.
    pub async fn leader(&self) -> Result<Place> {
        let status = self.api.get("/v1/cluster").await?;
        let leader = cluster::leader_of(&status).context("no node leads s0")?;
        Ok(self.process(leader)?.place)
    }

    /// Starts a process that does not run.
    pub fn start(&self, name: &str) -> Result<()> {
        let process = self.process(name)?;
        let logs = self.dir.join("logs");
        let mut command = Command::new(binary("tandem")?);
        command
            .args([&process.role, "--config"])
            .arg(self.dir.join("conf").join(format!("{name}.toml")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(logs.join(format!("{name}.stderr")))?);
        self.network.place(&mut command, process.place)?;
        let child = self.keeper.spawn(command).with_context(|| format!("start {name}"))?;
        let before = self.running.lock().insert(name.to_owned(), child);
        ensure!(before.is_none(), "{name} ran already");
        Ok(())
    }

    /// `kill -9`, and it is reaped; the instant before the signal.
    pub fn kill(&self, name: &str) -> Result<Instant> {
        let child = self.running.lock().remove(name);
        let mut child = child.with_context(|| format!("{name} does not run"))?;
        let at = Instant::now();
        child.kill()?;
        child.wait()?;
        Ok(at)
    }

    /// Nothing is cut, all that were killed run again.
    pub async fn restore(&self) -> Result<()> {
        self.network.heal()?;
        for process in &self.processes {
            if !self.running.lock().contains_key(&process.name) {
                self.start(&process.name)?;
            }
        }
        self.settled().await
    }

    /// Each gateway is ready, and says that both nodes are there and have all that is committed.
    pub async fn settled(&self) -> Result<()> {
        for place in [Place::A, Place::B] {
            let http = format!("http://{}", self.gateway_in(place)?.http);
            let begun = Instant::now();
            while !self.api.probe(&http, "/readyz").await.is_ok_and(|(status, _)| status == 200) {
                ensure!(begun.elapsed() < READY_WITHIN, "the gateway in {place:?} is not ready");
                tokio::time::sleep(LOOK).await;
            }
            self.api_of(place)?
                .until("/v1/cluster", READY_WITHIN, |status| is_settled(status).then_some(()))
                .await
                .with_context(|| format!("the gateway in {place:?}"))?;
        }
        Ok(())
    }

    /// Ends all processes, and compares what both nodes have in their logs.
    ///
    /// # Errors
    /// Where they differ.
    pub fn compare_logs(self) -> Result<String> {
        self.end();
        let data =
            |place| Ok::<_, anyhow::Error>(self.dir.join("data").join(&self.node_in(place)?.name));
        let output = Command::new(binary("tandem")?)
            .arg("replay")
            .arg(data(Place::A)?)
            .arg("--against")
            .arg(data(Place::B)?)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{said}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn end(&self) {
        for child in self.running.lock().values_mut() {
            // Some may have ended by themselves, which is another's to find.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A number of a process's own metrics, by the name and labels with which its line begins.
    pub async fn metric(&self, process: &str, line: &str) -> Result<Option<f64>> {
        let base = format!("http://{}", self.process(process)?.http);
        let (_, text) = self.api.probe(&base, "/metrics").await?;
        Ok(cluster::metric(&text, line))
    }
}

impl Drop for Boxes {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_settled(status: &Value) -> bool {
    let Some(nodes) = status["nodes"].as_array() else { return false };
    let caught_up = |node: &Value| {
        node["healthy"] == true && node["lag"].as_u64().is_some_and(|lag| lag < LAG_MAX)
    };
    cluster::leader_of(status).is_some() && nodes.iter().all(caught_up)
}
