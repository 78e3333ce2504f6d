//! Everything that can happen at a moment of virtual time.

use std::net::SocketAddr;
use std::rc::Rc;

use tandem_control::link::Up;
use tandem_core::ids::EntityId;

use crate::links::Down;
use crate::packet::Packet;
use crate::peer::Step;

#[derive(Debug)]
pub enum Event {
    // The outside.
    Call(usize),
    Step {
        peer: usize,
        life: u32,
        line: usize,
        step: Step,
    },
    WakePeer {
        peer: usize,
    },
    Packet {
        from: SocketAddr,
        to: SocketAddr,
        packet: Rc<Packet>,
    },
    /// Agents at their desks look whether they are ready.
    Desk,
    /// An operator asks for a call, once more where nobody has answered.
    Place {
        placed: usize,
        attempt: u32,
    },

    // Gateways and their streams to nodes.
    WakeGateway {
        gateway: usize,
        incarnation: u64,
    },
    Connect {
        gateway: usize,
        node: usize,
    },
    Up {
        gateway: usize,
        node: usize,
        serial: u64,
        message: Up,
    },
    Down {
        gateway: usize,
        node: usize,
        serial: u64,
        message: Down,
    },
    Renew {
        gateway: usize,
        life: u64,
    },
    LeaseAsked {
        gateway: usize,
        life: u64,
        node: usize,
        asked: u64,
    },
    LeaseGranted {
        gateway: usize,
        life: u64,
        asked: u64,
    },
    LeaseOver {
        gateway: usize,
        /// By the leader's boot clock.
        until: u64,
    },
    /// One end learns that the stream is over.
    GatewayHears {
        gateway: usize,
        node: usize,
        serial: u64,
    },
    NodeHears {
        gateway: usize,
        node: usize,
        serial: u64,
    },

    // Nodes.
    Commit {
        term: u64,
        index: u64,
    },
    Election {
        term: u64,
    },
    StepDown {
        node: usize,
        term: u64,
    },
    Apply {
        node: usize,
        life: u32,
    },
    Stored {
        node: usize,
        life: u32,
        index: u64,
    },
    WakeNode {
        node: usize,
        life: u32,
    },
    Restart {
        node: usize,
        life: u32,
        term: u64,
        entity: EntityId,
    },
    Trim {
        node: usize,
        life: u32,
    },

    // Faults.
    Strike(usize),
    Over(usize, Damage),
    Heal,
    /// Has everything come to rest?
    Rest,
}

/// What a fault has broken, to be mended at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    NodeDown { node: usize, empty_disk: bool },
    NodeCut { node: usize },
    NodePaused { node: usize },
    Witness,
    GatewayDown { gateway: usize },
    GatewayPaused { gateway: usize },
    LinkCut { gateway: usize, node: usize },
    Slow,
    Overload,
    Losing,
    Network,
    Phone { peer: usize },
    Switch { peer: usize },
}
