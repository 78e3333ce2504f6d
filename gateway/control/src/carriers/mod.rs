//! What a gateway says to carriers by itself, outside of calls: [`health`] asks peers whether they
//! are there. Nothing of it is replicated but what it comes to; each gateway does it for its own
//! address, with transactions of its own.

pub mod health;

use tandem_core::command::GatewayEvent;
use tandem_core::trunk::outward::Peer;
use tandem_sip::dialog::MAX_FORWARDS;
use tandem_sip::{
    CSeq, Headers, Method, Millis, NameAddr, Param, Request, Response, Uri, Via, Way, host,
};

use crate::control::{Control, Identity};
use crate::ledger::About;
use health::{Change, Due, Target};

/// Branches of the core have hexadecimal digits behind the cookie: nobody takes the one for the
/// other.
const BRANCH: &str = "z9hG4bKoptions";
const TAG_CHARS: usize = 16;

impl Control {
    /// The answer to a request of ours that the cluster knows nothing of. False where it is another.
    pub(crate) fn is_of_carriers(&mut self, now: Millis, response: &Response) -> bool {
        if response.headers.cseq.method != Method::Options {
            return false;
        }
        if !response.is_provisional() {
            let status = response.status;
            let change = self.health.on_answer(now, response.headers.branch(), Some(status));
            self.tell_change(change);
        }
        true
    }

    /// Nobody has answered a request of that branch. False where it is none of these.
    pub(crate) fn is_silence_of_carriers(&mut self, now: Millis, branch: &str) -> bool {
        if !branch.starts_with(BRANCH) {
            return false;
        }
        let change = self.health.on_answer(now, branch, None);
        self.tell_change(change);
        true
    }

    /// Asks whoever is to be asked by now.
    pub(crate) fn ask_carriers(&mut self, now: Millis) {
        while let Some(due) = self.health.pop_due(now) {
            match due {
                Due::Silent { branch } => {
                    self.clients.forget(&branch, &Method::Options);
                    let change = self.health.on_answer(now, &branch, None);
                    self.tell_change(change);
                }
                Due::Ask { target, number } => {
                    let request = options(&self.identity, &target.peer, number);
                    self.health.asked(now, &target, request.headers.branch());
                    let (to, carrier) = (target.peer.address, target.peer.transport.carrier());
                    let way = Way::of_request(&request, to, carrier);
                    if let Some(transmit) = self.clients.send(now, request, way) {
                        self.transmit(transmit);
                    }
                }
            }
        }
    }

    fn tell_change(&mut self, change: Option<Change>) {
        let Some(Change { target, number, up, status }) = change else { return };
        target.set_gauge(up);
        let Target { trunk, peer } = target;
        if up {
            tracing::info!(%trunk, %peer, status, "TD0331 a carrier's peer is there again");
        } else {
            tracing::warn!(%trunk, %peer, status, "TD0330 a carrier's peer does not answer OPTIONS");
        }
        let peer = peer.address;
        let change = tandem_core::trunk::state::PeerChange { trunk, peer, number, up, status };
        self.raise(GatewayEvent::PeerChange(change), About::Existing);
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
    let ours = Uri::sip(Some("tandem"), &host(identity.vip.ip()), None);
    let mut from = NameAddr::new(ours);
    from.set_tag(&unique(identity, "tag", number));
    let to = peer_uri(peer);
    let branch = format!("{BRANCH}{}", unique(identity, "branch", number));
    let mut headers = Headers {
        via: vec![via(identity, peer, branch)],
        from,
        to: NameAddr::new(Uri { params: Vec::new(), ..to.clone() }),
        call_id: format!("{}@{}", unique(identity, "call", number), host(identity.vip.ip())),
        cseq: CSeq { number: 1, method: Method::Options },
        contact: vec![contact(identity, peer)],
        route: Vec::new(),
        record_route: Vec::new(),
        max_forwards: Some(MAX_FORWARDS),
        expires: None,
        content_type: None,
        other: Vec::new(),
    };
    headers.push_other("Accept", "application/sdp");
    Request { method: Method::Options, uri: to, headers, body: Vec::new() }
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

fn contact(identity: &Identity, peer: &Peer) -> NameAddr {
    let port = peer.transport.carrier().port(identity.vip.port());
    let mut uri = Uri::sip(Some("tandem"), &host(identity.vip.ip()), Some(port));
    uri.params.extend(transport_of(peer));
    NameAddr::new(uri)
}
