//! Which way messages go (RFC 3261 §18).

use std::net::SocketAddr;

use super::request;
use crate::{Carrier, ConnectionId, Flow, Proof, Request, Transport, Uri, Way};

const OVER: Carrier = Carrier::Tcp { connection: Some(ConnectionId(7)) };
const SECURE: Carrier = Carrier::Tls { connection: Some(ConnectionId(8)) };

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
        let (back, known) = way_back(via);
        let to = address("192.0.2.1:40000");
        assert_eq!((back.carrier, back.to, back.open), (OVER, to, Some(open)), "{via}");
        // Who comes back and says that it is there is known by that; who has said what it is not, is not.
        let name = via.contains(" 192.0.2.1").then(|| open.to_string().into());
        assert_eq!(back.name, name, "{via}");
        assert_eq!(known, Some(Way { name, ..Way::tcp(open) }), "{via}");
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
        let expected = (OVER, peer, open.map(address));
        assert_eq!((way.carrier, way.to, way.open), expected, "{uri}");
        let anew = way.anew().map(|anew| (anew.carrier, anew.to, anew.open));
        let open = open.map(address);
        assert_eq!(anew, open.map(|open| (Carrier::TCP, open, Some(open))));
        let by_udp = Way::of_request(&options(uri, via, route), peer, Carrier::Udp);
        assert_eq!(by_udp, Way::udp(peer));
    }
}

#[test]
fn carrier_is_named_as_via_and_uri_name_it() {
    assert_eq!((Carrier::Udp.transport(), Carrier::Udp.uri_param()), (Transport::Udp, None));
    assert_eq!((OVER.transport(), OVER.uri_param()), (Transport::Tcp, Some("tcp")));
    assert_eq!((SECURE.transport(), SECURE.uri_param()), (Transport::Tls, Some("tls")));
    assert_eq!((Carrier::Udp.is_reliable(), OVER.is_reliable()), (false, true));
    assert_eq!((OVER.is_secure(), SECURE.is_secure()), (false, true));
    assert_eq!((OVER.port(5060), SECURE.port(5060)), (5060, 5061));
}

#[test]
fn connection_of_tls_is_opened_where_the_next_hop_wants_it_and_must_prove_who_it_is() {
    let peer = address("192.0.2.1:40000");
    let via = "SIP/2.0/TLS 192.0.2.9";
    let named = |name: &str| Proof::Name(name.into());
    for (uri, route, open) in [
        ("sips:a@10.0.0.1", "", Some(("10.0.0.1:5061", Proof::Address))),
        ("sip:a@10.0.0.1:5071;transport=TLS", "", Some(("10.0.0.1:5071", Proof::Address))),
        ("sips:a@Phone.example.com", "", Some(("192.0.2.1:5061", named("phone.example.com")))),
        (
            "sip:a@10.0.0.1",
            "Route: <sips:proxy.example.com:5090;lr>\r\n",
            Some(("192.0.2.1:5090", named("proxy.example.com"))),
        ),
        // It says nothing of TLS where it listens, and nothing is sent in the clear.
        ("sip:a@10.0.0.1:5061", "", None),
        ("sip:a@10.0.0.1;transport=tcp", "", None),
        ("sip:a@df7jal23ls0d.invalid;transport=ws", "", None),
    ] {
        let way = Way::of_request(&options(uri, via, route), peer, SECURE);
        assert_eq!((way.carrier, way.to), (SECURE, peer), "{uri}");
        let expected = open.map(|(to, proof)| Way::tls(address(to), proof));
        assert_eq!(way.anew(), expected, "{uri}");
    }
}

#[test]
fn answer_over_tls_goes_to_the_port_of_tls_when_its_connection_is_gone() {
    for (via, open, proof) in [
        ("SIP/2.0/TLS 192.0.2.1:5071;rport", "192.0.2.1:5071", Proof::Address),
        ("SIP/2.0/TLS 192.0.2.1", "192.0.2.1:5061", Proof::Address),
        ("SIP/2.0/TLS sbc.example.net", "192.0.2.1:5061", Proof::Name("sbc.example.net".into())),
    ] {
        let mut options = options("sips:x", via, "");
        let remote = address("192.0.2.1:40000");
        crate::stamp_source(&mut options, remote);
        let flow = Flow::over(SECURE, address("192.0.2.9:5061"), remote);
        let response = options.respond(200, None, Some("t"));
        let open = address(open);
        let back =
            Way { carrier: SECURE, open: Some(open), proof: proof.clone(), ..Way::udp(remote) };
        assert_eq!(flow.way_back(&response), back, "{via}");
        assert_eq!(Way::of_response(&response), Some(Way::tls(open, proof)), "{via}");
    }
}

/// RFC 7118 §5: nobody can open a connection to a browser, but it opens another itself.
#[test]
fn browser_that_has_lost_its_websocket_is_known_by_its_name_over_the_next() {
    let remote = address("192.0.2.1:40000");
    let of = |via: &str| {
        let mut options = options("sip:x", via, "");
        crate::stamp_source(&mut options, remote);
        Way::of_response(&options.respond(200, None, Some("t")))
    };
    let to = address("192.0.2.1:0");
    let carrier = Carrier::Wss { connection: None };
    let known = Way { carrier, name: Some("df7jal23ls0d.invalid".into()), ..Way::udp(to) };
    assert_eq!(of("SIP/2.0/WSS DF7jal23ls0d.invalid"), Some(known));
    assert_eq!(of("SIP/2.0/WSS phone.example.com"), None, "a name that others may have");
    let invite = options("sip:a@df7jal23ls0d.invalid;transport=ws", "SIP/2.0/WSS 192.0.2.9", "");
    let gone = Carrier::Wss { connection: Some(ConnectionId(7)) };
    let way = Way::of_request(&invite, remote, gone);
    assert_eq!((way.name.as_deref(), way.open), (Some("df7jal23ls0d.invalid"), None));
}

#[test]
fn requests_go_over_what_the_contact_asks_for_and_sips_is_never_left() {
    let towards = |carrier: Carrier, contact: &str| {
        let contact: Uri = contact.parse().expect("a URI");
        carrier.towards(&contact)
    };
    for (carrier, contact, expected) in [
        (Carrier::Udp, "sip:a@x", Carrier::Udp),
        (Carrier::Udp, "sip:a@x;transport=TCP", Carrier::TCP),
        (Carrier::Udp, "sip:a@x;transport=tls", Carrier::TLS),
        (Carrier::Udp, "sips:a@x", Carrier::TLS),
        (OVER, "sip:a@x;transport=tls", OVER),
        (OVER, "sips:a@x", Carrier::TLS),
        (SECURE, "sips:a@x", SECURE),
        (SECURE, "sip:a@x;transport=udp", SECURE),
    ] {
        assert_eq!(towards(carrier, contact), expected, "{carrier:?} {contact}");
    }
}
