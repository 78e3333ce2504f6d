use tandem_sip::{Method, Request};

use crate::command::{Command, GatewayEvent, Register};
use crate::effect::{Body, Effect};
use crate::ids::AgentId;
use crate::limits;
use crate::tests::shard::{Shard, key, phone, request, words};

fn text(shard: &mut Shard, call_id: &str, to: &str) -> Vec<Effect> {
    let mut request = request(Method::Message, call_id, "", "");
    request.uri.user = Some(to.to_owned());
    request.headers.content_type = Some("text/plain;charset=utf-8".into());
    request.body = b"Lunch?".to_vec();
    let message = Register {
        transaction: key(&request),
        source: phone(1002),
        carrier: tandem_sip::Carrier::Udp,
        request: request.into(),
        agent: AgentId::from("1002"),
    };
    shard.event(GatewayEvent::Message(message)).1
}

fn sent(effects: &[Effect]) -> Request {
    match &effects[0].body {
        Body::Send { request, .. } => (**request).clone(),
        Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => panic!("{effects:?}"),
    }
}

#[test]
fn text_goes_to_the_phone_that_rings_first_and_its_answer_comes_back() {
    for (answer, told) in [(200, "200"), (202, "200"), (486, "486"), (302, "480"), (408, "480")] {
        let mut shard = Shard::new();
        shard.register(1001);
        let effects = text(&mut shard, "m", "1001");
        assert_eq!(words(&effects), ["MESSAGE"]);
        let message = sent(&effects);
        assert_eq!(message.body, b"Lunch?");
        assert_eq!(message.headers.content_type.as_deref(), Some("text/plain;charset=utf-8"));
        assert_eq!(message.headers.from.uri.to_string(), "sip:1002@127.0.0.10");
        assert_eq!(message.uri.to_string(), "sip:1001@127.0.0.1:8001");
        // A gateway that begins anew brings it again.
        assert_eq!(words(&text(&mut shard, "m", "1001")), [] as [&str; 0]);
        let (_, effects) = shard.answer(&message, 100);
        assert_eq!(words(&effects), [] as [&str; 0]);
        let (_, effects) = shard.answer(&message, answer);
        assert_eq!(words(&effects), [told], "{answer}");
        assert!(shard.leader.messages.is_empty());
    }
}

#[test]
fn text_that_finds_no_phone_is_refused() {
    let mut shard = Shard::new();
    assert_eq!(words(&text(&mut shard, "a", "1999")), ["404"]);
    assert_eq!(words(&text(&mut shard, "b", "1001")), ["480"]);
    shard.register(1001);
    let message = sent(&text(&mut shard, "c", "1001"));
    let branch = message.headers.branch().to_owned();
    let (_, effects) = shard.event(GatewayEvent::ClientTimeout { branch });
    assert_eq!(words(&effects), ["480"]);
}

#[test]
fn text_whose_gateway_is_gone_is_forgotten_and_not_sent_again() {
    let mut shard = Shard::new();
    shard.register(1001);
    text(&mut shard, "a", "1001");
    shard.now += limits::RELEASE_MS_MAX;
    shard.apply(Command::Trim);
    assert!(shard.leader.messages.is_empty());
    let waits = |effect: &Effect| matches!(&effect.body, Body::Send { .. });
    assert!(!shard.leader.outbox.values().any(waits));
}

#[test]
fn texts_under_way_are_bounded() {
    let mut shard = Shard::new();
    shard.register(1001);
    for n in 0..limits::MESSAGES_MAX {
        assert_eq!(words(&text(&mut shard, &format!("m{n}"), "1001")), ["MESSAGE"]);
    }
    assert_eq!(words(&text(&mut shard, "one more", "1001")), ["503"]);
}
