//! Tenants on their way from one group to another: what [`super::place`] says is done, by whoever leads
//! each group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use serde_json::{Value, json};
use tandem_cluster::Cluster;
use tandem_cluster::meta::{self, MetaState};
use tandem_core::ids::GatewayId;
use tandem_core::leases::Leases;
use tandem_core::world::{Reply, World};
use tandem_runtime::Replica;
use tandem_runtime::replica::decode_reply;
use tandem_runtime::tenants::entry::{self, Import, ImportedRow, PART_BYTES, Step};
use tandem_runtime::tenants::standing::{EPOCH_MAX, Phase};
use tandem_runtime::tenants::{All, Rows};
use tandem_storage::raft::ShardId;
use tokio::sync::watch;

use super::desk::Moved;
use super::hosts::Hosts;
use super::meta as values;
use super::place::{self, Besides, Next, Place};

/// A tenant is not served for longer than this: its move is given up then.
const FROZEN_MS_MAX: u64 = 2_000;
/// Nor are its rows copied for longer, while it is.
const COPY_MS_MAX: u64 = 60_000;
/// Parts that go to their group together, or a megabyte.
const PARTS_AT_ONCE: usize = 4;
/// Attempts of one leader, as far as it lets them come.
const ATTEMPT_BITS: u32 = 20;
/// Before a step that was refused or lost is tried again.
const AGAIN_MS: u64 = 20;

pub struct Moves {
    pub cluster: Arc<Cluster>,
    pub meta: MetaState,
    pub hosts: Arc<Hosts>,
}

/// Where a tenant is, as it is stored and as it is read.
struct Known {
    stored: Option<Vec<u8>>,
    place: Place,
}

/// Of one tenant, as who leads its group remembers it.
#[derive(Default)]
struct UnderWay {
    since: Option<Instant>,
    frozen: Option<Instant>,
    copied: Option<Copied>,
    attempts: u64,
    /// The meta shard has said so, and this node may not have heard.
    decided: Option<u64>,
}

/// What the group where it goes has of it.
#[derive(Default)]
struct Copied {
    epoch: u64,
    attempt: u64,
    parts: u32,
    rows: Rows,
}

/// Whose rows go where, led by us in which term.
struct Way {
    tenant: u16,
    from: ShardId,
    to: ShardId,
    epoch: u64,
    term: u64,
}

impl UnderWay {
    fn deadline(&mut self, is_frozen: bool) -> Instant {
        let now = Instant::now();
        if is_frozen {
            *self.frozen.get_or_insert(now) + Duration::from_millis(FROZEN_MS_MAX)
        } else {
            *self.since.get_or_insert(now) + Duration::from_millis(COPY_MS_MAX)
        }
    }

    /// Greater than those of earlier leaders, and than ours before.
    fn next_attempt(&mut self, term: u64) -> u64 {
        self.attempts += 1;
        term << ATTEMPT_BITS | self.attempts
    }
}

/// Why a step was not taken.
enum Failed {
    /// It may be, or is to be tried again.
    Later(String),
    Never(String),
}

impl Moves {
    /// For each group, from now on.
    pub fn start(self: &Arc<Self>) {
        for (id, group) in self.hosts.groups() {
            let (moves, tenants) = (Arc::clone(self), group.tenants.clone());
            tokio::spawn(moves.lead(*id, group.group.clone(), tenants));
        }
    }

    async fn lead(
        self: Arc<Self>,
        id: ShardId,
        group: tandem_cluster::Shard,
        mut tenants: watch::Receiver<Arc<All>>,
    ) {
        let (mut leadership, mut applied) = (group.leadership(), self.meta.applied());
        let mut hosted = self.hosts.changes();
        let mut under_way: BTreeMap<u16, UnderWay> = BTreeMap::new();
        loop {
            applied.mark_unchanged();
            hosted.mark_unchanged();
            let lead = *leadership.borrow_and_update();
            let all = tenants.borrow_and_update().clone();
            let (mut again, mut goes_on) = (false, false);
            for tenant in self.tenants(&all).into_iter().filter(|_| lead.leading) {
                let Some(known) = self.known(tenant) else { continue };
                let standing = all.standing(tenant);
                let way = under_way.entry(tenant).or_default();
                let copied = way.copied.as_ref().filter(|it| it.epoch == known.place.epoch + 1);
                let home = self.hosts.home(tenant).filter(|(home, _)| home.group.id != id);
                let elsewhere = home.map(|(_, hosted)| hosted.standing.epoch);
                let besides = Besides { copied: copied.is_some(), elsewhere };
                let next = place::next(id.0, standing, &known.place, besides);
                let taken = match next {
                    Next::Nothing => {
                        under_way.remove(&tenant);
                        continue;
                    }
                    Next::Step(step) => {
                        if matches!(step, Step::Thaw(_)) {
                            *way = UnderWay::default();
                        }
                        self.steps(id, tenant, vec![step]).await
                    }
                    Next::Send { epoch, .. } if way.decided == Some(epoch) => continue,
                    Next::Copy { to, epoch } | Next::Send { to, epoch } => {
                        let Some(hosted) = all.hosted.get(&tenant) else { continue };
                        let of = Way { tenant, from: id, to: ShardId(to), epoch, term: lead.term };
                        let is_frozen = hosted.standing.phase == Phase::Frozen;
                        let deadline = way.deadline(is_frozen);
                        let replica = Arc::clone(&hosted.replica);
                        let sent = self.send(&of, replica, way, is_frozen, deadline).await;
                        let done = match sent {
                            Ok(()) if is_frozen => self.decide(&of, &known, way).await,
                            other => other,
                        };
                        goes_on |= done.is_ok() && !is_frozen;
                        self.settle(tenant, &known, done, deadline).await
                    }
                };
                if let Err(Failed::Later(why) | Failed::Never(why)) = taken {
                    tracing::info!(tenant, group = %id, why, "a step of a move is tried again");
                    again = true;
                }
            }
            if !lead.leading {
                under_way.clear();
            }
            if goes_on {
                continue;
            }
            let pause = Duration::from_millis(AGAIN_MS);
            tokio::select! {
                () = tokio::time::sleep(pause), if again => {}
                changed = leadership.changed() => if changed.is_err() { return },
                changed = tenants.changed() => if changed.is_err() { return },
                changed = applied.changed() => if changed.is_err() { return },
                changed = hosted.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Those that are in the group, and those that the meta shard knows.
    fn tenants(&self, all: &All) -> Vec<u16> {
        let known = self.meta.under(place::PLACES);
        let numbers = known.iter().filter_map(|(key, _)| key.rsplit('/').next()?.parse().ok());
        let here = all.hosted.keys().chain(all.others.keys()).copied();
        let mut tenants: Vec<u16> = numbers.chain(here).collect();
        tenants.sort_unstable();
        tenants.dedup();
        tenants
    }

    /// Those that are configured, by number.
    fn names(&self) -> Vec<(u16, String)> {
        let stored = values::configs_of(self.meta.under(values::CONFIG));
        let name =
            |(number, stored): (u16, Vec<u8>)| Some((number, values::read_config(&stored)?.tenant));
        stored.into_iter().filter_map(name).collect()
    }

    fn known(&self, tenant: u16) -> Option<Known> {
        let stored = self.meta.get(&place::key(tenant));
        match Place::read(stored.as_deref()) {
            Ok(place) => Some(Known { stored, place }),
            Err(error) => {
                tracing::error!(tenant, error, "TD0210 where a tenant is can't be read");
                None
            }
        }
    }

    /// One behind the other.
    async fn steps(&self, group: ShardId, tenant: u16, steps: Vec<Step>) -> Result<(), Failed> {
        let commands = steps.into_iter().map(|step| entry::step(tenant, step)).collect();
        let replies = self.cluster.propose(group, commands).await;
        for reply in replies.map_err(|error| Failed::Later(error.to_string()))? {
            if let Reply::Rejected(rejection) = decode_reply(&reply) {
                return Err(Failed::Never(rejection.to_string()));
            }
        }
        Ok(())
    }

    /// To the group where it is to be, what that one lacks of its rows; the last of them where it is frozen.
    async fn send(
        &self,
        of: &Way,
        replica: Arc<Replica>,
        way: &mut UnderWay,
        is_frozen: bool,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let known = way.copied.take().filter(|copied| copied.epoch == of.epoch);
        let known = known.unwrap_or_else(|| Copied {
            epoch: of.epoch,
            attempt: way.next_attempt(of.term),
            ..Copied::default()
        });
        let look = move || {
            let rows = rows_of(&replica);
            let parts = parts(&known.rows, &rows);
            (known, rows, parts)
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let (known, rows, parts) = looked.map_err(|error| Failed::Later(error.to_string()))?;
        let Copied { epoch, attempt, parts: first, .. } = known;
        if is_frozen {
            // Where it fails it is tried again from here.
            way.copied = Some(known);
        }
        let behind = first + u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let import = |(part, rows): (u32, Vec<ImportedRow>)| {
            let last = is_frozen && part + 1 == behind;
            Step::Import(Import { epoch, part, last, rows, attempt })
        };
        let mut steps: VecDeque<Step> = (first..).zip(parts).map(import).collect();
        while !steps.is_empty() {
            if Instant::now() >= deadline {
                let left = steps.len();
                return Err(Failed::Later(format!("{left} parts were not taken in time")));
            }
            let some = steps.drain(..steps.len().min(PARTS_AT_ONCE)).collect();
            self.steps(of.to, of.tenant, some).await?;
        }
        if !is_frozen {
            way.copied = Some(Copied { epoch, attempt, parts: behind, rows });
        }
        Ok(())
    }

    /// From now on it is where it was to be.
    async fn decide(&self, of: &Way, known: &Known, way: &mut UnderWay) -> Result<(), Failed> {
        let Way { tenant, from, to, epoch, .. } = of;
        self.put(*tenant, known, &known.place.decided(to.0)).await?;
        way.decided = Some(*epoch);
        let (ms, frozen_ms) = (way.since.map(ms_since), way.frozen.map(ms_since));
        tracing::info!(tenant, %from, %to, epoch, ms, frozen_ms, "a tenant has moved");
        Ok(())
    }

    /// Gives a move up that can't be done, or not in time.
    async fn settle(
        &self,
        tenant: u16,
        known: &Known,
        sent: Result<(), Failed>,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let why = match sent {
            Err(Failed::Never(why)) => why,
            Err(Failed::Later(why)) if Instant::now() >= deadline => why,
            other => return other,
        };
        self.put(tenant, known, &known.place.given_up(&why)).await?;
        tracing::warn!(
            tenant,
            why,
            "TD0211 the move of a tenant is given up: it stays where it was"
        );
        Ok(())
    }

    /// Only where nobody else has put another meanwhile.
    async fn put(&self, tenant: u16, known: &Known, place: &Place) -> Result<(), Failed> {
        let command =
            meta::replace(&place::key(tenant), known.stored.clone(), place.encode_to_vec());
        let replies = self.cluster.propose(ShardId::META, vec![command]).await;
        let replies = replies.map_err(|error| Failed::Later(error.to_string()))?;
        if replies.iter().all(|reply| meta::has_put(reply)) {
            return Ok(());
        }
        Err(Failed::Later("where the tenant is to be has changed".to_owned()))
    }

    /// An operator's wish, from now on carried out by whoever leads; [`Moves::show`] tells how far it is.
    pub async fn wish(&self, name: &str, to: &str) -> Moved {
        let all = self.cluster.shards().filter(|shard| shard.id != ShardId::META);
        let Some(to) = all.map(|shard| shard.id).find(|id| id.to_string() == to) else {
            return Moved::Unknown(format!("shard {to:?}"));
        };
        let tenants = self.names();
        let Some((tenant, _)) = tenants.into_iter().find(|(_, known)| known == name) else {
            return Moved::Unknown(format!("tenant {name:?}"));
        };
        let Some(known) = self.known(tenant) else {
            return Moved::Refused("where it is can't be read: see the alarms".to_owned());
        };
        let place = &known.place;
        if let Some(other) = place.to {
            if other == u32::from(to.0) {
                return Moved::Done;
            }
            return Moved::Refused(format!("{name} is on its way to s{other}"));
        }
        if place.group == u32::from(to.0) {
            return Moved::Done;
        }
        if place.epoch >= EPOCH_MAX {
            return Moved::Refused(format!(
                "{name} has moved {EPOCH_MAX} times, which is the most"
            ));
        }
        match self.put(tenant, &known, &place.wish(to.0)).await {
            Ok(()) => Moved::Done,
            Err(Failed::Later(why) | Failed::Never(why)) => Moved::Refused(why),
        }
    }

    /// Nothing where this node does not lead the meta shard: it may not have heard of the last wish.
    pub fn show(&self) -> Option<Value> {
        let leads = self.cluster.shard(ShardId::META)?.leadership().borrow().leading;
        let tenants = self.names().into_iter().filter(|_| leads);
        let items: Vec<Value> = tenants
            .filter_map(|(tenant, name)| {
                let Place { group, to, given_up, .. } = self.known(tenant)?.place;
                let shard = |number: u32| format!("s{number}");
                let home = self.hosts.home(tenant);
                let calls = home.as_ref().map(|(_, hosted)| {
                    let live =
                        |world: &World| world.calls.values().filter(|it| it.is_live()).count();
                    hosted.replica.read(live)
                });
                let ready = home.is_some_and(|(_, hosted)| hosted.replica.read(takes_calls));
                Some(json!({
                    "name": name,
                    "shard": shard(group),
                    "moving_to": to.map(shard),
                    "given_up": (!given_up.is_empty()).then_some(given_up),
                    "calls": calls,
                    "ready": ready,
                }))
            })
            .collect();
        leads.then(|| json!({"items": items, "next": Value::Null}))
    }
}

/// It is configured, and has ports at each gateway that it knows.
fn takes_calls(world: &World) -> bool {
    let has_ports = |gateway: &GatewayId| {
        let blocks = |leases: &Leases| leases.ports.get(gateway).is_some_and(|it| !it.is_empty());
        world.leases.as_ref().is_none_or(blocks)
    };
    world.config.is_some() && !world.gateways.is_empty() && world.gateways.keys().all(has_ports)
}

fn ms_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn rows_of(replica: &Replica) -> Rows {
    let rows = replica.read(World::live_rows).into_iter();
    rows.filter_map(|row| Some(((row.family, row.key), row.value?))).collect()
}

/// What is to be said of the rows to who knows others, in parts; one at least.
fn parts(known: &Rows, now: &Rows) -> Vec<Vec<ImportedRow>> {
    let changed = now.iter().filter(|(key, value)| known.get(*key) != Some(*value));
    let changed = changed.map(|(key, value)| (key, Some(value)));
    let gone = known.keys().filter(|key| !now.contains_key(*key)).map(|key| (key, None));
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for ((family, key), value) in changed.chain(gone) {
        let (family, key) = ((*family).to_owned(), key.clone());
        let row = ImportedRow { family, key, value: value.cloned() };
        if bytes >= PART_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += row.bytes();
        if let Some(part) = parts.last_mut() {
            part.push(row);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_has_changed_or_is_gone_is_said_in_parts() {
        let row = |key: u8, value: &[u8]| (("calls", vec![key]), value.to_vec());
        let known = Rows::from([row(1, b"a"), row(2, b"b"), row(3, b"c")]);
        let long = vec![7; PART_BYTES];
        let now = Rows::from([row(1, b"a"), row(2, &long), row(4, b"d")]);
        let said: Vec<Vec<(u8, Option<usize>)>> = parts(&known, &now)
            .into_iter()
            .map(|part| {
                let of = |row: ImportedRow| (row.key[0], row.value.map(|value| value.len()));
                part.into_iter().map(of).collect()
            })
            .collect();
        assert_eq!(said, [vec![(2, Some(PART_BYTES))], vec![(4, Some(1)), (3, None)]]);
        assert_eq!(parts(&now, &now), [[]], "that nothing has changed is said, too");
    }
}
