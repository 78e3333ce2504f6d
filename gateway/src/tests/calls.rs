use std::time::Duration;

use tandem_core::command::GatewayEvent;
use tandem_core::effect::{Body, MediaPlan};
use tandem_core::ids::CallId;
use tandem_sip::digest;
use tandem_sip::reason::Q850;
use tokio::time::Instant;

use super::harness::{Gateway, Phone, parse};
use crate::media::Told;

#[tokio::test]
async fn caller_hears_trying_only_when_the_effect_says_so() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    phone.send(&phone.invite("a")).await;
    let invite = node.invite().await;
    assert_eq!(invite.source, phone.address());
    assert!(invite.request.body.is_empty());
    assert_eq!(invite.offer.as_ref().unwrap().port, 4000);
    assert_eq!(&*invite.transaction.branch, "z9hG4bKa");
    phone.quiet().await;
    // It is repeated meanwhile: absorbed, here and above.
    phone.send(&phone.invite("a")).await;
    phone.quiet().await;
    node.quiet().await;
    node.respond(1, &invite.transaction, invite.request.respond(100, None, None)).await;
    assert_eq!(phone.response().await.status, 100);
    assert_eq!(phone.ask(&phone.invite("a")).await.status, 100);
    node.quiet().await;
}

#[tokio::test]
async fn ok_is_repeated_until_its_ack_which_is_reported_once() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    phone.send(&phone.invite("a")).await;
    let invite = node.invite().await;
    let ok = invite.request.respond(200, None, Some("ours"));
    node.respond(1, &invite.transaction, ok).await;
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(phone.response().await.status, 200);
    }
    // At 0, 500 and 1,500 ms.
    assert!(begun.elapsed() >= Duration::from_millis(1_300));
    let ack = phone.text("ACK", "b", "", "").replace("call-b", "call-a");
    let ack = ack.replace("To: <sip:4003@demo>", "To: <sip:4003@demo>;tag=ours");
    phone.send(&ack).await;
    let event = node.event().await;
    assert_eq!(
        event,
        GatewayEvent::Ack {
            call_id: "call-a".into(),
            local_tag: "ours".into(),
            cseq: 1,
            answer: None
        }
    );
    // One more, and one of a dialog that nobody knows.
    phone.send(&ack).await;
    phone.send(&ack.replace("tag=ours", "tag=theirs")).await;
    node.quiet().await;
    phone.quiet().await;
}

#[tokio::test]
async fn cancel_is_answered_at_once_and_reported() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let cancel = phone.text("CANCEL", "a", "Reason: Q.850;cause=16\r\n", "");
    assert_eq!(phone.ask(&cancel).await.status, 481);
    phone.send(&phone.invite("a")).await;
    let invite = node.invite().await;
    let answer = phone.ask(&cancel).await;
    assert_eq!((answer.status, answer.headers.cseq.method.as_str()), (200, "CANCEL"));
    let event = node.event().await;
    let transaction = invite.transaction.clone();
    assert_eq!(event, GatewayEvent::Cancel { transaction, q850: Q850::new(16) });
    assert_eq!(phone.ask(&cancel).await, answer);
    node.quiet().await;
    let terminated = invite.request.respond(487, None, Some("ours"));
    node.respond(1, &invite.transaction, terminated).await;
    assert_eq!(phone.response().await.status, 487);
    phone.send(&phone.text("ACK", "a", "", "")).await;
    // Acknowledged: timer G sends no more; the ACK of a failure is nobody's business.
    tokio::time::sleep(Duration::from_millis(600)).await;
    phone.quiet().await;
    node.quiet().await;
}

#[tokio::test]
async fn agent_registers_when_the_password_is_proven_and_not_otherwise() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let register = |branch: &str, more: &str| {
        phone.text("REGISTER", branch, more, "").replace("<sip:4003@demo>", "<sip:1001@demo>")
    };
    let challenge = phone.ask(&register("a", "")).await;
    assert_eq!(challenge.status, 401);
    let value = challenge.headers.other("WWW-Authenticate").unwrap().to_owned();
    let authorization = |password: &str| {
        let answer = digest::answer(&value, "1001", password, "REGISTER", "sip:demo", "c");
        format!("Authorization: {}\r\n", answer.unwrap())
    };
    let wrong = phone.ask(&register("b", &authorization("guessed"))).await;
    assert_eq!(wrong.status, 403);
    node.quiet().await;
    let right = register("c", &authorization("tandem-1001"));
    phone.send(&right).await;
    let GatewayEvent::Register(proven) = node.event().await else { panic!("no register") };
    assert_eq!((&*proven.agent.0, proven.source), ("1001", phone.address()));
    assert_eq!(proven.request.headers.other("Authorization"), None);
    phone.quiet().await;
    node.respond(1, &proven.transaction, proven.request.respond(200, None, Some("t"))).await;
    let ok = phone.response().await;
    assert_eq!(ok.status, 200);
    assert_eq!(phone.ask(&right).await, ok);
    node.quiet().await;
}

#[tokio::test]
async fn answer_of_an_earlier_life_is_adopted() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let mut request = parse(&phone.invite("old"));
    request.body = Vec::new();
    let transaction = tandem_core::command::TransactionKey {
        gateway: super::harness::GATEWAY.into(),
        branch: "z9hG4bKold".into(),
        sent_by: phone.address().to_string().into(),
        method: "INVITE".into(),
    };
    node.respond(1, &transaction, request.respond(200, None, Some("ours"))).await;
    // Nobody has acknowledged it yet.
    assert_eq!(phone.response().await.status, 200);
    assert_eq!(phone.response().await.status, 200);
    let ack = phone.text("ACK", "b", "", "").replace("call-b", "call-old");
    phone.send(&ack.replace("To: <sip:4003@demo>", "To: <sip:4003@demo>;tag=ours")).await;
    let event = node.event().await;
    assert!(matches!(event, GatewayEvent::Ack { call_id, .. } if call_id == "call-old"));
}

#[tokio::test]
async fn request_in_a_dialog_is_reported_and_answered() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let bye = phone.text("BYE", "a", "", "").replace("To: <sip:4003@demo>", "To: <sip:x>;tag=t");
    phone.send(&bye).await;
    let GatewayEvent::Request(inbound) = node.event().await else { panic!("no request") };
    node.respond(1, &inbound.transaction, inbound.request.respond(200, None, None)).await;
    assert_eq!(phone.response().await.status, 200);
    assert_eq!(phone.ask(&bye).await.status, 200);
    node.quiet().await;
}

#[tokio::test]
async fn media_plan_reaches_the_media_and_its_reports_the_cluster() {
    let (mut gateway, mut node) = Gateway::with_leader().await;
    let plan = MediaPlan { call: CallId(5), version: 2, legs: Vec::new(), recording: None };
    let id = node.effect(1, Body::Media(plan.clone())).await;
    assert_eq!(gateway.plans.recv().await.unwrap(), plan);
    node.done(id, 1).await;
    // Sent again it is not done again, but said again.
    node.effect_again(1, id, Body::Media(plan)).await;
    node.done(id, 2).await;
    assert!(gateway.plans.try_recv().is_err());
    let silence = GatewayEvent::RtpSilence {
        call: CallId(5),
        leg: tandem_core::ids::LegId(6),
        since_ms: 30_000,
    };
    let told = Told { tenant: 0, event: silence.clone() };
    gateway.reports.send(told).await.unwrap();
    assert_eq!(node.event().await, silence);
}
