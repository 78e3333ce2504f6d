//! What is remembered of a trunk outward: the pace of its calls, and peers that are left alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tandem_sip::Millis;

use crate::ids::{GatewayId, TrunkId};
use crate::limits;

const US_PER_S: u64 = 1_000_000;

/// No row where nothing is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    pub id: TrunkId,
    /// A bucket of tokens, kept as the time at which it is full again (the virtual scheduling of
    /// ITU-T I.371, annex A): integers on the log's time.
    pub full_at_us: u64,
    /// Peers that get no new call for now.
    pub held: BTreeMap<SocketAddr, Hold>,
    /// What OPTIONS of each gateway came to, once it has changed: a network may be cut for one only.
    pub health: BTreeMap<(SocketAddr, GatewayId), Health>,
    /// Whether the carrier has the Contact of each gateway, once it has been asked.
    pub registrations: BTreeMap<GatewayId, Health>,
}

/// What a gateway's present life has found a peer to be. Where it has said nothing, the peer is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Of the changes of this peer in that life, from 1: events may be committed out of order.
    pub number: u64,
    pub up: bool,
    /// What the peer has answered last; 408 where that was nothing.
    pub status: u16,
    pub since: Millis,
}

/// A carrier has a gateway's Contact, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationChange {
    pub trunk: TrunkId,
    pub number: u64,
    pub up: bool,
    pub status: u16,
}

/// A peer is not where it was before, as one gateway sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerChange {
    pub trunk: TrunkId,
    pub peer: SocketAddr,
    pub number: u64,
    pub up: bool,
    pub status: u16,
}

/// Why a peer is left alone, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub until: Millis,
    /// What it has answered; 408 where that was nothing.
    pub status: u16,
}

impl Trunk {
    pub fn new(id: TrunkId) -> Self {
        Self {
            id,
            full_at_us: 0,
            held: BTreeMap::new(),
            health: BTreeMap::new(),
            registrations: BTreeMap::new(),
        }
    }

    /// Takes one token; false where there is none. The bucket holds those of one second.
    pub fn take_token(&mut self, now: Millis, per_second: u16) -> bool {
        let Some(us_each) = US_PER_S.checked_div(per_second.into()) else { return true };
        let now_us = now.0.saturating_mul(1_000);
        let full_at_us = self.full_at_us.max(now_us) + us_each;
        if full_at_us - now_us > us_each * u64::from(per_second) {
            return false;
        }
        self.full_at_us = full_at_us;
        true
    }

    pub fn hold(&mut self, peer: SocketAddr, status: u16, now: Millis, hold_ms: u64) {
        self.held.retain(|_, hold| hold.until > now);
        if self.held.len() < limits::PEERS_MAX || self.held.contains_key(&peer) {
            self.held.insert(peer, Hold { until: now.after(hold_ms), status });
        }
    }

    pub fn holds(&self, peer: SocketAddr, now: Millis) -> Option<Hold> {
        self.held.get(&peer).copied().filter(|hold| hold.until > now)
    }

    pub fn is_registered(&self, gateway: &GatewayId) -> bool {
        self.registrations.get(gateway).is_some_and(|registered| registered.up)
    }

    pub fn is_down(&self, peer: SocketAddr, gateway: &GatewayId) -> bool {
        self.health.get(&(peer, gateway.clone())).is_some_and(|health| !health.up)
    }
}
