//! A running Asterisk, within a Debian of its own (`chroot`): told what to do by its command line.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tandem_tests::house::House;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::config;
use crate::listen::{LOOK_AGAIN, WITHIN};

/// Within its root.
pub const FOLDER: &str = "tmp/tandem";

/// Dropping it ends it.
pub struct Asterisk {
    _child: Child,
    root: PathBuf,
}

impl Asterisk {
    /// Its phones talk to the first service address of the house.
    pub async fn start(root: &Path, house: &House, wait_s: u64) -> Result<Self> {
        let folder = root.join(FOLDER);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        for (name, text) in config::files(house.vips[0], wait_s) {
            std::fs::write(folder.join(name), text)?;
        }
        let child = Command::new("chroot")
            .arg(root)
            .args(["/usr/sbin/asterisk", "-f", "-C"])
            .arg(format!("/{FOLDER}/asterisk.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start asterisk")?;
        let asterisk = Self { _child: child, root: root.to_owned() };
        asterisk.until("core waitfullybooted", |said| said.contains("fully booted")).await?;
        Ok(asterisk)
    }

    /// What its command line says.
    pub async fn ask(&self, command: &str) -> Result<String> {
        let output = Command::new("chroot")
            .arg(&self.root)
            .args(["/usr/sbin/asterisk", "-C"])
            .arg(format!("/{FOLDER}/asterisk.conf"))
            .args(["-rx", command])
            .stdin(Stdio::null())
            .output()
            .await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub async fn until(&self, command: &str, done: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let said = self.ask(command).await?;
            if done(&said) {
                return Ok(said);
            }
            if Instant::now() >= deadline {
                bail!("{command}: {said}");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The name of the one channel of an endpoint, once it is there.
    pub async fn channel(&self, endpoint: &str) -> Result<String> {
        let of = |said: &str| {
            let prefix = format!("PJSIP/{endpoint}-");
            let line = said.lines().find(|line| line.starts_with(&prefix))?;
            line.split('!').next().map(str::to_owned)
        };
        let said = self.until("core show channels concise", |said| of(said).is_some()).await?;
        of(&said).context("the channel is gone")
    }

    /// Until an endpoint has no channel any more.
    pub async fn is_free(&self, endpoint: &str) -> Result<()> {
        let prefix = format!("PJSIP/{endpoint}-");
        let free = |said: &str| !said.lines().any(|line| line.starts_with(&prefix));
        self.until("core show channels concise", free).await.map(drop)
    }

    /// Hangs up the one call of an endpoint.
    pub async fn hang_up(&self, endpoint: &str) -> Result<()> {
        let channel = self.channel(endpoint).await?;
        self.ask(&format!("channel request hangup {channel}")).await?;
        self.is_free(endpoint).await
    }

    /// Until a global variable of its dialplan says so.
    pub async fn says(&self, variable: &str, value: &str) -> Result<()> {
        let wanted = format!("{variable}={value}");
        let said = |said: &str| said.lines().any(|line| line.trim() == wanted);
        self.until("dialplan show globals", said).await.map(drop)
    }

    /// Where it writes what it hears in the calls of that name.
    pub fn heard(&self, name: &str) -> PathBuf {
        self.root.join(FOLDER).join(format!("heard-{name}.wav"))
    }
}
