//! A phone with a lamp for a colleague: it subscribes, refreshes, gives up and begins anew.

use std::rc::Rc;

use tandem_sip::dialog::{Dialog, MAX_FORWARDS};
use tandem_sip::transaction::Key;
use tandem_sip::{CSeq, Header, Headers, Method, NameAddr, Request, Response, Uri, digest};

use super::Step;
use super::registration::password;
use crate::draws::For;
use crate::event::Event;
use crate::packet::Packet;
use crate::simulation::Simulation;
use crate::transactions::{Client, Server};

#[derive(Debug, Default)]
pub struct Watching {
    client: Option<Client>,
    /// SUBSCRIBEs that were begun outside of dialogs.
    begun: u32,
    pub call_id: String,
    /// Once the first answer or NOTIFY has come.
    pub dialog: Option<Dialog>,
    /// Of the document that was taken last.
    pub version: Option<u32>,
    /// What the lamp shows.
    pub shown: Vec<String>,
    /// NOTIFYs that were answered, with the digest of their bytes.
    servers: Vec<(Key, Server, u64)>,
    planned: bool,
}

/// The least that is taken.
const EXPIRES_S: u32 = 60;
/// Of that a part, as phones do.
const REFRESH_MS: u64 = 40_000;
const AGAIN_MS: u64 = 900;

impl Watching {
    pub fn deadline(&self) -> Option<u64> {
        let servers = self.servers.iter().filter_map(|(_, server, _)| server.deadline());
        let client = self.client.as_ref().and_then(Client::deadline);
        servers.chain(client).map(|at| at.0).min()
    }

    fn tag(&self) -> String {
        format!("w{}", self.begun)
    }
}

impl Simulation {
    /// Every other phone watches the next.
    fn watched_by(&self, p: usize) -> Option<u16> {
        let agent = self.peers[p].agent.filter(|agent| agent.is_multiple_of(2))?;
        Some((agent + 1) % self.settings.agents)
    }

    pub fn plan_watching(&mut self, p: usize, after_ms: u64) {
        if self.watched_by(p).is_none() || self.peers[p].watching.planned {
            return;
        }
        self.peers[p].watching.planned = true;
        let life = self.peers[p].life;
        let at = self.now + after_ms;
        self.schedule.put(at, Event::Step { peer: p, life, line: 0, step: Step::Watch });
    }

    pub fn watch_colleague(&mut self, p: usize) {
        self.peers[p].watching.planned = false;
        if !self.peers[p].alive || self.peers[p].watching.client.is_some() {
            return;
        }
        if self.peers[p].watching.dialog.is_none() {
            self.subscribe_anew(p, None);
            return;
        }
        let name = self.peers[p].key();
        let back = self.draws.next(For::Watching, name).percent(15);
        self.refresh_watching(p, if back { 0 } else { EXPIRES_S });
    }

    fn subscribe_anew(&mut self, p: usize, challenge: Option<&str>) {
        let Some((agent, of)) = self.peers[p].agent.zip(self.watched_by(p)) else { return };
        let (user, of) = ((1_001 + u32::from(agent)).to_string(), 1_001 + u32::from(of));
        let peer = &mut self.peers[p];
        if challenge.is_none() {
            let (begun, life) = (peer.watching.begun + 1, peer.life);
            // The NOTIFYs of before have their answers still.
            let servers = std::mem::take(&mut peer.watching.servers);
            let call_id = format!("w{agent}l{life}n{begun}@{}", peer.address.ip());
            peer.watching = Watching { begun, call_id, servers, ..Watching::default() };
        }
        let uri = Uri::sip(Some(&of.to_string()), "demo.tandem", None);
        let proof = challenge.and_then(|challenge| {
            let (password, uri) = (password(&user), uri.to_string());
            digest::answer(challenge, &user, &password, "SUBSCRIBE", &uri, "w").ok()
        });
        let mut other = vec![Header { name: "Event".into(), value: "dialog".into() }];
        other.extend(proof.map(|value| Header { name: "Authorization".into(), value }));
        let mut from = NameAddr::new(Uri::sip(Some(&user), "demo.tandem", None));
        from.set_tag(&peer.watching.tag());
        let number = if challenge.is_some() { 2 } else { 1 };
        let request = Request {
            method: Method::Subscribe,
            uri: uri.clone(),
            headers: Headers {
                via: vec![peer.via()],
                from,
                to: NameAddr::new(uri),
                call_id: peer.watching.call_id.clone(),
                cseq: CSeq { number, method: Method::Subscribe },
                contact: vec![NameAddr::new(contact(&user, peer.address))],
                route: Vec::new(),
                record_route: Vec::new(),
                max_forwards: Some(MAX_FORWARDS),
                expires: Some(EXPIRES_S),
                content_type: None,
                other,
            },
            body: Vec::new(),
        };
        let vip = self.gateways[self.peers[p].home].vip;
        self.send_subscribe(p, request, vip);
    }

    fn refresh_watching(&mut self, p: usize, expires_s: u32) {
        let Some(agent) = self.peers[p].agent else { return };
        let (via, user) = (self.peers[p].via(), (1_001 + u32::from(agent)).to_string());
        let contact = NameAddr::new(contact(&user, self.peers[p].address));
        let Some(dialog) = &mut self.peers[p].watching.dialog else { return };
        let mut request = dialog.request(Method::Subscribe, via, Some(contact));
        request.headers.expires = Some(expires_s);
        request.headers.push_other("Event", "dialog");
        let to = dialog.remote_target.ip();
        let vip = self.gateways.iter().map(|gateway| gateway.vip).find(|vip| Some(vip.ip()) == to);
        if let Some(vip) = vip {
            self.send_subscribe(p, request, vip);
        }
    }

    fn send_subscribe(&mut self, p: usize, request: Request, vip: std::net::SocketAddr) {
        let reliable = self.peers[p].reliable;
        let (client, packet) = Client::start(self.now_ms(), Rc::new(request), None, reliable);
        self.peers[p].watching.client = Some(client);
        self.transmit_from_peer(p, packet, vip);
        self.arm_peer(p);
    }

    pub fn on_subscribe_response(&mut self, p: usize, response: &Response) {
        let now = self.now_ms();
        let watching = &mut self.peers[p].watching;
        let Some(client) = &mut watching.client else { return };
        if client.request.headers.branch() != response.headers.branch() {
            return;
        }
        let answered = client.on_response(now, response);
        if !answered.told || response.is_provisional() {
            return;
        }
        let request = Rc::clone(&client.request);
        watching.client = None;
        let proven = request.headers.other("Authorization").is_some();
        let challenge = response.headers.other("WWW-Authenticate").map(str::to_owned);
        if let Some(challenge) = challenge.filter(|_| response.status == 401 && !proven) {
            self.subscribe_anew(p, Some(&challenge));
        } else if response.is_success() {
            let back = request.headers.expires == Some(0);
            if back {
                // Its last NOTIFY finds nobody, perhaps.
                self.coverage.mark("a subscription is taken back");
                self.peers[p].watching.dialog = None;
            } else if request.is_in_dialog() {
                self.coverage.mark("a subscription is refreshed");
            } else if self.peers[p].watching.dialog.is_none() {
                self.peers[p].watching.dialog = Dialog::as_uac(&request, response).ok();
            }
            self.plan_watching(p, if back { AGAIN_MS } else { REFRESH_MS });
        } else {
            self.on_watching_failed(p);
        }
    }

    fn on_watching_failed(&mut self, p: usize) {
        self.peers[p].watching.dialog = None;
        self.plan_watching(p, AGAIN_MS);
    }

    /// True where it is of a lamp.
    pub fn on_lamp(&mut self, p: usize, key: &Key, packet: &Packet, request: &Request) -> bool {
        let is_dialog = request.headers.other("Event").is_some_and(|it| it.starts_with("dialog"));
        if request.method != Method::Notify || !is_dialog {
            return false;
        }
        let status = self.take_lamp(p, request);
        let now = self.now_ms();
        let mut server = Server::new(false, self.peers[p].reliable);
        let response = Rc::new(request.respond(status, None, Some("none")));
        let answer = server.respond(now, &response, None);
        self.peers[p].watching.servers.push((key.clone(), server, packet.digest));
        let vip = request.headers.top_via().and_then(|via| self.vip_of(&via.sent_by()));
        if let Some((answer, vip)) = answer.zip(vip) {
            self.transmit_from_peer(p, answer, vip);
        }
        true
    }

    fn take_lamp(&mut self, p: usize, request: &Request) -> u16 {
        let headers = &request.headers;
        let name = self.peers[p].name();
        let watching = &mut self.peers[p].watching;
        let own = headers.call_id == watching.call_id
            && headers.to_tag() == Some(watching.tag().as_str());
        if !own || watching.begun == 0 {
            return 481;
        }
        if watching.dialog.is_none() && watching.version.is_none() {
            // It comes before the answer (RFC 6665 §4.1.2.4).
            let mut dialog = Dialog::as_uas(request, &watching.tag()).ok();
            if let Some(dialog) = &mut dialog {
                (dialog.local_cseq, dialog.remote_cseq) = (2, None);
            }
            watching.dialog = dialog;
        }
        let Some(dialog) = &mut watching.dialog else { return 481 };
        // Of an INVITE the tags would be those of the answer, too.
        if headers.from_tag() != Some(dialog.remote_tag.as_str()) {
            return 481;
        }
        let number = headers.cseq.number;
        match dialog.remote_cseq {
            // Done again by a gateway's new life: its transaction is forgotten here.
            Some(last) if last == number => return 200,
            Some(last) if last > number => return 500,
            Some(_) | None => dialog.remote_cseq = Some(number),
        }
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let Some((version, shown)) = read(&text) else {
            self.fail("watchers", format!("{name} can't read {text:?}"));
            return 200;
        };
        if watching.version.is_some_and(|before| before >= version) {
            let before = watching.version;
            let what = format!("{name} is told version {version} after {before:?}");
            self.fail("watchers", what);
            return 200;
        }
        (watching.version, watching.shown) = (Some(version), shown);
        if watching.shown.iter().any(|state| state == "confirmed") {
            self.coverage.mark("a lamp shows a call");
        }
        200
    }

    /// The same NOTIFY again: the same bytes, and the same answer.
    pub fn is_repeated_lamp(
        &mut self,
        p: usize,
        key: &Key,
        packet: &Packet,
        request: &Request,
    ) -> bool {
        let servers = &mut self.peers[p].watching.servers;
        let Some((_, server, digest)) = servers.iter_mut().find(|(known, ..)| known == key) else {
            return false;
        };
        let (changed, answer) = (*digest != packet.digest, server.on_repeated());
        let vip = request.headers.top_via().and_then(|via| self.vip_of(&via.sent_by()));
        if changed {
            let what = format!("{} is told otherwise by a repeated NOTIFY", self.peers[p].name());
            self.fail("watchers", what);
        } else if let Some((answer, vip)) = answer.zip(vip) {
            self.transmit_from_peer(p, answer, vip);
        }
        true
    }

    pub fn serve_watching(&mut self, p: usize) {
        let now = self.now_ms();
        let watching = &mut self.peers[p].watching;
        for (_, server, _) in &mut watching.servers {
            server.on_time(now);
        }
        watching.servers.retain(|(_, server, _)| !server.is_terminated());
        let Some(client) = &mut watching.client else { return };
        if client.deadline().is_none_or(|at| at > now) {
            return;
        }
        let timed = client.on_time(now);
        let to = client.request.uri.ip();
        if timed.over {
            watching.client = None;
            self.on_watching_failed(p);
        } else if let Some(packet) = timed.transmit {
            let home = self.gateways[self.peers[p].home].vip;
            let named = self.gateways.iter().map(|gateway| gateway.vip);
            let vip = named.into_iter().find(|vip| Some(vip.ip()) == to).unwrap_or(home);
            self.transmit_from_peer(p, packet, vip);
        }
    }
}

fn contact(user: &str, address: std::net::SocketAddr) -> Uri {
    Uri::sip(Some(user), &address.ip().to_string(), Some(address.port()))
}

/// Version and states of a document.
fn read(text: &str) -> Option<(u32, Vec<String>)> {
    let (_, document) = text.split_once("<dialog-info ")?;
    let (_, version) = document.split_once("version=\"")?;
    let version = version.split_once('"')?.0.parse().ok()?;
    let states = document.split("<state>").skip(1);
    let states = states.filter_map(|rest| Some(rest.split_once('<')?.0.to_owned()));
    Some((version, states.collect()))
}
