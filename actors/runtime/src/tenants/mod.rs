//! The tenants of one group on this process: what its log says of each goes to that one's world, and
//! tenants come and go as they move between groups.
//!
//! Read in this order: [`standing`] (how a tenant stands in a group), [`entry`] (what the log holds),
//! then [`Tenants`].

pub mod entry;
pub mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use tandem_core::rows::RowChange;
use tandem_core::{FAMILIES, Rejection, Reply, World};
use tokio::sync::watch;

use self::entry::{Entry, Import, Step};
use self::standing::{Came, Phase, Standing};
use crate::ports::{Committed, Consensus, Leadership, ProposeError};
use crate::replica::{self, Replica};
use crate::time::LogClock;

/// How tenants stand in a group, by their numbers.
pub const TENANTS: &str = "tenants";
/// Bytes of a tenant's number before the keys of its rows.
const NUMBER_BYTES: usize = 2;

/// A tenant that is in the group, whole.
#[derive(Clone)]
pub struct Hosted {
    pub standing: Standing,
    pub replica: Arc<Replica>,
}

/// Of a group, by the tenants' numbers.
#[derive(Clone, Default)]
pub struct All {
    pub hosted: BTreeMap<u16, Hosted>,
    /// Those that arrive, and those that were here: their history is.
    pub others: BTreeMap<u16, Standing>,
}

impl All {
    pub fn standing(&self, tenant: u16) -> Option<Standing> {
        let hosted = self.hosted.get(&tenant).map(|hosted| hosted.standing);
        hosted.or_else(|| self.others.get(&tenant).copied())
    }
}

struct Held {
    standing: Standing,
    replica: Arc<Replica>,
    /// What has come of a tenant that is arriving; whole, where it has said so.
    coming: Option<World>,
}

pub struct Tenants {
    group: u16,
    clock: Arc<LogClock>,
    history: &'static [&'static str],
    /// Whether the first tenant is here from the beginning.
    has_first: bool,
    held: BTreeMap<u16, Held>,
    /// What the rows that are not stored yet are of.
    unstored: BTreeSet<u16>,
    is_changed: bool,
    told: watch::Sender<Arc<All>>,
}

#[derive(Debug, Default)]
pub struct Outcome {
    /// Whatever is under these goes first.
    pub cleared: Vec<(&'static str, Vec<u8>)>,
    pub rows: Vec<RowChange>,
    pub reply: Vec<u8>,
}

/// Before the keys of a tenant's rows.
pub fn prefix(tenant: u16) -> [u8; NUMBER_BYTES] {
    tenant.to_be_bytes()
}

impl Tenants {
    /// `history` are the families that are written and never read back. The first group of a cluster
    /// has the first tenant from the beginning.
    pub fn new(group: u16, clock: Arc<LogClock>, history: &'static [&'static str]) -> Self {
        let mut tenants = Self {
            group,
            clock,
            history,
            has_first: group == 0,
            held: BTreeMap::new(),
            unstored: BTreeSet::new(),
            is_changed: false,
            told: watch::Sender::default(),
        };
        tenants.hold_first();
        tenants.tell();
        tenants
    }

    /// Who they are and how they stand, at each change, once that is stored.
    pub fn all(&self) -> watch::Receiver<Arc<All>> {
        self.told.subscribe()
    }

    fn hold_first(&mut self) {
        if self.has_first && !self.held.contains_key(&0) {
            self.hold(0, Standing::FIRST, None);
        }
    }

    fn tell(&mut self) {
        self.is_changed = false;
        let mut all = All::default();
        for (tenant, Held { standing, replica, .. }) in &self.held {
            match standing.phase {
                Phase::Here | Phase::Frozen => {
                    let hosted = Hosted { standing: *standing, replica: Arc::clone(replica) };
                    all.hosted.insert(*tenant, hosted);
                }
                Phase::Arriving { .. } | Phase::Gone => {
                    all.others.insert(*tenant, *standing);
                }
            }
        }
        self.told.send_replace(Arc::new(all));
    }

    /// A world that is new, or as it came.
    fn hold(&mut self, tenant: u16, standing: Standing, world: Option<World>) {
        let mut world = world.unwrap_or_else(|| World::new(tenant));
        world.home = self.group;
        let replica = match self.held.remove(&tenant) {
            Some(held) => held.replica,
            None => Replica::new(tenant, Arc::clone(&self.clock)),
        };
        replica.install(world, standing.epoch);
        self.held.insert(tenant, Held { standing, replica, coming: None });
    }

    /// Puts stored rows, by family, key and value, in the place of what was.
    ///
    /// # Errors
    /// A sentence: this build can't read a row.
    pub fn restore(
        &mut self,
        rows: &mut dyn Iterator<Item = (String, Vec<u8>, Vec<u8>)>,
    ) -> Result<(), String> {
        let mut standings = BTreeMap::new();
        let mut worlds: BTreeMap<u16, World> = BTreeMap::new();
        for (family, key, value) in rows {
            let tenant = key.first_chunk::<NUMBER_BYTES>().copied().map(u16::from_be_bytes);
            let tenant = tenant.ok_or_else(|| format!("a row of {family} is of no tenant"))?;
            let of = |error: &dyn std::fmt::Display| format!("tenant {tenant}, {family}: {error}");
            if family == TENANTS {
                standings.insert(tenant, Standing::decode(&value).map_err(|error| of(&error))?);
                continue;
            }
            let world = worlds.entry(tenant).or_insert_with(|| World::new(tenant));
            world.restore(&family, &value).map_err(|error| of(&error))?;
        }
        if self.has_first {
            standings.entry(0).or_insert(Standing::FIRST);
        }
        let mut known = BTreeMap::new();
        for (tenant, standing) in standings {
            let mut world = worlds.remove(&tenant).unwrap_or_else(|| World::new(tenant));
            let is_whole = !matches!(standing.phase, Phase::Arriving { whole: false, .. });
            if is_whole {
                world.restored().map_err(|error| format!("tenant {tenant}: {error}"))?;
            }
            known.insert(tenant, (standing, world));
        }
        if let Some(tenant) = worlds.keys().next() {
            return Err(format!("rows of tenant {tenant}, which is not here"));
        }
        // Whoever serves a tenant goes on with the same replica.
        self.held.retain(|tenant, _| known.contains_key(tenant));
        self.unstored.clear();
        for (tenant, (standing, world)) in known {
            match standing.phase {
                Phase::Here | Phase::Frozen => self.hold(tenant, standing, Some(world)),
                Phase::Gone => self.hold(tenant, standing, None),
                Phase::Arriving { .. } => {
                    self.hold(tenant, standing, None);
                    if let Some(held) = self.held.get_mut(&tenant) {
                        held.coming = Some(world);
                    }
                }
            }
        }
        self.tell();
        Ok(())
    }

    /// Applies one entry, on every replica in log order.
    pub fn apply(&mut self, index: u64, term: u64, command: &[u8]) -> Outcome {
        match entry::read(command) {
            Ok((tenant, Entry::Command(envelope))) => self.command(tenant, index, term, &envelope),
            Ok((tenant, Entry::Step(step))) => self.step(tenant, step),
            Err(error) => refused(replica::unreadable(index, &error)),
        }
    }

    fn command(&mut self, tenant: u16, index: u64, term: u64, envelope: &[u8]) -> Outcome {
        let held = self.held.get(&tenant).filter(|held| held.standing.phase == Phase::Here);
        let Some(held) = held else {
            // Proposed here before it was frozen, or by one who has not heard.
            return Outcome { reply: replica::MOVED.to_vec(), ..Outcome::default() };
        };
        let applied = held.replica.apply(index, term, envelope);
        self.unstored.insert(tenant);
        let rows = applied.rows.into_iter().map(|row| of_tenant(tenant, row)).collect();
        Outcome { rows, reply: applied.reply, ..Outcome::default() }
    }

    fn step(&mut self, tenant: u16, step: Step) -> Outcome {
        let now = self.held.get(&tenant).map(|held| held.standing);
        let next = match standing::after(now, &step) {
            Ok(Came::To(next)) => next,
            Ok(Came::Again) => return done(),
            Err(misfit) => return refused(misfit.to_string()),
        };
        self.is_changed = true;
        let mut outcome = done();
        match step {
            Step::Freeze(_) => self.stand(tenant, next),
            Step::Thaw(_) => {
                self.stand(tenant, next);
                if let Some(held) = self.held.get(&tenant) {
                    held.replica.set_epoch(next.epoch);
                }
            }
            Step::Open(_) => {
                let coming = self.held.get_mut(&tenant).and_then(|held| held.coming.take());
                self.hold(tenant, next, coming);
            }
            Step::Drop(_) => {
                self.hold(tenant, next, None);
                outcome.cleared = self.live_rows(tenant);
            }
            Step::Import(import) => {
                if import.part == 0 {
                    // What an earlier attempt left.
                    self.hold(tenant, next, None);
                    outcome.cleared = self.live_rows(tenant);
                }
                match self.take_in(tenant, next, import) {
                    Ok(rows) => outcome.rows = rows,
                    Err(why) => {
                        // Nothing of it can be used.
                        let gone = Standing { epoch: next.epoch, phase: Phase::Gone };
                        self.hold(tenant, gone, None);
                        outcome = Outcome { cleared: self.live_rows(tenant), ..refused(why) };
                    }
                }
            }
        }
        let standing = self.held.get(&tenant).map(|held| held.standing.encode());
        let key = prefix(tenant).to_vec();
        outcome.rows.push(RowChange { family: TENANTS, key, value: standing });
        outcome
    }

    fn stand(&mut self, tenant: u16, standing: Standing) {
        if let Some(held) = self.held.get_mut(&tenant) {
            held.standing = standing;
        }
    }

    fn take_in(
        &mut self,
        tenant: u16,
        next: Standing,
        import: Import,
    ) -> Result<Vec<RowChange>, String> {
        let Some(held) = self.held.get_mut(&tenant) else { return Ok(Vec::new()) };
        held.standing = next;
        let coming = held.coming.get_or_insert_with(|| World::new(tenant));
        let mut rows = Vec::new();
        for row in import.rows {
            let family = FAMILIES.iter().find(|known| **known == row.family);
            let family = family.ok_or_else(|| format!("no family {} is known", row.family))?;
            let of = |error: &dyn std::fmt::Display| format!("family {family}: {error}");
            coming.restore(family, &row.value).map_err(|error| of(&error))?;
            let row = RowChange { family, key: row.key, value: Some(row.value) };
            rows.push(of_tenant(tenant, row));
        }
        if import.last {
            coming.restored().map_err(|error| error.to_string())?;
        }
        Ok(rows)
    }

    /// Where its rows are that are no history.
    fn live_rows(&self, tenant: u16) -> Vec<(&'static str, Vec<u8>)> {
        let live = FAMILIES.iter().filter(|family| !self.history.contains(family));
        live.map(|family| (*family, prefix(tenant).to_vec())).collect()
    }

    /// The rows of every entry up to `index` are stored: commit, then act.
    pub fn stored(&mut self, index: u64) {
        for tenant in std::mem::take(&mut self.unstored) {
            if let Some(held) = self.held.get(&tenant) {
                held.replica.stored(index);
            }
        }
        if self.is_changed {
            self.tell();
        }
    }
}

fn of_tenant(tenant: u16, row: RowChange) -> RowChange {
    let key = [&prefix(tenant)[..], &row.key].concat();
    RowChange { key, ..row }
}

fn done() -> Outcome {
    Outcome { reply: replica::encode_reply(&Reply::Done), ..Outcome::default() }
}

fn refused(why: String) -> Outcome {
    let reply = replica::encode_reply(&Reply::Rejected(Rejection::Refused(why)));
    Outcome { reply, ..Outcome::default() }
}

/// A group's log as one of its tenants uses it.
pub struct TenantLog {
    pub tenant: u16,
    pub group: Arc<dyn Consensus>,
}

impl Consensus for TenantLog {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'static, Result<Committed, ProposeError>> {
        let proposed = self.group.propose(entry::command(self.tenant, command));
        Box::pin(async move {
            let committed = proposed.await?;
            // It is nobody's: who leads the group that the tenant is in now is asked again.
            if committed.reply == replica::MOVED {
                return Err(ProposeError::NotLeading);
            }
            Ok(committed)
        })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.group.leadership()
    }
}

#[cfg(test)]
mod tests;
