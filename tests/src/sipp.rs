//! SIPp: a SIP peer that is not ours.

use std::io::Write as _;
use std::net::SocketAddr;
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

/// Dropping it ends it.
pub struct Sipp {
    child: Child,
    /// Removed with it.
    _scenario: tempfile::TempPath,
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
        Ok(Self { child, _scenario: scenario })
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
