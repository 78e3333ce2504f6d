//! SIPp: a SIP peer that is not ours.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

/// Calls a number, sends no audio, hangs up after a while.
const CALL: &str = include_str!("sipp/call.xml");
/// Between two looks whether it has ended.
const LOOK_AGAIN_MS: u64 = 20;

#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub calls: u32,
    pub per_s: u32,
    pub talk_ms: u32,
}

/// One call by a scenario of a file.
#[derive(Clone, Copy, Debug)]
pub struct Scenario<'a> {
    pub file: &'a Path,
    pub number: &'a str,
    pub tcp: bool,
    /// Its own; those behind it are for media.
    pub port: u16,
}

/// Dropping it ends it.
pub struct Sipp {
    child: Child,
    /// Removed with it.
    _scenario: Option<tempfile::TempPath>,
    errors: Option<tempfile::TempPath>,
}

impl Sipp {
    pub fn call(vip: SocketAddr, number: &str, load: Load) -> Result<Self> {
        let mut scenario = tempfile::Builder::new().suffix(".xml").tempfile()?;
        scenario.write_all(CALL.as_bytes())?;
        let scenario = scenario.into_temp_path();
        let child = Command::new("sipp")
            .arg(vip.to_string())
            .arg("-sf")
            .arg(&scenario)
            .args(["-s", number, "-i", "127.0.0.1", "-nostdin", "-timeout", "60s"])
            .args(["-r", &load.per_s.to_string(), "-m", &load.calls.to_string()])
            .args(["-d", &load.talk_ms.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start sipp (Debian: sip-tester)")?;
        Ok(Self { child, _scenario: Some(scenario), errors: None })
    }

    /// Plays a scenario once.
    pub fn play(vip: SocketAddr, scenario: &Scenario<'_>) -> Result<Self> {
        let errors = tempfile::Builder::new().suffix(".log").tempfile()?.into_temp_path();
        let child = Command::new("sipp")
            .arg(vip.to_string())
            .arg("-sf")
            .arg(scenario.file)
            .args(["-s", scenario.number, "-i", "127.0.0.1", "-nostdin", "-m", "1"])
            .args(["-t", if scenario.tcp { "t1" } else { "u1" }])
            .args(["-p", &scenario.port.to_string(), "-mp", &(scenario.port + 2).to_string()])
            .args(["-recv_timeout", "10000", "-timeout", "30s", "-timeout_error", "-trace_err"])
            .arg("-error_file")
            .arg(&errors)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start sipp (Debian: sip-tester)")?;
        Ok(Self { child, _scenario: None, errors: Some(errors) })
    }

    /// Takes one call by a scenario, as a carrier would.
    pub fn take(address: SocketAddr, scenario: &Path) -> Result<Self> {
        let errors = tempfile::Builder::new().suffix(".log").tempfile()?.into_temp_path();
        let child = Command::new("sipp")
            .arg("-sf")
            .arg(scenario)
            .args(["-i", &address.ip().to_string(), "-p", &address.port().to_string()])
            .args(["-mp", &(address.port() + 2).to_string(), "-nostdin", "-m", "1"])
            .args(["-timeout", "60s", "-timeout_error", "-trace_err", "-error_file"])
            .arg(&errors)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start sipp (Debian: sip-tester)")?;
        Ok(Self { child, _scenario: None, errors: Some(errors) })
    }

    /// What it has written of what went wrong.
    pub fn errors(&self) -> String {
        let text = self.errors.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        text.unwrap_or_default()
    }

    /// It exits 0 only if every call went by its scenario.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("SIPp has not ended within {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
        }
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
