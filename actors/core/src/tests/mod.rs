//! The world under scenarios that cross entities; each entity's own tests lie beside it.

mod gateways;
mod leases;
mod random_day;
pub(crate) mod shard;

use tandem_sip::Method;
use tandem_sip::sdp::Audio;
use tandem_sip::sdp::Direction;

use crate::command::{Command, GatewayEvent, OperatorCommand, Origin};
use crate::demo::demo_config;
use crate::effect::{Body, Effect};
use crate::ids::{AgentId, EntityId, GatewayId, QueueId};
use crate::query;
use crate::world::{Rejection, Reply};
use shard::{GATEWAY, Shard, audio, phone, request, words};

#[test]
fn echo_is_answered_in_one_entry_and_hung_up_by_the_caller() {
    let mut shard = Shard::new();
    let (call, effects) = shard.invite("c1", "4003");
    assert_eq!(words(&effects), ["100", "200", "media [echo]"]);
    let call = call.unwrap();
    assert_eq!(query::calls(&shard.leader)[0].state, "in_flow");
    shard.ack(call);
    let effects = shard.bye(call, 2);
    assert_eq!(words(&effects), ["200", "media []"]);
    assert!(shard.leader.calls.is_empty() && shard.leader.channels.is_empty());
    assert_eq!(shard.cdrs.len(), 1);
    assert_eq!(query::show_cdr(&shard.cdrs[0]).hung_up_by, "caller");
    assert_eq!(shard.leader.gateways[&GatewayId(GATEWAY.into())].free_ports.len(), 40);
}

#[test]
fn queued_call_rings_the_longest_idle_agent_and_is_recorded() {
    let mut shard = Shard::new();
    shard.register(1002);
    shard.register(1001);
    let (call, effects) = shard.invite("c1", "4001");
    assert_eq!(words(&effects), ["100", "200", "media [music]", "INVITE"]);
    let call = call.unwrap();
    assert_eq!(shard.agent_state(1002), "reserved");
    shard.ack(call);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "media [leg leg] recorded"]);
    assert_eq!(shard.agent_state(1002), "talking");
    let effects = shard.bye(call, 2);
    assert_eq!(words(&effects), ["200", "media []", "BYE"]);
    assert_eq!(shard.agent_state(1002), "acw");
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
    shard.due(1_000);
    assert_eq!(shard.agent_state(1002), "ready");
    assert_eq!(query::show_cdr(&shard.cdrs[0]).disposition, "answered");
}

#[test]
fn ring_out_keeps_the_place_and_offers_the_next_agent() {
    let mut shard = Shard::new();
    shard.register(1001);
    shard.register(1002);
    let call = shard.invite("c1", "4001").0.unwrap();
    shard.ack(call);
    let since = shard.leader.calls[&call].queued_at;
    let first = shard.ringing(call).unwrap();
    shard.answer(&first, 180);
    shard.due(20_000);
    assert_eq!(shard.agent_state(1001), "not_ready");
    assert_eq!(shard.agent_state(1002), "reserved");
    let queue = &shard.leader.queues[&QueueId("support".into())];
    assert_eq!(Some(queue.entries[0].enqueued_at), since);
    assert_ne!(shard.ringing(call).unwrap().headers.call_id, first.headers.call_id);
}

#[test]
fn answer_that_crosses_its_cancel_is_acknowledged_and_taken_down() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "4001").0.unwrap();
    shard.ack(call);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let effects = shard.bye(call, 2);
    assert_eq!(words(&effects), ["200", "media []", "CANCEL"]);
    assert_eq!(shard.agent_state(1001), "ready");
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "BYE"]);
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
    assert_eq!(query::show_cdr(&shard.cdrs[0]).disposition, "abandoned");
}

#[test]
fn cancel_waits_for_a_provisional_answer() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "4001").0.unwrap();
    shard.ack(call);
    let invite = shard.ringing(call).unwrap();
    assert_eq!(words(&shard.bye(call, 2)), ["200", "media []"]);
    let (_, effects) = shard.answer(&invite, 180);
    assert_eq!(words(&effects), ["CANCEL"]);
}

#[test]
fn extension_is_answered_only_when_its_phone_is() {
    let mut shard = Shard::new();
    assert_eq!(words(&shard.invite("c0", "1001").1), ["480"]);
    shard.register(1001);
    let (call, effects) = shard.invite("c1", "1001");
    assert_eq!(words(&effects), ["100", "INVITE"]);
    let call = call.unwrap();
    assert_eq!(words(&shard.invite("c2", "1001").1), ["486"]);
    let invite = shard.ringing(call).unwrap();
    assert_eq!(words(&shard.answer(&invite, 180).1), ["180"]);
    assert_eq!(words(&shard.answer(&invite, 200).1), ["ACK", "200", "media [leg leg]"]);
}

#[test]
fn refusal_of_the_extension_is_the_callers() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "1001").0.unwrap();
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 486);
    assert_eq!(words(&effects), ["486", "media []"]);
    assert_eq!(shard.agent_state(1001), "ready");
    assert_eq!(query::show_cdr(&shard.cdrs[0]).disposition, "busy");
}

#[test]
fn unknown_number_no_channel_and_no_codec_are_refused_with_one_record_each() {
    let mut shard = Shard::new();
    assert_eq!(words(&shard.invite("c1", "4999").1), ["404"]);
    let mut config = demo_config();
    config.trunks[0].channels = 1;
    shard.apply(Command::Configure(Box::new(config)));
    shard.invite("c2", "4003");
    let (call, effects) = shard.invite("c3", "4003");
    assert_eq!((call, words(&effects)), (None, vec!["503".to_owned()]));
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    assert_eq!(response.headers.other("Retry-After"), Some("5"));
    assert_eq!(shard.cdrs.len(), 2);
}

#[test]
fn event_counts_once_and_an_earlier_life_counts_not_at_all() {
    let mut shard = Shard::new();
    shard.invite("c1", "4003");
    let rows = shard.rows.clone();
    shard.sequence -= 1;
    let (reply, effects) = shard.event(GatewayEvent::ClientTimeout { branch: "x".into() });
    assert_eq!(reply, Reply::Rejected(Rejection::Repeated));
    assert!(effects.is_empty());
    let stale = Origin { gateway: GatewayId(GATEWAY.into()), incarnation: 0, sequence: 99 };
    let event = GatewayEvent::ClientTimeout { branch: "x".into() };
    let (reply, _) = shard.apply_from(Some(stale), Command::Gateway(event));
    assert_eq!(reply, Reply::Rejected(Rejection::Stale));
    let world = |rows: &std::collections::BTreeMap<_, Vec<u8>>| {
        rows.iter()
            .filter(|((family, _), _): &(&(&str, Vec<u8>), _)| *family != crate::rows::WORLD)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(world(&rows), world(&shard.rows));
}

#[test]
fn new_leader_finds_in_the_outbox_only_what_matters() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "4001").0.unwrap();
    let outbox: Vec<Effect> = shard.leader.effects_of(&EntityId::Call(call)).cloned().collect();
    assert_eq!(words(&outbox), ["200", "media [music]", "INVITE"]);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 100);
    let outbox: Vec<Effect> = shard.leader.effects_of(&EntityId::Call(call)).cloned().collect();
    assert_eq!(words(&outbox), ["200", "media [music]"]);
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    assert_eq!(shard.leader.calls[&call].takeovers, 1);
}

#[test]
fn hold_plays_music_and_bye_of_an_unknown_dialog_is_481() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.talk("c1");
    let tag = shard.leader.calls[&call].caller().unwrap().local_tag.clone();
    let mut hold = request(Method::Invite, "c1", &tag, "<sip:c@127.0.0.1:6000>");
    hold.headers.cseq.number = 2;
    let offer = Audio { direction: Direction::SendOnly, ..audio(4_000) };
    let effects = shard.in_dialog(hold, Some(offer));
    assert_eq!(words(&effects), ["200", "media [leg music] recorded"]);
    assert!(query::calls(&shard.leader)[0].held);
    let stray = request(Method::Bye, "unknown", "tag", "");
    assert_eq!(words(&shard.in_dialog(stray, None)), ["481"]);
}

#[test]
fn unacknowledged_answer_is_hung_up_after_its_ack_only() {
    let mut shard = Shard::new();
    let call = shard.invite("c1", "4003").0.unwrap();
    let (_, effects) = shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call }));
    assert_eq!(words(&effects), ["media []"]);
    shard.sequence += 1;
    let leg = shard.leader.calls[&call].caller().unwrap().clone();
    let (_, effects) = shard.event(GatewayEvent::Ack {
        call_id: "c1".into(),
        local_tag: leg.local_tag,
        cseq: 1,
        answer: None,
    });
    assert_eq!(words(&effects), ["BYE"]);
}

#[test]
fn agents_own_call_takes_no_channel() {
    let mut shard = Shard::new();
    shard.register(1001);
    let (call, effects) = shard.invite_from("c1", "4003", phone(1001));
    assert_eq!(words(&effects), ["100", "200", "media [echo]"]);
    assert_eq!(shard.leader.calls[&call.unwrap()].channel, None);
    assert_eq!(shard.agent_state(1001), "talking");
}

#[test]
fn registration_that_expires_makes_the_agent_not_ready() {
    let mut shard = Shard::new();
    shard.register(1001);
    assert_eq!(shard.agent_state(1001), "ready");
    shard.due(3_600_001);
    let agent = query::agent(&shard.leader, &AgentId("1001".into())).unwrap();
    assert_eq!(
        (agent.state.as_str(), agent.reason.as_deref()),
        ("not_ready", Some("station_lost"))
    );
    shard.register(1001);
    assert_eq!(shard.agent_state(1001), "ready");
}
