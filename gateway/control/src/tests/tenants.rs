//! Whose a message is, where several tenants are served.

use std::sync::Arc;

use tandem_core::command::GatewayEvent;
use tandem_core::config::{Config, Number, Target};
use tandem_core::demo::demo_config;
use tandem_core::effect::{Body, Effect, EffectId, MediaPlan};
use tandem_core::ids::{CallId, EntityId, GatewayId};
use tandem_sip::{Flow, Message, Request, digest, parse};

use super::{Bench, NODE, invite};
use crate::link::{Down, Leading, Routing, Up};
use crate::{Output, limits};

const FIRST: u32 = 0;
const ACME: u32 = 1;
const OTHER: u32 = 7;

/// The demo tenant's trunk names no sources.
fn tenant(name: &str, sources: &[&str], numbers: &[&str]) -> Config {
    let mut config = demo_config();
    (config.tenant, config.realm) = (name.into(), format!("{name}.example"));
    config.trunks[0].sources = sources.iter().map(|source| source.parse().unwrap()).collect();
    let number = |digits: &&str| Number { digits: (*digits).into(), target: Target::Echo };
    config.numbers = numbers.iter().map(number).collect();
    for agent in &mut config.agents {
        agent.ha1 = digest::ha1(&agent.id.0, &config.realm, "secret");
    }
    config
}

impl Bench {
    fn route_to(&mut self, number: u32, all: &[u32], config: Config) {
        let nonce_key = vec![1; 32];
        let routing =
            Routing { shard: number, all: all.to_vec(), config: config.into(), nonce_key };
        self.control.on_down(self.now, NODE, Down::Routing(routing));
    }

    fn lead_of(&mut self, number: u32, leading: bool) {
        let leading = Leading { shard: number, term: 1, leading };
        self.control.on_down(self.now, NODE, Down::Leading(leading));
    }

    /// Three tenants, all led, none logged in yet.
    fn of_three() -> Self {
        let mut bench = Self::new();
        bench.control.on_session(bench.now, NODE);
        let all = [FIRST, ACME, OTHER];
        bench.route_to(FIRST, &all, tenant("demo", &[], &["4003"]));
        bench.route_to(ACME, &all, tenant("acme", &["192.0.2.1", "192.0.2.9"], &["5001"]));
        bench.route_to(OTHER, &all, tenant("other", &["192.0.2.1"], &["6001"]));
        for number in all {
            bench.lead_of(number, true);
            bench.accept_login(number);
        }
        bench
    }

    fn accept_login(&mut self, number: u32) {
        self.control.on_time(self.now);
        let accepted = crate::link::Accepted {
            shard: number,
            sequence: 1,
            overloaded: false,
            retry_after_s: 0,
        };
        self.control.on_down(self.now, NODE, Down::Accepted(accepted));
        self.events();
    }

    /// Whose events go up.
    fn events(&mut self) -> Vec<(u32, GatewayEvent)> {
        self.control.on_time(self.now);
        let mut events = Vec::new();
        while let Some(output) = self.control.next_output() {
            if let Output::Up { up: Up::Event { shard, event, .. }, .. } = output {
                events.push((shard, (*event).clone()));
            }
        }
        events
    }

    fn whose(&mut self, source: &str, request: &Request) -> Vec<u32> {
        let flow = Flow::udp(self.control.identity.vip, source.parse().unwrap());
        self.control.on_message(self.now, 0, &flow, Message::Request(request.clone()));
        self.events().into_iter().map(|(number, _)| number).collect()
    }
}

fn request(text: &str) -> Request {
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{text}: {other:?}"),
    }
}

/// An INVITE from one URI to another.
fn call(branch: &str, from: &str, to: &str, more: &str) -> Request {
    request(&format!(
        "INVITE sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{branch}\r\n\
         From: <sip:{from}>;tag=1\r\nTo: <sip:{to}>\r\nCall-ID: {branch}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:a@127.0.0.1:6000>\r\n{more}Content-Length: 0\r\n\r\n"
    ))
}

#[test]
fn call_is_of_the_domain_then_the_trunk_then_the_number() {
    let mut bench = Bench::of_three();
    let vip = "127.0.0.10";
    let cases: [(&str, &str, &str, u32); 8] = [
        ("a phone calls in its domain", "1001@ACME.example", "1002@ACME.example", ACME),
        ("a phone calls the address in its domain's name", "1001@other.example", vip, OTHER),
        ("the only tenant whose trunk that is", "a@192.0.2.9", "4003", ACME),
        ("both have the trunk, one the number", "a@192.0.2.1", "6001", OTHER),
        ("both have the trunk, none the number", "a@192.0.2.1", "9999", ACME),
        ("a stranger calls a number of the open trunk", "a@203.0.113.1", "4003", FIRST),
        ("a stranger calls a number of a closed one", "a@203.0.113.1", "5001", FIRST),
        ("nobody's domain", "a@nobody.example", "4003", FIRST),
    ];
    for (at, (what, from, to, whose)) in cases.into_iter().enumerate() {
        let host = from.split('@').next_back().unwrap();
        let source = if host.starts_with(char::is_numeric) { host } else { "203.0.113.7" };
        let to = if to.contains('@') { to.to_owned() } else { format!("{to}@{vip}") };
        let invite = call(&format!("w{at}"), from, &to, "");
        assert_eq!(bench.whose(&format!("{source}:5060"), &invite), [whose], "{what}");
    }
}

#[test]
fn dialog_is_of_the_tenant_that_its_tag_names() {
    let mut bench = Bench::of_three();
    let (tag, branch) = ("t00070123456789abcdef", "z9hG4bKt0007fedcba9876543210");
    let bye = |to_tag: &str, branch: &str| {
        request(&format!(
            "BYE sip:tandem@127.0.0.10 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{branch}\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:b@127.0.0.10>;tag={to_tag}\r\nCall-ID: c\r\nCSeq: 2 BYE\r\n\r\n"
        ))
    };
    assert_eq!(bench.whose("192.0.2.1:5060", &bye(tag, "1")), [OTHER]);
    assert_eq!(bench.whose("192.0.2.1:5060", &bye("0123456789abcdef", "2")), [FIRST]);
    // Of nobody: the first one says that there is no such dialog.
    assert_eq!(bench.whose("192.0.2.1:5060", &bye("t00ff0123456789abcdef", "3")), [FIRST]);
    // The call that it replaces says it, whatever its domain is.
    let replaces = format!("Replaces: x;to-tag={tag};from-tag=t0001peer\r\n");
    let attended = call("r1", "1001@acme.example", "tandem@127.0.0.10", &replaces);
    assert_eq!(bench.whose("127.0.0.1:6000", &attended), [OTHER]);
    let replaces = "Replaces: x;to-tag=0123456789abcdef;from-tag=p\r\n";
    let attended = call("r2", "1001@acme.example", "tandem@127.0.0.10", replaces);
    assert_eq!(bench.whose("127.0.0.1:6000", &attended), [FIRST]);
    // An answer to what an earlier life has sent.
    let ours = request(&format!(
        "INVITE sip:1001@127.0.0.1:6000 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10:5060;branch={branch}\r\n\
         From: <sip:a@127.0.0.10>;tag={tag}\r\nTo: <sip:1001@b>\r\nCall-ID: o\r\nCSeq: 1 INVITE\r\n\r\n"
    ));
    let flow = Flow::udp(bench.control.identity.vip, "127.0.0.1:6000".parse().unwrap());
    let answer = Message::Response(ours.respond(200, None, Some("p")));
    bench.control.on_message(bench.now, 0, &flow, answer);
    let numbers: Vec<u32> = bench.events().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [OTHER]);
}

#[test]
fn phone_is_challenged_in_the_realm_of_its_domain() {
    let mut bench = Bench::of_three();
    let register = |branch: &str, domain: &str, proof: &str| {
        request(&format!(
            "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{branch}\r\n\
             From: <sip:1001@{domain}>;tag=1\r\nTo: <sip:1001@{domain}>\r\nCall-ID: {branch}\r\n\
             CSeq: 1 REGISTER\r\nContact: <sip:1001@127.0.0.1:6000>\r\n{proof}\r\n"
        ))
    };
    for (domain, realm, number) in [
        ("acme.example", "acme.example", ACME),
        ("other.example", "other.example", OTHER),
        ("127.0.0.10", "demo.example", FIRST),
    ] {
        bench.send(&register(&format!("a{number}"), domain, ""));
        let challenge = String::from_utf8(bench.transmit().bytes).unwrap();
        assert!(challenge.contains(&format!("realm=\"{realm}\"")), "{challenge}");
        let asked = challenge.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: "));
        let uri = format!("sip:{domain}");
        let proof =
            digest::answer(asked.unwrap(), "1001", "secret", "REGISTER", &uri, "c").unwrap();
        let proof = format!("Authorization: {proof}\r\n");
        let whose = bench.whose("127.0.0.1:6000", &register(&format!("b{number}"), domain, &proof));
        assert_eq!(whose, [number], "{domain}");
    }
}

#[test]
fn tenant_without_a_leader_takes_no_call_away_from_others() {
    let mut bench = Bench::of_three();
    bench.lead_of(ACME, false);
    bench.pass(limits::NO_QUORUM_MS_MAX);
    bench.control.on_time(bench.now);
    let status = bench.control.status(bench.now);
    assert!(!status.refuses_new_calls);
    assert_eq!(status.leader_of(Some("other")), Some(NODE));
    assert_eq!((status.leader_of(Some("acme")), status.leader_of(Some("nobody"))), (None, None));
    assert_eq!(status.leader_of(None), Some(NODE));
    bench.send(&call("x", "1001@acme.example", "1002@acme.example", ""));
    assert_eq!(bench.outputs(), ["503"]);
    let other = call("y", "1001@other.example", "1002@other.example", "");
    assert_eq!(bench.whose("127.0.0.1:6000", &other), [OTHER]);
}

/// A call is not given to whoever happens to be known first.
#[test]
fn new_life_takes_no_call_before_it_knows_every_tenant() {
    let mut bench = Bench::new();
    bench.control.on_session(bench.now, NODE);
    bench.route_to(FIRST, &[FIRST, ACME], tenant("demo", &[], &["4003"]));
    bench.lead_of(FIRST, true);
    bench.accept_login(FIRST);
    bench.send(&call("x", "1001@acme.example", "1002@acme.example", ""));
    assert_eq!(bench.outputs(), [] as [&str; 0]);
    bench.lead_of(ACME, true);
    bench.route_to(ACME, &[FIRST, ACME], tenant("acme", &[], &[]));
    bench.accept_login(ACME);
    let whose: Vec<u32> = bench.control.pending(ACME).map(|_| ACME).collect();
    assert_eq!(whose, [ACME], "the call");
    // One that comes later changes nothing for those who are there.
    bench.route_to(OTHER, &[FIRST, ACME, OTHER], tenant("other", &[], &[]));
    bench.send(&invite("later"));
    assert!(bench.events().iter().any(|(number, _)| *number == FIRST));
}

#[test]
fn media_and_its_reports_are_of_whose_call_it_is() {
    let mut bench = Bench::of_three();
    let gateway = GatewayId::from("g");
    let plan = MediaPlan { call: CallId(3), version: 1, legs: Vec::new(), recording: None };
    let effect = Effect {
        id: EffectId { shard: 7, index: 1, ordinal: 0 },
        entity: EntityId::Call(CallId(3)),
        gateway,
        body: Body::Media(plan.clone()),
    };
    bench.control.on_effect(bench.now, OTHER, 1, &Arc::new(effect));
    assert_eq!(bench.control.next_output(), Some(Output::Media { tenant: OTHER, plan }));
    let silence =
        GatewayEvent::RtpSilence { call: CallId(3), leg: tandem_core::ids::LegId(1), since_ms: 5 };
    bench.control.on_media(OTHER, silence.clone());
    assert_eq!(bench.events(), [(OTHER, silence)]);
}
