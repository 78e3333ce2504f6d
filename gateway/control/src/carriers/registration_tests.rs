use tandem_core::demo::demo_config;
use tandem_core::trunk::outward::Outward;
use tandem_sip::{Message, NameAddr, Request, parse};

use super::*;
use crate::carriers::register;
use crate::control::Identity;

const CHALLENGE: &str =
    "Digest realm=\"carrier.example\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";

fn identity() -> Identity {
    Identity {
        name: "g".into(),
        vip: "127.0.0.10:5060".parse().unwrap(),
        ports: Vec::new(),
        nodes: Vec::new(),
        life: 7,
    }
}

fn config() -> Config {
    let mut config = demo_config();
    let peer = "192.0.2.1:5060".parse().unwrap();
    config.trunks[0].out = Some(Outward {
        peers: vec![peer],
        priority: 1,
        weight: 1,
        calls_per_second: 0,
        reply_ms: 4_000,
        no_answer_ms: 60_000,
        caller_id: None,
        hide_caller: false,
        called: Vec::new(),
        calling: Vec::new(),
        credentials: Some(Credentials::new("tandem", "carrier.example", "hush")),
        options_s: 0,
        register: Some(Registration {
            user: "4930100".into(),
            domain: "carrier.example".into(),
            registrar: peer,
            expires_s: 600,
        }),
    });
    config
}

struct Bench {
    registrations: Registrations,
    now: Millis,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { registrations: Registrations::default(), now: Millis(1_000) };
        bench.registrations.configure(bench.now, [(0, &config())].into_iter());
        bench
    }

    /// The REGISTER that is due next, as it goes out, and how long it took until then.
    fn sends(&mut self) -> (Request, u64) {
        let before = self.now;
        self.now = self.registrations.next().expect("something is due").max(self.now);
        match self.registrations.pop_due(self.now) {
            Some(Due::Send(order)) => {
                let request = register(&identity(), &order);
                let branch = request.headers.branch();
                self.registrations.sent(self.now, &order.trunk, branch);
                let Ok(Message::Request(read)) = parse(&request.to_bytes()) else { panic!() };
                (read, self.now.since(before))
            }
            other => panic!("{other:?}"),
        }
    }

    fn hears(&mut self, response: &Response) -> Option<Change> {
        let ours = |contact: &NameAddr| contact.uri.port == Some(5060);
        self.registrations.on_answer(self.now, response, ours, 500, "c1")
    }

    fn granted(&mut self, request: &Request, expires_s: u32) -> Option<Change> {
        let mut response = request.respond(200, None, Some("t"));
        let mut theirs = request.headers.contact[0].clone();
        theirs.uri.port = Some(5_070);
        let other: NameAddr = format!("{theirs};expires=7").parse().unwrap();
        let own = format!("{};expires={expires_s}", request.headers.contact[0]).parse().unwrap();
        response.headers.contact = vec![other, own];
        self.hears(&response)
    }
}

fn challenge(request: &Request, more: &str) -> Response {
    let mut response = request.respond(401, None, Some("t"));
    response.headers.push_other("WWW-Authenticate", &format!("{CHALLENGE}{more}"));
    response
}

fn proof(request: &Request) -> Option<Authorization> {
    Some(Authorization::parse(request.headers.other("Authorization")?).expect("a proof"))
}

#[test]
fn gateway_registers_its_contact_proves_who_it_is_and_refreshes_in_time() {
    let mut bench = Bench::new();
    let (first, _) = bench.sends();
    assert_eq!(first.uri.to_string(), "sip:carrier.example");
    assert_eq!(first.headers.to.uri.to_string(), "sip:4930100@carrier.example");
    assert_eq!(first.headers.contact[0].uri.to_string(), "sip:4930100@127.0.0.10:5060");
    assert_eq!((first.headers.expires, proof(&first)), (Some(600), None));
    assert_eq!(bench.hears(&challenge(&first, "")), None);
    let (second, _) = bench.sends();
    let ha1 = tandem_sip::digest::ha1("tandem", "carrier.example", "hush");
    assert!(tandem_sip::digest::verify("REGISTER", &ha1, &proof(&second).unwrap()));
    assert_eq!(second.headers.call_id, first.headers.call_id);
    assert_eq!((first.headers.cseq.number, second.headers.cseq.number), (1, 2));
    // Of the Contacts in the answer its own counts.
    let up = bench.granted(&second, 300).expect("registered");
    assert_eq!((up.number, up.up, up.status), (1, true, 200));
    let (refresh, waited_ms) = bench.sends();
    assert_eq!(waited_ms, 150_000 + 52_500, "half to 85 per cent of what was granted");
    // The nonce goes on, and counts.
    let next = proof(&refresh).expect("it proves at once");
    assert_eq!((next.nonce.as_str(), next.nc.as_deref()), ("n1", Some("00000002")));
    assert!(tandem_sip::digest::verify("REGISTER", &ha1, &next));
    assert_eq!(bench.hears(&challenge(&refresh, ", stale=true")), None);
    let (fresh, _) = bench.sends();
    assert_eq!(proof(&fresh).unwrap().nc.as_deref(), Some("00000001"));
    assert_eq!(bench.granted(&fresh, 300), None, "it was registered all the while");
}

#[test]
fn registrar_that_wants_a_longer_time_gets_it() {
    let mut bench = Bench::new();
    let (first, _) = bench.sends();
    let mut brief = first.respond(423, None, Some("t"));
    brief.headers.push_other("Min-Expires", "900");
    assert_eq!(bench.hears(&brief), None);
    let (second, _) = bench.sends();
    assert_eq!(second.headers.expires, Some(900));
    assert!(bench.granted(&second, 900).is_some());
}

#[test]
fn refused_password_is_not_tried_at_once_and_the_wait_doubles() {
    let mut bench = Bench::new();
    let (first, _) = bench.sends();
    bench.hears(&challenge(&first, ""));
    let (second, _) = bench.sends();
    let down = bench.hears(&challenge(&second, "")).expect("it is told once");
    assert_eq!((down.number, down.up, down.status), (1, false, 401));
    let mut waits = Vec::new();
    for _ in 0..10 {
        let (request, waited_ms) = bench.sends();
        waits.push(waited_ms);
        assert_eq!(proof(&request), None);
        assert_eq!(bench.hears(&request.respond(403, None, None)), None);
    }
    assert_eq!(waits[..3], [1_500, 3_000, 6_000]);
    assert_eq!(waits[9], limits::REGISTER_RETRY_MS_MAX * 3 / 4);
    let (request, _) = bench.sends();
    let mut busy = request.respond(503, None, None);
    busy.headers.push_other("Retry-After", "290");
    bench.hears(&busy);
    assert_eq!(bench.sends().1, 290_000);
}

#[test]
fn registration_holds_over_a_silent_refresh_until_it_lapses() {
    let mut bench = Bench::new();
    let (first, _) = bench.sends();
    assert!(bench.granted(&first, 60).is_some());
    let until = bench.now.after(60_000);
    let lapsed = loop {
        bench.now = bench.registrations.next().unwrap().max(bench.now);
        match bench.registrations.pop_due(bench.now) {
            Some(Due::Send(order)) => bench.registrations.sent(bench.now, &order.trunk, "b"),
            Some(Due::Silent { branch }) => {
                assert_eq!(bench.registrations.on_silence(bench.now, &branch, 0), None);
            }
            Some(Due::Lapsed(change)) => break change,
            None => {}
        }
    };
    assert_eq!((bench.now, lapsed.up, lapsed.number), (until, false, 2));
    assert!(bench.registrations.trunks().all(|(_, up)| !up));
}

#[test]
fn gateway_that_ends_takes_its_contact_away() {
    let mut bench = Bench::new();
    assert!(!bench.registrations.leave(bench.now), "nobody knows it");
    let mut bench = Bench::new();
    let (first, _) = bench.sends();
    bench.granted(&first, 600);
    assert!(bench.registrations.leave(bench.now));
    let (last, _) = bench.sends();
    assert_eq!(last.headers.expires, Some(0));
    bench.hears(&challenge(&last, ""));
    let (last, _) = bench.sends();
    assert!(proof(&last).is_some() && !bench.registrations.has_left());
    bench.hears(&last.respond(200, None, None));
    assert!(bench.registrations.has_left());
}
