//! What the edge refuses by itself, and why it says so.

use tandem_core::demo::demo_config;
use tandem_sip::dialog::cancel_for;
use tandem_sip::{Message, Request, Response, digest, parse};

use super::{Bench, invite};
use crate::{Output, limits};

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

/// RFC 3261 §9.2: SIPp sends its next request to the tag that it has heard last.
#[test]
fn cancel_is_answered_with_the_tag_of_its_invite() {
    let mut bench = Bench::led();
    bench.send(&invite("a"));
    bench.respond(1, &invite("a"), 180);
    bench.outputs();
    let found = answer(&mut bench, &cancel_for(&invite("a"))).unwrap();
    assert_eq!((found.status, found.headers.to_tag()), (200, Some("t")));
    // Nothing was said to this one yet.
    bench.send(&invite("b"));
    bench.outputs();
    let found = answer(&mut bench, &cancel_for(&invite("b"))).unwrap();
    assert_eq!(found.status, 200);
    assert!(found.headers.to_tag().is_some_and(|tag| tag.len() == 16));
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

// --- those who prove nothing ---------------------------------------------------------------------

fn register(branch: &str, authorization: Option<&str>) -> Request {
    let more = authorization.map(|it| format!("Authorization: {it}\r\n")).unwrap_or_default();
    let text = String::from_utf8(with(branch, &more, "").to_bytes()).unwrap();
    let text =
        text.replace("INVITE sip:4003@demo", "REGISTER sip:demo").replace("INVITE", "REGISTER");
    let text = text.replace("To: <sip:4003@demo>", "To: <sip:1001@demo>");
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// What a gateway challenges with.
fn challenge(bench: &mut Bench) -> String {
    let challenge = answer(bench, &register("challenge", None)).expect("a challenge");
    assert_eq!(challenge.status, 401);
    challenge.headers.other("WWW-Authenticate").unwrap().to_owned()
}

fn proof(challenge: &str, password: &str, count: u32) -> String {
    let who = ("1001", password);
    digest::answer_again(challenge, who, "REGISTER", "sip:demo", "c", count).unwrap()
}

/// The status and where it says one, in how many seconds to come back.
fn attempt(bench: &mut Bench, branch: &str, authorization: &str) -> Option<(u16, u32)> {
    let response = answer(bench, &register(branch, Some(authorization)))?;
    let after = response.headers.other("Retry-After").map(|text| text.parse().unwrap());
    Some((response.status, after.unwrap_or(0)))
}

#[test]
fn authorization_that_was_overheard_is_refused_and_the_next_count_is_taken() {
    let (mut bench, mut other) = (Bench::led(), Bench::led());
    let challenge = challenge(&mut bench);
    let first = proof(&challenge, "tandem-1001", 1);
    assert_eq!(attempt(&mut bench, "a", &first), None);
    assert_eq!(bench.outputs(), ["event 2"]);
    // The phone's own repetition is the same transaction, and is absorbed.
    bench.send(&register("a", Some(&first)));
    assert_eq!(bench.outputs(), [] as [&str; 0]);
    let replayed = answer(&mut bench, &register("b", Some(&first))).unwrap();
    assert_eq!(replayed.status, 401);
    assert!(replayed.headers.other("WWW-Authenticate").unwrap().contains("stale=true"));
    let second = proof(&challenge, "tandem-1001", 2);
    assert_eq!(attempt(&mut bench, "c", &second), None);
    assert_eq!(bench.outputs(), ["event 3"]);
    // The nonce is good on any gateway, which has its own memory.
    assert_eq!(attempt(&mut other, "d", &proof(&challenge, "tandem-1001", 3)), None);
    assert_eq!(other.outputs(), ["event 2"]);
}

#[test]
fn guesses_of_a_password_take_longer_each_time_and_phones_beside_are_served() {
    let mut bench = Bench::led();
    let challenge = challenge(&mut bench);
    let right = proof(&challenge, "tandem-1001", 1);
    let wrong = |n: u32| proof(&challenge, &format!("guess-{n}"), 1);
    for (n, found) in [(403, 0), (403, 0), (403, 0), (403, 0), (503, 1)].into_iter().enumerate() {
        let n = u32::try_from(n).unwrap();
        assert_eq!(attempt(&mut bench, &format!("g{n}"), &wrong(n)), Some(found), "guess {n}");
    }
    // Even the right one is not looked at: or each guess could be made.
    assert_eq!(attempt(&mut bench, "r1", &right), Some((503, 1)));
    bench.pass(1_000);
    assert_eq!(attempt(&mut bench, "g5", &wrong(5)), Some((403, 0)));
    assert_eq!(attempt(&mut bench, "g6", &wrong(6)), Some((503, 2)));
    bench.pass(2_000);
    assert_eq!(attempt(&mut bench, "r2", &right), None);
    assert_eq!(bench.outputs(), ["event 2"]);
    // Who has proven it once is trusted for a while, whatever others try; calls are none of it.
    assert_eq!(attempt(&mut bench, "g7", &wrong(7)), Some((403, 0)));
    assert_eq!(attempt(&mut bench, "r3", &proof(&challenge, "tandem-1001", 2)), None);
    bench.send(&invite("call"));
    assert_eq!(bench.outputs(), ["event 3", "event 4"]);
}

/// A right password behind an old nonce is told from a wrong one, so that guessing there counts.
#[test]
fn guesses_with_a_nonce_of_ones_own_count_too() {
    let mut bench = Bench::led();
    let own = digest::challenge("demo.tandem", "mine", false);
    for n in 0..4 {
        let found = attempt(&mut bench, &format!("g{n}"), &proof(&own, &format!("guess-{n}"), 1));
        assert_eq!(found, Some((401, 0)), "guess {n}");
    }
    assert_eq!(attempt(&mut bench, "r", &proof(&own, "tandem-1001", 1)), Some((503, 1)));
}

#[test]
fn scanner_hears_once_that_it_is_not_served() {
    let mut bench = Bench::led();
    for (n, (name, value)) in [
        ("User-Agent", "friendly-scanner"),
        ("User-Agent", "SIPVicious/0.3"),
        ("User-Agent", "sipcli/v1.8"),
    ]
    .into_iter()
    .enumerate()
    {
        let scan = with(&format!("s{n}"), &format!("{name}: {value}\r\n"), "");
        let found = answer(&mut bench, &scan);
        if n == 0 {
            let refused = found.unwrap();
            assert_eq!(refused.status, 403);
            assert_eq!(refused.reason, "Forbidden (scanners are not served)");
        } else {
            assert_eq!(found, None, "{value}");
        }
    }
    let mut named = invite("n");
    named.headers.from.display = Some("sipvicious".into());
    assert_eq!(answer(&mut bench, &named), None);
    assert_eq!(bench.outputs(), [] as [&str; 0]);
    // A phone of the same address.
    bench.send(&invite("phone"));
    assert_eq!(bench.outputs(), ["event 2"]);
    bench.pass(limits::SCANNER_MS);
    let scan = with("later", "User-Agent: friendly-scanner\r\n", "");
    assert_eq!(answer(&mut bench, &scan).map(|it| it.status), Some(403));
}

#[test]
fn calls_of_a_stranger_are_bounded_and_those_of_a_trunk_are_not() {
    let mut bench = Bench::led();
    let flood = |bench: &mut Bench, from: &str| {
        let mut statuses = Vec::new();
        for n in 0..u64::from(limits::STRANGER_INVITES_MAX) + 5 {
            bench.send(&invite(&format!("{from}{n}")));
            statuses.extend(bench.outputs());
        }
        let refused = statuses.iter().filter(|word| *word == "503").count();
        let taken = statuses.iter().filter(|word| word.starts_with("event")).count();
        (taken, refused)
    };
    let max = limits::STRANGER_INVITES_MAX as usize;
    // The demo's trunk takes calls from anywhere.
    assert_eq!(flood(&mut bench, "any"), (max + 5, 0));
    let mut config = demo_config();
    config.trunks[0].sources = vec!["192.0.2.1".parse().unwrap()];
    bench.configure(config.clone());
    assert_eq!(flood(&mut bench, "stranger"), (max, 1));
    // A phone that has registered is none, nor is a trunk that is known by its address.
    let challenge = challenge(&mut bench);
    assert_eq!(attempt(&mut bench, "r", &proof(&challenge, "tandem-1001", 1)), None);
    bench.outputs();
    assert_eq!(flood(&mut bench, "phone"), (max + 5, 0));
    config.trunks[0].sources.push("127.0.0.1".parse().unwrap());
    let mut bench = Bench::led();
    bench.configure(config);
    assert_eq!(flood(&mut bench, "trunk"), (max + 5, 0));
}
