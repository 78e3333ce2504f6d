//! What the edge refuses by itself, and why it says so.

use tandem_sip::{Message, Request, Response, parse};

use super::{Bench, invite};
use crate::Output;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 0\r\n";

/// An INVITE with more header lines and this body.
fn with(branch: &str, more: &str, body: &str) -> Request {
    let mut text = String::from_utf8(invite(branch).to_bytes()).unwrap();
    let head = text.split_off(0).replace("Content-Length: 0\r\n\r\n", "");
    let text = format!("{head}{more}Content-Length: {}\r\n\r\n{body}", body.len());
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// The answer; none where the cluster was told.
fn answer(bench: &mut Bench, request: &Request) -> Option<Response> {
    bench.send(request);
    let output = bench.control.next_output()?;
    let Output::Transmit(transmit) = output else { panic!("{output:?}") };
    match parse(&transmit.bytes) {
        Ok(Message::Response(response)) => Some(response),
        other => panic!("{other:?}"),
    }
}

#[test]
fn offer_is_taken_out_of_a_body_of_several_parts() {
    let parts = |handling: &str| {
        format!(
            "--x\r\nContent-Type: application/isup\r\nContent-Disposition: signal{handling}\r\n\r\n\
             \u{1}\u{2}\r\n--x\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--x--\r\n"
        )
    };
    let mixed = "Content-Type: multipart/mixed;boundary=x\r\n";
    for (branch, body, status) in [
        ("a", parts(";handling=optional"), None),
        ("b", parts(""), None),
        ("c", parts(";handling=required"), Some(415)),
        ("d", "--y--".to_owned(), Some(415)),
    ] {
        let mut bench = Bench::led();
        let refused = answer(&mut bench, &with(branch, mixed, &body)).map(|it| it.status);
        assert_eq!(refused, status, "{body}");
        let offered = bench.control.pending(0).any(|event| {
            matches!(event, tandem_core::command::GatewayEvent::Invite(invite)
                if invite.offer.as_ref().is_some_and(|offer| offer.port == 4_000)
                    && invite.request.body.is_empty())
        });
        assert_eq!(offered, status.is_none(), "{body}");
    }
}

#[test]
fn body_that_need_not_be_understood_is_ignored() {
    let optional =
        "Content-Type: application/x\r\nContent-Disposition: render;handling=optional\r\n";
    let mut bench = Bench::led();
    assert_eq!(answer(&mut bench, &with("a", optional, "x")), None);
    assert_eq!(bench.outputs(), ["event 2"]);
    let refused = answer(&mut bench, &with("b", "Content-Type: application/x\r\n", "x")).unwrap();
    assert_eq!(refused.status, 415);
    assert_eq!(
        refused.headers.other("Accept"),
        Some("application/sdp, multipart/mixed, multipart/alternative")
    );
}

#[test]
fn caller_who_takes_no_sdp_is_not_acceptable() {
    for (accept, status) in [
        ("text/plain", Some(406)),
        ("", Some(406)),
        ("application/sdp;level=1, text/plain", None),
        ("text/plain, */*;q=0.1", None),
        ("APPLICATION/*", None),
    ] {
        let mut bench = Bench::led();
        let request = with("a", &format!("Accept: {accept}\r\n"), "");
        assert_eq!(answer(&mut bench, &request).map(|it| it.status), status, "{accept}");
    }
}

/// RFC 3261 §8.2.2.2
#[test]
fn forked_invite_that_comes_by_two_ways_is_one_call() {
    let mut bench = Bench::led();
    bench.send(&invite("a"));
    assert_eq!(bench.outputs(), ["event 2"]);
    let mut again = invite("b");
    again.headers.call_id = "a".into();
    bench.send(&again);
    assert_eq!(bench.outputs(), ["482"]);
    // Another call of the same peer, and the next try of the first.
    again.headers.cseq.number = 2;
    bench.send(&again);
    assert_eq!(bench.outputs(), ["event 3"]);
    // Its answer ends it: whoever comes then is no fork.
    bench.respond(1, &invite("a"), 486);
    let mut late = invite("c");
    late.headers.call_id = "a".into();
    bench.send(&late);
    assert_eq!(bench.outputs(), ["486", "event 4"]);
}

#[test]
fn caller_whose_connection_is_gone_may_try_another() {
    let mut bench = Bench::led();
    bench.send_over(&invite("a"), 1);
    let mut again = invite("b");
    again.headers.call_id = "a".into();
    bench.send_over(&again, 2);
    assert_eq!(bench.outputs(), ["event 2", "event 3"]);
    let mut third = invite("c");
    third.headers.call_id = "a".into();
    bench.send_over(&third, 1);
    assert_eq!(bench.outputs(), ["482"]);
}
