//! The way of a packet: it may be lost, come twice, late or out of order; or, on a stream, in order
//! and once.

use std::net::SocketAddr;
use std::rc::Rc;

use tandem_control::link::Up;

use crate::draws::For;
use crate::event::Event;
use crate::links::{Down, GATEWAYS};
use crate::names;
use crate::packet::Packet;
use crate::simulation::Simulation;

/// How bad the network is now.
#[derive(Debug, Default)]
pub struct Weather {
    pub loss_percent: u64,
    pub duplicates_percent: u64,
    pub jitter_ms: u64,
}

/// An attempt to connect takes up to this long, handshake and all.
pub const CONNECT_MS_MAX: u64 = 250;
const CONNECT_MS_MIN: u64 = 5;

/// Which way on a peer's stream.
const TO_GATEWAY: usize = 0;
const TO_PEER: usize = 1;

impl Simulation {
    pub fn transmit_from_peer(&mut self, p: usize, packet: Rc<Packet>, to: SocketAddr) {
        let from = self.peers[p].address;
        let reliable = self.peers[p].reliable;
        self.tell(|sim| (sim.peers[p].name(), format!("sends {}", packet.words())));
        let owner = names::of(&[TO_GATEWAY as u64, self.peers[p].key()]);
        self.transmit(from, to, packet, owner, reliable.then_some((p, TO_GATEWAY)));
    }

    pub fn transmit_from_gateway(&mut self, g: usize, packet: Rc<Packet>, to: SocketAddr) {
        let peer = self.addresses.get(&to).copied();
        let stream = peer.is_some_and(|p| self.peers[p].reliable);
        if self.may_send(g, &packet, to, stream) {
            self.put_on_wire(g, packet, to);
        }
    }

    pub fn put_on_wire(&mut self, g: usize, packet: Rc<Packet>, to: SocketAddr) {
        let from = self.gateways[g].vip;
        let peer = self.addresses.get(&to).copied();
        let reliable = peer.filter(|p| self.peers[*p].reliable);
        self.tell(|sim| {
            (sim.gateways[g].name.to_string(), format!("sends {} to {to}", packet.words()))
        });
        let owner = names::of(&[TO_PEER as u64, peer.map_or(0, |p| self.peers[p].key())]);
        self.transmit(from, to, packet, owner, reliable.map(|p| (p, TO_PEER)));
    }

    fn transmit(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        packet: Rc<Packet>,
        owner: u64,
        stream: Option<(usize, usize)>,
    ) {
        self.trace.note(self.now, b'p', packet.digest);
        let name = names::of(&[owner, names::packet(&packet)]);
        let mut random = self.draws.next(For::Packet, name);
        let takes_ms = random.between(1, self.settings.packet_ms_max);
        if let Some((p, way)) = stream {
            let at = (self.now + takes_ms).max(self.peers[p].stream_at[way]);
            self.peers[p].stream_at[way] = at;
            self.schedule.put(at, Event::Packet { from, to, packet });
            return;
        }
        // Each is drawn whatever the weather, so that one fault does not move another's draws.
        let lost = random.percent(self.weather.loss_percent);
        let jitter_ms = random.below(self.weather.jitter_ms + 1);
        let again = random.percent(self.weather.duplicates_percent);
        if lost {
            return;
        }
        if again {
            let at = self.now + takes_ms + random.below(200);
            self.schedule.put(at, Event::Packet { from, to, packet: Rc::clone(&packet) });
        }
        self.schedule.put(self.now + takes_ms + jitter_ms, Event::Packet { from, to, packet });
    }

    pub fn on_packet(&mut self, from: SocketAddr, to: SocketAddr, packet: &Rc<Packet>) {
        if let Some(p) = self.addresses.get(&to).copied() {
            self.on_packet_to_peer(p, packet);
            return;
        }
        let Some(g) = (0..GATEWAYS).find(|g| self.gateways[*g].vip == to) else { return };
        let gateway = &mut self.gateways[g];
        if !gateway.alive {
            return;
        }
        if gateway.paused {
            if gateway.backlog_packets < crate::limits::BACKLOG_PACKETS_MAX {
                gateway.backlog_packets += 1;
                gateway.backlog.push(Event::Packet { from, to, packet: Rc::clone(packet) });
            }
            return;
        }
        self.on_packet_to_gateway(g, from, packet);
        self.serve_gateway(g);
    }

    // --- the streams between gateways and nodes ------------------------------------------------

    pub fn send_up(&mut self, g: usize, n: usize, message: Up) {
        let now = self.now;
        let name = names::of(&[g as u64, n as u64, names::up(now, &message)]);
        let takes_ms = self.draws.next(For::Up, name).between(0, self.settings.link_ms_max);
        let link = self.links.of(g, n);
        if !link.gateway_open {
            return;
        }
        let at = link.arrives_up(now, takes_ms);
        let serial = link.serial;
        self.schedule.put(at, Event::Up { gateway: g, node: n, serial, message });
    }

    /// Where the gateway has no session it is dropped: it gets what it lacks when it has one.
    pub fn send_down(&mut self, g: usize, n: usize, message: Down) {
        let now = self.now;
        let name = names::of(&[g as u64, n as u64, names::down(now, &message)]);
        let takes_ms = self.draws.next(For::Down, name).between(0, self.settings.link_ms_max);
        let link = self.links.of(g, n);
        if !link.node_open {
            return;
        }
        let at = link.arrives_down(now, takes_ms);
        let serial = link.serial;
        self.schedule.put(at, Event::Down { gateway: g, node: n, serial, message });
    }

    pub fn on_up(&mut self, g: usize, n: usize, serial: u64, message: Up) {
        let link = self.links.of(g, n);
        if link.serial != serial || !link.node_open {
            return;
        }
        if link.cut_until > self.now {
            link.held_up.push_back(message);
            return;
        }
        let incarnation = link.incarnation;
        if self.nodes[n].paused {
            let late = Event::Up { gateway: g, node: n, serial, message };
            self.nodes[n].backlog.push(late);
            return;
        }
        match message {
            Up::Event { sequence, event, .. } => {
                let gateway = self.gateways[g].name.clone();
                let origin = tandem_core::command::Origin { gateway, incarnation, sequence };
                self.on_gateway_event(n, origin, &event);
            }
            Up::Done { effects, .. } => self.on_done(n, &effects),
        }
    }

    pub fn on_down_arrived(&mut self, g: usize, n: usize, serial: u64, message: Down) {
        let link = self.links.of(g, n);
        if link.serial != serial || !link.gateway_open {
            return;
        }
        if link.cut_until > self.now {
            link.held_down.push_back(message);
            return;
        }
        if self.gateways[g].paused {
            let late = Event::Down { gateway: g, node: n, serial, message };
            self.gateways[g].backlog.push(late);
            return;
        }
        self.on_down(g, n, message);
    }

    pub fn connect_later(&mut self, g: usize, n: usize, within_ms: u64) {
        let owner = names::of(&[g as u64, n as u64, self.now]);
        let after_ms = self.draws.at(For::Connect, owner).between(CONNECT_MS_MIN, within_ms);
        let link = self.links.of(g, n);
        if !link.connecting {
            link.connecting = true;
            self.schedule.put(self.now + after_ms, Event::Connect { gateway: g, node: n });
        }
    }

    pub fn on_connect(&mut self, g: usize, n: usize) {
        let ready = self.gateways[g].is_up() && self.nodes[n].is_up();
        let (incarnation, now) = (self.gateways[g].incarnation, self.now);
        let link = self.links.of(g, n);
        link.connecting = false;
        if link.gateway_open {
            return;
        }
        if !ready || link.cut_until > now {
            if self.gateways[g].alive {
                self.connect_later(g, n, CONNECT_MS_MAX);
            }
            return;
        }
        link.open(incarnation);
        self.nodes[n].heard.clear();
        self.on_session_begun(g, n);
        self.ask_for_lease(g);
        // What it has not done comes first, then who leads.
        self.on_session(g, n);
        self.send_down(g, n, Down::Routing);
        self.tell_leading_to(g, n);
    }

    pub fn on_gateway_hears(&mut self, g: usize, n: usize, serial: u64) {
        let link = self.links.of(g, n);
        if link.serial != serial || !link.gateway_open {
            return;
        }
        if self.gateways[g].paused {
            let late = Event::GatewayHears { gateway: g, node: n, serial };
            self.gateways[g].backlog.push(late);
            return;
        }
        link.gateway_open = false;
        self.on_session_over(g, n);
        self.connect_later(g, n, CONNECT_MS_MAX);
    }

    pub fn on_node_hears(&mut self, g: usize, n: usize, serial: u64) {
        let link = self.links.of(g, n);
        if link.serial == serial {
            link.node_open = false;
        }
    }
}
