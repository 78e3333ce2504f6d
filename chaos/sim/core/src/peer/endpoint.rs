//! Sockets and timers of the peers: what arrives finds its line, what is due is done.

use std::net::SocketAddr;
use std::rc::Rc;

use tandem_sip::transaction::Key;
use tandem_sip::{Method, Request};

use super::line::{Line, State};
use super::phone::name_of_invite;
use super::watching::Watching;
use super::{Peer, Step};
use crate::event::Event;
use crate::packet::{Content, Packet};
use crate::simulation::Simulation;

const CARRIER_PORT: u16 = 6_000;
const PHONE_PORT: u16 = 8_000;
const RTP_PORT: u16 = 30_000;
const PHONE_RTP_PORT: u16 = 50_000;
/// Of each phone; long before they are used up the first of them is free again.
const PHONE_RTP_PORTS: u16 = 900;
/// So long without trouble, and a 200 that is repeated must have been acknowledged.
const CALM_MS: u64 = 20_000;

/// Which codec a caller wants follows from it, so each planned call has its own.
pub fn rtp_port_of_caller(planned: usize) -> u16 {
    RTP_PORT + 2 * (planned % usize::from((PHONE_RTP_PORT - RTP_PORT) / 2)) as u16
}

impl Simulation {
    pub fn new_carrier(&mut self, planned: usize, tcp: bool, home: usize) -> usize {
        let port = CARRIER_PORT.wrapping_add(planned as u16);
        let address = SocketAddr::from(([10, 9, 0, 1], port));
        self.add_peer(Peer::new(None, address, tcp, home))
    }

    pub fn new_phone(&mut self, agent: u16) {
        let address = SocketAddr::from(([10, 8, 0, 1 + agent as u8], PHONE_PORT));
        let p = self.add_peer(Peer::new(Some(agent), address, false, usize::from(agent) % 2));
        self.plan_registration(p, 20 + 7 * u64::from(agent));
    }

    pub fn add_peer(&mut self, peer: Peer) -> usize {
        self.addresses.insert(peer.address, self.peers.len());
        self.peers.push(peer);
        self.peers.len() - 1
    }

    pub fn add_line(&mut self, p: usize, line: Line) -> usize {
        let l = self.peers[p].lines.len();
        self.rtp.insert(line.rtp_port, (p, l));
        self.peers[p].lines.push(line);
        self.arm_peer(p);
        l
    }

    /// Of its next line.
    pub fn rtp_port_of_phone(&self, p: usize) -> u16 {
        let nth = self.peers[p].lines.len() as u16 % PHONE_RTP_PORTS;
        PHONE_RTP_PORT + p as u16 * 2 * PHONE_RTP_PORTS + 2 * nth
    }

    /// Is there a call behind that address?
    pub fn sends_rtp(&self, remote: SocketAddr) -> bool {
        self.rtp.get(&remote.port()).is_some_and(|(p, l)| {
            let peer = &self.peers[*p];
            peer.alive && peer.lines.get(*l).is_some_and(|line| !line.is_over())
        })
    }

    /// A phone that is there again after a crash knows nothing; its old port is dead.
    pub fn reboot_peer(&mut self, p: usize) {
        for line in &mut self.peers[p].lines {
            line.forget();
        }
        let peer = &mut self.peers[p];
        peer.alive = true;
        peer.life += 1;
        peer.registration.client = None;
        peer.watching = Watching::default();
        self.addresses.remove(&peer.address);
        self.move_peer(p);
    }

    /// From another port, as behind a NAT; the old one still works.
    pub fn move_peer(&mut self, p: usize) {
        let peer = &mut self.peers[p];
        let port = peer.address.port() + 1;
        peer.address.set_port(port);
        self.addresses.insert(peer.address, p);
        self.plan_registration(p, 10);
    }

    // --- what arrives --------------------------------------------------------------------------

    pub fn on_packet_to_peer(&mut self, p: usize, packet: &Packet) {
        if !self.peers[p].alive {
            return;
        }
        match &packet.content {
            Content::Request(request) => self.on_request_to_peer(p, packet, request),
            Content::Response(response) => {
                if response.headers.cseq.method == Method::Register {
                    self.on_register_response(p, response);
                } else if response.headers.cseq.method == Method::Subscribe {
                    self.on_subscribe_response(p, response);
                } else {
                    let line = self.peers[p].lines.iter().position(|line| {
                        line.client.as_ref().is_some_and(|client| {
                            response.headers.cseq.method == Method::Invite
                                && client.request.headers.branch() == response.headers.branch()
                        })
                    });
                    match line {
                        Some(l) => self.on_invite_response(p, l, packet, response),
                        None => self.on_other_response(p, response),
                    }
                }
            }
        }
        self.arm_peer(p);
    }

    fn on_request_to_peer(&mut self, p: usize, packet: &Packet, request: &Rc<Request>) {
        let Some(key) = Key::of(request) else { return };
        if request.method == Method::Ack {
            if !self.on_failure_acknowledged(p, &key) {
                self.on_acknowledged(p, request);
            }
            return;
        }
        if self.is_repeated(p, &key, packet, request)
            || self.is_repeated_lamp(p, &key, packet, request)
            || self.on_lamp(p, &key, packet, request)
        {
            return;
        }
        match (&request.method, request.is_in_dialog()) {
            (Method::Cancel, _) => self.on_cancelled(p, &key, packet, request),
            (Method::Invite, false) => self.on_invited(p, key, packet, request),
            (Method::Options, false) => self.on_asked(p, request),
            (_, _) => self.on_dialog_request(p, &key, packet, request),
        }
    }

    fn on_failure_acknowledged(&mut self, p: usize, key: &Key) -> bool {
        let now = self.now_ms();
        for line in &mut self.peers[p].lines {
            if let Some((known, server)) = &mut line.server
                && known == key
            {
                server.on_ack(now);
                return true;
            }
        }
        false
    }

    /// The same request again: the same bytes, and the same answer.
    fn is_repeated(&mut self, p: usize, key: &Key, packet: &Packet, request: &Request) -> bool {
        let mut again = None;
        let mut changed = false;
        let invited = self.peers[p].invited.get(&name_of_invite(&request.headers));
        let invite_digest = invited.map(|(_, digest)| *digest);
        for (l, line) in self.peers[p].lines.iter_mut().enumerate() {
            if let Some((known, server)) = &mut line.server
                && known == key
            {
                changed = invite_digest != Some(packet.digest);
                again = Some((l, server.on_repeated()));
            }
            for (known, server, digest) in &mut line.servers {
                if known == key {
                    changed = *digest != packet.digest;
                    again = Some((l, server.on_repeated()));
                }
            }
        }
        let Some((l, answer)) = again else { return false };
        if changed {
            let what = format!(
                "{} is sent other bytes when {} {} is repeated",
                self.peers[p].name(),
                request.method,
                request.headers.call_id
            );
            self.fail("peers", what);
        } else if let Some(answer) = answer {
            self.transmit_on_line(p, l, answer);
        }
        true
    }

    // --- time ----------------------------------------------------------------------------------

    pub fn on_step(&mut self, p: usize, life: u32, l: usize, step: Step) {
        let peer = &self.peers[p];
        if !peer.alive || peer.life != life {
            return;
        }
        if step == Step::Register {
            self.register(p);
        } else if step == Step::Watch {
            self.watch_colleague(p);
        } else if let Step::PickUp { phone, line } = step {
            self.pick_up(p, phone, line);
        } else if peer.lines[l].planned.is_some() {
            self.on_caller_step(p, l, step);
        } else {
            self.on_phone_step(p, l, step);
        }
        self.arm_peer(p);
    }

    pub fn arm_peer(&mut self, p: usize) {
        let peer = &mut self.peers[p];
        let lines = peer.lines.iter().filter_map(Line::deadline).min();
        let register = peer.registration.client.as_ref().and_then(|client| client.deadline());
        let watching = peer.watching.deadline();
        let Some(at) = [lines, register.map(|at| at.0), watching].into_iter().flatten().min()
        else {
            return;
        };
        let at = at.max(self.now + 1);
        if peer.wake_at.is_none_or(|armed| at < armed || armed <= self.now) {
            peer.wake_at = Some(at);
            self.schedule.put(at, Event::WakePeer { peer: p });
        }
    }

    pub fn on_wake_peer(&mut self, p: usize) {
        let peer = &mut self.peers[p];
        if peer.wake_at.is_some_and(|at| at <= self.now) {
            peer.wake_at = None;
        }
        if !peer.alive {
            return;
        }
        for l in 0..self.peers[p].lines.len() {
            self.serve_line(p, l);
        }
        self.serve_watching(p);
        let now = self.now_ms();
        if let Some(client) = &mut self.peers[p].registration.client
            && client.deadline().is_some_and(|at| at <= now)
        {
            let timed = client.on_time(now);
            let vip = self.gateways[self.peers[p].home].vip;
            if let Some(packet) = timed.transmit {
                self.transmit_from_peer(p, packet, vip);
            }
            if timed.over {
                self.on_register_failed(p);
            }
        }
        self.arm_peer(p);
    }

    fn serve_line(&mut self, p: usize, l: usize) {
        let now = self.now_ms();
        if self.peers[p].lines[l].deadline().is_none_or(|at| at > now.0) {
            return;
        }
        let line = &mut self.peers[p].lines[l];
        let mut out = Vec::new();
        let (mut no_answer, mut no_ack, mut no_prack) = (false, false, false);
        if let Some(client) = &mut line.client {
            let timed = client.on_time(now);
            out.extend(timed.transmit);
            no_answer = timed.over;
        }
        if let Some((_, server)) = &mut line.server {
            let timed = server.on_time(now);
            out.extend(timed.transmit);
            no_ack = timed.over && line.state == State::Answered;
            no_prack = timed.over && line.state == State::Invited;
        }
        for (client, _) in &mut line.clients {
            out.extend(client.on_time(now).transmit);
        }
        for (_, server, _) in &mut line.servers {
            out.extend(server.on_time(now).transmit);
        }
        line.clients.retain(|(client, _)| !client.is_terminated());
        line.servers.retain(|(_, server, _)| !server.is_terminated());
        if line.client.as_ref().is_some_and(crate::transactions::Client::is_terminated) {
            line.client = None;
        }
        if line.server.as_ref().is_some_and(|(_, server)| server.is_terminated()) {
            line.server = None;
        }
        if no_answer && line.state == State::Inviting {
            line.state = State::Over;
            self.on_unanswered(p, l);
        }
        for packet in out {
            self.transmit_on_line(p, l, packet);
        }
        if no_ack {
            self.on_unacknowledged(p, l);
        }
        if no_prack {
            self.on_unpracked(p, l);
        }
    }

    /// Timer B of a caller: nobody said a word.
    fn on_unanswered(&mut self, p: usize, l: usize) {
        let started_at = self.peers[p].lines[l].started_at;
        if started_at >= self.heal_at && self.peers[p].alive {
            let what = format!("{} called when all was well, unheard", self.peers[p].name());
            self.fail("liveness", what);
        }
    }

    /// Nothing was broken or mended for so long that what is repeated has arrived.
    pub fn is_calm(&self) -> bool {
        self.now.saturating_sub(self.trouble_at) >= CALM_MS
    }

    /// 64·T1 after our 200: the ACK never came (RFC 3261 §13.3.1.4).
    fn on_unacknowledged(&mut self, p: usize, l: usize) {
        let answered_at = self.peers[p].lines[l].answered_at;
        let calm = self.is_calm() && self.panic_at < answered_at;
        if answered_at >= self.heal_at || calm {
            let name = self.peers[p].name();
            let what = format!("{name} answered, and all was well, but it got no ACK");
            self.fail("liveness", what);
        }
        self.hang_up(p, l);
    }

    // --- sending -------------------------------------------------------------------------------

    /// To the gateway that the call uses.
    pub fn transmit_on_line(&mut self, p: usize, l: usize, packet: Rc<Packet>) {
        let line = &self.peers[p].lines[l];
        let vip = match &line.server {
            Some((key, _)) => self.vip_of(&key.sent_by),
            None => None,
        };
        let host = line.invite.headers.via.first();
        let vip = vip
            .or_else(|| host.and_then(|via| self.vip_of(&via.sent_by())))
            .unwrap_or_else(|| self.vip_called(&line.invite));
        self.transmit_from_peer(p, packet, vip);
    }

    fn vip_called(&self, invite: &Request) -> SocketAddr {
        let ip = invite.uri.ip();
        let called = self.gateways.iter().find(|gateway| Some(gateway.vip.ip()) == ip);
        called.map_or(self.gateways[0].vip, |gateway| gateway.vip)
    }

    pub fn vip_of(&self, sent_by: &str) -> Option<SocketAddr> {
        let address: SocketAddr = sent_by.parse().ok()?;
        self.gateways.iter().map(|gateway| gateway.vip).find(|vip| *vip == address)
    }
}
