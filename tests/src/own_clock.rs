//! A node whose wall clock a test sets, and nobody else's: it runs outside of its supervisor under
//! libfaketime, which leaves the monotonic and the boot clock alone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::Instant;

use crate::Api;
use crate::cluster::{Cluster, binary};

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const UP_WITHIN: Duration = Duration::from_secs(20);
/// libfaketime reads its file again once a second, the node looks at its clock as often.
const SET_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(25);
/// Between what was set and what the node finds: the log's time is that far from true time.
const OFF_S_MAX: f64 = 1.5;

/// Dropping it kills it.
pub struct OwnClock {
    name: String,
    config: PathBuf,
    http: String,
    /// What libfaketime reads.
    file: PathBuf,
    child: Child,
}

/// Where Debian has it, whatever the architecture.
fn library() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").context("/usr/lib")?.flatten();
    let mut found = folders.map(|folder| folder.path().join(LIBRARY)).filter(|path| path.is_file());
    found.next().context("libfaketime is missing: `make tools` installs it")
}

impl OwnClock {
    /// In the place of the node that the cluster's supervisor has started.
    pub fn start(cluster: &Cluster, name: &str) -> Result<Self> {
        let http = format!("http://{}", cluster.process(name)?.http);
        cluster.stop_one(name)?;
        let file = cluster.dir().join(format!("{name}.clock"));
        write(&file, 0)?;
        let config = cluster.dir().join("conf").join(format!("{name}.toml"));
        let child = spawn(&config, &file)?;
        Ok(Self { name: name.to_owned(), config, http, file, child })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `kill -9`. Nobody tells of it: its peers find out by themselves.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// After a death, with the clock as it was set last.
    pub fn revive(&mut self) -> Result<()> {
        ensure!(self.child.try_wait()?.is_some(), "{} runs", self.name);
        self.child = spawn(&self.config, &self.file)?;
        Ok(())
    }

    /// Sets the wall clock so far ahead of true time, and waits until the node has seen it.
    pub async fn set(&self, api: &Api, ahead_s: i32) -> Result<()> {
        write(&self.file, ahead_s)?;
        let deadline = Instant::now() + SET_WITHIN;
        loop {
            let offset_s = self.offset_s(api).await.ok().flatten();
            if offset_s.is_some_and(|offset_s| (offset_s - f64::from(ahead_s)).abs() < OFF_S_MAX) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{} was set {ahead_s} s ahead and says {offset_s:?}", self.name);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the node finds its wall clock to be ahead of the log's time; none before it knows that.
    pub async fn offset_s(&self, api: &Api) -> Result<Option<f64>> {
        let (_, text) = api.probe(&self.http, "/metrics").await?;
        let mut lines =
            text.lines().filter(|line| line.starts_with("tandem_clock_offset_seconds{"));
        Ok(lines.next().and_then(|line| line.split_whitespace().last()?.parse().ok()))
    }

    /// Follows or leads, with all that is committed, and knows the log's time.
    pub async fn up(&self, cluster: &Cluster, api: &Api) -> Result<()> {
        let caught_up = |status: &serde_json::Value| {
            let nodes = status["nodes"].as_array()?;
            let me = nodes.iter().find(|node| node["name"] == self.name)?;
            let here = me["healthy"] == true && me["lag"].as_u64().is_some_and(|lag| lag < 10);
            here.then_some(())
        };
        api.until("/v1/cluster", UP_WITHIN, caught_up).await?;
        let deadline = Instant::now() + UP_WITHIN;
        while self.offset_s(api).await.ok().flatten().is_none() {
            if Instant::now() >= deadline {
                bail!("{} does not know the time; {} leads", self.name, cluster.leader().await?);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for OwnClock {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.kill();
    }
}

/// Whole: it may be read at any moment.
fn write(file: &Path, ahead_s: i32) -> Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{ahead_s:+}\n"))?;
    std::fs::rename(new, file)?;
    Ok(())
}

fn spawn(config: &Path, file: &Path) -> Result<Child> {
    let mut command = Command::new(binary("tandem")?);
    command
        .args(["node", "--config"])
        .arg(config)
        .env("LD_PRELOAD", library()?)
        .env("FAKETIME_TIMESTAMP_FILE", file)
        .env("FAKETIME_CACHE_DURATION", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().with_context(|| format!("start {}", config.display()))
}
