//! The outside: carriers' callers and agents' phones. Each is a user agent on the machines of
//! RFC 3261 §17 and dialogs of §12, and checks by itself what it is sent.
//!
//! [`line`] is one call of one user agent; [`caller`] places calls, [`phone`] takes them, [`attended`]
//! is a phone that has two, [`pickup`] one that takes another's place,
//! [`dialog`] is what both do within a dialog, [`registration`] keeps a phone registered,
//! [`endpoint`] is sockets and timers. [`switch`] is a carrier's
//! switch, where calls of ours go out, and [`early_media`] what is heard of it before it answers.

pub mod attended;
pub mod caller;
pub mod dialog;
mod early_media;
pub mod endpoint;
pub mod line;
pub mod phone;
pub mod pickup;
pub mod registration;
mod reliable;
pub mod switch;
pub mod watching;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tandem_sip::{Param, Transport, Via};

use line::Line;
use registration::Registration;
use watching::Watching;

use crate::plan::To;

/// A planned act of a user agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Cancel,
    /// No final answer came 64·T1 after the CANCEL (RFC 3261 §9.1).
    GiveUp,
    Vanish,
    Ack,
    Ring,
    Answer,
    Refuse(u16),
    HangUp,
    Hold,
    Retrieve,
    Press(char),
    /// Sends the caller on.
    Refer(To),
    /// Holds the caller and calls a colleague.
    Ask(To),
    Dial(To),
    /// The caller goes to whoever is on that line.
    Join(usize),
    /// Takes the place of another phone in a call.
    PickUp {
        phone: usize,
        line: usize,
    },
    Register,
    /// Subscribes to a colleague, or refreshes that.
    Watch,
}

#[derive(Debug)]
pub struct Peer {
    /// Whose phone it is, by number; a carrier's caller where it is none.
    pub agent: Option<u16>,
    /// Which switch of a carrier's it is.
    pub switch: Option<usize>,
    pub address: SocketAddr,
    pub reliable: bool,
    pub alive: bool,
    /// It restarts with nothing that it knew: what was planned before is void.
    pub life: u32,
    /// The gateway it uses.
    pub home: usize,
    pub lines: Vec<Line>,
    /// Branch and digest of each INVITE that it was ever sent, by CSeq and Call-ID.
    pub invited: BTreeMap<String, (String, u64)>,
    pub registration: Registration,
    pub watching: Watching,
    pub wake_at: Option<u64>,
    pub branches: u64,
    /// When the last message on its reliable transport arrives, each way.
    pub stream_at: [u64; 2],
}

impl Peer {
    pub fn new(agent: Option<u16>, address: SocketAddr, reliable: bool, home: usize) -> Self {
        Self {
            agent,
            switch: None,
            address,
            reliable,
            alive: true,
            life: 1,
            home,
            lines: Vec::new(),
            invited: BTreeMap::new(),
            registration: Registration::default(),
            watching: Watching::default(),
            wake_at: None,
            branches: 0,
            stream_at: [0; 2],
        }
    }

    /// The topmost Via of a new transaction.
    pub fn via(&mut self) -> Via {
        self.branches += 1;
        let name = format!("z9hG4bKp{}n{}", self.address.port(), self.branches);
        Via {
            transport: if self.reliable { Transport::Tcp } else { Transport::Udp },
            host: self.address.ip().to_string(),
            port: Some(self.address.port()),
            params: vec![Param {
                name: "branch".into(),
                value: Some(format!("{name}l{}", self.life)),
            }],
        }
    }

    /// Who draws: a phone, or the caller of one planned call.
    pub fn key(&self) -> u64 {
        self.agent.map_or(u64::from(self.address.port()), u64::from)
    }

    /// An agent's phone that registers twice; nobody is at the first contact.
    pub fn has_two_contacts(&self) -> bool {
        self.agent.is_some_and(|agent| agent % 3 == 1)
    }

    /// Has it a call?
    pub fn is_busy(&self) -> bool {
        self.lines.iter().any(|line| !line.is_over())
    }

    pub fn name(&self) -> String {
        match (self.agent, self.switch) {
            (Some(agent), _) => format!("phone {}", 1_001 + u32::from(agent)),
            (None, Some(switch)) => format!("switch {switch}"),
            (None, None) => format!("caller {}", self.address.port()),
        }
    }
}
