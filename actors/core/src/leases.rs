//! What a tenant may use of what tenants share: the RTP ports of gateways, and the channels of shared
//! trunks. Blocks of them are leased to it; who leases them, and to whom, the meta shard says.
//!
//! A world that was never told of leases has all there is: no other tenant is there. From the first
//! [`Leases`] on it takes nothing outside of them, and gives no block up of which something is in use.

use std::collections::{BTreeMap, BTreeSet};

use crate::draft::Draft;
use crate::ids::{GatewayId, TrunkId};
use crate::world::{Rejection, World};

/// RTP and RTCP of thirty-two legs.
pub const PORTS_A_BLOCK: u16 = 64;
/// The speech channels of one PCM line (ITU-T G.704).
pub const CHANNELS_A_BLOCK: u16 = 30;

/// Blocks by their numbers: `port / PORTS_A_BLOCK`, `(channel - 1) / CHANNELS_A_BLOCK`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    pub ports: BTreeMap<GatewayId, BTreeSet<u16>>,
    pub channels: BTreeMap<TrunkId, BTreeSet<u16>>,
}

/// Of what there are blocks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pool {
    Ports(GatewayId),
    Channels(TrunkId),
}

/// Of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    pub size: u16,
    pub used: u16,
}

impl Leases {
    pub fn has_port(&self, gateway: &GatewayId, port: u16) -> bool {
        self.ports.get(gateway).is_some_and(|blocks| blocks.contains(&block_of_port(port)))
    }

    pub fn has_channel(&self, trunk: &TrunkId, number: u16) -> bool {
        self.channels.get(trunk).is_some_and(|blocks| blocks.contains(&block_of_channel(number)))
    }

    pub fn of(&self, pool: &Pool) -> Option<&BTreeSet<u16>> {
        match pool {
            Pool::Ports(gateway) => self.ports.get(gateway),
            Pool::Channels(trunk) => self.channels.get(trunk),
        }
    }

    pub fn put(&mut self, pool: Pool, blocks: BTreeSet<u16>) {
        match pool {
            Pool::Ports(gateway) => self.ports.insert(gateway, blocks),
            Pool::Channels(trunk) => self.channels.insert(trunk, blocks),
        };
    }
}

fn block_of_port(port: u16) -> u16 {
    port / PORTS_A_BLOCK
}

fn block_of_channel(number: u16) -> u16 {
    number.saturating_sub(1) / CHANNELS_A_BLOCK
}

/// Without leases every port is the tenant's.
pub(crate) fn may_use_port(leases: Option<&Leases>, gateway: &GatewayId, port: u16) -> bool {
    leases.is_none_or(|leases| leases.has_port(gateway, port))
}

impl World {
    pub(crate) fn may_use_port(&self, gateway: &GatewayId, port: u16) -> bool {
        may_use_port(self.leases.as_ref(), gateway, port)
    }

    /// Where several tenants share the trunk it takes a lease.
    pub(crate) fn may_use_channel(&self, trunk: &TrunkId, number: u16) -> bool {
        let Some(leases) = &self.leases else { return true };
        let shared = self.config.as_ref().and_then(|config| config.trunk(trunk));
        !shared.is_some_and(|trunk| trunk.shared) || leases.has_channel(trunk, number)
    }

    /// Each block that there is, leased to this tenant or not, and how much of it this tenant uses.
    pub fn blocks(&self) -> BTreeMap<Pool, BTreeMap<u16, Use>> {
        let mut pools: BTreeMap<Pool, BTreeMap<u16, Use>> = BTreeMap::new();
        for gateway in self.gateways.values() {
            let blocks = pools.entry(Pool::Ports(gateway.id.clone())).or_default();
            for port in &gateway.granted {
                blocks.entry(block_of_port(*port)).or_default().size += 1;
            }
        }
        for (gateway, port) in self.held_ports() {
            let blocks = pools.get_mut(&Pool::Ports(gateway.clone()));
            let block = blocks.and_then(|blocks| blocks.get_mut(&block_of_port(port)));
            block.into_iter().for_each(|block| block.used += 1);
        }
        let shared = self.config.iter().flat_map(|config| &config.trunks);
        for trunk in shared.filter(|trunk| trunk.shared) {
            let blocks = pools.entry(Pool::Channels(trunk.id.clone())).or_default();
            for number in 1..=trunk.channels {
                blocks.entry(block_of_channel(number)).or_default().size += 1;
            }
        }
        for id in self.channels.keys() {
            let blocks = pools.get_mut(&Pool::Channels(id.trunk.clone()));
            let block = blocks.and_then(|blocks| blocks.get_mut(&block_of_channel(id.number)));
            block.into_iter().for_each(|block| block.used += 1);
        }
        pools
    }

    fn held_ports(&self) -> impl Iterator<Item = (&GatewayId, u16)> {
        self.calls.values().flat_map(|call| {
            let ports = call.legs.iter().map(|leg| leg.media.port).filter(|port| *port != 0);
            ports.map(|port| (&call.gateway, port))
        })
    }

    /// What is granted and leased and held by no leg.
    pub(crate) fn find_free_ports(&mut self) {
        let mut held: BTreeMap<GatewayId, BTreeSet<u16>> = BTreeMap::new();
        for (gateway, port) in self.held_ports() {
            held.entry(gateway.clone()).or_default().insert(port);
        }
        let leases = self.leases.as_ref();
        for (id, gateway) in &mut self.gateways {
            let held = held.remove(id).unwrap_or_default();
            let leased = |port: &&u16| may_use_port(leases, id, **port);
            let free = gateway.granted.iter().filter(|port| !held.contains(port)).filter(leased);
            gateway.free_ports = free.copied().collect();
        }
    }
}

/// From now on these are the tenant's. What was leased before and is in use can't be given up.
pub fn lease(draft: &mut Draft<'_>, leases: &Leases) -> Result<(), Rejection> {
    if let Some(before) = &draft.world.leases {
        let is_lost = |had: bool, has: bool| had && !has;
        let port = draft.world.held_ports().find(|(gateway, port)| {
            is_lost(before.has_port(gateway, *port), leases.has_port(gateway, *port))
        });
        if let Some((gateway, port)) = port {
            return Err(Rejection::Refused(format!("port {port} of {gateway} is in use")));
        }
        let channel = draft.world.channels.keys().find(|id| {
            let number = id.number;
            is_lost(before.has_channel(&id.trunk, number), leases.has_channel(&id.trunk, number))
        });
        if let Some(id) = channel {
            return Err(Rejection::Refused(format!("channel {id} is in use")));
        }
    }
    draft.writes.leases = Some(leases.clone());
    Ok(())
}
