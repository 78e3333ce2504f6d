//! Which way messages go (RFC 3261 §18).

use std::net::SocketAddr;

use super::request;
use crate::{Carrier, ConnectionId, Flow, Request, Transport, Way};

const OVER: Carrier = Carrier::Tcp { connection: Some(ConnectionId(7)) };

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn options(uri: &str, via: &str, route: &str) -> Request {
    request(&format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: {via};branch=z9hG4bKa\r\n{route}From: <sip:a@x>;tag=1\r\n\
         To: <sip:b@x>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    ))
}

#[test]
fn answer_goes_back_over_its_connection_or_to_the_port_where_the_peer_listens() {
    let way_back = |via: &str| {
        let mut options = options("sip:x", via, "");
        crate::stamp_source(&mut options, address("192.0.2.1:40000"));
        let flow =
            Flow::tcp(address("192.0.2.9:5060"), address("192.0.2.1:40000"), ConnectionId(7));
        let response = options.respond(200, None, Some("t"));
        (flow.way_back(&response), Way::of_response(&response))
    };
    for (via, open) in [
        ("SIP/2.0/TCP 192.0.2.1:5070;rport", "192.0.2.1:5070"),
        ("SIP/2.0/TCP 192.0.2.1", "192.0.2.1:5060"),
        // Only the address that the request came from is ever believed.
        ("SIP/2.0/TCP 10.0.0.1:5070", "192.0.2.1:5070"),
        ("SIP/2.0/TCP pc.example.com", "192.0.2.1:5060"),
    ] {
        let open = address(open);
        let back = Way { carrier: OVER, to: address("192.0.2.1:40000"), open: Some(open) };
        assert_eq!(way_back(via), (back, Some(Way::tcp(open))), "{via}");
    }
    let by_udp = "SIP/2.0/UDP 10.0.0.1:5070;rport";
    assert_eq!(way_back(by_udp).1, Some(Way::udp(address("192.0.2.1:40000"))));
}

#[test]
fn connection_for_a_request_is_opened_to_its_next_hop() {
    let peer = address("192.0.2.1:40000");
    let via = "SIP/2.0/TCP 192.0.2.9";
    for (uri, route, open) in [
        ("sip:a@10.0.0.1:5070;transport=tcp", "", Some("10.0.0.1:5070")),
        ("sip:a@[2001:db8::1]", "", Some("[2001:db8::1]:5060")),
        ("sip:a@phone.example.com:5080", "", Some("192.0.2.1:5080")),
        ("sip:a@10.0.0.1", "Route: <sip:10.0.0.2:5090;lr>\r\n", Some("10.0.0.2:5090")),
        // Not over a connection that nobody has encrypted.
        ("sips:a@10.0.0.1", "", None),
        ("sip:a@10.0.0.1;transport=TLS", "", None),
        ("tel:4711", "", None),
    ] {
        let way = Way::of_request(&options(uri, via, route), peer, OVER);
        let expected = Way { carrier: OVER, to: peer, open: open.map(address) };
        assert_eq!(way, expected, "{uri}");
        assert_eq!(way.anew(), open.map(|open| Way::tcp(address(open))));
        let by_udp = Way::of_request(&options(uri, via, route), peer, Carrier::Udp);
        assert_eq!(by_udp, Way::udp(peer));
    }
}

#[test]
fn carrier_is_named_as_via_and_uri_name_it() {
    assert_eq!((Carrier::Udp.transport(), Carrier::Udp.uri_param()), (Transport::Udp, None));
    assert_eq!((OVER.transport(), OVER.uri_param()), (Transport::Tcp, Some("tcp")));
    assert_eq!((Carrier::Udp.is_reliable(), OVER.is_reliable()), (false, true));
}
