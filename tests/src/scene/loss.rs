//! What dies, or is emptied, while calls live.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cluster::said;
use crate::house::House;

/// A restarted node's state is compared before it is relied on.
const WITHIN: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(20);
/// Longer than a lease, so that the other one serves when it wakes up.
const STANDS_STILL: Duration = Duration::from_millis(2_500);

/// Of the process that serves an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// `kill -9`.
    Gateway,
    /// The same, and that of its node.
    Box,
    /// SIGSTOP, and SIGCONT a while after: nothing proves that it is dead.
    Pause,
    /// `tandem node drain`.
    Drain,
}

impl Loss {
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Box, Self::Pause, Self::Drain];

    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway killed",
            Self::Box => "box killed",
            Self::Pause => "gateway stands still",
            Self::Drain => "gateway drained",
        }
    }

    /// Until either box may be lost.
    ///
    /// # Errors
    /// It does not come to be.
    pub async fn awaits(self, house: &House) -> Result<()> {
        let both = |status: &Value| {
            let ok = |name: &str| status["can_lose"][name]["ok"] == true;
            (ok("a") && ok("b")).then_some(())
        };
        house.api.until("/v1/cluster", WITHIN, both).await
    }

    /// It happens; the processes that it happened to.
    ///
    /// # Errors
    /// It does not happen.
    pub async fn strike(self, house: &House, at: usize) -> Result<Vec<String>> {
        let processes = house.cluster.processes()?;
        let serving = processes.sip.get(at).context("an address")?.serving.clone();
        let lost_box = house.cluster.process(&serving)?.box_name;
        let lost = processes
            .processes
            .into_iter()
            .map(|it| (it.name, it.box_name))
            .filter(|it| it.0 == serving || (self == Self::Box && it.1 == lost_box));
        let lost: Vec<String> = lost.map(|(name, _)| name).collect();
        match self {
            Self::Gateway | Self::Box => {
                for name in &lost {
                    house.cluster.kill(name)?;
                }
            }
            Self::Pause => {
                house.cluster.signal(&serving, libc::SIGSTOP)?;
                sleep(STANDS_STILL).await;
                house.cluster.signal(&serving, libc::SIGCONT)?;
            }
            Self::Drain => order(house, "drain", &serving).await?,
        }
        Ok(lost)
    }

    /// All is there again.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn mend(self, house: &House, lost: &[String]) -> Result<()> {
        for name in lost {
            match self {
                Self::Gateway | Self::Box => {
                    let begun = Instant::now();
                    while house.cluster.process(name)?.alive {
                        ensure!(begun.elapsed() < WITHIN, "{name} was not reaped");
                        sleep(LOOK).await;
                    }
                    house.cluster.revive(name)?;
                }
                Self::Pause => {}
                Self::Drain => order(house, "undrain", name).await?,
            }
        }
        Ok(())
    }
}

/// On a thread of its own: the command waits, and phones must go on.
async fn order(house: &House, what: &str, name: &str) -> Result<()> {
    let mut command = house.tandem(&["node", what, name])?;
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "{what} {name}: {}", said(&output));
    Ok(())
}
