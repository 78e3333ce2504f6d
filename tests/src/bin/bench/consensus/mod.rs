//! Our commits beside etcd's, in one run and by turns, so that both have the same hour of the same disk.
//!
//! A command of ours is a REGISTER as a gateway sends it up its link: an actor proposes it, a majority has it on
//! their disks, two nodes apply it, rows are written, and its 200 comes down as an effect. It counts when the
//! gateway is told so. etcd's is a put of as many bytes, sent to its leader. Voters are three processes each, every
//! append is synced; ours talk by mutual TLS, etcd in the clear, as it comes.
//!
//! At a given rate each command is timed from when it was due, not from when it could be sent: who stalls is
//! charged for all that had to wait (`tandem_tests::offer`).

mod etcd;
mod figures;
mod gateway;
mod kills;
mod ours;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tandem_tests::offer::{self, Commits};

use crate::load_average;
use crate::usage::{self, Usage};
use etcd::Etcd;
use figures::{Figures, Phase};
use ours::Ours;

const ROUNDS: u32 = 3;
const OFFERED_A_SECOND: u32 = 1_000;
const OFFERED: Duration = Duration::from_secs(10);
const OUTSTANDING: [usize; 2] = [64, 512];
const FULL: Duration = Duration::from_secs(6);
/// Between two phases: what the one before has left to write is not the next one's.
const REST: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_secs(10);
const KILLS: u32 = 20;

pub struct Options {
    /// Where the program is.
    pub etcd: PathBuf,
    /// Where the figures go as JSON, too.
    pub json: Option<PathBuf>,
    /// Ours without etcd, to look into.
    pub alone: bool,
}

/// One of the two that are compared.
pub trait Side: Commits {
    const NAME: &'static str;

    fn voters(&self) -> Result<Vec<(String, i32)>>;

    /// The leader, once every voter lives and has caught up.
    fn settled(&self) -> impl Future<Output = Result<String>> + Send;

    /// `kill -9`; the instant before it. Commands go to who is left.
    fn kill(&self, voter: &str) -> Result<Instant>;

    fn revive(&self, voter: &str) -> impl Future<Output = Result<()>> + Send;
}

pub async fn run(dir: &Path, options: &Options) -> Result<()> {
    let load_before = load_average();
    let ours = Arc::new(Ours::start(&dir.join("tandem")).await?);
    let bytes = ours.command_bytes();
    println!("consensus: commands of {bytes} bytes, 3 voters, each append synced");
    if options.alone {
        return run_alone(&ours).await;
    }
    let etcd = Arc::new(Etcd::start(&options.etcd, &dir.join("etcd"), bytes).await?);
    let (mut of_ours, mut of_etcd) = (Figures::new()?, Figures::new()?);
    let phases = phases();
    for round in 0..ROUNDS {
        for phase in &phases {
            // Who comes first in one round comes second in the next.
            if round % 2 == 0 {
                measure(&ours, phase, &mut of_ours).await?;
                measure(&etcd, phase, &mut of_etcd).await?;
            } else {
                measure(&etcd, phase, &mut of_etcd).await?;
                measure(&ours, phase, &mut of_ours).await?;
            }
        }
    }
    tokio::time::sleep(REST).await;
    let (idle_ours, idle_etcd) = (Usage::begin(ours.voters()?)?, Usage::begin(etcd.voters()?)?);
    tokio::time::sleep(QUIET).await;
    of_ours.rest(&idle_ours, resident(ours.as_ref())?)?;
    of_etcd.rest(&idle_etcd, resident(etcd.as_ref())?)?;
    for _ in 0..KILLS {
        of_ours.killed(kills::kill_leader(&ours).await?)?;
        of_etcd.killed(kills::kill_leader(&etcd).await?)?;
    }
    figures::print(&of_ours, &of_etcd);
    if let Some(path) = &options.json {
        let json = figures::json(&of_ours, &of_etcd, bytes, &load_before);
        let text = serde_json::to_string_pretty(&json)?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn phases() -> Vec<Phase> {
    let offered = Phase::Offered { a_second: OFFERED_A_SECOND, over: OFFERED };
    let full = OUTSTANDING.map(|outstanding| Phase::Full { outstanding, over: FULL });
    std::iter::once(offered).chain(full).collect()
}

async fn run_alone(ours: &Arc<Ours>) -> Result<()> {
    let mut figures = Figures::new()?;
    for _ in 0..ROUNDS {
        for phase in &phases() {
            measure(ours, phase, &mut figures).await?;
        }
    }
    Ok(())
}

async fn measure<S: Side>(side: &Arc<S>, phase: &Phase, figures: &mut Figures) -> Result<()> {
    tokio::time::sleep(REST).await;
    side.settled().await?;
    let usage = Usage::begin(side.voters()?)?;
    let outcome = match *phase {
        Phase::Offered { a_second, over } => offer::at_rate(side, a_second, over).await?,
        Phase::Full { outstanding, over } => offer::outstanding(side, outstanding, over).await?,
    };
    figures.add::<S>(phase, outcome, usage.percent()?)
}

fn resident<S: Side>(side: &S) -> Result<Vec<(String, u64)>> {
    let voters = side.voters()?.into_iter();
    voters.map(|(name, pid)| Ok((name, usage::resident_mib(pid)?))).collect()
}
