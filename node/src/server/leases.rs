//! Blocks of RTP ports and of shared trunks' channels: who has which, the meta shard says. The rule is pure; who
//! leads a tenant follows it.
//!
//! Of each pool a value of the meta shard names the owner of each block that has one. A tenant's world uses no
//! block that is not its own: it is told of a block after the meta shard has given it, and has let go of one
//! before the meta shard takes it, so that no two worlds use the same, whoever dies in between.
//!
//! ```text
//! free ── take ──▶ owned in meta ── Lease ──▶ used by the world ── Lease without it ──▶ owned ── put ──▶ free
//! ```
//! The first tenant has all there is for as long as it is alone. When others come it founds the pools with what it
//! keeps, and who needs more takes half of what is free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tandem_core::command::Command;
use tandem_core::leases::{Leases, Pool, Use};
use tandem_core::world::Reply;
use tokio::time::MissedTickBehavior;

use super::meta::Meta;
use super::shard::Shard;
use super::tenants::{FIRST, Tenants};

/// Between two looks at what a tenant uses; a block that it takes lasts for longer.
const LOOK_MS: u64 = 100;
/// More is wanted where less than one in so many is free.
const FREE_MIN: u32 = 5;
/// Where others need it, who keeps so much more than that gives back what it does not use.
const FREE_KEPT: u32 = 2;

/// Who owns which blocks of a pool, as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
struct Owners {
    #[prost(message, repeated, tag = "1")]
    owned: Vec<Owned>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Owned {
    #[prost(uint32, tag = "1")]
    tenant: u32,
    #[prost(uint32, repeated, tag = "2")]
    blocks: Vec<u32>,
}

/// Of a pool: the owner of each block that has one.
type Owns = BTreeMap<u16, u16>;

fn key(pool: &Pool) -> String {
    match pool {
        Pool::Ports(gateway) => format!("lease/ports/{gateway}"),
        Pool::Channels(trunk) => format!("lease/channels/{trunk}"),
    }
}

fn write(owns: &Owns) -> Vec<u8> {
    let mut of: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
    for (block, tenant) in owns {
        of.entry(*tenant).or_default().push((*block).into());
    }
    let owned = of.into_iter().map(|(tenant, blocks)| Owned { tenant: tenant.into(), blocks });
    Owners { owned: owned.collect() }.encode_to_vec()
}

/// None where this build can't read it.
fn read(stored: &[u8]) -> Option<Owns> {
    let mut owns = Owns::new();
    for Owned { tenant, blocks } in Owners::decode(stored).ok()?.owned {
        let tenant = u16::try_from(tenant).ok()?;
        for block in blocks {
            owns.insert(u16::try_from(block).ok()?, tenant);
        }
    }
    Some(owns)
}

/// What who leads a tenant knows of a pool.
struct View<'v> {
    me: u16,
    /// Tenants that may want some of it, this one among them.
    sharers: usize,
    /// Nobody but this one may say first who owns what.
    founds: bool,
    blocks: &'v BTreeMap<u16, Use>,
    /// None: the pool is not founded.
    owns: Option<&'v Owns>,
    /// What the world uses now.
    leased: &'v BTreeSet<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    /// The meta shard shall say so, where it says nothing yet.
    Found(Owns),
    /// The world shall use all that it owns.
    Use(BTreeSet<u16>),
    /// The meta shard shall say so.
    Take(Owns),
    /// The world shall use no more than this; then the meta shard shall say so.
    Give {
        kept: BTreeSet<u16>,
        then: Owns,
    },
}

fn next(view: &View<'_>) -> Next {
    let View { me, blocks, leased, .. } = *view;
    let Some(owns) = view.owns else {
        let owned = leased.iter().filter(|block| blocks.contains_key(block));
        return match view.founds {
            true => Next::Found(owned.map(|block| (*block, me)).collect()),
            false => Next::Nothing,
        };
    };
    let mine: BTreeSet<u16> = owns.iter().filter(|(_, of)| **of == me).map(|(it, _)| *it).collect();
    if mine != *leased {
        return Next::Use(mine);
    }
    let of = |block: &u16| blocks.get(block).copied().unwrap_or_default();
    let (size, used) = mine
        .iter()
        .map(of)
        .fold((0, 0), |(size, used), it| (size + u32::from(it.size), used + u32::from(it.used)));
    let unowned: Vec<u16> = blocks.keys().filter(|it| !owns.contains_key(it)).copied().collect();
    let owners: BTreeSet<u16> = owns.values().copied().collect();
    let others = view.sharers.saturating_sub(1);
    let is_other = |owner: &&u16| **owner != me;
    // One of them has nothing: the last free block is for it.
    let somebody_lacks = owners.iter().filter(is_other).count() < others;
    let reserved = usize::from(somebody_lacks && !mine.is_empty());
    if (size - used) * FREE_MIN < size || size == 0 {
        let left = unowned.len().saturating_sub(reserved);
        let some = if others == 0 { left } else { left.div_ceil(2) };
        if some > 0 {
            let mut then = owns.clone();
            then.extend(unowned.into_iter().take(some).map(|block| (block, me)));
            return Next::Take(then);
        }
        return Next::Nothing;
    }
    let gone: Vec<u16> = mine.iter().filter(|it| !blocks.contains_key(it)).copied().collect();
    let unused = mine.iter().filter(|it| blocks.contains_key(it) && of(it).used == 0);
    let unused: Vec<u16> = unused.copied().collect();
    let mut given = gone;
    if others > 0 && unowned.is_empty() {
        let (mut size, mut some) = (size, 0);
        // The highest first, for the lowest are used first.
        for block in unused.iter().rev().take(unused.len().div_ceil(2)) {
            let left = size - u32::from(of(block).size);
            let is_spare = (left - used.min(left)) * FREE_MIN >= left * FREE_KEPT && left > 0;
            let is_needed = somebody_lacks && some == 0 && mine.len() > 1;
            if !is_spare && !is_needed {
                break;
            }
            (size, some) = (left, some + 1);
            given.push(*block);
        }
    }
    if given.is_empty() {
        return Next::Nothing;
    }
    let mut then = owns.clone();
    then.retain(|block, of| !(*of == me && given.contains(block)));
    let kept = mine.into_iter().filter(|block| !given.contains(block)).collect();
    Next::Give { kept, then }
}

/// What the first tenant keeps when others come: all but half of the blocks of which it uses nothing.
fn kept(blocks: &BTreeMap<u16, Use>) -> BTreeSet<u16> {
    let unused: Vec<u16> =
        blocks.iter().filter(|(_, it)| it.used == 0).map(|(block, _)| *block).collect();
    let given = &unused[unused.len().div_ceil(2)..];
    blocks.keys().filter(|block| !given.contains(block)).copied().collect()
}

/// While this node leads the tenant: it has the blocks that it needs, and gives back those that others need.
pub async fn keep(shard: Arc<dyn Shard>, meta: Arc<dyn Meta>, tenants: Arc<Tenants>) {
    let mut tick = tokio::time::interval(Duration::from_millis(LOOK_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut applied, lead) = (meta.applied(), shard.lead());
    let mut looked = None;
    loop {
        tick.tick().await;
        if lead.has_changed().is_err() {
            return;
        }
        if !lead.borrow().here || (shard.id() == FIRST && tenants.count() == 1) {
            continue;
        }
        let now = (index_of(shard.as_ref()), *applied.borrow_and_update(), tenants.count());
        if looked == Some(now) {
            continue;
        }
        match look(shard.as_ref(), meta.as_ref(), &tenants).await {
            Ok(Look::Settled) => looked = Some(now),
            Ok(Look::Again) => {}
            Err(why) => {
                tracing::debug!(tenant = shard.id(), why, "leases are looked at again");
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Look {
    Settled,
    Again,
}

fn index_of(shard: &dyn Shard) -> u64 {
    let mut index = 0;
    shard.look(&mut |world| index = world.index);
    index
}

async fn look(shard: &dyn Shard, meta: &dyn Meta, tenants: &Tenants) -> Result<Look, String> {
    let mut known = None;
    shard.look(&mut |world| {
        known = Some((world.leases.clone(), world.blocks()));
    });
    let Some((leases, blocks)) = known else { return Ok(Look::Settled) };
    let Some(leases) = leases else {
        // All at once: from the first leases on there is nothing besides.
        let mut first = Leases::default();
        if shard.id() == FIRST {
            for (pool, blocks) in &blocks {
                first.put(pool.clone(), kept(blocks));
            }
        }
        return propose(shard, first).await.map(|_| Look::Again);
    };
    let mut looked = Look::Settled;
    for (pool, blocks) in &blocks {
        let stored = meta.get(&key(pool));
        let owns = match stored.as_deref().map(read) {
            Some(None) => {
                tracing::error!(?pool, "TD0213 who has which blocks can't be read");
                continue;
            }
            Some(owns) => owns,
            None => None,
        };
        let none = BTreeSet::new();
        let view = View {
            me: shard.id(),
            sharers: tenants.sharers(pool),
            founds: tenants.founds(pool, shard.id()),
            blocks,
            owns: owns.as_ref(),
            leased: leases.of(pool).unwrap_or(&none),
        };
        let next = next(&view);
        if next != Next::Nothing {
            looked = Look::Again;
            tracing::debug!(tenant = shard.id(), ?pool, ?next, "leases");
        }
        let with = |blocks: BTreeSet<u16>| {
            let mut leases = leases.clone();
            leases.put(pool.clone(), blocks);
            leases
        };
        match next {
            Next::Nothing => {}
            Next::Found(owns) | Next::Take(owns) => {
                put(meta, pool, stored, &owns).await?;
            }
            Next::Use(mine) => {
                // The leases that were looked at are not those that are now.
                propose(shard, with(mine)).await?;
                return Ok(Look::Again);
            }
            Next::Give { kept, then } => {
                // Something of it may be in use by now: then it stays.
                if propose(shard, with(kept)).await? {
                    put(meta, pool, stored, &then).await?;
                }
                return Ok(Look::Again);
            }
        }
    }
    Ok(looked)
}

/// False where the world refuses it.
async fn propose(shard: &dyn Shard, leases: Leases) -> Result<bool, String> {
    let reply = shard.propose(Command::Lease(leases)).await.map_err(|error| error.to_string())?;
    Ok(reply == Reply::Done)
}

/// Only where nobody else has put another meanwhile: who comes too late looks again.
async fn put(
    meta: &dyn Meta,
    pool: &Pool,
    known: Option<Vec<u8>>,
    owns: &Owns,
) -> Result<(), String> {
    let replaced = meta.replace(&key(pool), known, write(owns), Vec::new()).await;
    replaced.map(|_| ()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
