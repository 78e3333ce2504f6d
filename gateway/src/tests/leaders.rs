use std::collections::BTreeSet;
use tandem_core::command::GatewayEvent;
use tandem_core::effect::{Body, MediaPlan};
use tandem_core::ids::CallId;
use tandem_pki::Texts;
use tonic::Status;

use super::harness::{FakeNode, GATEWAY, Gateway, Phone, TOKEN, options};
use crate::link::pb;
use crate::{Certificates, Options};

async fn sequences(node: &mut FakeNode, count: usize) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let (sequence, event) = node.next().await;
        let name = match event {
            GatewayEvent::Login(_) => "login".to_owned(),
            GatewayEvent::Invite(inbound) => inbound.request.headers.branch().to_owned(),
            other => format!("{other:?}"),
        };
        seen.push((sequence, name));
    }
    seen
}

fn named(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(sequence, name)| (*sequence, (*name).to_owned())).collect()
}

#[tokio::test]
async fn pending_events_go_to_the_new_leader_in_order_with_the_same_numbers() {
    let mut old = FakeNode::start("node-a", Some(1)).await;
    let mut new = FakeNode::start("node-b", None).await;
    let gateway = Gateway::start(&[&old, &new]).await;
    let phone = Phone::new(&gateway).await;
    assert_eq!(sequences(&mut old, 1).await, named(&[(1, "login")]));
    for branch in ["a", "b", "c"] {
        phone.send(&phone.invite(branch)).await;
    }
    // Nothing counts before the login does, so nothing is sent.
    old.quiet().await;
    old.accept(1).await;
    let all = named(&[(2, "z9hG4bKa"), (3, "z9hG4bKb"), (4, "z9hG4bKc")]);
    assert_eq!(sequences(&mut old, 3).await, all);
    old.accept(3).await;
    new.quiet().await;
    new.lead(2, true).await;
    let pending = named(&[(2, "z9hG4bKa"), (4, "z9hG4bKc")]);
    assert_eq!(sequences(&mut new, 2).await, pending);
    // The old one does not know yet: it gets nothing any more, and nothing that it says is done.
    phone.send(&phone.invite("d")).await;
    assert_eq!(sequences(&mut new, 1).await, named(&[(5, "z9hG4bKd")]));
    old.quiet().await;
}

/// It joined after the gateway was started, and then leads.
#[tokio::test]
async fn node_that_another_tells_of_is_logged_in_to_once_and_may_lead() {
    let mut old = FakeNode::start("node-a", Some(1)).await;
    let mut joined = FakeNode::start("node-c", None).await;
    let gateway = Gateway::start(&[&old]).await;
    let phone = Phone::new(&gateway).await;
    assert_eq!(sequences(&mut old, 1).await, named(&[(1, "login")]));
    old.accept(1).await;
    let nodes = vec![old.at(), joined.at()];
    for _ in 0..2 {
        old.tell_nodes(nodes.clone());
    }
    joined.lead(2, true).await;
    phone.send(&phone.invite("a")).await;
    assert_eq!(sequences(&mut joined, 1).await, named(&[(2, "z9hG4bKa")]));
    old.quiet().await;
}

#[tokio::test]
async fn effects_of_an_old_leader_are_dropped() {
    let mut old = FakeNode::start("node-a", Some(1)).await;
    let mut new = FakeNode::start("node-b", None).await;
    let mut gateway = Gateway::start(&[&old, &new]).await;
    let plan = |version| {
        Body::Media(MediaPlan { call: CallId(1), version, legs: Vec::new(), recording: None })
    };
    old.next().await;
    let id = old.effect(1, plan(1)).await;
    assert_eq!(gateway.plans.recv().await.unwrap().version, 1);
    old.done(id, 1).await;
    new.lead(2, true).await;
    new.next().await;
    let fenced = old.effect(1, plan(2)).await;
    old.quiet().await;
    assert!(gateway.plans.try_recv().is_err());
    // The new leader has it in its outbox, too.
    new.effect_again(2, fenced, plan(2)).await;
    assert_eq!(gateway.plans.recv().await.unwrap().version, 2);
    new.done(fenced, 1).await;
}

#[tokio::test]
async fn session_is_opened_again_when_the_node_hangs_up() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    phone.send(&phone.invite("a")).await;
    assert_eq!(sequences(&mut node, 1).await, named(&[(2, "z9hG4bKa")]));
    node.hang_up();
    assert_eq!(sequences(&mut node, 1).await, named(&[(2, "z9hG4bKa")]));
}

#[tokio::test]
async fn new_calls_are_refused_when_nobody_leads_and_live_ones_wait() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    phone.send(&phone.invite("sent")).await;
    assert_eq!(sequences(&mut node, 1).await, named(&[(2, "z9hG4bKsent")]));
    node.lead(1, false).await;
    node.quiet().await;
    // Within the first second a leader is waited for; then every call is answered, whether one
    // has seen it or not.
    phone.send(&phone.invite("waits")).await;
    let mut refused = BTreeSet::new();
    for _ in 0..2 {
        let response = phone.response().await;
        assert_eq!((response.status, response.headers.other("Retry-After")), (503, Some("5")));
        refused.insert(response.headers.branch().to_owned());
    }
    assert_eq!(refused, ["z9hG4bKsent", "z9hG4bKwaits"].map(str::to_owned).into());
    phone.send(&phone.text("ACK", "sent", "", "")).await;
    phone.send(&phone.text("ACK", "waits", "", "")).await;
    let options = phone.ask(&phone.text("OPTIONS", "o", "", "")).await;
    assert_eq!((options.status, options.headers.other("Retry-After")), (503, Some("5")));
    assert_eq!(phone.ask(&phone.invite("late")).await.status, 503);
    // Who hangs up has hung up, whoever books it.
    let bye = phone.text("BYE", "bye", "", "");
    let bye = phone.ask(&bye.replace("To: <sip:4003@demo>", "To: <sip:x>;tag=t")).await;
    assert_eq!(bye.status, 200);
    // Whatever else is about a live call waits.
    let info = phone.text("INFO", "info", "", "");
    phone.send(&info.replace("To: <sip:4003@demo>", "To: <sip:x>;tag=t")).await;
    phone.quiet().await;
    node.lead(3, true).await;
    // The next leader gets what the last one may have committed and, once it says a word to the
    // caller, that it is over.
    let (sequence, invite) = node.next().await;
    let GatewayEvent::Invite(invite) = invite else { panic!("{invite:?}") };
    assert_eq!((sequence, &*invite.transaction.branch), (2, "z9hG4bKsent"));
    let (sequence, bye) = node.next().await;
    assert_eq!(sequence, 3);
    assert!(matches!(bye, GatewayEvent::Request(_)));
    let (sequence, info) = node.next().await;
    assert_eq!(sequence, 4);
    assert!(matches!(info, GatewayEvent::Request(_)));
    node.accept(2).await;
    node.respond(3, &invite.transaction, invite.request.respond(100, None, None)).await;
    let (sequence, cancel) = node.next().await;
    assert_eq!(sequence, 5);
    assert!(matches!(cancel, GatewayEvent::Cancel { .. }));
    let (sequence, no_ack) = node.next().await;
    assert_eq!(sequence, 6);
    assert!(matches!(no_ack, GatewayEvent::AckTimeout { .. }));
    assert_eq!(phone.ask(&phone.text("OPTIONS", "p", "", "")).await.status, 200);
}

#[tokio::test]
async fn new_call_is_refused_when_the_leader_is_overloaded() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    phone.send(&phone.invite("a")).await;
    let (sequence, _) = node.next().await;
    let accepted = pb::Accepted { shard: 0, sequence, overloaded: true, retry_after_s: 9 };
    node.say(pb::down::Body::Accepted(accepted)).await;
    let refused = phone.response().await;
    assert_eq!((refused.status, refused.headers.other("Retry-After")), (503, Some("9")));
    phone.send(&phone.invite("b")).await;
    assert_eq!(sequences(&mut node, 1).await, named(&[(sequence, "z9hG4bKb")]));
}

/// A new leader that has no room may follow one whose log has the call: it is answered here, and
/// undone when it counts.
#[tokio::test]
async fn refused_call_is_undone_when_an_earlier_leader_had_it() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    phone.send(&phone.invite("a")).await;
    assert_eq!(sequences(&mut node, 1).await, named(&[(2, "z9hG4bKa")]));
    node.lead(2, true).await;
    assert_eq!(sequences(&mut node, 1).await, named(&[(2, "z9hG4bKa")]));
    let overloaded = pb::Accepted { shard: 0, sequence: 2, overloaded: true, retry_after_s: 9 };
    node.say(pb::down::Body::Accepted(overloaded)).await;
    assert_eq!(phone.response().await.status, 503);
    phone.send(&phone.text("ACK", "a", "", "")).await;
    // Its number is not given to another: the earlier leader's entry may count yet.
    phone.send(&phone.invite("b")).await;
    let (sequence, _) = node.next().await;
    assert_eq!(sequence, 3);
    node.accept(3).await;
    let (sequence, invite) = node.next().await;
    let GatewayEvent::Invite(invite) = invite else { panic!("{invite:?}") };
    assert_eq!((sequence, &*invite.transaction.branch), (2, "z9hG4bKa"));
    node.accept(2).await;
    // What it is answered finds nobody: the cluster is told so, once, and the caller hears nothing.
    node.respond(2, &invite.transaction, invite.request.respond(100, None, None)).await;
    assert!(matches!(node.next().await, (4, GatewayEvent::Cancel { .. })));
    assert!(matches!(node.next().await, (5, GatewayEvent::AckTimeout { .. })));
    node.respond(2, &invite.transaction, invite.request.respond(200, None, Some("t"))).await;
    node.quiet().await;
    phone.quiet().await;
}

#[tokio::test]
async fn api_asks_whoever_can_answer() {
    let follower = FakeNode::start("node-a", None).await;
    let mut leader = FakeNode::start("node-b", Some(4)).await;
    let gateway = Gateway::start(&[&follower, &leader]).await;
    leader.next().await;
    let client = reqwest::Client::new();
    let get = async |path: &str| {
        let url = format!("http://{}{path}", gateway.api);
        let answer = client.get(url).bearer_auth(TOKEN).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    leader.answers(Ok(b"{\"items\":[],\"next\":null}".to_vec()));
    assert_eq!(get("/v1/calls").await, (200, r#"{"items":[],"next":null}"#.to_owned()));
    leader.answers(Ok(Vec::new()));
    assert_eq!(get("/v1/calls/0000000000000001").await.0, 404);
    // The meta shard may be led by another node.
    leader.answers(Err(Status::failed_precondition("no")));
    follower.answers(Ok(b"{\"failure_tolerance\":1}".to_vec()));
    assert_eq!(get("/v1/cluster").await.0, 200);
    follower.answers(Err(Status::failed_precondition("no")));
    assert_eq!(get("/v1/calls").await.0, 503);
    leader.answers(Err(Status::invalid_argument("limit")));
    assert_eq!(get("/v1/calls").await.0, 400);
    assert_eq!(get("/readyz").await.0, 200);
    assert_eq!(get("/metrics").await, (200, "metrics 1\n".to_owned()));
    let recordings = gateway.data.path().join("recordings");
    std::fs::create_dir(&recordings).unwrap();
    std::fs::write(recordings.join("00000000000000ab.wav"), b"RIFF").unwrap();
    let manifest = r#"{"begun":{"recording":"00000000000000ab","call":1,"unix_ms":1}}
{"sealed":{"duration_ms":0,"blake3":""}}
"#;
    std::fs::write(recordings.join("00000000000000ab.manifest"), manifest).unwrap();
    assert_eq!(get("/v1/recordings/00000000000000ab/audio").await, (200, "RIFF".to_owned()));
    leader.lead(4, false).await;
    let mut status = 200;
    while status == 200 {
        status = get("/readyz").await.0;
    }
    assert_eq!(status, 503);
}

/// A certificate for `name`, signed by its own authority.
fn certificate(name: &str, authority: &rcgen::Issuer<'_, rcgen::KeyPair>, ca: &str) -> Texts {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap().pem();
    Texts { ca: ca.to_owned(), certificate, key: key.serialize_pem() }
}

#[tokio::test]
async fn session_needs_a_node_that_proves_its_name() {
    // Another test of this process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap().pem();
    let authority = rcgen::Issuer::new(params, key);
    let tls = |name: &str| Some(certificate(name, &authority, &ca));
    let mut right = FakeNode::start_with("node-a", Some(1), tls("node-a")).await;
    let mut wrong = FakeNode::start_with("node-b", Some(2), tls("node-x")).await;
    let data = tempfile::tempdir().unwrap();
    let tls = tls(GATEWAY).map(|texts| Certificates::of(&texts).unwrap());
    let options = Options { tls, ..options(&[&wrong, &right], data.path()) };
    let _gateway = Gateway::start_with(options, data).await;
    assert_eq!(sequences(&mut right, 1).await, named(&[(1, "login")]));
    wrong.quiet().await;
}
