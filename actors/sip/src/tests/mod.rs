//! What crosses several modules; each topic has a file of its own.

mod dialog;
mod digests;
mod encodings;
mod flow;
mod media;
mod multipart;
mod roundtrip;
mod torture;
mod torture_rfc;

use proptest::prelude::*;

use crate::dialog::{Dialog, Refused, destination};
use crate::sdp::{Audio, Codec, Direction, negotiate};
use crate::{
    Message, Method, ParseErrorKind, Request, Response, digest, parse, response_destination,
    stamp_source,
};

const INVITE: &str = "INVITE sip:4001@127.0.0.10:5060;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKa;rport, SIP/2.0/TCP [::1]:5061;branch=z9hG4bKb\r\n\
    Record-Route: <sip:127.0.0.2;lr>, <sip:127.0.0.3:5070;lr>\r\n\
    Max-Forwards: 70\r\nFrom: \"A, \\\"B\\\"\" <sip:a@x;p=1>;tag=1\r\nTo: <sip:4001@127.0.0.10>\r\n\
    Call-ID: c@x\r\nCSeq: 7 INVITE\r\nContact: <sip:a@127.0.0.1:6000>;expires=60\r\n\
    X-Custom: kept, as it came\r\nContent-Type: application/sdp\r\nContent-Length: 4\r\n\r\nbody";

const SDP: &str = "v=0\r\no=- 5 6 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 18 8 0 96\r\na=rtpmap:8 PCMA/8000/1\r\na=rtpmap:96 telephone-event/8000\r\n\
    a=sendonly\r\n";

fn request(text: &str) -> Request {
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("not a request: {other:?}"),
    }
}

fn answer(request: &Request) -> Response {
    let mut response = request.respond(200, None, Some("t"));
    response.headers.contact = vec!["<sip:4001@127.0.0.10:5060>".parse().unwrap()];
    response
}

#[test]
fn request_comes_back_byte_for_value() {
    let invite = request(INVITE);
    assert_eq!(invite.headers.via.len(), 2);
    assert_eq!(invite.headers.via[1].host, "[::1]");
    assert_eq!(invite.headers.from.display.as_deref(), Some("A, \"B\""));
    assert_eq!(invite.headers.other("x-custom"), Some("kept, as it came"));
    assert_eq!(invite.body, b"body");
    assert_eq!(parse(&invite.to_bytes()), Ok(Message::Request(invite)));
}

#[test]
fn compact_folded_and_bare_lf_forms_are_read() {
    let text = "OPTIONS sip:x SIP/2.0\nv:SIP/2.0/UDP h;branch=z9hG4bKa\nf: <sip:a@x>\n ;tag=1\n\
        t:sip:b@x;tag=2\ni: c\nCSEQ :  1   OPTIONS\nL: 0\n\n";
    let options = request(text);
    assert_eq!(options.headers.from_tag(), Some("1"));
    assert_eq!(options.headers.to_tag(), Some("2"));
    assert!(options.headers.to.uri.params.is_empty());
    assert_eq!(options.method, Method::Options);
}

#[test]
fn what_is_wrong_is_told_and_answered_where_it_can_be() {
    for (text, word, status) in [
        ("", "keep_alive", None),
        ("\r\n\r\n", "keep_alive", None),
        ("junk", "start_line", None),
        ("INVITE sip:x SIP/2.0\r\n\r\n", "missing", None),
        (&INVITE.replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), "version", Some(505)),
        (&INVITE.replace("Length: 4", "Length: 400"), "content_length", Some(400)),
        (&INVITE.replace("7 INVITE", "7 BYE"), "method_mismatch", Some(400)),
        (&INVITE.replace("7 INVITE", "4294967296 INVITE"), "header", Some(400)),
        (&INVITE.replace("Call-ID: c@x", "Call-ID: c@x\r\nCall-ID: d"), "twice", Some(400)),
    ] {
        let error = parse(text.as_bytes()).expect_err(text);
        assert_eq!(error.kind.word(), word, "{text:?}");
        assert_eq!(error.answerable.map(|response| response.status), status, "{text:?}");
    }
    let many = INVITE.replace("X-Custom: kept, as it came\r\n", &"X: y\r\n".repeat(300));
    assert_eq!(parse(many.as_bytes()).unwrap_err().kind, ParseErrorKind::TooManyHeaders);
}

#[test]
fn response_goes_where_the_request_came_from() {
    let mut invite = request(INVITE);
    stamp_source(&mut invite, "127.0.0.9:7777".parse().unwrap());
    let response = invite.respond(180, None, Some("t"));
    assert_eq!(response_destination(&response), Some("127.0.0.9:7777".parse().unwrap()));
    assert_eq!(response.headers.to_tag(), Some("t"));
    assert_eq!(response.headers.record_route.len(), 2);
    assert_eq!(invite.respond(100, None, Some("t")).headers.to_tag(), None);
}

#[test]
fn peer_can_not_say_where_it_came_from() {
    let mut invite = request(&INVITE.replace(";rport", ";received=198.51.100.1"));
    stamp_source(&mut invite, "127.0.0.1:7777".parse().unwrap());
    let response = invite.respond(180, None, Some("t"));
    assert_eq!(response_destination(&response), Some("127.0.0.1:6000".parse().unwrap()));
}

#[test]
fn trying_repeats_the_timestamp_and_compact_names_are_found() {
    let invite = request(&INVITE.replace("X-Custom: kept", "Timestamp: 54.2\r\nk: timer, kept"));
    assert_eq!(invite.respond(100, None, None).headers.other("Timestamp"), Some("54.2"));
    assert_eq!(invite.respond(180, None, None).headers.other("Timestamp"), None);
    assert_eq!(invite.headers.other("supported"), Some("timer, kept, as it came"));
    let mut headers = invite.headers;
    headers.remove_other("Supported");
    assert_eq!(headers.other("k"), None);
}

#[test]
fn dialog_of_each_side_routes_and_counts() {
    let invite = request(INVITE);
    let response = answer(&invite);
    let mut caller = Dialog::as_uac(&invite, &response).unwrap();
    let mut callee = Dialog::as_uas(&invite, "t").unwrap();
    let via = invite.headers.via[0].clone();
    let bye = caller.request(Method::Bye, via.clone(), None);
    assert_eq!(bye.headers.cseq.number, 8);
    assert_eq!(bye.headers.route[0].uri.host, "127.0.0.3");
    assert_eq!(destination(&bye), Some("127.0.0.3:5070".parse().unwrap()));
    assert_eq!(caller.ack(7, via.clone()).headers.cseq.number, 7);
    assert_eq!(callee.admit(&bye), Ok(()));
    assert_eq!(callee.admit(&bye), Err(Refused::CseqTooLow));
    let back = callee.request(Method::Bye, via, None);
    assert_eq!(back.headers.cseq.number, 1);
    assert_eq!(back.headers.route[0].uri.host, "127.0.0.2");
    assert_eq!(back.headers.to_tag(), Some("1"));
    assert_eq!(back.uri.to_string(), "sip:a@127.0.0.1:6000");
}

#[test]
fn offer_is_read_and_negotiated_by_its_own_order() {
    let offer = Audio::parse(SDP.as_bytes()).unwrap();
    assert_eq!(offer.direction, Direction::SendOnly);
    assert!(offer.is_hold());
    let agreed = negotiate(&offer, &[Codec::Pcmu, Codec::Pcma]).unwrap();
    assert_eq!((agreed.codec, agreed.payload), (Codec::Pcma, 8));
    assert_eq!(agreed.telephone_event, Some(96));
    assert_eq!(agreed.direction, Direction::RecvOnly);
    assert_eq!(agreed.remote, Some("127.0.0.1:4000".parse().unwrap()));
    assert_eq!(Audio::parse(&offer.compose()).unwrap(), Audio { ptime_ms: Some(20), ..offer });
    for (from, to) in [("RTP/AVP", "RTP/SAVP"), ("c=IN IP4 127.0.0.1\r\n", ""), ("v=0", "v=x")] {
        assert!(Audio::parse(SDP.replace(from, to).as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn digest_answers_are_verified() {
    // The example of RFC 2617 §3.5.
    let ha1 = digest::ha1("Mufasa", "testrealm@host.com", "Circle Of Life");
    let value = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
        nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, \
        nc=00000001, cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\"";
    let authorization = digest::Authorization::parse(value).unwrap();
    assert!(digest::verify("GET", &ha1, &authorization));
    assert!(!digest::verify("POST", &ha1, &authorization));

    let challenge = digest::challenge("demo.tandem", "n", false);
    let value = digest::answer(&challenge, "1001", "secret", "REGISTER", "sip:x", "c").unwrap();
    let authorization = digest::Authorization::parse(&value).unwrap();
    let right = digest::ha1("1001", "demo.tandem", "secret");
    assert!(digest::verify("REGISTER", &right, &authorization));
    let wrong = digest::ha1("1001", "demo.tandem", "guess");
    assert!(!digest::verify("REGISTER", &wrong, &authorization));
}

proptest! {
    #[test]
    fn parser_never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
        let _ = Audio::parse(&bytes);
    }

    #[test]
    fn parser_never_panics_on_a_damaged_invite(
        at in 0..INVITE.len(), len in 0..40_usize, with in proptest::collection::vec(any::<u8>(), 0..20)
    ) {
        let mut bytes = INVITE.as_bytes().to_vec();
        bytes.splice(at..(at + len).min(INVITE.len()), with);
        // What is read at all is written and read the same.
        if let Ok(message) = parse(&bytes) {
            let again = parse(&message.to_bytes());
            prop_assert_eq!(again, Ok(message));
        }
    }
}

#[test]
fn host_is_what_an_address_shows() {
    for text in ["0.0.0.0", "1.20.99.100", "127.0.0.1", "255.255.255.255", "10.9.205.0"] {
        assert_eq!(crate::host(text.parse().unwrap()), text);
    }
    let uri = crate::Uri::sip(None, &crate::host("fd00::1".parse().unwrap()), Some(5_060));
    assert_eq!(uri.to_string(), "sip:[fd00::1]:5060");
    assert_eq!(uri.to_string().parse(), Ok(uri));
}

/// A stream is cut by what the parser reads, so that both see the same body.
#[test]
fn length_of_a_body_is_read_alone_as_with_the_message() {
    let of = |lines: &str| crate::body_length(format!("A b SIP/2.0\r\n{lines}\r\n").as_bytes());
    for (lines, length) in [
        ("Content-Length: 5\r\n", Some(5)),
        ("CONTENT-LENGTH\t:\r\n  5\r\n", Some(5)),
        ("l:5\n", Some(5)),
        ("X-Content-Length: 5\r\nSubject: x\r\n Content-Length: 5\r\n", None),
    ] {
        assert_eq!(of(lines), Ok(length), "{lines}");
    }
    for lines in
        ["l: 5\r\nContent-Length: 5\r\n", "l: -5\r\n", "l: \r\n", "l: 99999999999999999999\r\n"]
    {
        assert!(of(lines).is_err(), "{lines}");
    }
}
