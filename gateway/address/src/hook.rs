//! A command of the operator's that moves an address: for one whose owner is somebody else, keepalived or a cloud.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::error::Error;
use crate::limits::{HOOK_DROP, HOOK_TAKE};

/// What it is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Take,
    Drop,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Drop => "drop",
        }
    }

    fn limit(self) -> Duration {
        match self {
            Self::Take => HOOK_TAKE,
            Self::Drop => HOOK_DROP,
        }
    }
}

/// It is run with `arguments`, the action, the line and the address, which stand in `TANDEM_ACTION`, `TANDEM_LINE` and
/// `TANDEM_ADDRESS`, too. What it says goes to the process's standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub command: PathBuf,
    pub arguments: Vec<String>,
}

impl Hook {
    /// # Errors
    /// Where it can't be started, fails, or is not done in time: then it is killed, with all that it has started.
    pub async fn run(&self, action: Action, line: &str, address: IpAddr) -> Result<(), Error> {
        let named = || self.command.display().to_string();
        let start = |source| Error::Start { command: named(), source };
        let mut command = Command::new(&self.command);
        command
            .args(&self.arguments)
            .args([action.as_str(), line, &address.to_string()])
            .env("TANDEM_ACTION", action.as_str())
            .env("TANDEM_LINE", line)
            .env("TANDEM_ADDRESS", address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(start)?;
        let group = Group::of(child.id());
        match timeout(action.limit(), child.wait()).await {
            Ok(Ok(status)) => {
                group.leave();
                let failed = || Error::Failed { command: named(), action: action.as_str(), status };
                status.success().then_some(()).ok_or_else(failed)
            }
            Ok(Err(source)) => Err(start(source)),
            Err(_) => Err(Error::Hung {
                command: named(),
                action: action.as_str(),
                limit: action.limit(),
            }),
        }
    }
}

/// A command and what it has started. Dropping it ends them all, also where whoever waits for it is gone.
struct Group(Option<i32>);

impl Group {
    fn of(id: Option<u32>) -> Self {
        Self(id.and_then(|id| i32::try_from(id).ok()))
    }

    /// It is done: what it has left running is no concern of ours.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // SAFETY: kill(2) takes plain numbers. The command was not waited for, so the number is no other group's yet.
            unsafe { libc::kill(-id, libc::SIGKILL) };
        }
    }
}

#[cfg(test)]
mod tests;
