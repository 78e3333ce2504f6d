//! `tandem replay`: a recorded log, entry by entry.
//!
//! Read in this order: [`source`] (where entries come from), [`step`] (what each does), [`print`].

mod compare;
mod print;
mod source;
mod step;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use tandem_core::ids::EntityId;

use crate::exit::Usage;
use source::Wanted;
use step::Stepper;

#[derive(Debug, Args)]
pub struct Replay {
    /// A node's data folder, the folder of `tandem dev`, or a trace
    source: PathBuf,
    /// Whose log, in the folder of `tandem dev`
    #[arg(long, default_value = "node-a")]
    node: String,
    /// For instance s0; a trace is of one shard only
    #[arg(long, default_value = "s0")]
    shard: String,
    /// The first index that is shown
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// The last index that is shown
    #[arg(long, default_value_t = u64::MAX)]
    to: u64,
    /// Show only entries that touch it: call/ID, agent/1001, queue/support, channel/carrier/1
    #[arg(long)]
    entity: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Print `index hash` of the state after each entry, for `--against` of another build
    #[arg(long, conflicts_with_all = ["entity", "json"])]
    hashes: bool,
    /// Find the first index where it and another log, trace or list of hashes differ
    #[arg(long, conflicts_with_all = ["entity", "json", "hashes"])]
    against: Option<PathBuf>,
    /// Write the log as a trace, and show nothing
    #[arg(long, conflicts_with_all = ["entity", "json", "hashes", "against"])]
    save: Option<PathBuf>,
}

pub fn run(replay: &Replay) -> Result<()> {
    let wanted = Wanted { node: &replay.node, shard: &replay.shard };
    let log = source::read(&replay.source, &wanted)?;
    if let Some(path) = &replay.save {
        let bytes = log.trace().encode();
        std::fs::write(path, bytes)
            .with_context(|| format!("{} can't be written", path.display()))?;
        println!("{} entries written to {}", log.entries.len(), path.display());
        return Ok(());
    }
    if let Some(other) = &replay.against {
        return compare::run(&log, other, &wanted);
    }
    let only = replay.entity.as_deref().map(entity).transpose()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut stepper = Stepper::new(log.shard);
    for entry in &log.entries {
        let step = stepper.step(entry);
        let shown = (replay.from..=replay.to).contains(&step.index)
            && only.as_ref().is_none_or(|only| step.changes.iter().any(|c| c.entity == *only));
        let written = match (shown, replay.hashes, replay.json) {
            (false, ..) => Ok(()),
            (true, true, _) => writeln!(out, "{} {}", step.index, step.hash),
            (true, false, true) => writeln!(out, "{}", print::json(&step)),
            (true, false, false) => print::text(&mut out, &step, only.as_ref()),
        };
        // Whoever reads may have seen enough.
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("stdout")?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("stdout")
        }
        _ => Ok(()),
    }
}

fn entity(text: &str) -> Result<EntityId> {
    let found = text.split_once('/').and_then(|(kind, id)| crate::server::shard::entity(kind, id));
    found.ok_or_else(|| {
        let expected = "call/ID, agent/ID, queue/NAME, channel/TRUNK/NUMBER or gateway/NAME";
        Usage(format!("--entity {text}: expected {expected}")).into()
    })
}

#[cfg(test)]
mod tests;
