//! A gateway: the code of the real one (`tandem_control`), with a socket, sessions and a media
//! plane that are played.
//!
//! [`process`] gives it what arrives and does what it says, [`media`] stands in for RTP, [`bugs`]
//! are planted around it.

pub mod bugs;
pub mod media;
pub mod process;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tandem_control::{Control, Identity};
use tandem_core::ids::{CallId, GatewayId};
use tandem_sip::Millis;

use crate::consensus::NODES;
use crate::event::Event;
use crate::limits;
use bugs::Planted;
use media::Plan;

/// The one tenant of the model.
const SHARD: u32 = 0;
/// The first port that a gateway grants.
const PORT_FIRST: u16 = 20_000;

#[derive(Debug)]
pub struct Gateway {
    pub name: GatewayId,
    pub vip: SocketAddr,
    pub alive: bool,
    pub paused: bool,
    /// The process's life.
    pub incarnation: u64,
    pub state: State,
    /// What arrived while it was stopped.
    pub backlog: Vec<Event>,
    pub backlog_packets: usize,
    /// Processes that serve the VIP and are not dead. More than one is a split brain.
    pub servers_of_vip: u32,
}

/// All that dies with the process.
#[derive(Debug)]
pub struct State {
    pub control: Control,
    pub media: BTreeMap<CallId, Plan>,
    pub wake_at: Option<u64>,
    pub silence_look_at: u64,
    /// What was committed when it began; only a planted bug asks.
    pub began_at_index: u64,
    pub planted: Planted,
}

impl Gateway {
    pub fn new(name: &str, vip: SocketAddr) -> Self {
        let name = GatewayId::from(name);
        Self {
            state: State::begin(0, 0, &name, vip, 1),
            name,
            vip,
            alive: true,
            paused: false,
            incarnation: 1,
            backlog: Vec::new(),
            backlog_packets: 0,
            servers_of_vip: 1,
        }
    }

    pub fn is_up(&self) -> bool {
        self.alive && !self.paused
    }

    /// A new process knows nothing.
    pub fn begin(&mut self, now: u64, committed: u64) {
        self.state = State::begin(now, committed, &self.name, self.vip, self.incarnation);
    }
}

impl State {
    fn begin(now: u64, began_at_index: u64, name: &GatewayId, vip: SocketAddr, life: u64) -> Self {
        let identity = Identity {
            name: name.clone(),
            vip,
            ports: (0..limits::PORTS).map(|port| PORT_FIRST + 2 * port).collect(),
            nodes: (0..NODES).map(|node| format!("node {node}")).collect(),
            life,
        };
        Self {
            control: Control::new(Millis(now), identity),
            media: BTreeMap::new(),
            wake_at: None,
            silence_look_at: 0,
            began_at_index,
            planted: Planted::default(),
        }
    }
}
