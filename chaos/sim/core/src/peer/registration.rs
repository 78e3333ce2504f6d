//! A phone keeps itself registered, through whichever gateway answers.

use std::rc::Rc;

use tandem_sip::dialog::MAX_FORWARDS;
use tandem_sip::{CSeq, Header, Headers, Method, NameAddr, Param, Request, Response, Uri, digest};

use super::Step;
use super::phone::FIRST_CONTACT;
use crate::event::Event;
use crate::links::GATEWAYS;
use crate::simulation::Simulation;
use crate::transactions::Client;

#[derive(Debug, Default)]
pub struct Registration {
    pub client: Option<Client>,
    cseq: u32,
    /// Until when it is registered, as the phone knows.
    pub until: u64,
}

/// What an agent's phone proves.
pub fn password(user: &str) -> String {
    format!("sim-{user}")
}

/// A failed attempt is made again after this.
const AGAIN_MS: u64 = 800;

impl Simulation {
    pub fn register(&mut self, p: usize) {
        self.send_register(p, None);
    }

    /// With the answer to a challenge, or in the hope that none is needed.
    fn send_register(&mut self, p: usize, challenge: Option<&str>) {
        let Some(agent) = self.peers[p].agent else { return };
        if !self.peers[p].alive {
            return;
        }
        let vip = self.gateways[self.peers[p].home].vip;
        let user = (1_001 + u32::from(agent)).to_string();
        let expires_s = self.settings.expires_s;
        let peer = &mut self.peers[p];
        peer.registration.cseq += 1;
        let number = peer.registration.cseq;
        let host = peer.address.ip().to_string();
        let mut from = NameAddr::new(Uri::sip(Some(&user), "demo.tandem", None));
        let to = from.clone();
        from.set_tag(&format!("r{}", peer.life));
        let mut contacts =
            vec![NameAddr::new(Uri::sip(Some(&user), &host, Some(peer.address.port())))];
        if peer.has_two_contacts() {
            contacts[0].params.push(Param { name: "q".into(), value: Some("0.5".into()) });
            let first = format!("{FIRST_CONTACT}{user}");
            let first = Uri::sip(Some(&first), &host, Some(peer.address.port()));
            contacts.push(NameAddr::new(first));
        }
        let authorization = challenge
            .and_then(|challenge| {
                digest::answer(
                    challenge,
                    &user,
                    &password(&user),
                    "REGISTER",
                    "sip:demo.tandem",
                    "c",
                )
                .ok()
            })
            .map(|value| Header { name: "Authorization".into(), value });
        let register = Request {
            method: Method::Register,
            uri: Uri::sip(None, "demo.tandem", None),
            headers: Headers {
                via: vec![peer.via()],
                from,
                to,
                call_id: format!("r{agent}l{}@{host}", peer.life),
                cseq: CSeq { number, method: Method::Register },
                contact: contacts,
                route: Vec::new(),
                record_route: Vec::new(),
                max_forwards: Some(MAX_FORWARDS),
                expires: Some(expires_s),
                content_type: None,
                other: authorization.into_iter().collect(),
            },
            body: Vec::new(),
        };
        let reliable = peer.reliable;
        let (client, packet) = Client::start(self.now_ms(), Rc::new(register), None, reliable);
        self.peers[p].registration.client = Some(client);
        self.transmit_from_peer(p, packet, vip);
        self.arm_peer(p);
    }

    /// True where it was one.
    pub fn on_register_response(&mut self, p: usize, response: &Response) -> bool {
        let now = self.now_ms();
        let Some(client) = &mut self.peers[p].registration.client else { return false };
        if client.request.headers.branch() != response.headers.branch() {
            return false;
        }
        let answered = client.on_response(now, response);
        if !answered.told || response.is_provisional() {
            return true;
        }
        let proven = client.request.headers.other("Authorization").is_some();
        let challenge = response.headers.other("WWW-Authenticate").map(str::to_owned);
        if let Some(challenge) = challenge.filter(|_| response.status == 401 && !proven) {
            self.send_register(p, Some(&challenge));
        } else if response.is_success() {
            let lasts_ms = u64::from(self.settings.expires_s) * 1_000;
            self.peers[p].registration.until = now.0 + lasts_ms;
            self.plan_registration(p, lasts_ms * 6 / 10);
            if self.peers[p].watching.deadline().is_none() {
                self.plan_watching(p, 30);
            }
        } else {
            self.on_register_failed(p);
        }
        true
    }

    pub fn on_register_failed(&mut self, p: usize) {
        // The other gateway may be better.
        self.peers[p].home = (self.peers[p].home + 1) % GATEWAYS;
        self.plan_registration(p, AGAIN_MS);
    }

    pub fn plan_registration(&mut self, p: usize, after_ms: u64) {
        let life = self.peers[p].life;
        let at = self.now + after_ms;
        self.schedule.put(at, Event::Step { peer: p, life, line: 0, step: Step::Register });
    }
}
