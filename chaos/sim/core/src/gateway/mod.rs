//! A gateway: the rules of `gateway/src/control` and `gateway/src/sip`, on the real machines of
//! RFC 3261 §17.
//!
//! [`control`] takes what nodes say, [`requests`] and [`responses`] what peers send, [`ledger`]
//! keeps events until they count, [`table`] the transactions, [`media`] stands in for RTP.

pub mod control;
pub mod ledger;
pub mod media;
pub mod requests;
pub mod responses;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

use tandem_core::effect::EffectId;
use tandem_core::ids::{CallId, GatewayId};

use crate::event::Event;
use crate::packet::Packet;
use ledger::{Fence, Ledger};
use media::Plan;
use table::{ClientEntry, ServerEntry, Table};

/// Call-ID, tag, CSeq number.
pub type AckName = (String, String, u32);
/// Branch and method.
pub type ClientName = (String, String);

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
#[derive(Debug, Default)]
pub struct State {
    pub ledger: Ledger,
    pub fence: Fence,
    /// Nodes that say that they lead, with their terms.
    pub leading: BTreeMap<usize, u64>,
    pub leader: Option<(usize, u64)>,
    pub logged_in: bool,
    pub done: Vec<EffectId>,
    pub done_since: Option<u64>,
    pub retry_at: Option<u64>,
    pub leaderless_since: Option<u64>,
    pub turned_away: bool,
    pub servers: Table<tandem_sip::transaction::Key, ServerEntry>,
    pub clients: Table<ClientName, ClientEntry>,
    /// Which server transaction an ACK of a 2xx belongs to.
    pub acks_of: BTreeMap<AckName, u64>,
    /// The ACKs that were sent, to be sent again.
    pub acks: BTreeMap<AckName, (Rc<Packet>, SocketAddr)>,
    pub strays: BTreeSet<(String, u16, String)>,
    pub media: BTreeMap<CallId, Plan>,
    pub wake_at: Option<u64>,
    pub silence_look_at: u64,
    /// What was committed when it began; only a planted bug asks.
    pub began_at_index: u64,
}

impl Gateway {
    pub fn new(name: &str, vip: SocketAddr) -> Self {
        Self {
            name: GatewayId::from(name),
            vip,
            alive: true,
            paused: false,
            incarnation: 1,
            state: State { leaderless_since: Some(0), ..State::default() },
            backlog: Vec::new(),
            backlog_packets: 0,
            servers_of_vip: 1,
        }
    }

    pub fn is_up(&self) -> bool {
        self.alive && !self.paused
    }
}
