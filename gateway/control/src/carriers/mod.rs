//! What a gateway says to carriers by itself, outside of calls: [`health`] asks peers whether they
//! are there, [`registration`] tells registrars where we are. Nothing of it is replicated but what it
//! comes to; each gateway does it for its own address, with transactions of its own.

pub mod health;
pub mod registration;

use std::fmt;

use tandem_core::command::GatewayEvent;
use tandem_core::ids::TrunkId;
use tandem_core::trunk::outward::Peer;
use tandem_core::trunk::state::{PeerChange, RegistrationChange};
use tandem_sip::dialog::MAX_FORWARDS;
use tandem_sip::{
    CSeq, Headers, Method, Millis, NameAddr, Param, Request, Response, Uri, Via, Way, host,
    tls_port,
};

use crate::control::{Control, Identity};
use crate::ledger::About;
use health::{Change, Target};
use registration::Order;

/// Branches of the core have hexadecimal digits behind the cookie: nobody takes the one for the
/// other.
const OPTIONS: &str = "z9hG4bKoptions";
const REGISTER: &str = "z9hG4bKregister";
const TAG_CHARS: usize = 16;
/// Of a URI that names none (RFC 3261 §19.1.2).
const SIP_PORT: u16 = 5060;
/// Who asks: no number of anybody.
const USER: &str = "tandem";

/// A trunk of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub tenant: u32,
    pub trunk: TrunkId,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trunk.fmt(f)
    }
}

impl Control {
    /// The answer to a request of ours that the cluster knows nothing of. False where it is another.
    pub(crate) fn is_of_carriers(&mut self, now: Millis, response: &Response) -> bool {
        let branch = response.headers.branch();
        match response.headers.cseq.method {
            Method::Options if !response.is_provisional() => {
                let change = self.health.on_answer(now, branch, Some(response.status));
                self.tell_change(change);
                true
            }
            Method::Register if !response.is_provisional() => {
                let vip = self.identity.vip;
                let is_ours = |contact: &NameAddr| {
                    let port = contact.uri.port.unwrap_or(SIP_PORT);
                    let ours = [vip.port(), tls_port(vip.port())].contains(&port);
                    contact.uri.ip() == Some(vip.ip()) && ours
                };
                let (jitter, cnonce) = (self.jitter(branch), self.drawn("cnonce", branch));
                let change = self.registrations.on_answer(now, response, is_ours, jitter, &cnonce);
                self.tell_registration(change);
                true
            }
            Method::Options | Method::Register => true,
            _ => false,
        }
    }

    /// Nobody has answered a request of that branch. False where it is none of these.
    pub(crate) fn is_silence_of_carriers(&mut self, now: Millis, branch: &str) -> bool {
        if branch.starts_with(OPTIONS) {
            let change = self.health.on_answer(now, branch, None);
            self.tell_change(change);
        } else if branch.starts_with(REGISTER) {
            let change = self.registrations.on_silence(now, branch, self.jitter(branch));
            self.tell_registration(change);
        } else {
            return false;
        }
        true
    }

    /// Asks whoever is to be asked by now, and tells whoever is to be told.
    pub(crate) fn ask_carriers(&mut self, now: Millis) {
        while let Some(due) = self.health.pop_due(now) {
            match due {
                health::Due::Silent { branch } => {
                    self.clients.forget(&branch, &Method::Options);
                    self.is_silence_of_carriers(now, &branch);
                }
                health::Due::Ask { target, number } => {
                    let request = options(&self.identity, &target.peer, number);
                    self.health.asked(now, &target, request.headers.branch());
                    self.send_to(now, target.line.tenant, request, &target.peer);
                }
            }
        }
        while let Some(due) = self.registrations.pop_due(now) {
            match due {
                registration::Due::Silent { branch } => {
                    self.clients.forget(&branch, &Method::Register);
                    self.is_silence_of_carriers(now, &branch);
                }
                registration::Due::Lapsed(change) => self.tell_registration(Some(change)),
                registration::Due::Send(order) => {
                    let request = register(&self.identity, &order);
                    self.registrations.sent(now, &order.trunk, request.headers.branch());
                    let (tenant, peer) = (order.trunk.tenant, &order.registration.registrar);
                    self.send_to(now, tenant, request, peer);
                }
            }
        }
    }

    /// The process ends: no carrier shall send calls here any more. False where none would.
    pub fn leave(&mut self, now: Millis) -> bool {
        let told = self.registrations.leave(now);
        self.ask_carriers(now);
        told
    }

    /// Every carrier has heard that we leave, or says nothing.
    pub fn has_left(&self) -> bool {
        self.registrations.has_left()
    }

    fn send_to(&mut self, now: Millis, tenant: u32, request: Request, peer: &Peer) {
        let way = Way::of_request(&request, peer.address, peer.transport.carrier());
        let way = self.tenants.proven(tenant, way);
        if let Some(transmit) = self.clients.send(now, request, way) {
            self.transmit(transmit);
        }
    }

    /// The same for a branch on every machine, and another for each.
    fn drawn(&self, kind: &str, branch: &str) -> String {
        unique(&self.identity, &format!("{kind}{branch}"), 0)
    }

    /// 0 to 1,000.
    fn jitter(&self, branch: &str) -> u64 {
        let drawn = self.drawn("jitter", branch);
        u64::from_str_radix(&drawn, 16).unwrap_or_default() % 1_001
    }

    fn tell_registration(&mut self, change: Option<registration::Change>) {
        let Some(registration::Change { trunk, number, up, status }) = change else { return };
        registration::set_gauge(&trunk, up);
        if up {
            tracing::info!(%trunk, status, "TD0333 registered with a carrier");
        } else {
            tracing::warn!(%trunk, status, "TD0332 not registered with a carrier");
        }
        let Line { tenant, trunk } = trunk;
        let change = RegistrationChange { trunk, number, up, status };
        self.raise(tenant, GatewayEvent::RegistrationChange(change), About::Existing);
    }

    fn tell_change(&mut self, change: Option<Change>) {
        let Some(Change { target, number, up, status }) = change else { return };
        target.set_gauge(up);
        let Target { line, peer } = target;
        if up {
            tracing::info!(trunk = %line, %peer, status, "TD0331 a carrier's peer is there again");
        } else {
            tracing::warn!(trunk = %line, %peer, status, "TD0330 a carrier's peer does not answer OPTIONS");
        }
        let (Line { tenant, trunk }, peer) = (line, peer.address);
        let change = PeerChange { trunk, peer, number, up, status };
        self.raise(tenant, GatewayEvent::PeerChange(change), About::Existing);
    }
}

/// A name that no other request of this gateway has, in this life or another.
pub(crate) fn unique(identity: &Identity, kind: &str, number: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes());
    hasher.update(identity.name.0.as_bytes());
    hasher.update(&identity.life.to_be_bytes());
    hasher.update(&number.to_be_bytes());
    hasher.finalize().to_hex().chars().take(TAG_CHARS).collect()
}

fn options(identity: &Identity, peer: &Peer, number: u64) -> Request {
    let uri = peer_uri(peer);
    let headers = Headers {
        via: vec![via(identity, peer, format!("{OPTIONS}{}", unique(identity, "branch", number)))],
        from: NameAddr::new(Uri::sip(Some(USER), &host(identity.vip.ip()), None)),
        to: NameAddr::new(Uri { params: Vec::new(), ..uri.clone() }),
        call_id: format!("{}@{}", unique(identity, "call", number), host(identity.vip.ip())),
        cseq: CSeq { number: 1, method: Method::Options },
        contact: vec![contact(identity, peer, USER)],
        ..bare()
    };
    let mut request = Request { method: Method::Options, uri, headers, body: Vec::new() };
    request.headers.from.set_tag(&unique(identity, "tag", number));
    request.headers.push_other("Accept", "application/sdp");
    request
}

fn register(identity: &Identity, order: &Order) -> Request {
    let Order { registration, call, cseq, .. } = order;
    let peer = &registration.registrar;
    let number = call << u32::BITS | u64::from(*cseq);
    let of_record = NameAddr::new(registration.address_of_record());
    let headers = Headers {
        via: vec![via(identity, peer, format!("{REGISTER}{}", unique(identity, "at", number)))],
        from: of_record.clone(),
        to: of_record,
        call_id: format!("{}@{}", unique(identity, "register", *call), host(identity.vip.ip())),
        cseq: CSeq { number: *cseq, method: Method::Register },
        contact: vec![contact(identity, peer, &registration.user)],
        expires: Some(order.expires_s),
        ..bare()
    };
    let uri = registration.uri();
    let mut request = Request { method: Method::Register, uri, headers, body: Vec::new() };
    request.headers.from.set_tag(&unique(identity, "registers", number));
    for (header, proof) in &order.proofs {
        request.headers.push_other(header, proof);
    }
    request
}

/// What both have.
fn bare() -> Headers {
    let nobody = || NameAddr::new(Uri::sip(None, "", None));
    Headers {
        via: Vec::new(),
        from: nobody(),
        to: nobody(),
        call_id: String::new(),
        cseq: CSeq { number: 1, method: Method::Options },
        contact: Vec::new(),
        route: Vec::new(),
        record_route: Vec::new(),
        max_forwards: Some(MAX_FORWARDS),
        expires: None,
        content_type: None,
        other: Vec::new(),
    }
}

fn peer_uri(peer: &Peer) -> Uri {
    let mut uri = Uri::sip(None, &host(peer.address.ip()), Some(peer.address.port()));
    uri.params.extend(transport_of(peer));
    uri
}

fn transport_of(peer: &Peer) -> Option<Param> {
    let transport = peer.transport.carrier().uri_param()?;
    Some(Param { name: "transport".into(), value: Some(transport.into()) })
}

fn via(identity: &Identity, peer: &Peer, branch: String) -> Via {
    let carrier = peer.transport.carrier();
    Via {
        transport: carrier.transport(),
        host: host(identity.vip.ip()),
        port: Some(carrier.port(identity.vip.port())),
        params: vec![
            Param { name: "branch".into(), value: Some(branch) },
            Param { name: "rport".into(), value: None },
        ],
    }
}

fn contact(identity: &Identity, peer: &Peer, user: &str) -> NameAddr {
    let port = peer.transport.carrier().port(identity.vip.port());
    let mut uri = Uri::sip(Some(user), &host(identity.vip.ip()), Some(port));
    uri.params.extend(transport_of(peer));
    NameAddr::new(uri)
}
