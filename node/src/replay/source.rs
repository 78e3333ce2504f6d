//! Where entries come from: a node's log, or a trace. Nothing is changed, nothing is locked.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tandem_core::trace::{self, Trace};
use tandem_storage::format;
use tandem_storage::log::history;
use tandem_storage::raft::{ShardId, command_of};

use crate::exit::Usage;

pub struct Wanted<'a> {
    pub node: &'a str,
    pub shard: &'a str,
}

/// One shard's log.
#[derive(Debug, PartialEq, Eq)]
pub struct Recorded {
    pub shard: u16,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    /// None where the entry is consensus's own: a new leader's first, or a change of members.
    pub command: Option<Vec<u8>>,
}

impl Recorded {
    /// Consensus's own entries do nothing to the world and are left out.
    pub fn trace(&self) -> Trace {
        let kept = self.entries.iter().filter_map(|entry| {
            let envelope = entry.command.clone()?;
            Some(trace::Entry { index: entry.index, term: entry.term, envelope })
        });
        Trace { shard: self.shard, entries: kept.collect() }
    }
}

/// # Errors
/// A sentence that says what is wrong with the source.
pub fn read(path: &Path, wanted: &Wanted<'_>) -> Result<Recorded> {
    let wrong = |why: &dyn std::fmt::Display| Usage(format!("{}: {why}", path.display()));
    let kind = path.metadata().map_err(|error| wrong(&error))?;
    if kind.is_file() {
        let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
        let trace = Trace::decode(&bytes).map_err(|error| wrong(&error))?;
        let entries = trace.entries.into_iter().map(|entry| Entry {
            index: entry.index,
            term: entry.term,
            command: Some(entry.envelope),
        });
        return Ok(Recorded { shard: trace.shard, entries: entries.collect() });
    }
    let shard = shard(wanted.shard)?;
    let folder = data_folder(path, wanted.node);
    let (cluster, _node) = format::owner(&folder).map_err(|error| wrong(&error))?;
    let log = history::read(&folder.join("log"), &cluster, shard).map_err(|error| wrong(&error))?;
    let first = log.entries.first().map_or(0, |entry| entry.log_id.index);
    if first > 1 {
        let why = format!("its log begins at {first}: what was before is purged");
        return Err(wrong(&why).into());
    }
    let entries = log.entries.into_iter().map(|entry| Entry {
        index: entry.log_id.index,
        term: entry.log_id.leader_id.term,
        command: command_of(entry),
    });
    Ok(Recorded { shard: shard.0, entries: entries.collect() })
}

/// A node's own folder, or that of a node in the folder of `tandem dev`.
fn data_folder(path: &Path, node: &str) -> PathBuf {
    let within = path.join("data").join(node);
    if within.is_dir() { within } else { path.to_owned() }
}

fn shard(name: &str) -> Result<ShardId> {
    let number = name.strip_prefix('s').and_then(|number| number.parse().ok()).map(ShardId);
    number
        .filter(|shard| *shard != ShardId::META)
        .with_context(|| format!("--shard {name}: expected a tenant shard, for instance s0"))
        .map_err(|error| Usage(error.to_string()).into())
}
