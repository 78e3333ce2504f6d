//! A carrier's switch: it takes the calls that go out by its trunk, or does not, or says nothing.

use std::net::SocketAddr;
use std::rc::Rc;

use tandem_core::config;
use tandem_core::ids::TrunkId;
use tandem_core::trunk::outward::{Outward, Peer as Hop, Route, Transport};
use tandem_sip::Request;

use super::{Peer, Step};
use crate::draws::For;
use crate::limits;
use crate::packet::Packet;
use crate::plan::Settings;
use crate::simulation::Simulation;

/// Two of one carrier, one of another.
pub const SWITCHES: usize = 3;
/// What goes out begins like that.
const PREFIX: &str = "00";
const PORT: u16 = 5_070;
const RTP_PORT: u16 = 10_000;
/// Of each switch; long before they are used up the first of them is free again.
const RTP_PORTS: u16 = 2_000;

fn address(switch: usize) -> SocketAddr {
    SocketAddr::from(([10, 7, 0, 1 + switch as u8], PORT + switch as u16))
}

/// The trunks outward, and the route that they are on.
pub fn trunks(settings: &Settings) -> ([config::Trunk; 2], Route) {
    let trunk = |name: &str, switches: std::ops::Range<usize>, priority, calls_per_second| {
        let hop = |switch| Hop { address: address(switch), transport: Transport::Udp };
        config::Trunk {
            id: TrunkId(name.into()),
            channels: settings.channels_out,
            guard_ms: settings.guard_ms,
            // Nobody calls in by it.
            sources: vec![[192, 0, 2, 1].into()],
            tls: Default::default(),
            out: Some(Outward {
                peers: switches.map(hop).collect(),
                priority,
                weight: 1,
                calls_per_second,
                reply_ms: settings.reply_ms,
                no_answer_ms: settings.no_answer_ms,
                caller_id: None,
                hide_caller: false,
                called: Vec::new(),
                calling: Vec::new(),
                credentials: None,
                options_s: limits::OPTIONS_S,
                register: None,
            }),
            incoming: Default::default(),
            codecs: Vec::new(),
            shared: false,
        }
    };
    let trunks = [trunk("north", 0..2, 1, settings.pace), trunk("south", 2..SWITCHES, 2, 1)];
    let route = Route {
        prefix: PREFIX.into(),
        trunks: trunks.iter().map(|trunk| trunk.id.clone()).collect(),
    };
    (trunks, route)
}

impl Simulation {
    pub fn new_switches(&mut self) {
        for switch in 0..SWITCHES {
            let peer = Peer { switch: Some(switch), ..Peer::new(None, address(switch), false, 0) };
            self.add_peer(peer);
        }
    }

    /// They come behind the phones.
    pub fn peer_of_switch(&self, switch: usize) -> usize {
        usize::from(self.settings.agents) + switch
    }

    /// It restarts, and knows no call.
    pub fn restart_switch(&mut self, p: usize) {
        let peer = &mut self.peers[p];
        peer.lines.iter_mut().for_each(super::line::Line::forget);
        peer.alive = true;
        peer.life += 1;
    }

    /// It is there (RFC 3261 §11.2).
    pub fn on_asked(&mut self, p: usize, request: &Request) {
        let response = request.respond(200, None, Some("there"));
        let bytes = response.to_bytes();
        if let Some(vip) = self.vip_of(&request.headers.via[0].sent_by()) {
            self.transmit_from_peer(p, Packet::response(Rc::new(response), &bytes), vip);
        }
    }

    pub fn rtp_port_of_switch(&self, p: usize, switch: usize) -> u16 {
        let nth = self.peers[p].lines.len() as u16 % RTP_PORTS;
        RTP_PORT + 2 * (switch as u16 * RTP_PORTS + nth)
    }

    /// What it does with a call: drawn for the switch and who calls.
    pub fn route_on(&mut self, p: usize, l: usize) {
        let name = self.name_of_line(p, l);
        let mut random = self.draws.next(For::Ringing, name);
        let ring_at = random.between(1, 200);
        let answers_at = ring_at + random.between(50, self.settings.no_answer_ms);
        let step = |sim: &mut Self, after, step| sim.plan_step(p, l, after, step);
        step(self, self.settings.no_answer_ms * 4, Step::Refuse(480));
        match random.below(16) {
            // Not a word.
            0 => {}
            1 | 2 => step(self, ring_at, Step::Refuse(503)),
            3 => step(self, ring_at, Step::Refuse(500)),
            4 => step(self, ring_at, Step::Refuse(486)),
            5 => {
                step(self, ring_at, Step::Ring);
                step(self, answers_at, Step::Refuse(503));
            }
            // It rings, and nobody comes.
            6 => step(self, ring_at, Step::Ring),
            // So late that it may cross the CANCEL.
            7 => {
                let about = self.settings.reply_ms.saturating_sub(30);
                step(self, about + random.below(60), Step::Answer);
            }
            8 => {
                step(self, ring_at, Step::Ring);
                let about = ring_at + self.settings.no_answer_ms.saturating_sub(30);
                step(self, about + random.below(60), Step::Answer);
            }
            9 => step(self, ring_at, Step::Answer),
            _ => {
                step(self, ring_at, Step::Ring);
                step(self, answers_at, Step::Answer);
            }
        }
    }
}
