//! The control by itself: time and messages in, outputs out.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_core::command::{GatewayEvent, TransactionKey};
use tandem_core::demo::demo_config;
use tandem_core::effect::{Body, Effect, EffectId};
use tandem_core::ids::{EntityId, GatewayId};
use tandem_sip::dialog::cancel_for;
use tandem_sip::{
    Carrier, ConnectionId, Flow, Message, Millis, Request, Ticket, Transport, Way, parse,
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
        let routing =
            Routing { shard: SHARD, config: demo_config().into(), nonce_key: vec![1; 32] };
        self.control.on_down(self.now, NODE, Down::Routing(routing));
        self.lead(1);
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
            method: "INVITE".into(),
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
                Output::Media(plan) => format!("media {}", plan.version),
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
    let way = Way { carrier: connection(7), to: address(SOURCE), open: Some(address(CONTACT)) };
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
