//! A cluster of real processes, started as a user would start it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::api::Api;

/// A first start on two busy cores.
const READY_S_MAX: u64 = 30;
/// How long SIGTERM may take to end every process.
const STOP_S_MAX: u64 = 15;
/// A supervisor notices a death in milliseconds.
const MISSED_WITHIN: Duration = Duration::from_secs(15);
const MISSED_LOOK: Duration = Duration::from_millis(20);
/// A gateway that is started anew has its address again when no calls live there.
const SERVED_WITHIN: Duration = Duration::from_secs(40);

#[derive(Clone, Debug, Deserialize)]
pub struct Processes {
    pub sip: Vec<Vip>,
    pub sip_ca_file: PathBuf,
    pub api: Vec<String>,
    pub token_file: PathBuf,
    pub processes: Vec<Process>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Vip {
    pub vip: String,
    pub serving: String,
    pub tls: String,
    pub ws: String,
    pub wss: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    pub name: String,
    #[serde(rename = "box")]
    pub box_name: String,
    pub role: String,
    pub pid: i32,
    pub alive: bool,
    pub http: String,
    pub version: String,
}

/// `tandem dev` on a folder. Dropping it stops the cluster.
pub struct Cluster {
    dir: PathBuf,
    supervisor: Child,
}

/// Where `make build` leaves the binaries: beside the running one.
pub fn binary(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let found = me.ancestors().skip(1).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built; run `make build`"))
}

/// What a command has said, wherever to.
pub fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// The node that leads the tenant's shard, by what `/v1/cluster` says.
pub fn leader_of(status: &Value) -> Option<&str> {
    let leads = |node: &&Value| {
        node["leads"].as_array().is_some_and(|shards| shards.iter().any(|shard| shard == "s0"))
    };
    status["nodes"].as_array()?.iter().find(leads)?["name"].as_str()
}

/// The number of one line of a process's metrics, by the name and labels with which it begins.
pub fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().last()?.parse().ok()
}

impl Cluster {
    /// Starts `tandem dev --dir DIR` with `options` and waits for `ready`.
    pub fn start(dir: &Path, options: &[&str]) -> Result<Self> {
        let mut supervisor = Command::new(binary("tandem")?)
            .args(["dev", "--dir"])
            .arg(dir)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start tandem dev")?;
        let stdout = supervisor.stdout.take().context("stdout is piped")?;
        let (said, hear) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        let mut cluster = Self { dir: dir.to_owned(), supervisor };
        match hear.recv_timeout(Duration::from_secs(READY_S_MAX)) {
            Ok(line) if line == "ready" => Ok(cluster),
            Ok(line) => bail!("tandem dev said {line:?} instead of ready"),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("tandem dev was not ready within {READY_S_MAX} s")
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = cluster.supervisor.wait()?;
                bail!("tandem dev ended before it was ready: {status}")
            }
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn processes(&self) -> Result<Processes> {
        let text = std::fs::read_to_string(self.dir.join("processes.json"))?;
        Ok(serde_json::from_str(&text)?)
    }

    pub fn api(&self) -> Result<Api> {
        let processes = self.processes()?;
        let token = std::fs::read_to_string(&processes.token_file)?;
        Api::new(processes.api, token.trim().to_owned())
    }

    pub fn process(&self, name: &str) -> Result<Process> {
        let processes = self.processes()?.processes;
        processes
            .into_iter()
            .find(|process| process.name == name)
            .with_context(|| format!("there is no process {name}"))
    }

    /// `kill -9`; returns the instant before the signal.
    pub fn kill(&self, name: &str) -> Result<Instant> {
        self.signal(name, libc::SIGKILL)
    }

    /// Killed, and reaped by its supervisor: it may be started again.
    pub async fn bury(&self, name: &str) -> Result<Instant> {
        let killed = self.kill(name)?;
        while self.process(name)?.alive {
            ensure!(killed.elapsed() < MISSED_WITHIN, "{name} is not missed");
            tokio::time::sleep(MISSED_LOOK).await;
        }
        Ok(killed)
    }

    /// Until the `at`-th service address is served by that gateway; how long it took.
    pub async fn served_by(&self, at: usize, gateway: &str) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let vip = self.processes()?.sip.into_iter().nth(at).context("an address")?;
            if vip.serving == gateway {
                return Ok(begun.elapsed());
            }
            ensure!(begun.elapsed() < SERVED_WITHIN, "{vip:?} is not served by {gateway}");
            tokio::time::sleep(MISSED_LOOK).await;
        }
    }

    /// Any signal, for instance SIGSTOP; returns the instant before it.
    pub fn signal(&self, name: &str, signal: i32) -> Result<Instant> {
        let pid = self.process(name)?.pid;
        let at = Instant::now();
        // SAFETY: kill(2) takes plain numbers; the pid is of a child of our own supervisor.
        if unsafe { libc::kill(pid, signal) } != 0 {
            let error = std::io::Error::last_os_error();
            bail!("signal {signal} to {name} ({pid}): {error}");
        }
        Ok(at)
    }

    /// `tandem dev stop NAME`: ends one process in order.
    pub fn stop_one(&self, name: &str) -> Result<()> {
        let status = Command::new(binary("tandem")?)
            .args(["dev", "stop", name, "--dir"])
            .arg(&self.dir)
            .status()?;
        ensure!(status.success(), "tandem dev stop {name}: {status}");
        Ok(())
    }

    /// `tandem dev start NAME`: brings a dead process back.
    pub fn revive(&self, name: &str) -> Result<()> {
        let status = Command::new(binary("tandem")?)
            .args(["dev", "start", name, "--dir"])
            .arg(&self.dir)
            .status()?;
        if !status.success() {
            bail!("tandem dev start {name}: {status}");
        }
        Ok(())
    }

    /// The name of the node that leads the tenant's shard, by the API.
    pub async fn leader(&self) -> Result<String> {
        let status = self.api()?.get("/v1/cluster").await?;
        Ok(leader_of(&status).context("no node leads s0")?.to_owned())
    }

    /// SIGKILL to the supervisor, with whom all of its processes die: as if the power went.
    pub fn power_off(&mut self) -> Result<()> {
        self.supervisor.kill()?;
        self.supervisor.wait()?;
        Ok(())
    }

    /// SIGTERM, and the exit code of the supervisor.
    pub fn stop(mut self) -> Result<Option<i32>> {
        self.terminate()
    }

    fn terminate(&mut self) -> Result<Option<i32>> {
        let pid = i32::try_from(self.supervisor.id())?;
        // SAFETY: as above; the supervisor is our own child and not yet reaped.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(STOP_S_MAX);
        while Instant::now() < deadline {
            if let Some(status) = self.supervisor.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.supervisor.kill()?;
        self.supervisor.wait()?;
        bail!("tandem dev did not stop within {STOP_S_MAX} s of SIGTERM")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if matches!(self.supervisor.try_wait(), Ok(None)) {
            // A test that fails must not leave a cluster behind; the error is already told.
            let _ = self.terminate();
        }
    }
}
