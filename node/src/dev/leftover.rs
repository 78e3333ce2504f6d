//! Processes of a supervisor that was killed: the kernel ends them with it, but not in no time,
//! and until then they hold their ports and their data.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::folder::Folder;
use super::processes::Processes;

const GONE_MS_MAX: u64 = 5_000;
const LOOK_AGAIN_MS: u64 = 10;

pub fn wait(folder: &Folder) -> Result<()> {
    // On a first start there is no such file.
    let Ok(processes) = Processes::read(folder) else { return Ok(()) };
    let deadline = Instant::now() + Duration::from_millis(GONE_MS_MAX);
    loop {
        let left = processes.processes.iter().find(|p| runs(folder, &p.name, p.pid));
        let Some(left) = left else { return Ok(()) };
        if Instant::now() >= deadline {
            bail!("{} (process {}) of the last run does not end", left.name, left.pid);
        }
        std::thread::sleep(Duration::from_millis(LOOK_AGAIN_MS));
    }
}

/// Its id may be another's by now: the command line tells.
fn runs(folder: &Folder, name: &str, pid: u32) -> bool {
    let config = folder.process_config(name);
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes())
}
