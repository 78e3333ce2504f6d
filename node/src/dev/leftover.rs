//! Processes of a supervisor that was killed: the kernel ends them with it, but not in no time,
//! and until then they hold their ports and their data.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::child;
use super::folder::Folder;
use super::processes::{Process, Processes};
use super::supervisor::pollfd;

const GONE_MS_MAX: u64 = 5_000;

pub fn wait(folder: &Folder) -> Result<()> {
    // On a first start there is no such file.
    let Ok(processes) = Processes::read(folder) else { return Ok(()) };
    let deadline = Instant::now() + Duration::from_millis(GONE_MS_MAX);
    for left in &processes.processes {
        // No such process: it is gone.
        let Ok(pidfd) = child::pidfd(left.pid) else { continue };
        // Asked while the descriptor holds the id: it can't become another's any more.
        if !is_ours(folder, left) {
            continue;
        }
        let mut fds = [pollfd(pidfd.as_raw_fd())];
        let wait_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
        let wait_ms = libc::c_int::try_from(wait_ms).unwrap_or(libc::c_int::MAX);
        // SAFETY: poll(2) on an array of one entry that outlives the call.
        if unsafe { libc::poll(fds.as_mut_ptr(), 1, wait_ms) } == 0 {
            bail!("{} (process {}) of the last run does not end", left.name, left.pid);
        }
    }
    Ok(())
}

/// The id may have been given to a stranger since: the command line tells. One that is dying has
/// none any more, though its ports are still open; there the name of the program has to do.
fn is_ours(folder: &Folder, process: &Process) -> bool {
    let read = |file: &str| std::fs::read(format!("/proc/{}/{file}", process.pid));
    let command = read("cmdline").unwrap_or_default();
    if command.is_empty() {
        let own = std::fs::read("/proc/self/comm").unwrap_or_default();
        return read("comm").is_ok_and(|comm| comm == own);
    }
    let config = folder.process_config(&process.name);
    command.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes())
}
