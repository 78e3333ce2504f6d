//! Requests of ours, and the responses to them.

use std::net::SocketAddr;
use std::rc::Rc;

use tandem_core::command::GatewayEvent;
use tandem_sip::{Method, Request, Response};

use super::ledger::About;
use super::table::ClientEntry;
use crate::packet::Packet;
use crate::plant::Plant;
use crate::simulation::Simulation;
use crate::transactions::Client;

const INVITE_MS_MAX: u64 = 15 * 60_000;
const REQUEST_MS_MAX: u64 = 33_000;

/// What a response means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    New,
    RepeatedSuccess,
    Nothing,
    Unknown,
}

impl Simulation {
    /// Sends a request. One that is under way already is not sent again: its own timers do that.
    pub fn send_request(&mut self, g: usize, request: Rc<Request>, to: SocketAddr) {
        let name = (request.headers.branch().to_owned(), request.method.as_str().to_owned());
        if self.gateways[g].state.clients.id(&name).is_some() {
            return;
        }
        let invite = request.method == Method::Invite;
        let over = self.now + if invite { INVITE_MS_MAX } else { REQUEST_MS_MAX };
        let (client, packet) = Client::start(self.now_ms(), request, None, false);
        let entry = ClientEntry { client, to, over, seen: Vec::new() };
        let id = self.gateways[g].state.clients.insert(name, entry);
        self.arm_client(g, id);
        self.transmit_from_gateway(g, packet, to);
    }

    fn arm_client(&mut self, g: usize, id: u64) {
        let clients = &mut self.gateways[g].state.clients;
        let Some(entry) = clients.get(id) else { return };
        if entry.client.is_terminated() {
            clients.remove(id);
            return;
        }
        let deadline = entry.client.deadline().map_or(entry.over, |at| at.0);
        clients.arm(id, deadline);
    }

    pub fn on_response(&mut self, g: usize, packet: &Packet, response: &Response) {
        let headers = &response.headers;
        let name = (headers.branch().to_owned(), headers.cseq.method.as_str().to_owned());
        let news = self.judge(g, &name, response);
        let invite = headers.cseq.method == Method::Invite;
        match news {
            News::New => self.report(g, packet, response),
            News::RepeatedSuccess => {
                self.acknowledge_again(g, response);
            }
            News::Nothing => {}
            News::Unknown if invite && self.is_of_ours(g, response) => {
                if response.is_success() && self.acknowledge_again(g, response) {
                    return;
                }
                // Without routing nobody can be told: it must count when it comes again.
                let routed = self.gateways[g].state.logged_in;
                if !routed && !self.options.has(Plant::StrayTooEarly) {
                    return;
                }
                let tag = headers.to_tag().unwrap_or_default().to_owned();
                let stray = (headers.branch().to_owned(), response.status, tag);
                let new = !response.is_provisional() && self.gateways[g].state.strays.insert(stray);
                if new && routed {
                    // Of an earlier life: the core knows the branch, or drops it.
                    self.report(g, packet, response);
                }
            }
            News::Unknown => {}
        }
    }

    fn judge(&mut self, g: usize, name: &super::ClientName, response: &Response) -> News {
        let now = self.now_ms();
        let clients = &mut self.gateways[g].state.clients;
        let Some(id) = clients.id(name) else { return News::Unknown };
        let Some(entry) = clients.get(id) else { return News::Unknown };
        let to = entry.to;
        let answered = entry.client.on_response(now, response);
        let news = if answered.told { entry.judge(response) } else { News::Nothing };
        self.arm_client(g, id);
        if let Some(ack) = answered.transmit {
            self.transmit_from_gateway(g, ack, to);
        }
        news
    }

    /// RFC 3261 §18.1.2: a response whose topmost Via is not ours is dropped.
    fn is_of_ours(&self, g: usize, response: &Response) -> bool {
        let vip = self.gateways[g].vip.to_string();
        response.headers.top_via().is_some_and(|via| via.sent_by() == vip)
    }

    fn acknowledge_again(&mut self, g: usize, response: &Response) -> bool {
        let headers = &response.headers;
        let tag = headers.to_tag().unwrap_or_default().to_owned();
        let name = (headers.call_id.clone(), tag, headers.cseq.number);
        let Some((packet, to)) = self.gateways[g].state.acks.get(&name).cloned() else {
            return false;
        };
        self.transmit_from_gateway(g, packet, to);
        true
    }

    fn report(&mut self, g: usize, packet: &Packet, response: &Response) {
        let event = GatewayEvent::Response {
            branch: response.headers.branch().to_owned(),
            response: Box::new(response.clone()),
            answer: packet.audio.clone(),
        };
        self.raise(g, event, About::Existing);
    }

    pub fn serve_client_timers(&mut self, g: usize) {
        let now = self.now_ms();
        while let Some(id) = self.gateways[g].state.clients.pop_due(now.0) {
            let Some(entry) = self.gateways[g].state.clients.get(id) else { continue };
            let timed = entry.client.on_time(now);
            let to = entry.to;
            let waited = entry.client.deadline().is_none() && now.0 >= entry.over;
            let over = waited || entry.client.is_terminated();
            if let Some(packet) = timed.transmit {
                self.transmit_from_gateway(g, packet, to);
            }
            let key = self.gateways[g].state.clients.key(id).cloned();
            if let (true, Some((branch, _))) = (timed.over || waited, key) {
                self.raise(g, GatewayEvent::ClientTimeout { branch }, About::Existing);
            }
            if over {
                self.gateways[g].state.clients.remove(id);
            } else {
                self.arm_client(g, id);
            }
        }
    }
}

impl ClientEntry {
    /// What the cluster need not hear: 100, what an answer to a CANCEL says, and whatever it has
    /// heard before.
    fn judge(&mut self, response: &Response) -> News {
        let method = &self.client.request.method;
        let invite = *method == Method::Invite;
        let silent = response.status == 100
            || *method == Method::Cancel
            || (!invite && response.is_provisional());
        if silent {
            return News::Nothing;
        }
        let class = if response.is_success() { 200 } else { response.status };
        let tag = response.headers.to_tag().unwrap_or_default().to_owned();
        let what = (class, tag);
        if self.seen.contains(&what) {
            return if class == 200 && invite { News::RepeatedSuccess } else { News::Nothing };
        }
        self.seen.push(what);
        News::New
    }
}
