//! A gateway as the shard knows it: its life, its address, the ports that it granted, and which
//! of its events have counted.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::ids::GatewayId;
use crate::limits;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub id: GatewayId,
    pub incarnation: u64,
    /// Where it serves SIP; its media has the same address.
    pub vip: SocketAddr,
    /// Granted and not taken.
    pub free_ports: BTreeSet<u16>,
    /// Every event up to this one has counted.
    pub counted: u64,
    /// Events beyond `counted` that have counted, too.
    pub ahead: BTreeSet<u64>,
}

/// Whether an event is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    New,
    Repeated,
    /// Too far ahead of one that is missing, which itself is always taken.
    TooEarly,
}

impl Gateway {
    pub fn judge(&self, sequence: u64) -> Fresh {
        if sequence <= self.counted || self.ahead.contains(&sequence) {
            Fresh::Repeated
        } else if self.ahead.len() >= limits::EVENTS_AHEAD_MAX && sequence > self.counted + 1 {
            Fresh::TooEarly
        } else {
            Fresh::New
        }
    }

    pub fn count(&mut self, sequence: u64) {
        self.ahead.insert(sequence);
        while self.ahead.remove(&(self.counted + 1)) {
            self.counted += 1;
        }
    }
}
