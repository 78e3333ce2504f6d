//! Processes that end with the one that started them, even where that is killed.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc;

use anyhow::{Context as _, Result};

type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);

/// A thread that lives as long as this does. The kernel's parent-death signal follows the thread that
/// started a process, and those of a runtime come and go.
pub struct Keeper(mpsc::SyncSender<Order>);

impl Keeper {
    pub fn start() -> Result<Self> {
        let (orders, inbox) = mpsc::sync_channel::<Order>(1);
        std::thread::Builder::new().name("keeper".into()).spawn(move || {
            for (mut command, answer) in inbox {
                // Whoever ordered it waits.
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(Self(orders))
    }

    pub fn spawn(&self, mut command: Command) -> Result<Child> {
        // SAFETY: between fork and exec there is one call, prctl(2), which is async-signal-safe.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let (answer, answered) = mpsc::sync_channel(1);
        self.0.send((command, answer)).ok().context("the keeper is gone")?;
        Ok(answered.recv().context("the keeper is gone")??)
    }
}
