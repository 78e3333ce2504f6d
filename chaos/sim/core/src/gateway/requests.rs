//! Requests of peers: absorbed, refused at the edge, or reported to the cluster; and the answers.

use std::net::SocketAddr;
use std::rc::Rc;

use tandem_core::command::{GatewayEvent, Inbound, Register, TransactionKey};
use tandem_sip::transaction::Key;
use tandem_sip::{Method, Request, Response, response_destination};

use super::ledger::About;
use super::table::ServerEntry;
use crate::packet::Packet;
use crate::plant::Plant;
use crate::simulation::Simulation;
use crate::transactions::Server;

/// As in the gateway: an INVITE without a final answer is forgotten after this.
const INVITE_MS_MAX: u64 = 15 * 60_000;
const REQUEST_MS_MAX: u64 = 33_000;

fn entry_is_invite(key: &Key) -> bool {
    key.method == Method::Invite.as_str()
}

pub fn unavailable(request: &Request) -> Response {
    let mut response = request.respond(503, None, Some("edge"));
    response.headers.push_other("Retry-After", "5");
    response
}

impl Simulation {
    pub fn on_request(&mut self, g: usize, from: SocketAddr, packet: &Packet, request: &Request) {
        let Some(key) = Key::of(request) else { return };
        if request.method == Method::Ack {
            self.on_ack(g, &key, request, packet);
            return;
        }
        let state = &mut self.gateways[g].state;
        if let Some(id) = state.servers.id(&key) {
            let again = state.servers.get(id).and_then(|entry| {
                let to = entry.to;
                entry.server.on_repeated().map(|packet| (packet, to))
            });
            if let Some((packet, to)) = again {
                self.transmit_from_gateway(g, packet, to);
            }
            return;
        }
        match (&request.method, request.is_in_dialog()) {
            (Method::Cancel, _) => self.on_cancel(g, from, key, request),
            (Method::Register, _) => self.on_register(g, from, key, request),
            (_, false) => self.on_new_call(g, from, key, packet, request),
            (_, true) => self.on_in_dialog(g, from, key, packet, request),
        }
    }

    /// An answer that keeps no state.
    fn answer_stateless(&mut self, g: usize, from: SocketAddr, response: Response) {
        let to = response_destination(&response).unwrap_or(from);
        let bytes = response.to_bytes();
        self.transmit_from_gateway(g, Packet::response(Rc::new(response), &bytes, None), to);
    }

    fn begin(&mut self, g: usize, from: SocketAddr, key: &Key, request: &Request) {
        let reliable = request.headers.top_via().is_some_and(|via| via.transport.is_reliable());
        let to = response_destination(&request.respond(100, None, None)).unwrap_or(from);
        let kept = Some(Rc::new(request.clone()));
        self.insert_server(g, key, reliable, to, kept);
    }

    fn insert_server(
        &mut self,
        g: usize,
        key: &Key,
        reliable: bool,
        to: SocketAddr,
        request: Option<Rc<Request>>,
    ) -> u64 {
        let invite = key.method == Method::Invite.as_str();
        let over = self.now + if invite { INVITE_MS_MAX } else { REQUEST_MS_MAX };
        let server = Server::new(invite, reliable);
        let entry = ServerEntry { server, to, over, request, ack: None, begun: self.now };
        let servers = &mut self.gateways[g].state.servers;
        let id = servers.insert(key.clone(), entry);
        self.arm_server(g, id);
        id
    }

    fn arm_server(&mut self, g: usize, id: u64) {
        let servers = &mut self.gateways[g].state.servers;
        let Some(entry) = servers.get(id) else { return };
        if entry.server.is_terminated() {
            self.remove_server(g, id);
            return;
        }
        let deadline = entry.server.deadline().map_or(entry.over, |at| at.0);
        servers.arm(id, deadline);
    }

    fn remove_server(&mut self, g: usize, id: u64) {
        let state = &mut self.gateways[g].state;
        let Some(entry) = state.servers.remove(id) else { return };
        if let Some(name) = entry.ack
            && state.acks_of.get(&name) == Some(&id)
        {
            state.acks_of.remove(&name);
        }
    }

    fn on_new_call(
        &mut self,
        g: usize,
        from: SocketAddr,
        key: Key,
        packet: &Packet,
        request: &Request,
    ) {
        if self.refuses_new_calls(g) {
            self.answer_stateless(g, from, unavailable(request));
            return;
        }
        self.begin(g, from, &key, request);
        let event = GatewayEvent::Invite(Inbound {
            transaction: self.name_of(g, &key),
            source: from,
            request: request.clone().into(),
            offer: packet.audio.clone(),
        });
        self.raise(g, event, About::NewCall(key));
    }

    fn on_in_dialog(
        &mut self,
        g: usize,
        from: SocketAddr,
        key: Key,
        packet: &Packet,
        request: &Request,
    ) {
        if !self.gateways[g].state.logged_in {
            // As if it were lost: the peer sends it again.
            return;
        }
        self.begin(g, from, &key, request);
        let event = GatewayEvent::Request(Inbound {
            transaction: self.name_of(g, &key),
            source: from,
            request: request.clone().into(),
            offer: packet.audio.clone(),
        });
        self.raise(g, event, About::Existing);
    }

    fn on_register(&mut self, g: usize, from: SocketAddr, key: Key, request: &Request) {
        if !self.gateways[g].state.logged_in {
            self.answer_stateless(g, from, unavailable(request));
            return;
        }
        let user = request.headers.to.uri.user.clone().unwrap_or_default();
        self.begin(g, from, &key, request);
        let event = GatewayEvent::Register(Register {
            transaction: self.name_of(g, &key),
            source: from,
            request: request.clone().into(),
            agent: user.into(),
        });
        self.raise(g, event, About::Register(key));
    }

    /// RFC 3261 §9.2: a transaction of its own, answered at once.
    fn on_cancel(&mut self, g: usize, from: SocketAddr, key: Key, request: &Request) {
        let invite = Key { method: Method::Invite.as_str().to_owned(), ..key.clone() };
        let servers = &mut self.gateways[g].state.servers;
        let known = servers.id(&invite).and_then(|id| servers.get(id));
        let Some(pending) = known.map(|entry| entry.server.is_pending_invite()) else {
            self.answer_stateless(g, from, request.respond(481, None, Some("edge")));
            return;
        };
        self.begin(g, from, &key, request);
        if pending {
            let transaction = self.name_of(g, &invite);
            self.raise(g, GatewayEvent::Cancel { transaction }, About::Existing);
        }
        let answer = Rc::new(request.respond(200, None, Some("edge")));
        self.respond(g, &key, &answer, true);
    }

    fn on_ack(&mut self, g: usize, key: &Key, ack: &Request, packet: &Packet) {
        let now = self.now_ms();
        let headers = &ack.headers;
        let tag = headers.to_tag().unwrap_or_default().to_owned();
        let name = (headers.call_id.clone(), tag.clone(), headers.cseq.number);
        let state = &mut self.gateways[g].state;
        let id = state.servers.id(key).or_else(|| state.acks_of.get(&name).copied());
        let Some(entry) = id.and_then(|id| state.servers.get(id)) else { return };
        let first = entry.server.on_ack(now);
        let success = entry.ack.is_some();
        if let Some(id) = id {
            self.arm_server(g, id);
        }
        if first && success {
            let event = GatewayEvent::Ack {
                call_id: headers.call_id.clone(),
                local_tag: tag,
                cseq: headers.cseq.number,
                answer: packet.audio.clone(),
            };
            self.raise(g, event, About::Existing);
        }
    }

    /// An answer of the cluster's or our own. A transaction that this process does not know is of
    /// an earlier life: it is adopted.
    pub fn respond(&mut self, g: usize, key: &Key, response: &Rc<Response>, own: bool) {
        let now = self.now_ms();
        let id = match self.gateways[g].state.servers.id(key) {
            Some(id) => id,
            None => {
                let Some(to) = response_destination(response) else { return };
                self.insert_server(g, key, false, to, None)
            }
        };
        let Some(entry) = self.gateways[g].state.servers.get(id) else { return };
        let to = entry.to;
        let packet = entry.server.respond(now, response, None);
        if packet.is_some() && !response.is_provisional() {
            entry.request = None;
            if response.is_success() && entry.server.is_invite() {
                let headers = &response.headers;
                let tag = headers.to_tag().unwrap_or_default().to_owned();
                let name = (headers.call_id.clone(), tag, headers.cseq.number);
                entry.ack = Some(name.clone());
                self.gateways[g].state.acks_of.insert(name, id);
            }
        }
        self.arm_server(g, id);
        if let Some(packet) = packet {
            if !own && entry_is_invite(key) {
                self.check_acknowledged(response);
            }
            self.transmit_from_gateway(g, packet, to);
        }
    }

    /// What a peer is told was committed before.
    fn check_acknowledged(&mut self, response: &Response) {
        let call_id = &response.headers.call_id;
        if response.headers.to_tag().is_none() || response.headers.cseq.number == 1 {
            let checked = self.watch.acknowledged.on_told(call_id);
            self.check("acknowledged", checked);
        }
    }

    pub fn serve_server_timers(&mut self, g: usize) {
        let now = self.now_ms();
        while let Some(id) = self.gateways[g].state.servers.pop_due(now.0) {
            let Some(entry) = self.gateways[g].state.servers.get(id) else { continue };
            let timed = entry.server.on_time(now);
            let (to, success) = (entry.to, entry.ack.is_some());
            let waited = entry.server.deadline().is_none() && now.0 >= entry.over;
            let over = entry.server.is_terminated() || waited;
            if let Some(packet) = timed.transmit {
                let packet = self.perhaps_changed(g, id, packet);
                self.transmit_from_gateway(g, packet, to);
            }
            // Of a failure nobody needs to hear (RFC 3261 §17.2.1, timer H).
            if timed.over
                && success
                && let Some(key) = self.gateways[g].state.servers.key(id).cloned()
            {
                let transaction = self.name_of(g, &key);
                self.raise(g, GatewayEvent::AckTimeout { transaction }, About::Existing);
            }
            if over {
                self.remove_server(g, id);
            } else {
                self.arm_server(g, id);
            }
        }
    }

    /// A planted bug: the 200 is composed anew each time.
    fn perhaps_changed(&mut self, g: usize, id: u64, packet: Rc<Packet>) -> Rc<Packet> {
        if !self.options.has(Plant::ChangeAnswer) {
            return packet;
        }
        let changed = Rc::new(Packet { digest: packet.digest ^ 1, ..(*packet).clone() });
        if let Some(entry) = self.gateways[g].state.servers.get(id) {
            entry.server.replace_last(Rc::clone(&changed));
        }
        changed
    }

    pub fn name_of(&self, g: usize, key: &Key) -> TransactionKey {
        TransactionKey {
            gateway: self.gateways[g].name.clone(),
            branch: key.branch.as_str().into(),
            sent_by: key.sent_by.as_str().into(),
            method: key.method.as_str().into(),
        }
    }
}
