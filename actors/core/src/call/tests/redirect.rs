//! Phones that send a call elsewhere.

use tandem_sip::Request;

use super::{dialing, record};
use crate::command::GatewayEvent;
use crate::effect::Effect;
use crate::ids::CallId;
use crate::tests::shard::{Shard, response, words};

fn moved(shard: &mut Shard, invite: &Request, to: &str) -> Vec<Effect> {
    let mut moved = response(invite, 302);
    moved.headers.contact = vec![to.parse().expect("a Contact")];
    let branch = invite.headers.branch().to_owned();
    shard.event(GatewayEvent::Response { branch, response: moved.into(), answer: None }).1
}

/// The phone of 1001 has the call, and 1002 is there.
fn at_1001() -> (Shard, CallId, Request) {
    let (mut shard, call) = dialing();
    shard.register(1002);
    let invite = shard.ringing(call).expect("it rings");
    (shard, call, invite)
}

#[test]
fn dialled_phone_may_send_the_call_to_another_extension() {
    let (mut shard, call, invite) = at_1001();
    let effects = moved(&mut shard, &invite, "<sip:1002@127.0.0.10>");
    assert_eq!(words(&effects), ["INVITE"]);
    assert_eq!((shard.agent_state(1001), shard.agent_state(1002)), ("ready", "reserved"));
    let second = shard.ringing(call).expect("it rings");
    assert_eq!(second.headers.to.uri.user.as_deref(), Some("1002"));
    shard.answer(&second, 180);
    shard.answer(&second, 200);
    assert_eq!(shard.call(call).state_name(), "connected");
    assert_eq!(shard.call(call).agent.as_ref().map(|agent| &*agent.0), Some("1002"));
    shard.ack(call);
    shard.bye(call, 2);
    assert_eq!(record(&shard), ("answered", "caller", "normal_clearing"));
}

#[test]
fn call_that_was_sent_on_is_not_sent_further() {
    let (mut shard, call, invite) = at_1001();
    shard.register(1003);
    moved(&mut shard, &invite, "<sip:1002@127.0.0.10>");
    let second = shard.ringing(call).expect("it rings");
    let effects = moved(&mut shard, &second, "<sip:1003@127.0.0.10>");
    assert_eq!(words(&effects), ["480", "media []"]);
    assert_eq!(record(&shard), ("rejected", "callee", "480"));
}

#[test]
fn phone_may_not_send_the_call_where_it_can_not_go() {
    for to in [
        "<sip:1001@127.0.0.10>",
        "<sip:1003@127.0.0.10>",
        "<sip:4001@127.0.0.10>",
        "<sip:0049900@expensive.example>",
        "<tel:1002>",
    ] {
        let (mut shard, _, invite) = at_1001();
        let effects = moved(&mut shard, &invite, to);
        assert_eq!(words(&effects), ["480", "media []"], "{to}");
        assert_eq!(record(&shard), ("rejected", "callee", "480"), "{to}");
        assert_eq!(shard.agent_state(1001), "ready");
    }
}

#[test]
fn offer_of_a_queue_stays_with_the_queue() {
    let mut shard = Shard::new();
    shard.register(1001);
    shard.register(1005);
    let call = shard.offered("c1");
    let invite = shard.ringing(call).expect("it rings");
    assert_eq!(words(&moved(&mut shard, &invite, "<sip:1005@127.0.0.10>")), [""; 0]);
    assert_eq!(shard.agent_state(1001), "not_ready");
    assert_eq!(shard.call(call).state_name(), "queued");
}
