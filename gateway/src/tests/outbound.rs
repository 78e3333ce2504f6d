use tandem_core::command::GatewayEvent;
use tandem_core::effect::Body;
use tandem_sip::dialog::{Dialog, cancel_for};
use tandem_sip::{Carrier, Message, Request, Response};

use super::harness::{FakeNode, Gateway, Phone, parse};

/// An INVITE of ours to the phone, as the core makes it.
fn our_invite(gateway: &Gateway, phone: &Phone, branch: &str) -> Request {
    let vip = gateway.vip;
    parse(&format!(
        "INVITE sip:1001@{0} SIP/2.0\r\nVia: SIP/2.0/UDP {vip};branch=z9hG4bK{branch};rport\r\n\
         From: <sip:4001@{1}>;tag=ours\r\nTo: <sip:1001@{1}>\r\nCall-ID: out-{branch}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:tandem@{vip}>\r\nMax-Forwards: 70\r\n\r\n",
        phone.address(),
        vip.ip()
    ))
}

async fn send(node: &mut FakeNode, phone: &Phone, request: Request) {
    let (destination, carrier) = (phone.address(), Carrier::Udp);
    let body = Body::Send { request: request.into(), destination, carrier };
    node.effect(1, body).await;
}

async fn answer(phone: &Phone, invite: &Request, status: u16) -> Response {
    let mut response = invite.respond(status, None, Some("theirs"));
    let contact = format!("Contact: <sip:1001@{}>", phone.address());
    let value = contact.strip_prefix("Contact: ").unwrap();
    response.headers.contact = vec![value.parse().unwrap()];
    phone.send_bytes(&response.to_bytes()).await;
    response
}

async fn reported(node: &mut FakeNode) -> u16 {
    match node.event().await {
        GatewayEvent::Response { branch, response, .. } => {
            assert_eq!(branch, response.headers.branch());
            response.status
        }
        other => panic!("{other:?} instead of a response"),
    }
}

#[tokio::test]
async fn agent_is_rung_and_each_answer_is_reported_once() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let invite = our_invite(&gateway, &phone, "a");
    send(&mut node, &phone, invite.clone()).await;
    assert_eq!(phone.request().await, invite);
    answer(&phone, &invite, 100).await;
    answer(&phone, &invite, 180).await;
    answer(&phone, &invite, 180).await;
    assert_eq!(reported(&mut node).await, 180);
    let ok = answer(&phone, &invite, 200).await;
    assert_eq!(reported(&mut node).await, 200);
    let via = Request { ..our_invite(&gateway, &phone, "ack") }.headers.via[0].clone();
    let ack = Dialog::as_uac(&invite, &ok).unwrap().ack(1, via);
    send(&mut node, &phone, ack.clone()).await;
    assert_eq!(phone.next().await, Message::Request(ack.clone()));
    // The ACK was lost: the peer repeats its 200, and only the peer hears more.
    answer(&phone, &invite, 200).await;
    assert_eq!(phone.next().await, Message::Request(ack));
    node.quiet().await;
}

#[tokio::test]
async fn refusal_of_an_agent_is_acknowledged_and_reported() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let invite = our_invite(&gateway, &phone, "a");
    send(&mut node, &phone, invite.clone()).await;
    phone.request().await;
    answer(&phone, &invite, 180).await;
    assert_eq!(reported(&mut node).await, 180);
    send(&mut node, &phone, cancel_for(&invite)).await;
    let cancel = phone.request().await;
    assert_eq!(cancel.method.as_str(), "CANCEL");
    answer(&phone, &cancel, 200).await;
    for _ in 0..2 {
        answer(&phone, &invite, 487).await;
        assert_eq!(phone.request().await.method.as_str(), "ACK");
    }
    assert_eq!(reported(&mut node).await, 487);
    node.quiet().await;
}

#[tokio::test]
async fn invite_is_repeated_while_nobody_answers() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let invite = our_invite(&gateway, &phone, "a");
    send(&mut node, &phone, invite.clone()).await;
    // The same effect after a change of leaders: one transaction all the same.
    send(&mut node, &phone, invite.clone()).await;
    assert_eq!(phone.request().await, invite);
    phone.quiet().await;
    assert_eq!(phone.request().await, invite);
}

#[tokio::test]
async fn answer_to_an_invite_of_an_earlier_life_is_reported_once() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let invite = our_invite(&gateway, &phone, "old");
    answer(&phone, &invite, 200).await;
    answer(&phone, &invite, 200).await;
    assert_eq!(reported(&mut node).await, 200);
    let mut foreign = invite.clone();
    foreign.headers.via[0].host = "192.0.2.9".into();
    answer(&phone, &foreign, 200).await;
    node.quiet().await;
}
