//! The streams between gateways and nodes: in order, without loss while they last, broken when an
//! end dies, and slow to notice when the way between them is cut.

use std::collections::VecDeque;
use std::sync::Arc;

use tandem_control::link::Up;
use tandem_core::effect::Effect;

use crate::consensus::NODES;

pub const GATEWAYS: usize = 2;

#[derive(Clone, Debug)]
pub enum Down {
    Effect {
        term: u64,
        effect: Arc<Effect>,
    },
    /// `life` is the incarnation that the event was of.
    Accepted {
        life: u64,
        sequence: u64,
        overloaded: bool,
    },
    Leading {
        term: u64,
        leading: bool,
    },
    Routing,
}

#[derive(Debug, Default)]
pub struct Link {
    /// Of the stream that is open or was open last.
    pub serial: u64,
    pub gateway_open: bool,
    pub node_open: bool,
    /// Until when the way is cut.
    pub cut_until: u64,
    /// The node's end knows which life of the gateway said Hello.
    pub incarnation: u64,
    /// An attempt to connect is scheduled.
    pub connecting: bool,
    up_at: u64,
    down_at: u64,
    /// What is on its way while the way is cut: it comes late, or with the stream's end never.
    pub held_up: VecDeque<Up>,
    pub held_down: VecDeque<Down>,
}

impl Link {
    /// When a message that is sent now arrives: never before an earlier one.
    pub fn arrives_up(&mut self, now: u64, takes_ms: u64) -> u64 {
        self.up_at = self.up_at.max(now + takes_ms);
        self.up_at
    }

    pub fn arrives_down(&mut self, now: u64, takes_ms: u64) -> u64 {
        self.down_at = self.down_at.max(now + takes_ms);
        self.down_at
    }

    pub fn open(&mut self, incarnation: u64) {
        self.serial += 1;
        self.gateway_open = true;
        self.node_open = true;
        self.incarnation = incarnation;
        self.held_up.clear();
        self.held_down.clear();
    }
}

#[derive(Debug, Default)]
pub struct Links([[Link; NODES]; GATEWAYS]);

impl Links {
    pub fn of(&mut self, gateway: usize, node: usize) -> &mut Link {
        &mut self.0[gateway][node]
    }
}
