//! Stateless refusals of the wire itself (RFC 3261 §8.2.7).

use std::net::SocketAddr;

use tandem_sip::{Message, Param, Request, Response};

use crate::limits;

/// Where a stateless refusal goes: always back to the address that the datagram came from.
pub fn destination(response: &Response, source: SocketAddr) -> SocketAddr {
    let via = response.headers.top_via();
    let port = match via {
        Some(via) if via.rport().is_some() => source.port(),
        Some(via) => via.port.unwrap_or(5060),
        None => source.port(),
    };
    SocketAddr::new(source.ip(), port)
}

/// Notes in the topmost Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
pub fn stamp(response: &mut Response, source: SocketAddr) {
    let Some(via) = response.headers.via.first_mut() else { return };
    let wants_rport = via.rport().is_some();
    let mut set = |name: &str, value: String| {
        via.params.retain(|param| !param.name.eq_ignore_ascii_case(name));
        via.params.push(Param { name: name.to_owned(), value: Some(value) });
    };
    set("received", source.ip().to_string());
    if wants_rport {
        set("rport", source.port().to_string());
    }
}

/// Notes in a request where it came from. Only we say so; a peer's own word would turn our answer
/// to others.
pub fn stamp_request(message: &mut Message, source: SocketAddr) {
    if let Message::Request(request) = message {
        tandem_sip::stamp_source(request, source);
    }
}

/// 503: come back later.
pub fn overloaded(request: &Request) -> Response {
    let mut response = request.respond(503, None, Some("overload"));
    response.headers.push_other("Retry-After", &limits::RETRY_AFTER_S.to_string());
    response
}
