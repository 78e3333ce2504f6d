//! The first index where two logs, or two builds on the same log, differ.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};

use super::source::{self, Entry, Recorded, Wanted};
use super::step::Stepper;
use crate::exit::Usage;

/// Says that they agree, or fails with where they first do not.
pub fn run(log: &Recorded, other: &Path, wanted: &Wanted<'_>) -> Result<()> {
    let said = match hashes(other)? {
        Some(hashes) => against_hashes(log, &hashes),
        None => against_log(log, &source::read(other, wanted)?),
    };
    match said {
        Ok(agreed) => println!("{agreed}"),
        Err(difference) => bail!("{difference}"),
    }
    Ok(())
}

/// What `--hashes` printed; none where the file is something else.
fn hashes(path: &Path) -> Result<Option<BTreeMap<u64, String>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
    let mut hashes = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let pair = line.split_once(' ').and_then(|(index, hash)| {
            let hex = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            Some((index.parse().ok()?, hash.to_owned())).filter(|_| hex)
        });
        match pair {
            Some((index, hash)) => hashes.insert(index, hash),
            None if number == 1 => return Ok(None),
            None => {
                let expected = "an index, a space, 64 hexadecimal digits";
                let path = path.display();
                return Err(Usage(format!("{path}, line {number}: expected {expected}")).into());
            }
        };
    }
    Ok(Some(hashes))
}

pub fn against_hashes(log: &Recorded, theirs: &BTreeMap<u64, String>) -> Result<String, String> {
    let mut stepper = Stepper::new(log.shard);
    let mut compared = 0;
    for entry in &log.entries {
        let step = stepper.step(entry);
        let Some(hash) = theirs.get(&step.index) else { continue };
        compared += 1;
        if *hash != step.hash {
            return Err(format!(
                "the state differs first after index {}: {} here, {hash} there",
                step.index, step.hash
            ));
        }
    }
    if compared == 0 {
        return Err("no index of the one is in the other".to_owned());
    }
    Ok(format!("the same state after each of {compared} entries"))
}

/// By index: a trace holds no entries of consensus's own.
pub fn against_log(ours: &Recorded, theirs: &Recorded) -> Result<String, String> {
    if ours.shard != theirs.shard {
        return Err(format!("one is of shard s{}, the other of s{}", ours.shard, theirs.shard));
    }
    let commands = |log: &Recorded| -> BTreeMap<u64, Entry> {
        let commands = log.entries.iter().filter(|entry| entry.command.is_some());
        commands.map(|entry| (entry.index, entry.clone())).collect()
    };
    let (ours, theirs) = (commands(ours), commands(theirs));
    let end = |log: &BTreeMap<u64, Entry>| log.keys().next_back().copied().unwrap_or(0);
    let common = end(&ours).min(end(&theirs));
    let first = (1..=common).find(|index| ours.get(index) != theirs.get(index));
    match first {
        Some(index) => Err(format!("they differ first at index {index}")),
        None if end(&ours) == end(&theirs) => Ok(format!("the same up to the end, {common}")),
        None => Ok(format!(
            "the same up to index {common}; one ends there, the other at {}",
            end(&ours).max(end(&theirs))
        )),
    }
}
