//! A node: its replica of the shard and, while it leads, the rules of `actors/runtime`.
//!
//! [`replica`] applies and stores, [`leader`] proposes and performs, [`election`] says who leads,
//! [`actors`] crash and are restarted, [`clock`] tells the log's time.

pub mod actors;
pub mod clock;
pub mod election;
pub mod leader;
pub mod replica;

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::deadline::Deadline;
use tandem_core::effect::EffectId;
use tandem_core::ids::{EntityId, GatewayId};
use tandem_core::log_time::LogTime;
use tandem_sip::Millis;

use crate::event::Event;
use actors::Child;
use replica::Replica;

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub alive: bool,
    pub paused: bool,
    /// The other voters can't be reached.
    pub cut: bool,
    pub life: u32,
    /// What its wall clock shows beyond the true time.
    pub wall_ahead_ms: i64,
    pub log_time: LogTime,
    pub replica: Replica,
    /// The term that it believes to lead.
    pub believes: Option<u64>,
    /// The term in which its actors serve.
    pub tree: Option<u64>,
    pub pending: BTreeMap<u64, Pending>,
    pub last_proposal: u64,
    pub done: Vec<EffectId>,
    pub handed: BTreeMap<Deadline, Millis>,
    /// Actors that crashed in this term; all others run.
    pub children: BTreeMap<EntityId, Child>,
    pub admissions: usize,
    pub wake_at: Option<u64>,
    pub applying: bool,
    /// What arrived while it was stopped.
    pub backlog: Vec<Event>,
    /// A planted bug: an event that is brought again is not looked at.
    pub heard: BTreeSet<(GatewayId, u64, u64)>,
    /// A planted bug: deadlines of entries before this one are forgotten.
    pub forgets_before: u64,
}

/// A proposal whose reply is awaited.
#[derive(Clone, Debug)]
pub struct Pending {
    pub what: Proposed,
    pub done: Vec<EffectId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    Elected,
    Event {
        gateway: GatewayId,
        life: u64,
        sequence: u64,
        new_call: bool,
    },
    /// An operator waits.
    Asked {
        placed: usize,
    },
    /// Nobody waits for the reply.
    Other,
}

impl Node {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            alive: true,
            paused: false,
            cut: false,
            life: 1,
            wall_ahead_ms: 0,
            log_time: LogTime::new(0),
            replica: Replica::default(),
            believes: None,
            tree: None,
            pending: BTreeMap::new(),
            last_proposal: 0,
            done: Vec::new(),
            handed: BTreeMap::new(),
            children: BTreeMap::new(),
            admissions: 0,
            wake_at: None,
            applying: false,
            backlog: Vec::new(),
            heard: BTreeSet::new(),
            forgets_before: 0,
        }
    }

    /// It runs.
    pub fn is_up(&self) -> bool {
        self.alive && !self.paused
    }

    /// It runs and reaches the majority.
    pub fn is_voter(&self) -> bool {
        self.is_up() && !self.cut
    }

    /// The actors are gone, with all that they knew.
    pub fn tear_down(&mut self) {
        self.tree = None;
        self.children.clear();
        self.handed.clear();
        self.admissions = 0;
        self.heard.clear();
    }
}
