//! What was begun over connections of an earlier life.

use tandem_core::command::GatewayEvent;
use tandem_sip::{CSeq, Carrier, ConnectionId, Flow, Message, Method, Request, Transport};

use super::{Bench, SHARD, SOURCE, address, ours};

fn ws(number: u64) -> Carrier {
    Carrier::Ws { connection: Some(ConnectionId(number)) }
}

/// As the core has composed it for a phone behind a connection.
pub(super) fn invite_over(transport: Transport, port: u16) -> Request {
    let mut invite = ours("a");
    let via = &mut invite.headers.via[0];
    (via.transport, via.host, via.port) = (transport, "127.0.0.10".into(), Some(port));
    invite
}

/// The phone's response to it.
pub(super) fn answers(bench: &mut Bench, invite: &Request, carrier: Carrier, status: u16) {
    let flow = Flow::over(carrier, bench.control.identity.vip, address(SOURCE));
    let response = Message::Response(invite.respond(status, None, Some("t")));
    bench.control.on_message(bench.now, 0, &flow, response);
}

#[test]
fn answer_to_an_invite_of_an_earlier_life_is_told_whatever_it_comes_over() {
    let secure = Carrier::Tls { connection: Some(ConnectionId(9)) };
    for (transport, port, carrier) in
        [(Transport::Tls, 5_061, secure), (Transport::Ws, 5_062, ws(9))]
    {
        let mut bench = Bench::led();
        answers(&mut bench, &invite_over(transport.clone(), port), carrier, 200);
        assert_eq!(bench.outputs(), ["event 2"], "{transport:?}");
        // RFC 3261 §18.1.2: what names another port is nobody's here.
        answers(&mut bench, &invite_over(transport, 5_060), carrier, 200);
        assert_eq!(bench.outputs(), [] as [&str; 0]);
    }
}

#[test]
fn ack_goes_over_what_the_answer_came_over_when_that_comes_again() {
    let mut bench = Bench::led();
    let invite = invite_over(Transport::Ws, 5_062);
    answers(&mut bench, &invite, ws(9), 200);
    let mut ack = invite.clone();
    ack.method = Method::Ack;
    ack.headers.cseq = CSeq { number: 1, method: Method::Ack };
    ack.headers.to.set_tag("t");
    // The core knows the connection over which the phone was called.
    bench.request(&ack, address(SOURCE), ws(7));
    assert_eq!(bench.transmit().way.carrier, ws(7));
    answers(&mut bench, &invite, ws(9), 200);
    assert_eq!(bench.transmit().way.carrier, ws(9));
}

/// Nobody repeats it, and the call would ring for as long as it may.
#[test]
fn refusal_over_a_connection_that_comes_before_there_is_routing_waits_for_it() {
    let mut bench = Bench::new();
    answers(&mut bench, &invite_over(Transport::Ws, 5_062), ws(9), 486);
    answers(&mut bench, &invite_over(Transport::Udp, 5_060), Carrier::Udp, 486);
    bench.route();
    bench.accept(1, false);
    let told: Vec<_> = bench.control.pending(SHARD).cloned().collect();
    let [.., GatewayEvent::Response { response, .. }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(response.headers.via[0].transport, Transport::Ws);
    let responses = told.iter().filter(|it| matches!(it, GatewayEvent::Response { .. }));
    assert_eq!(responses.count(), 1, "over UDP the phone repeats it");
}
