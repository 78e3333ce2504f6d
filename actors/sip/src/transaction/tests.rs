//! Figures 5 to 8 of RFC 3261 in virtual time.

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
    assert!(ack.starts_with(b"ACK sip:4003@127.0.0.10 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKa"));
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
    let mut client = InviteClient::adopt(invite(), false);
    assert_eq!(client.deadline(), None);
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
