//! The tenants of one group on this process: what its log says of each goes to that one's world, and
//! tenants come and go as they move between groups.
//!
//! Read in this order: [`standing`] (how a tenant stands in a group), [`entry`] (what the log holds),
//! then [`Tenants`].

pub mod chain;
pub mod entry;
pub mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use tandem_core::rows::RowChange;
use tandem_core::{FAMILIES, Rejection, Reply, World, rows};
use tokio::sync::watch;

use self::chain::{Chain, Found};
use self::entry::{Entry, Import, ImportedRow, Step};
use self::standing::{Came, Phase, Standing};
use crate::ports::{Committed, Consensus, Leadership, ProposeError};
use crate::replica::{self, Replica};
use crate::time::LogClock;

/// How tenants stand in a group, by their numbers.
pub const TENANTS: &str = "tenants";
/// Has the first tenant from the beginning.
const FIRST_GROUP: u16 = 0;
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
    coming: Coming,
}

/// What has come of a tenant that is arriving.
#[derive(Default)]
enum Coming {
    #[default]
    Nothing,
    Rows(Rows),
    Whole(Box<World>),
}

/// By family and key.
pub type Rows = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

pub struct Tenants {
    group: u16,
    clock: Arc<LogClock>,
    held: BTreeMap<u16, Held>,
    /// What the rows that are not stored yet are of.
    unstored: BTreeSet<u16>,
    is_changed: bool,
    chain: Chain,
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
    /// The first group of a cluster has the first tenant from the beginning.
    pub fn new(group: u16, clock: Arc<LogClock>) -> Self {
        let mut tenants = Self {
            group,
            clock,
            held: BTreeMap::new(),
            unstored: BTreeSet::new(),
            is_changed: false,
            chain: Chain::default(),
            told: watch::Sender::default(),
        };
        if group == FIRST_GROUP {
            tenants.hold(0, Standing::FIRST, None);
        }
        tenants.tell();
        tenants
    }

    /// Who they are and how they stand, at each change, once that is stored.
    pub fn all(&self) -> watch::Receiver<Arc<All>> {
        self.told.subscribe()
    }

    /// What this replica has come to, and whether it is what others have.
    pub fn chain(&self) -> Chain {
        self.chain.clone()
    }

    /// A comparison with who led then has failed.
    pub fn differs(&self) -> bool {
        self.chain.differs_at().is_some()
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
        self.held.insert(tenant, Held { standing, replica, coming: Coming::Nothing });
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
        let mut of_tenants: BTreeMap<u16, Rows> = BTreeMap::new();
        let mut chain = None;
        for (family, key, value) in rows {
            if family == TENANTS && key == chain::KEY {
                chain = Some(value);
                continue;
            }
            let tenant = key.first_chunk::<NUMBER_BYTES>().copied().map(u16::from_be_bytes);
            let tenant = tenant.ok_or_else(|| format!("a row of {family} is of no tenant"))?;
            if family == TENANTS {
                let standing = Standing::decode(&value);
                standings
                    .insert(tenant, standing.map_err(|why| format!("tenant {tenant}: {why}"))?);
                continue;
            }
            let key = key.get(NUMBER_BYTES..).unwrap_or_default().to_vec();
            of_tenants.entry(tenant).or_default().insert((known_family(&family)?, key), value);
        }
        if self.group == FIRST_GROUP {
            standings.entry(0).or_insert(Standing::FIRST);
        }
        let mut known = BTreeMap::new();
        for (tenant, standing) in standings {
            let rows = of_tenants.remove(&tenant).unwrap_or_default();
            let coming = match standing.phase {
                Phase::Gone => Coming::Nothing,
                Phase::Arriving { whole: false, .. } => Coming::Rows(rows),
                Phase::Here | Phase::Frozen | Phase::Arriving { .. } => {
                    let world = world_of(tenant, rows);
                    let world = world.map_err(|error| format!("tenant {tenant}, {error}"))?;
                    Coming::Whole(Box::new(world))
                }
            };
            known.insert(tenant, (standing, coming));
        }
        if let Some(tenant) = of_tenants.keys().next() {
            return Err(format!("rows of tenant {tenant}, which is not here"));
        }
        self.chain.restore(chain.as_deref())?;
        // Whoever serves a tenant goes on with the same replica.
        self.held.retain(|tenant, _| known.contains_key(tenant));
        self.unstored.clear();
        for (tenant, (standing, coming)) in known {
            match (standing.phase, coming) {
                (Phase::Here | Phase::Frozen, Coming::Whole(world)) => {
                    self.hold(tenant, standing, Some(*world));
                }
                (_, coming) => {
                    self.hold(tenant, standing, None);
                    if let Some(held) = self.held.get_mut(&tenant) {
                        held.coming = coming;
                    }
                }
            }
        }
        self.tell();
        Ok(())
    }

    /// Applies one entry, on every replica in log order.
    pub fn apply(&mut self, index: u64, term: u64, command: &[u8]) -> Outcome {
        let mut outcome = match entry::read(command) {
            Ok((tenant, Entry::Command(envelope))) => self.command(tenant, index, term, &envelope),
            Ok((tenant, Entry::Step(step))) => self.step(tenant, step),
            Ok((_, Entry::Check { index, hash })) => self.check(index, hash),
            Err(error) => refused(replica::unreadable(index, &error)),
        };
        self.chain.add(index, &mut outcome);
        outcome
    }

    fn check(&self, index: u64, hash: u64) -> Outcome {
        let found = self.chain.compare(index, hash);
        let outcome = match found {
            Found::Same => "same",
            Found::Differs => "differs",
            Found::Unknown => "unknown",
        };
        metrics::counter!("tandem_state_checks_total", "outcome" => outcome).increment(1);
        if found == Found::Differs {
            metrics::counter!("tandem_alarms_total").increment(1);
            let group = format!("s{}", self.group);
            tracing::error!(group, index, "TD0214 this node's state is not that of who leads");
        }
        done()
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
                let coming =
                    self.held.get_mut(&tenant).map(|held| std::mem::take(&mut held.coming));
                let world = match coming {
                    Some(Coming::Whole(world)) => Some(*world),
                    Some(Coming::Nothing | Coming::Rows(_)) | None => None,
                };
                self.hold(tenant, next, world);
            }
            Step::Drop(_) => {
                self.hold(tenant, next, None);
                outcome.cleared = Self::live_rows(tenant);
            }
            Step::Import(import) => {
                if import.part == 0 {
                    // What an earlier attempt has left.
                    self.hold(tenant, next, None);
                    outcome.cleared = Self::live_rows(tenant);
                }
                match self.take_in(tenant, next, import) {
                    Ok(rows) => outcome.rows = rows,
                    Err(why) => {
                        // Nothing of it can be used.
                        let gone = Standing { epoch: next.epoch, phase: Phase::Gone };
                        self.hold(tenant, gone, None);
                        outcome = Outcome { cleared: Self::live_rows(tenant), ..refused(why) };
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
        let mut coming = match std::mem::take(&mut held.coming) {
            Coming::Rows(rows) => rows,
            Coming::Nothing | Coming::Whole(_) => Rows::new(),
        };
        let mut changes = Vec::new();
        for ImportedRow { family, key, value } in import.rows {
            let family = known_family(&family)?;
            match &value {
                Some(value) => drop(coming.insert((family, key.clone()), value.clone())),
                None => drop(coming.remove(&(family, key.clone()))),
            }
            changes.push(of_tenant(tenant, RowChange { family, key, value }));
        }
        held.coming = if import.last {
            Coming::Whole(Box::new(world_of(tenant, coming)?))
        } else {
            Coming::Rows(coming)
        };
        Ok(changes)
    }

    /// Where its rows are that are no history.
    fn live_rows(tenant: u16) -> Vec<(&'static str, Vec<u8>)> {
        let live = FAMILIES.iter().filter(|family| !rows::HISTORY.contains(family));
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

fn known_family(name: &str) -> Result<&'static str, String> {
    let family = FAMILIES.iter().find(|known| **known == name);
    family.copied().ok_or_else(|| format!("no family {name} is known"))
}

fn world_of(tenant: u16, rows: Rows) -> Result<World, String> {
    let mut world = World::new(tenant);
    for ((family, _), value) in rows {
        world.restore(family, &value).map_err(|error| format!("family {family}: {error}"))?;
    }
    world.restored().map_err(|error| error.to_string())?;
    Ok(world)
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
