//! The replica of one node: the world in memory, and the rows on its disk. A killed process comes
//! back with the rows of some earlier moment and applies the log from there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tandem_core::command::Command;
use tandem_core::effect::Effect;
use tandem_core::log_time::Told;
use tandem_core::rows::RowChange;
use tandem_core::{Applied, Meta, Reply, World, wire};

use crate::consensus::Proposal;
use crate::digest::Digest;
use crate::draws::For;
use crate::event::Event;
use crate::limits;
use crate::names;
use crate::planted;
use crate::simulation::Simulation;

/// Entries whose rows are kept apart from the disk's; beyond it the older ones are flushed.
const UNFLUSHED_MAX: usize = 1_024;
/// Entries applied at once.
const BATCH_MAX: u64 = 24;

type Rows = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

#[derive(Debug, Default)]
pub struct Replica {
    pub world: World,
    pub applied: u64,
    /// Rows of every entry up to here are stored, though perhaps not flushed.
    pub stored: u64,
    disk: Rows,
    flushed: u64,
    unflushed: VecDeque<(u64, Vec<RowChange>)>,
    /// Applied, not stored.
    unstored: VecDeque<Released>,
}

/// What one entry came to, released when its rows are stored.
#[derive(Debug)]
pub struct Released {
    pub index: u64,
    pub effects: Vec<Arc<Effect>>,
    pub reply: Reply,
    pub proposal: Option<Proposal>,
}

impl Replica {
    /// Rows up to `index` reach the disk.
    fn flush(&mut self, index: u64) {
        while self.unflushed.front().is_some_and(|(of, _)| *of <= index) {
            let Some((of, rows)) = self.unflushed.pop_front() else { return };
            self.flushed = of;
            for RowChange { family, key, value } in rows {
                match value {
                    Some(value) => self.disk.insert((family, key), value),
                    None => self.disk.remove(&(family, key)),
                };
            }
        }
    }

    /// Killed: of what was stored, what was flushed up to `index` is left.
    pub fn lose(&mut self, index: u64) {
        self.flush(index.min(self.stored));
        self.unflushed.clear();
        self.unstored.clear();
    }

    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    pub fn lose_disk(&mut self) {
        *self = Self::default();
    }

    /// All rows of now: a snapshot for another node.
    fn rows(&self) -> (Rows, u64) {
        let mut whole = Self { disk: self.disk.clone(), ..Self::default() };
        whole.unflushed = self.unflushed.clone();
        whole.flush(self.stored);
        (whole.disk, self.stored)
    }

    /// The world as the rows tell it.
    ///
    /// # Errors
    /// A sentence: a row of our own can't be read.
    pub fn restore(&mut self) -> Result<(), String> {
        let rows = self.disk.iter().map(|((family, _), value)| (*family, value.as_slice()));
        self.world = restored(rows)?;
        self.applied = self.flushed;
        self.stored = self.flushed;
        Ok(())
    }

    /// # Errors
    /// A sentence: the rows do not reproduce the world.
    pub fn check_rows(&self) -> Result<(), String> {
        if self.stored != self.applied {
            return Ok(());
        }
        // The disk with what is not flushed over it, without a copy of either.
        let mut rows: BTreeMap<(&'static str, &[u8]), &[u8]> = self
            .disk
            .iter()
            .map(|((family, key), value)| ((*family, key.as_slice()), value.as_slice()))
            .collect();
        for row in self.unflushed.iter().flat_map(|(_, rows)| rows) {
            let place = (row.family, row.key.as_slice());
            match &row.value {
                Some(value) => rows.insert(place, value),
                None => rows.remove(&place),
            };
        }
        let rows = rows.iter().map(|((family, _), value)| (*family, *value));
        if restored(rows)? == self.world {
            Ok(())
        } else {
            Err("the rows that were written do not reproduce the world".into())
        }
    }

    pub fn take_snapshot(&mut self, of: &Self) {
        let (rows, index) = of.rows();
        *self = Self { disk: rows, flushed: index, ..Self::default() };
    }
}

fn restored<'a>(rows: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<World, String> {
    let mut world = World::new(0);
    for (family, value) in rows {
        world.restore(family, value).map_err(|error| format!("a row of {family}: {error}"))?;
    }
    world.restored().map_err(|error| error.to_string())?;
    Ok(world)
}

/// Of everything that the replicas must agree on.
fn digest_of(applied: &Applied) -> u64 {
    let mut digest = Digest::default();
    for row in &applied.rows {
        digest.bytes(row.family.as_bytes());
        digest.bytes(&row.key);
        match &row.value {
            Some(value) => digest.bytes(value),
            None => digest.number(0),
        }
    }
    digest.number(applied.effects.len() as u64);
    for effect in &applied.effects {
        digest.number(effect.id.index << 16 | u64::from(effect.id.ordinal));
    }
    match &applied.reply {
        Reply::Done => digest.number(1),
        Reply::Rejected(why) => digest.bytes(why.to_string().as_bytes()),
    }
    digest.value()
}

impl Simulation {
    /// Committed entries are there to be applied.
    pub fn wake_replicas(&mut self) {
        for n in 0..self.nodes.len() {
            self.wake_replica(n);
        }
    }

    pub fn wake_replica(&mut self, n: usize) {
        let leads = self.consensus.leader == Some(n);
        let node = &mut self.nodes[n];
        if node.applying || !node.is_voter() || node.replica.applied >= self.consensus.committed {
            return;
        }
        node.applying = true;
        let next = self.consensus.entry(node.replica.applied + 1).map_or(0, |entry| entry.name);
        let mut random = self.draws.next(For::Lag, names::of(&[n as u64, next]));
        let lag_ms = match (leads, random.below(64)) {
            (true, _) => 0,
            (false, 0) => random.between(50, 400),
            (false, _) => random.between(1, 12),
        };
        self.schedule.put(self.now + lag_ms, Event::Apply { node: n, life: node.life });
    }

    pub fn on_apply(&mut self, n: usize, life: u32) {
        if self.nodes[n].life != life {
            return;
        }
        self.nodes[n].applying = false;
        if !self.nodes[n].is_voter() {
            return;
        }
        for _ in 0..BATCH_MAX {
            let index = self.nodes[n].replica.applied + 1;
            if index > self.consensus.committed || self.violation.is_some() {
                break;
            }
            self.apply_entry(n, index);
        }
        let index = self.nodes[n].replica.applied;
        let last = self.consensus.entry(index).map_or(0, |entry| entry.name);
        let takes_ms = self.draws.next(For::Storing, names::of(&[n as u64, last])).below(3);
        self.schedule.put(self.now + takes_ms, Event::Stored { node: n, life, index });
        self.wake_replica(n);
    }

    fn apply_entry(&mut self, n: usize, index: u64) {
        let Some(entry) = self.consensus.entry(index) else { return };
        let (term, proposal, panics, known) =
            (entry.term, entry.proposal, entry.panics, entry.digest);
        let Some(envelope) = entry.envelope.clone() else {
            self.nodes[n].replica.applied = index;
            if self.consensus.leader == Some(n) && self.consensus.term == term {
                self.on_leading(n, term);
            }
            return;
        };
        if known.is_none() && index.is_multiple_of(limits::ENCODE_EVERY) {
            let carried = wire::decode_envelope(&wire::encode_envelope(&envelope));
            if carried.as_ref() != Ok(&*envelope) {
                self.fail("replicas", format!("entry {index} does not survive its encoding"));
                return;
            }
        }
        let meta = Meta {
            at: envelope.at,
            seed: envelope.seed,
            version: envelope.version,
            shard: 0,
            index,
            term,
        };
        self.hear_time(n, Told { index, term, at: envelope.at });
        let was_due = match &envelope.command {
            Command::Due(deadline) if known.is_none() => {
                let world = &self.nodes[n].replica.world;
                world.due(world.at.max(envelope.at)).contains(deadline)
            }
            _ => false,
        };
        let plant = self.options.plant.filter(|plant| self.options.has(*plant));
        let case = planted::Case { plant, panics, node: n };
        let world = &mut self.nodes[n].replica.world;
        let applied = world.apply_with(&meta, &envelope, |world, meta, envelope| {
            planted::decide(case, world, meta, envelope)
        });
        self.applies += 1;
        let digest = digest_of(&applied);
        self.trace.note(self.now, b'a', digest ^ n as u64);
        match known {
            None => {
                if let Some(entry) = self.consensus.entry_mut(index) {
                    entry.digest = Some(digest);
                    entry.panicked = applied.alarm.is_some();
                }
                self.commands += 1;
                self.on_first_applied(n, &meta, &envelope, &applied, was_due);
            }
            Some(known) if known != digest => {
                let what = format!(
                    "{} makes something else of entry {index} ({}) than the first did",
                    self.nodes[n].name,
                    crate::words::command(&envelope.command)
                );
                self.fail("replicas", what);
            }
            Some(_) => {}
        }
        let replica = &mut self.nodes[n].replica;
        replica.applied = index;
        replica.unflushed.push_back((index, applied.rows));
        if replica.unflushed.len() > UNFLUSHED_MAX {
            let flush_to = replica.unflushed[UNFLUSHED_MAX / 2].0.min(replica.stored);
            replica.flush(flush_to);
        }
        replica.unstored.push_back(Released {
            index,
            effects: applied.effects.into_iter().map(Arc::new).collect(),
            reply: applied.reply,
            proposal,
        });
    }

    /// The rows of every entry up to `index` are stored: commit, then act.
    pub fn on_stored(&mut self, n: usize, life: u32, index: u64) {
        if self.nodes[n].life != life || !self.nodes[n].alive {
            return;
        }
        if self.nodes[n].paused {
            self.nodes[n].backlog.push(Event::Stored { node: n, life, index });
            return;
        }
        self.nodes[n].replica.stored = self.nodes[n].replica.stored.max(index);
        loop {
            let replica = &mut self.nodes[n].replica;
            if replica.unstored.front().is_none_or(|released| released.index > index) {
                break;
            }
            let Some(released) = replica.unstored.pop_front() else { break };
            self.on_released(n, life, released);
        }
        self.compare_replicas();
        self.wake_deadlines(n);
    }

    /// Whole worlds, now and then.
    fn compare_replicas(&mut self) {
        let [one, other] = &self.nodes[..] else { return };
        let index = one.replica.applied;
        let equal = one.alive && other.alive && other.replica.applied == index;
        if equal && index >= self.compared + limits::COMPARE_EVERY {
            self.compared = index;
            let same = one.replica.world == other.replica.world;
            if !same {
                self.fail("replicas", "two worlds of the same index differ".into());
            }
        }
    }

    /// Everything that two replicas of the same index have.
    pub fn compare_worlds(&mut self) {
        let [one, other] = &self.nodes[..] else { return };
        if one.replica.applied != other.replica.applied {
            return;
        }
        let same = one.replica.world == other.replica.world;
        let rows = one.replica.check_rows().and_then(|()| other.replica.check_rows());
        if !same {
            self.fail("replicas", "two worlds of the same index differ".into());
        } else if let Err(what) = rows {
            self.fail("replicas", what);
        }
    }

    /// The world that has come furthest.
    pub fn front(&self) -> &World {
        let furthest = self.nodes.iter().max_by_key(|node| node.replica.applied);
        furthest.map_or(&self.nodes[0].replica.world, |node| &node.replica.world)
    }
}
