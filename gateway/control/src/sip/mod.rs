//! SIP at the gateway: what is refused at the edge, who may register, and the transactions.
//!
//! [`dtmf`] reads keys; [`edge`], [`contacts`], [`subscribes`], [`texts`] and [`registrar`] answer without the cluster, with
//! [`nonces`], [`suspects`] and [`flows`] for a memory; [`servers`] and [`clients`] hold the
//! machines of RFC 3261 §17, [`wheel`] their timers, [`acks`], [`strays`] and
//! [`refused`] what outlives them; [`notifies`] has one NOTIFY of a subscription wait for another.

pub mod acks;
pub mod clients;
pub mod contacts;
pub mod dtmf;
pub mod edge;
pub mod flows;
pub mod nonces;
pub mod notifies;
pub mod refused;
pub mod registrar;
pub mod servers;
pub mod strays;
pub mod subscribes;
pub mod suspects;
pub mod texts;
pub mod wheel;

use tandem_sip::transaction::Key;
use tandem_sip::{Headers, Method, Request, Ticket, UDP_REQUEST_BYTES_MAX, Way};

use crate::limits;

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub bytes: Vec<u8>,
    pub way: Way,
    /// Of a request whose transaction must hear where it can't be delivered.
    pub ticket: Option<Ticket>,
}

/// What is too long for a datagram goes over a connection, and its Via says so (RFC 3261 §18.1.1).
/// None where it goes as it is.
pub(crate) fn too_long_for_udp(
    request: &Request,
    bytes: &[u8],
    way: &Way,
) -> Option<(Request, Way)> {
    let long = *way == Way::udp(way.to) && bytes.len() > UDP_REQUEST_BYTES_MAX;
    long.then(|| {
        let way = Way::tcp(way.to);
        (over(request.clone(), &way), way)
    })
}

/// The request with the transport in its topmost Via.
pub(crate) fn over(mut request: Request, way: &Way) -> Request {
    if let Some(via) = request.headers.via.first_mut() {
        via.transport = way.carrier.transport();
    }
    request
}

/// The name of a request's transaction (RFC 3261 §17.2.3); for a peer of RFC 2543, or one with a
/// name longer than any should be, a digest of what tells its requests apart.
pub fn name_of(request: &Request) -> Key {
    let whole = Key::of(request).filter(|key| {
        key.branch.len() <= limits::NAME_BYTES_MAX && key.sent_by.len() <= limits::NAME_BYTES_MAX
    });
    whole.unwrap_or_else(|| {
        let headers = &request.headers;
        let method = match request.method {
            Method::Ack | Method::Cancel => Method::Invite.as_str(),
            ref method => method.as_str(),
        };
        let mut hasher = blake3::Hasher::new();
        let via = headers.top_via().map(ToString::to_string).unwrap_or_default();
        let from_tag = headers.from_tag().unwrap_or_default();
        for part in [via.as_str(), headers.call_id.as_str(), from_tag, method] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(&headers.cseq.number.to_be_bytes());
        let own = match request.method {
            Method::Cancel => Method::Cancel.as_str(),
            _ => method,
        };
        Key {
            branch: hasher.finalize().to_hex().chars().take(32).collect(),
            sent_by: String::new(),
            method: own.chars().take(limits::NAME_BYTES_MAX).collect(),
        }
    })
}

/// The To tag of an answer that keeps no state: the same for each repetition (RFC 3261 §8.2.7).
pub fn stateless_tag(headers: &Headers) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [headers.branch(), &headers.call_id, headers.from_tag().unwrap_or_default()] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}
