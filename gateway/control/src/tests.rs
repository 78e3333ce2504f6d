//! The control by itself: time and messages in, outputs out.

mod edge;
mod late;
#[path = "../../../actors/sip/src/tests/mutate.rs"]
mod mutate;
mod mutated;
mod streams;
mod subscribing;
mod tenants;
mod torture;

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_core::command::{GatewayEvent, TransactionKey};
use tandem_core::config::{Config, Trunk, TrunkTls};
use tandem_core::demo::demo_config;
use tandem_core::effect::{Body, Effect, EffectId};
use tandem_core::ids::{EntityId, GatewayId};
use tandem_sip::dialog::cancel_for;
use tandem_sip::{
    Carrier, ConnectionId, Flow, Message, Millis, Proof, Request, Scheme, Ticket, Transport, Way,
    parse,
};

use crate::link::{Accepted, Down, Leading, Routing, Up};
use crate::sip::Transmit;
use crate::{Control, Identity, Output, Verdict, limits};

const NODE: usize = 0;
const SHARD: u32 = 0;

struct Bench {
    control: Control,
    now: Millis,
    effects: u64,
}

impl Bench {
    fn new() -> Self {
        let identity = Identity {
            name: GatewayId::from("g"),
            vip: "127.0.0.10:5060".parse().unwrap(),
            ports: vec![20_000],
            nodes: vec!["node-a".into()],
            life: 1,
        };
        Self { control: Control::new(Millis(0), identity), now: Millis(0), effects: 0 }
    }

    /// Routed, logged in, and led in term 1.
    fn led() -> Self {
        let mut bench = Self::new();
        bench.route();
        let words = bench.outputs();
        assert_eq!(words, ["event 1"]);
        bench.accept(1, false);
        bench
    }

    fn route(&mut self) {
        self.control.on_session(self.now, NODE);
        self.configure(demo_config());
        self.lead(1);
    }

    fn configure(&mut self, config: Config) {
        let routing = Routing {
            shard: SHARD,
            all: vec![SHARD],
            config: config.into(),
            nonce_key: vec![1; 32],
        };
        self.control.on_down(self.now, NODE, Down::Routing(routing));
    }

    fn lead(&mut self, term: u64) {
        let leading = Leading { shard: SHARD, term, leading: true };
        self.control.on_down(self.now, NODE, Down::Leading(leading));
    }

    fn accept(&mut self, sequence: u64, overloaded: bool) {
        let accepted = Accepted { shard: SHARD, sequence, overloaded, retry_after_s: 5 };
        self.control.on_down(self.now, NODE, Down::Accepted(accepted));
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(ms);
    }

    fn send(&mut self, request: &Request) {
        let flow = Flow::udp(self.control.identity.vip, "127.0.0.1:6000".parse().unwrap());
        self.control.on_message(self.now, 0, &flow, Message::Request(request.clone()));
    }

    /// The same over a connection.
    fn send_over(&mut self, request: &Request, connection: u64) {
        let remote = "127.0.0.1:40000".parse().unwrap();
        let flow = Flow::tcp(self.control.identity.vip, remote, ConnectionId(connection));
        self.control.on_message(self.now, 0, &flow, Message::Request(request.clone()));
    }

    /// An effect that sends a request to a peer of that address.
    fn request(&mut self, request: &Request, peer: SocketAddr, carrier: Carrier) {
        self.effects += 1;
        let gateway = GatewayId::from("g");
        let effect = Effect {
            id: EffectId { shard: 0, index: self.effects, ordinal: 0 },
            entity: EntityId::Gateway(gateway.clone()),
            gateway,
            body: Body::Send { request: Arc::new(request.clone()), destination: peer, carrier },
        };
        assert_eq!(self.control.on_effect(self.now, SHARD, 1, &Arc::new(effect)), Verdict::Do);
    }

    fn undelivered(&mut self, ticket: Option<Ticket>, opened: bool) {
        self.control.on_undelivered(self.now, ticket.expect("a ticket"), opened);
    }

    /// The one message that is sent.
    fn transmit(&mut self) -> Transmit {
        match self.control.next_output() {
            Some(Output::Transmit(transmit)) => transmit,
            other => panic!("{other:?}"),
        }
    }

    /// An answer of the cluster to that INVITE.
    fn respond(&mut self, term: u64, request: &Request, status: u16) -> Verdict {
        self.effects += 1;
        let gateway = GatewayId::from("g");
        let transaction = TransactionKey {
            gateway: gateway.clone(),
            branch: request.headers.branch().into(),
            sent_by: "127.0.0.1:6000".into(),
            method: request.method.as_str().into(),
        };
        let response = Arc::new(request.respond(status, None, Some("t")));
        let effect = Effect {
            id: EffectId { shard: 0, index: self.effects, ordinal: 0 },
            entity: EntityId::Gateway(gateway.clone()),
            gateway,
            body: Body::Respond { transaction, response },
        };
        self.control.on_effect(self.now, SHARD, term, &Arc::new(effect))
    }

    /// What is done, in words: statuses, methods and events.
    fn outputs(&mut self) -> Vec<String> {
        self.control.on_time(self.now);
        let mut words = Vec::new();
        while let Some(output) = self.control.next_output() {
            words.push(match output {
                Output::Transmit(transmit) => match parse(&transmit.bytes).expect("SIP") {
                    Message::Response(response) => response.status.to_string(),
                    Message::Request(request) => request.method.to_string(),
                },
                Output::Up { up: Up::Event { sequence, event, .. }, .. } => match &*event {
                    GatewayEvent::Cancel { .. } => format!("cancel {sequence}"),
                    GatewayEvent::AckTimeout { .. } => format!("no ack {sequence}"),
                    _ => format!("event {sequence}"),
                },
                Output::Up { up: Up::Done { effects, .. }, .. } => {
                    format!("done {}", effects.len())
                }
                Output::Media { plan, .. } => format!("media {}", plan.version),
            });
        }
        words
    }
}

fn invite(branch: &str) -> Request {
    let text = format!(
        "INVITE sip:4003@demo SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{branch}\r\n\
         From: <sip:a@demo>;tag=1\r\nTo: <sip:4003@demo>\r\nCall-ID: {branch}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:a@127.0.0.1:6000>\r\nContent-Length: 0\r\n\r\n"
    );
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// Of a call that the cluster knows.
fn bye(branch: &str) -> Request {
    let text = format!(
        "BYE sip:4003@demo SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{branch}\r\n\
         From: <sip:a@demo>;tag=1\r\nTo: <sip:4003@demo>;tag=2\r\nCall-ID: {branch}\r\n\
         CSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n"
    );
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// Simulator, seed 100267: a 503 of a life that had just begun took a live call away.
#[test]
fn new_life_is_silent_about_new_calls_until_it_knows_whether_somebody_leads() {
    let mut bench = Bench::new();
    bench.send(&invite("a"));
    assert_eq!(bench.outputs(), [] as [&str; 0]);
    // Over a reliable transport it comes no second time (seed 51188, --virtual 80s).
    bench.pass(limits::NO_QUORUM_MS_MAX);
    assert_eq!(bench.outputs(), ["503"]);
    bench.send(&invite("a"));
    assert_eq!(bench.outputs(), ["503"]);
}

#[test]
fn call_of_before_there_was_routing_is_taken_once_when_there_is() {
    let mut bench = Bench::new();
    bench.send(&invite("a"));
    bench.send(&invite("a"));
    bench.route();
    assert_eq!(bench.outputs(), ["event 1"]);
    bench.accept(1, false);
    assert_eq!(bench.outputs(), ["event 2"]);
}

/// Simulator, --virtual 76s --seed 94: the call of an INVITE that was refused here was in the
/// cluster, and nobody told it that its caller was gone.
#[test]
fn answer_to_a_caller_who_was_refused_here_is_undone_once() {
    let mut bench = Bench::led();
    let call = invite("a");
    bench.send(&call);
    assert_eq!(bench.outputs(), ["event 2"]);
    bench.accept(2, true);
    assert_eq!(bench.outputs(), ["503"]);
    assert_eq!(bench.respond(1, &call, 100), Verdict::Do);
    assert_eq!(bench.respond(1, &call, 200), Verdict::Do);
    // The refused event's number is taken by the next.
    assert_eq!(bench.outputs(), ["cancel 2", "no ack 3"]);
}

/// Simulator, seeds 11974 and 17479: the last life's call was answered before there was routing.
#[test]
fn answer_of_before_there_was_routing_is_undone_when_there_is() {
    let mut bench = Bench::new();
    let call = invite("a");
    bench.send(&call);
    bench.pass(limits::NO_QUORUM_MS_MAX);
    assert_eq!(bench.outputs(), ["503"]);
    assert_eq!(bench.respond(1, &call, 200), Verdict::Do);
    assert_eq!(bench.outputs(), [] as [&str; 0]);
    bench.route();
    assert_eq!(bench.outputs(), ["event 1"]);
    bench.accept(1, false);
    assert_eq!(bench.outputs(), ["cancel 2", "no ack 3"]);
}

#[test]
fn refusal_of_the_cluster_needs_no_undoing() {
    let mut bench = Bench::led();
    let call = invite("a");
    bench.send(&call);
    bench.outputs();
    bench.accept(2, true);
    bench.outputs();
    bench.respond(1, &call, 486);
    assert_eq!(bench.outputs(), [] as [&str; 0]);
}

/// Whoever hangs up while nobody decides has hung up: it is answered here, and booked once when somebody leads.
#[test]
fn bye_is_honoured_while_nobody_leads_and_counts_when_somebody_does() {
    let mut bench = Bench::led();
    bench.control.on_session_over(bench.now, NODE);
    bench.outputs();
    let early = bye("a");
    bench.send(&early);
    assert_eq!(bench.outputs(), [] as [&str; 0], "somebody may lead in a moment");
    bench.pass(limits::NO_QUORUM_MS_MAX);
    assert_eq!(bench.outputs(), ["200"]);
    let late = bye("b");
    bench.send(&late);
    bench.send(&late);
    assert_eq!(bench.outputs(), ["200", "200"], "repeated, it hears the same again");
    bench.control.on_session(bench.now, NODE);
    bench.lead(2);
    assert_eq!(bench.outputs(), ["event 2", "event 3"]);
    assert_eq!(bench.respond(2, &early, 200), Verdict::Do);
    assert_eq!(bench.outputs(), [] as [&str; 0], "it was answered");
}

/// Simulator, seed 5310: an INVITE that was refused while nobody led was repeated when somebody
/// did, and became a call whose caller was gone.
#[test]
fn invite_that_was_refused_for_want_of_a_leader_is_refused_again_when_there_is_one() {
    let mut bench = Bench::led();
    bench.control.on_session_over(bench.now, NODE);
    bench.outputs();
    bench.pass(limits::NO_QUORUM_MS_MAX);
    bench.send(&invite("a"));
    assert_eq!(bench.outputs(), ["503"]);
    bench.control.on_session(bench.now, NODE);
    bench.lead(2);
    bench.send(&invite("a"));
    assert_eq!(bench.outputs(), ["503"]);
    bench.send(&invite("b"));
    assert_eq!(bench.outputs(), ["event 2"]);
}

/// Each transaction stays for half a minute: a table that is full is a busy day, and no reason to keep silent.
#[test]
fn new_calls_hear_503_where_only_those_that_live_have_room() {
    let mut bench = Bench::led();
    for n in 0..limits::TRANSACTIONS_NEW_CALLS_MAX {
        bench.send(&invite(&n.to_string()));
        while bench.control.next_output().is_some() {}
    }
    bench.outputs();
    assert_eq!(bench.control.sizes().servers, limits::TRANSACTIONS_NEW_CALLS_MAX);
    let one_more = invite("one more");
    for _ in 0..2 {
        bench.send(&one_more);
        assert_eq!(bench.outputs(), ["503"]);
    }
    assert_eq!(bench.control.sizes().servers, limits::TRANSACTIONS_NEW_CALLS_MAX);
    let mut again = invite("again");
    again.headers.to.set_tag("t");
    bench.send(&again);
    assert_eq!(bench.control.sizes().servers, limits::TRANSACTIONS_NEW_CALLS_MAX + 1);
}

/// The ACK of an INVITE of ours for an answer with that tag.
fn ack(invite: &Request, branch: &str, tag: &str) -> Request {
    let mut ack = invite.clone();
    ack.method = tandem_sip::Method::Ack;
    ack.headers.cseq.method = tandem_sip::Method::Ack;
    ack.headers.to.set_tag(tag);
    ack.headers.via[0].params[0].value = Some(format!("z9hG4bK{branch}"));
    ack
}

/// Of a process that was replaced while it was stopped, for instance.
#[test]
fn caller_who_acknowledges_anothers_refusal_waits_for_nothing_more() {
    let mut bench = Bench::led();
    let call = invite("a");
    bench.send(&call);
    bench.respond(1, &call, 200);
    assert_eq!(bench.outputs(), ["200", "event 2"]);
    bench.accept(2, false);
    bench.send(&ack(&call, "a", "anothers"));
    assert_eq!(bench.outputs(), ["no ack 3"]);
    // A phone that acknowledges our answer with the INVITE's branch is no such caller.
    let call = invite("b");
    bench.send(&call);
    bench.respond(1, &call, 200);
    bench.send(&ack(&call, "b", "t"));
    let words = bench.outputs();
    assert!(words.iter().all(|word| !word.starts_with("no ack")), "{words:?}");
}

/// Simulator, seed 34702: a new life repeats the last one's 200 before it has heard the routing, and
/// its ACK comes in that moment. It was dropped, and the leg waited for it for ever.
#[test]
fn ack_of_before_there_was_routing_is_told_when_there_is() {
    let mut bench = Bench::new();
    let call = invite("a");
    assert_eq!(bench.respond(1, &call, 200), Verdict::Do);
    assert_eq!(bench.outputs(), ["200"]);
    bench.send(&ack(&call, "b", "t"));
    bench.route();
    assert_eq!(bench.outputs(), ["event 1"], "the login goes first");
    bench.accept(1, false);
    assert_eq!(bench.outputs(), ["event 2"]);
}

/// What the peer of [`invite`] listens at, and where its connection comes from.
const CONTACT: &str = "127.0.0.1:6000";
const SOURCE: &str = "127.0.0.1:40000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An INVITE of ours, to the contact.
fn ours(branch: &str) -> Request {
    let mut request = invite(branch);
    request.uri.host = "127.0.0.1".into();
    request.uri.port = Some(6_000);
    request
}

fn connection(number: u64) -> Carrier {
    Carrier::Tcp { connection: Some(ConnectionId(number)) }
}

#[test]
fn answer_goes_back_over_the_connection_of_its_request_or_to_where_the_via_says() {
    let mut bench = Bench::led();
    bench.send_over(&invite("a"), 7);
    bench.outputs();
    bench.respond(1, &invite("a"), 100);
    let transmit = bench.transmit();
    let to = address(SOURCE);
    let way = Way { carrier: connection(7), to, ..Way::tcp(address(CONTACT)) };
    assert_eq!((transmit.way, transmit.ticket), (way, None));
}

#[test]
fn unanswered_request_is_sent_once_more_over_a_new_connection_and_then_fails() {
    let mut bench = Bench::led();
    bench.request(&ours("a"), address(SOURCE), connection(7));
    let first = bench.transmit();
    assert_eq!((first.way.carrier, first.way.to), (connection(7), address(SOURCE)));
    bench.undelivered(first.ticket, false);
    let second = bench.transmit();
    assert_eq!((second.way, second.ticket), (Way::tcp(address(CONTACT)), first.ticket));
    assert_eq!(second.bytes, first.bytes, "the same transaction");
    bench.undelivered(second.ticket, false);
    assert_eq!(bench.outputs(), ["event 2"]);
    bench.undelivered(second.ticket, false);
    bench.pass(5);
    assert_eq!(bench.outputs(), ["done 1"]);
}

#[test]
fn answered_request_outlives_its_connection() {
    let mut bench = Bench::led();
    bench.request(&ours("a"), address(SOURCE), connection(7));
    let ticket = bench.transmit().ticket;
    let flow = Flow::tcp(bench.control.identity.vip, address(SOURCE), ConnectionId(7));
    let trying = Message::Response(ours("a").respond(100, None, None));
    bench.control.on_message(bench.now, 0, &flow, trying);
    bench.undelivered(ticket, false);
    bench.pass(5);
    assert_eq!(bench.outputs(), ["done 1"]);
}

#[test]
fn reliable_request_is_not_repeated() {
    let mut bench = Bench::led();
    bench.request(&ours("a"), address(SOURCE), Carrier::TCP);
    assert_eq!(bench.outputs(), ["INVITE"]);
    bench.pass(31_999);
    assert_eq!(bench.outputs(), ["done 1"]);
    bench.pass(1);
    assert_eq!(bench.outputs(), ["event 2"]);
}

/// RFC 3261 §18.1.1.
#[test]
fn long_request_tries_a_connection_first_and_its_cancel_goes_the_same_way() {
    let mut bench = Bench::led();
    let mut long = ours("a");
    long.headers.push_other("Subject", &"s".repeat(1_300));
    bench.request(&long, address(CONTACT), Carrier::Udp);
    let by_tcp = bench.transmit();
    assert_eq!(by_tcp.way, Way::tcp(address(CONTACT)));
    let Ok(Message::Request(told)) = parse(&by_tcp.bytes) else { panic!("no request") };
    assert_eq!(told.headers.via[0].transport, Transport::Tcp);
    bench.request(&cancel_for(&long), address(CONTACT), Carrier::Udp);
    assert_eq!(bench.transmit().way, Way::tcp(address(CONTACT)));
    // Nobody listens there: as a datagram, which is repeated.
    bench.undelivered(by_tcp.ticket, true);
    let by_udp = bench.transmit();
    assert_eq!((by_udp.way, by_udp.bytes), (Way::udp(address(CONTACT)), long.to_bytes()));
    bench.pass(500);
    assert_eq!(bench.outputs(), ["INVITE", "done 2"]);
}

fn secure(number: u64) -> Carrier {
    Carrier::Tls { connection: Some(ConnectionId(number)) }
}

#[test]
fn request_over_tls_is_tried_again_over_tls_and_never_in_the_clear() {
    let mut bench = Bench::led();
    let mut sips = ours("a");
    sips.uri.scheme = Scheme::Sips;
    bench.request(&sips, address(SOURCE), secure(7));
    let first = bench.transmit();
    assert_eq!((first.way.carrier, first.way.to), (secure(7), address(SOURCE)));
    bench.undelivered(first.ticket, false);
    assert_eq!(bench.transmit().way, Way::tls(address(CONTACT), Proof::Address));
    bench.undelivered(first.ticket, true);
    assert_eq!(bench.outputs(), ["event 2"]);
    // A Contact that says nothing of TLS is reached over the phone's own connection alone, and
    // what is too long for a datagram is no reason to leave it.
    let mut long = ours("b");
    long.headers.push_other("Subject", &"s".repeat(1_300));
    bench.request(&long, address(SOURCE), secure(8));
    let only = bench.transmit();
    assert_eq!((only.way.carrier, only.way.open), (secure(8), None));
    bench.undelivered(only.ticket, false);
    bench.pass(5);
    assert_eq!(bench.outputs(), ["done 2", "event 3"]);
}

#[test]
fn policy_of_tenant_or_trunk_says_whether_a_called_server_proves_who_it_is() {
    let mut bench = Bench::led();
    let proof = |bench: &mut Bench, branch: &str| {
        let mut sips = ours(branch);
        sips.uri.scheme = Scheme::Sips;
        bench.request(&sips, address(SOURCE), Carrier::TLS);
        bench.transmit().way.proof
    };
    assert_eq!(proof(&mut bench, "a"), Proof::Address);
    bench.configure(Config { tls_unverified: true, ..demo_config() });
    assert_eq!(proof(&mut bench, "b"), Proof::Nothing);
    let trunk = |unverified| Trunk {
        sources: vec![address(CONTACT).ip()],
        tls: TrunkTls { client_name: None, unverified },
        ..demo_config().trunks.remove(0)
    };
    let trunks = vec![trunk(false)];
    bench.configure(Config { tls_unverified: true, trunks, ..demo_config() });
    assert_eq!(proof(&mut bench, "c"), Proof::Address);
    bench.configure(Config { trunks: vec![trunk(true)], ..demo_config() });
    assert_eq!(proof(&mut bench, "d"), Proof::Nothing);
}

#[test]
fn call_is_reported_with_what_its_peer_has_proven() {
    let mut bench = Bench::led();
    let names: Arc<[String]> = vec!["sbc.example.net".to_owned()].into();
    let flow = Flow { names, ..Flow::over(secure(7), bench.control.identity.vip, address(SOURCE)) };
    bench.control.on_message(bench.now, 0, &flow, Message::Request(invite("a")));
    let pending: Vec<_> = bench.control.pending(SHARD).cloned().collect();
    let [GatewayEvent::Invite(inbound)] = pending.as_slice() else { panic!("{pending:?}") };
    assert_eq!((inbound.carrier, inbound.names.as_slice()), (secure(7), &*flow.names));
}
