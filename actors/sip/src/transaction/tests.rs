//! Figures 5 to 8 of RFC 3261 in virtual time.

use proptest::prelude::*;

use super::*;
use crate::{Message, Millis, Request, Response, parse};

const INVITE: &str = "INVITE sip:4003@127.0.0.10 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKa\r\nFrom: <sip:a@x>;tag=1\r\n\
    To: <sip:4003@127.0.0.10>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
    Contact: <sip:a@127.0.0.1:6000>\r\nMax-Forwards: 70\r\n\r\n";

fn invite() -> Request {
    request(INVITE)
}

fn bye() -> Request {
    request(&INVITE.replace("INVITE", "BYE"))
}

fn request(text: &str) -> Request {
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("not a request: {other:?}"),
    }
}

fn response(request: &Request, status: u16) -> Response {
    request.respond(status, None, Some("t"))
}

/// Every transmission until the machine rests, as offsets from `start`; and what the user heard.
macro_rules! run {
    ($machine:expr, $start:expr) => {{
        let (mut sent, mut heard) = (Vec::new(), Vec::new());
        while let Some(at) = $machine.deadline() {
            for output in $machine.handle_timeout(at) {
                match output {
                    Output::Transmit(_) => sent.push(at.since($start)),
                    Output::ToUser(event) => heard.push((at.since($start), event)),
                }
            }
        }
        (sent, heard)
    }};
}

const START: Millis = Millis(1_000);

#[test]
fn invite_client_repeats_by_timer_a_and_gives_up_by_b() {
    let (mut client, first) = InviteClient::start(START, invite(), false);
    assert_eq!(first, [Output::Transmit(invite().to_bytes())]);
    let (sent, heard) = run!(client, START);
    assert_eq!(sent, [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!(heard, [(32_000, Event::TimedOut)]);
    assert!(client.is_terminated());
}

#[test]
fn invite_client_is_silent_once_it_proceeds() {
    let (mut client, _) = InviteClient::start(START, invite(), false);
    client.handle_response(START.after(100), &response(&invite(), 180));
    assert_eq!(client.deadline(), None);
}

#[test]
fn invite_client_acknowledges_each_copy_of_a_failure_and_tells_it_once() {
    let (mut client, _) = InviteClient::start(START, invite(), false);
    let busy = response(&invite(), 486);
    let outputs = client.handle_response(START, &busy);
    let Some(Output::Transmit(ack)) = outputs.first() else { panic!("no ACK: {outputs:?}") };
    assert!(ack.starts_with(
        b"ACK sip:4003@127.0.0.10 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKa"
    ));
    assert_eq!(outputs.len(), 2);
    assert_eq!(client.handle_response(START.after(9), &busy), [Output::Transmit(ack.clone())]);
    let (sent, heard) = run!(client, START);
    assert_eq!((sent.len(), heard.len()), (0, 0));
    assert!(client.is_terminated());
}

#[test]
fn invite_client_passes_every_2xx_for_64_t1() {
    let (mut client, _) = InviteClient::start(START, invite(), false);
    let ok = response(&invite(), 200);
    for _ in 0..2 {
        let told = Output::ToUser(Event::Response(Box::new(ok.clone())));
        assert_eq!(client.handle_response(START, &ok), [told]);
    }
    assert_eq!(client.deadline(), Some(START.after(32_000)));
}

#[test]
fn adopted_invite_client_sends_nothing_and_takes_the_final() {
    let (mut dead, _) = InviteClient::start(START, invite(), false);
    dead.handle_response(START, &response(&invite(), 180));
    let (mut client, outputs) = InviteClient::adopt(START, dead.snapshot().unwrap());
    assert_eq!((outputs, client.deadline()), (vec![], None));
    assert_eq!(client.handle_response(START, &response(&invite(), 200)).len(), 1);
}

#[test]
fn non_invite_client_repeats_by_timer_e_up_to_t2_and_gives_up_by_f() {
    let (mut client, _) = NonInviteClient::start(START, &bye(), false);
    let (sent, heard) = run!(client, START);
    let expected = [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(sent, expected);
    assert_eq!(heard, [(32_000, Event::TimedOut)]);
}

#[test]
fn non_invite_client_over_a_reliable_transport_repeats_nothing() {
    let (mut client, _) = NonInviteClient::start(START, &bye(), true);
    let (sent, heard) = run!(client, START);
    assert_eq!((sent.len(), heard), (0, vec![(32_000, Event::TimedOut)]));
}

#[test]
fn non_invite_client_absorbs_repeated_finals_by_timer_k() {
    let (mut client, _) = NonInviteClient::start(START, &bye(), false);
    let ok = response(&bye(), 200);
    assert_eq!(client.handle_response(START, &ok).len(), 1);
    assert_eq!(client.handle_response(START, &ok), []);
    assert_eq!(client.deadline(), Some(START.after(5_000)));
}

#[test]
fn invite_server_says_nothing_before_its_user_does() {
    let mut server = InviteServer::new(false);
    assert_eq!(server.handle_retransmission(), []);
    let trying = response(&invite(), 100);
    server.handle_response(START, &trying);
    assert_eq!(server.handle_retransmission(), [Output::Transmit(trying.to_bytes())]);
}

#[test]
fn invite_server_repeats_a_failure_by_timer_g_until_h() {
    let mut server = InviteServer::new(false);
    server.handle_response(START, &response(&invite(), 404));
    let (sent, heard) = run!(server, START);
    let expected = [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(sent, expected);
    assert_eq!(heard, [(32_000, Event::NoAck)]);
}

#[test]
fn invite_server_rests_after_the_ack_of_a_failure() {
    let mut server = InviteServer::new(false);
    server.handle_response(START, &response(&invite(), 404));
    assert!(server.handle_ack(START.after(10)));
    assert!(!server.handle_ack(START.after(20)));
    let (sent, heard) = run!(server, START);
    assert_eq!((sent.len(), heard.len()), (0, 0));
    assert!(server.is_terminated());
}

#[test]
fn invite_server_repeats_the_2xx_until_its_ack() {
    let mut server = InviteServer::new(false);
    server.handle_response(START, &response(&invite(), 200));
    assert_eq!(server.handle_retransmission(), []);
    assert_eq!(server.handle_timeout(START.after(500)).len(), 1);
    assert!(server.handle_ack(START.after(600)));
    let (sent, heard) = run!(server, START);
    assert_eq!((sent.len(), heard.len()), (0, 0));
}

#[test]
fn invite_server_tells_when_no_ack_of_the_2xx_came() {
    let mut server = InviteServer::new(false);
    server.handle_response(START, &response(&invite(), 200));
    let (sent, heard) = run!(server, START);
    assert_eq!(sent.first(), Some(&500));
    assert_eq!(heard, [(32_000, Event::NoAck)]);
}

fn reliable(status: u16, rseq: u32) -> Response {
    let mut response = response(&invite(), status);
    crate::reliable::number_response(&mut response, rseq);
    response
}

/// RFC 3262 §3: doubled without an upper bound, over every transport.
#[test]
fn invite_server_repeats_a_reliable_1xx_until_nobody_is_there() {
    for over_tcp in [false, true] {
        let mut server = InviteServer::new(over_tcp);
        server.handle_response(START, &reliable(183, 7));
        let (sent, heard) = run!(server, START);
        assert_eq!(sent, [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
        assert_eq!(heard, [(32_000, Event::NoPrack)]);
        assert!(server.is_pending());
    }
}

#[test]
fn invite_server_stops_with_the_prack_of_its_1xx_alone() {
    let mut server = InviteServer::new(false);
    server.handle_response(START, &reliable(183, 7));
    assert!(!server.handle_prack(6));
    // A plain one in between is not what is repeated.
    assert_eq!(server.handle_response(START, &response(&invite(), 180)).len(), 1);
    let again = server.handle_timeout(START.after(500));
    assert_eq!(again, [Output::Transmit(reliable(183, 7).to_bytes())]);
    assert!(server.handle_prack(7));
    assert!(!server.handle_prack(7));
    assert_eq!(server.deadline(), None);
    // Said again by a new leader: it was acknowledged.
    assert_eq!(server.handle_response(START, &reliable(183, 7)), []);
    assert_eq!(server.deadline(), None);
    assert_eq!(server.handle_response(START, &reliable(180, 8)).len(), 1);
    assert_eq!(server.deadline(), Some(START.after(500)));
    // A failure is not held up.
    server.handle_response(START, &response(&invite(), 486));
    assert!(!server.handle_prack(8));
}

#[test]
fn invite_server_ignores_a_second_final() {
    let mut server = InviteServer::new(false);
    server.handle_response(START, &response(&invite(), 487));
    assert_eq!(server.handle_response(START, &response(&invite(), 200)), []);
}

#[test]
fn non_invite_server_repeats_its_final_for_timer_j() {
    let mut server = NonInviteServer::new(false);
    assert_eq!(server.handle_retransmission(), []);
    let ok = response(&bye(), 200);
    assert_eq!(server.handle_response(START, &ok), [Output::Transmit(ok.to_bytes())]);
    assert_eq!(server.handle_retransmission(), [Output::Transmit(ok.to_bytes())]);
    assert_eq!(server.deadline(), Some(START.after(32_000)));
    server.handle_timeout(START.after(32_000));
    assert!(server.is_terminated());
}

#[test]
fn late_timeout_repeats_once() {
    let (mut client, _) = InviteClient::start(START, invite(), false);
    let late = START.after(20_000);
    assert_eq!(client.handle_timeout(late).len(), 1);
    assert_eq!(client.deadline(), Some(late.after(1_000)));
    let mut server = InviteServer::new(false);
    server.handle_response(START, &response(&invite(), 200));
    assert_eq!(server.handle_timeout(late).len(), 1);
    assert_eq!(server.deadline(), Some(late.after(1_000)));
}

#[test]
fn non_invite_client_repeats_by_t2_once_it_proceeds() {
    let (mut client, _) = NonInviteClient::start(START, &bye(), false);
    for at in [100, 200, 300] {
        client.handle_response(START.after(at), &response(&bye(), 100));
    }
    let (sent, heard) = run!(client, START);
    assert_eq!(sent, [500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500]);
    assert_eq!(heard, [(32_000, Event::TimedOut)]);
}

#[test]
fn invite_client_over_a_reliable_transport_repeats_nothing_and_ends_with_its_failure() {
    let (mut client, _) = InviteClient::start(START, invite(), true);
    assert_eq!(client.deadline(), Some(START.after(32_000)));
    assert_eq!(client.handle_response(START, &response(&invite(), 486)).len(), 2);
    assert!(client.is_terminated());
}

#[test]
fn invite_client_takes_a_487_after_a_cancel_as_any_failure() {
    let (mut client, _) = InviteClient::start(START, invite(), false);
    client.handle_response(START, &response(&invite(), 180));
    let outputs = client.handle_response(START.after(50), &response(&invite(), 487));
    assert!(matches!(
        outputs.as_slice(),
        [Output::Transmit(ack), Output::ToUser(Event::Response(told))]
            if ack.starts_with(b"ACK ") && told.status == 487
    ));
    assert_eq!(client.deadline(), Some(START.after(50 + 32_000)));
}

#[test]
fn invite_client_in_accepted_absorbs_what_is_no_2xx() {
    let (mut client, _) = InviteClient::start(START, invite(), false);
    client.handle_response(START, &response(&invite(), 200));
    for status in [180, 486] {
        assert_eq!(client.handle_response(START, &response(&invite(), status)), []);
    }
}

#[test]
fn invite_server_over_a_reliable_transport_repeats_the_2xx_but_no_failure() {
    let mut server = InviteServer::new(true);
    server.handle_response(START, &response(&invite(), 404));
    let (sent, heard) = run!(server, START);
    assert_eq!((sent.len(), heard), (0, vec![(32_000, Event::NoAck)]));

    let mut server = InviteServer::new(true);
    server.handle_response(START, &response(&invite(), 404));
    assert!(server.handle_ack(START));
    assert!(server.is_terminated());

    // The ACK of a 2xx is of the whole path, and another hop of it may be UDP.
    let mut server = InviteServer::new(true);
    server.handle_response(START, &response(&invite(), 200));
    assert_eq!(server.deadline(), Some(START.after(500)));
}

#[test]
fn invite_server_rests_in_confirmed_for_timer_i() {
    let mut server = InviteServer::new(false);
    server.handle_response(START, &response(&invite(), 404));
    server.handle_ack(START.after(10));
    assert_eq!(server.handle_retransmission(), []);
    assert_eq!(server.deadline(), Some(START.after(10 + 5_000)));
}

#[test]
fn invite_server_repeats_its_last_provisional_or_failure_to_a_repeated_invite() {
    let mut server = InviteServer::new(false);
    for status in [100, 180, 404] {
        let said = response(&invite(), status);
        server.handle_response(START, &said);
        assert_eq!(server.handle_retransmission(), [Output::Transmit(said.to_bytes())]);
    }
}

#[test]
fn adopted_machines_go_on_where_the_dead_ones_stopped() {
    let later = START.after(10_000);
    let ok = response(&invite(), 200);
    let mut dead = InviteServer::new(false);
    dead.handle_response(START, &ok);
    let (mut server, outputs) = InviteServer::adopt(later, dead.snapshot().unwrap());
    assert_eq!(outputs, [Output::Transmit(ok.to_bytes())]);
    assert_eq!(server.deadline(), Some(later.after(500)));
    assert!(server.handle_ack(later));

    dead.handle_ack(START);
    let (mut server, outputs) = InviteServer::adopt(later, dead.snapshot().unwrap());
    assert_eq!((outputs, server.deadline()), (vec![], Some(later.after(32_000))));
    assert!(!server.handle_ack(later), "it was acknowledged before");

    let mut dead = NonInviteServer::new(false);
    dead.handle_response(START, &response(&bye(), 200));
    let mut server = NonInviteServer::adopt(later, dead.snapshot().unwrap());
    assert_eq!(server.handle_retransmission(), dead.handle_retransmission());

    let (dead, first) = NonInviteClient::start(START, &bye(), false);
    let (client, outputs) = NonInviteClient::adopt(later, dead.snapshot().unwrap());
    assert_eq!(outputs, first);
    assert_eq!(client.deadline(), Some(later.after(500)));

    let (mut dead, _) = InviteClient::start(START, invite(), false);
    let failure = response(&invite(), 486);
    let ack = dead.handle_response(START, &failure).swap_remove(0);
    let (mut client, outputs) = InviteClient::adopt(later, dead.snapshot().unwrap());
    assert_eq!(outputs, []);
    assert_eq!(client.handle_response(later, &failure), [ack]);
}

#[test]
fn failed_transport_ends_what_can_not_go_on() {
    let (mut client, _) = InviteClient::start(START, invite(), false);
    assert_eq!(client.handle_transport_error(), [Output::ToUser(Event::TimedOut)]);
    assert!(client.is_terminated() && client.snapshot().is_none());

    let (mut client, _) = NonInviteClient::start(START, &bye(), false);
    assert_eq!(client.handle_transport_error(), [Output::ToUser(Event::TimedOut)]);
    assert_eq!(client.handle_transport_error(), []);

    let mut server = InviteServer::new(false);
    server.handle_response(START, &response(&invite(), 200));
    assert_eq!(server.handle_transport_error(), []);
    assert!(!server.is_terminated());
}

#[test]
fn key_tells_transactions_apart_and_refuses_what_names_none() {
    let key = Key::of(&invite()).unwrap();
    assert_eq!(Key::of_response(&response(&invite(), 200)), Some(key.clone()));
    let ack = request(&INVITE.replace("INVITE", "ACK"));
    assert_eq!(Key::of(&ack), Some(key.clone()));
    let cancel = request(&INVITE.replace("INVITE", "CANCEL"));
    assert_ne!(Key::of(&cancel), Some(key.clone()));
    for branch in ["", ";branch", ";branch=old", ";branch=z9hG4bK", ";branch=z9hG4b\u{e9}\u{e9}"] {
        let invite = request(&INVITE.replace(";branch=z9hG4bKa", branch));
        assert_eq!(Key::of(&invite), None, "{branch}");
    }
}

/// What may happen to a machine, in any order.
#[derive(Clone, Debug)]
enum Step {
    Wait,
    Response(u16),
    Retransmission,
    Ack,
    TransportError,
    TakeOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Wait),
        3 => prop_oneof![Just(100_u16), Just(180), Just(200), Just(299), Just(302), Just(486), Just(699)]
            .prop_map(Step::Response),
        1 => Just(Step::Retransmission),
        1 => Just(Step::Ack),
        1 => Just(Step::TransportError),
        1 => Just(Step::TakeOver),
    ];
    proptest::collection::vec(step, 0..24)
}

proptest! {
    /// Whatever happens: no deadline lies in the past once it was handled, so that no caller
    /// spins; and the machine's own timers end it, except where it waits for its user or peer.
    #[test]
    fn machines_rest_and_end_in_any_order_of_events(steps in steps(), reliable in any::<bool>()) {
        let (mut invite_client, _) = InviteClient::start(START, invite(), reliable);
        let (mut client, _) = NonInviteClient::start(START, &bye(), reliable);
        let mut invite_server = InviteServer::new(reliable);
        let mut server = NonInviteServer::new(reliable);
        let mut now = START;
        macro_rules! on_all {
            ($machine:ident => $what:expr) => {{
                { let $machine = &mut invite_client; $what; }
                { let $machine = &mut client; $what; }
                { let $machine = &mut invite_server; $what; }
                { let $machine = &mut server; $what; }
            }};
        }
        for step in steps {
            match step {
                Step::Wait => {
                    let deadlines = [
                        invite_client.deadline(),
                        client.deadline(),
                        invite_server.deadline(),
                        server.deadline(),
                    ];
                    now = deadlines.into_iter().flatten().min().unwrap_or(now).max(now);
                    on_all!(machine => {
                        machine.handle_timeout(now);
                        prop_assert!(machine.deadline().is_none_or(|at| at > now));
                    });
                }
                Step::Response(status) => {
                    invite_client.handle_response(now, &response(&invite(), status));
                    client.handle_response(now, &response(&bye(), status));
                    invite_server.handle_response(now, &response(&invite(), status));
                    server.handle_response(now, &response(&bye(), status));
                }
                Step::Retransmission => {
                    invite_server.handle_retransmission();
                    server.handle_retransmission();
                }
                Step::Ack => { invite_server.handle_ack(now); }
                Step::TransportError => on_all!(machine => { machine.handle_transport_error(); }),
                Step::TakeOver => {
                    if let Some(snapshot) = invite_client.snapshot() {
                        invite_client = InviteClient::adopt(now, snapshot.clone()).0;
                        prop_assert_eq!(invite_client.snapshot(), Some(snapshot));
                    }
                    if let Some(snapshot) = client.snapshot() {
                        client = NonInviteClient::adopt(now, snapshot.clone()).0;
                        prop_assert_eq!(client.snapshot(), Some(snapshot));
                    }
                    if let Some(snapshot) = invite_server.snapshot() {
                        invite_server = InviteServer::adopt(now, snapshot.clone()).0;
                        prop_assert_eq!(invite_server.snapshot(), Some(snapshot));
                    }
                    if let Some(snapshot) = server.snapshot() {
                        server = NonInviteServer::adopt(now, snapshot.clone());
                        prop_assert_eq!(server.snapshot(), Some(snapshot));
                    }
                }
            }
        }
        let left = now;
        on_all!(machine => {
            let mut now = left;
            // Timer E and G at T2 are the most: ten in 64·T1, and the end.
            for _ in 0..16 {
                let Some(at) = machine.deadline() else { break };
                now = at;
                machine.handle_timeout(now);
            }
            prop_assert_eq!(machine.deadline(), None);
            prop_assert!(now.since(left) <= GIVE_UP_MS);
        });
    }
}
