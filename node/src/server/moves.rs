//! Tenants on their way from one group to another: what [`super::place`] says is done, by whoever leads
//! each group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use serde_json::{Value, json};
use tandem_cluster::Cluster;
use tandem_cluster::meta::{self, MetaState};
use tandem_core::world::{Reply, World};
use tandem_runtime::replica::decode_reply;
use tandem_runtime::tenants::entry::{self, Import, ImportedRow, PART_BYTES, Step};
use tandem_runtime::tenants::standing::EPOCH_MAX;
use tandem_runtime::tenants::{All, TENANTS, prefix};
use tandem_storage::raft::ShardId;
use tandem_storage::state::State;
use tokio::sync::watch;

use super::desk::Moved;
use super::hosts::Hosts;
use super::meta as values;
use super::place::{self, Next, Place};

/// A tenant is not served for longer than this: its move is given up then.
const MOVE_MS_MAX: u64 = 2_000;
/// Before a step that was refused or lost is tried again.
const AGAIN_MS: u64 = 20;

pub struct Moves {
    pub cluster: Arc<Cluster>,
    pub meta: MetaState,
    pub state: State,
    pub hosts: Arc<Hosts>,
    /// Written once and left where they are.
    pub history: &'static [&'static str],
}

/// Where a tenant is, as it is stored and as it is read.
struct Known {
    stored: Option<Vec<u8>>,
    place: Place,
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
        // Since when those that are frozen are, as far as this life knows.
        let mut frozen: BTreeMap<u16, Instant> = BTreeMap::new();
        loop {
            applied.mark_unchanged();
            let leads = leadership.borrow_and_update().leading;
            let all = tenants.borrow_and_update().clone();
            let mut again = false;
            for tenant in self.tenants(&all).into_iter().filter(|_| leads) {
                let Some(known) = self.known(tenant) else { continue };
                let next = place::next(id.0, all.standing(tenant), &known.place);
                let sends = matches!(next, Next::Send { .. });
                let taken = match &next {
                    Next::Nothing => continue,
                    Next::Step(step) => self.step(id, tenant, step.clone()).await,
                    Next::Send { to, epoch } => {
                        let since = *frozen.entry(tenant).or_insert_with(Instant::now);
                        let deadline = since + Duration::from_millis(MOVE_MS_MAX);
                        let to = ShardId(*to);
                        let sent = self.send(id, tenant, &known, to, *epoch, deadline).await;
                        self.settle(tenant, &known, sent, deadline).await
                    }
                };
                if !sends || taken.is_ok() {
                    frozen.remove(&tenant);
                }
                if let Err(Failed::Later(why) | Failed::Never(why)) = taken {
                    tracing::info!(tenant, group = %id, why, "a step of a move is tried again");
                    again = true;
                }
            }
            let pause = Duration::from_millis(AGAIN_MS);
            tokio::select! {
                () = tokio::time::sleep(pause), if again => {}
                changed = leadership.changed() => if changed.is_err() { return },
                changed = tenants.changed() => if changed.is_err() { return },
                changed = applied.changed() => if changed.is_err() { return },
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

    fn known(&self, tenant: u16) -> Option<Known> {
        let stored = self.meta.get(&place::key(tenant));
        match Place::read(stored.as_deref()) {
            Ok(place) => Some(Known { stored, place }),
            Err(error) => {
                tracing::error!(tenant, error, "TD0206 where a tenant is can't be read");
                None
            }
        }
    }

    async fn step(&self, group: ShardId, tenant: u16, step: Step) -> Result<(), Failed> {
        let done = self.cluster.propose(group, entry::step(tenant, step)).await;
        match decode_reply(&done.map_err(|error| Failed::Later(error.to_string()))?.reply) {
            Reply::Done => Ok(()),
            Reply::Rejected(rejection) => Err(Failed::Never(rejection.to_string())),
        }
    }

    /// All rows of a frozen tenant to the group where it is to be, then the decision.
    async fn send(
        &self,
        from: ShardId,
        tenant: u16,
        known: &Known,
        to: ShardId,
        epoch: u64,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let begun = Instant::now();
        let (state, history) = (self.state.clone(), self.history);
        let read = move || parts(&state, from, tenant, history);
        let parts = tokio::task::spawn_blocking(read).await;
        let parts = parts.map_err(|error| Failed::Later(error.to_string()))?;
        let parts = parts.map_err(Failed::Never)?;
        let (count, last) = (parts.len(), parts.len().saturating_sub(1));
        for (part, rows) in parts.into_iter().enumerate() {
            if Instant::now() >= deadline {
                return Err(Failed::Later(format!("part {part} of {count} was not taken in time")));
            }
            let is_last = part == last;
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            let import = Import { epoch, part, last: is_last, rows };
            self.step(to, tenant, Step::Import(import)).await?;
        }
        self.put(tenant, known, &known.place.decided(to.0)).await?;
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(tenant, %from, %to, epoch, parts = count, ms, "a tenant has moved");
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
        tracing::warn!(tenant, why, "TD0207 the move of a tenant is given up: it stays where it was");
        self.put(tenant, known, &known.place.given_up(&why)).await
    }

    /// Only where nobody else has put another meanwhile.
    async fn put(&self, tenant: u16, known: &Known, place: &Place) -> Result<(), Failed> {
        let command =
            meta::replace(&place::key(tenant), known.stored.clone(), place.encode_to_vec());
        let done = self.cluster.propose(ShardId::META, command).await;
        let done = done.map_err(|error| Failed::Later(error.to_string()))?;
        if meta::has_put(&done.reply) {
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
        let tenants = values::tenants(&self.meta);
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
            return Moved::Refused(format!("{name} has moved {EPOCH_MAX} times, which is the most"));
        }
        match self.put(tenant, &known, &place.wish(to.0)).await {
            Ok(()) => Moved::Done,
            Err(Failed::Later(why) | Failed::Never(why)) => Moved::Refused(why),
        }
    }

    /// Nothing where this node does not lead the meta shard: it may not have heard of the last wish.
    pub fn show(&self) -> Option<Value> {
        let leads = self.cluster.shard(ShardId::META)?.leadership().borrow().leading;
        let tenants = values::tenants(&self.meta).into_iter().filter(|_| leads);
        let items: Vec<Value> = tenants
            .filter_map(|(tenant, name)| {
                let Place { group, to, given_up, .. } = self.known(tenant)?.place;
                let shard = |number: u32| format!("s{number}");
                let calls = self.hosts.home(tenant).map(|(_, hosted)| {
                    let live = |world: &World| world.calls.values().filter(|it| it.is_live()).count();
                    hosted.replica.read(live)
                });
                Some(json!({
                    "name": name,
                    "shard": shard(group),
                    "moving_to": to.map(shard),
                    "given_up": (!given_up.is_empty()).then_some(given_up),
                    "calls": calls,
                }))
            })
            .collect();
        leads.then(|| json!({"items": items, "next": Value::Null}))
    }
}

/// The rows of a tenant that are no history, in parts.
fn parts(
    state: &State,
    group: ShardId,
    tenant: u16,
    history: &[&str],
) -> Result<Vec<Vec<ImportedRow>>, String> {
    let without: Vec<&str> = history.iter().copied().chain([TENANTS, meta::META]).collect();
    let view = state.view();
    let rows = view.rows(group, &prefix(tenant), &without).map_err(|error| error.to_string())?;
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for row in rows {
        let row = row.map_err(|error| error.to_string())?;
        let row = ImportedRow { family: row.family, key: row.key, value: row.value };
        if bytes >= PART_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += row.bytes();
        if let Some(part) = parts.last_mut() {
            part.push(row);
        }
    }
    Ok(parts)
}
