//! Each transition of a trunk's channel, and those that must not be.

use tandem_sip::Millis;

use super::state::{Channel, State};
use crate::command::{Command, GatewayEvent};
use crate::deadline::Deadline;
use crate::ids::{ChannelId, TrunkId};
use crate::query;
use crate::tests::shard::{Shard, phone, words};
use crate::world::{Rejection, Reply};

const GUARD_MS: u64 = 250;

fn id(number: u16) -> ChannelId {
    ChannelId { trunk: TrunkId("carrier".into()), number }
}

fn channel(shard: &Shard, number: u16) -> Option<&Channel> {
    shard.leader.channels.get(&id(number))
}

fn state(shard: &Shard, number: u16) -> Option<&State> {
    channel(shard, number).map(|channel| &channel.state)
}

fn with_guard() -> Shard {
    Shard::with(|config| {
        config.trunks[0].guard_ms = GUARD_MS;
        config.trunks[0].channels = 2;
    })
}

#[test]
fn idle_channel_is_seized_by_an_invite_and_active_once_it_is_answered() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "1001").0.unwrap();
    assert_eq!(state(&shard, 1), Some(&State::SeizedIn { call }));
    assert_eq!(shard.call(call).channel, Some(id(1)));
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    assert_eq!(state(&shard, 1), Some(&State::Active { call }));
    assert_eq!(channel(&shard, 1).unwrap().since, Millis(shard.now));
}

#[test]
fn lowest_idle_channel_is_seized_first() {
    let mut shard = Shard::new();
    let calls = ["c1", "c2", "c3"].map(|call_id| shard.invite(call_id, "4003").0.unwrap());
    assert_eq!(calls.map(|call| shard.call(call).channel.clone().unwrap().number), [1, 2, 3]);
    shard.ack(calls[1]);
    shard.bye(calls[1], 2);
    let next = shard.invite("c4", "4003").0.unwrap();
    assert_eq!(shard.call(next).channel, Some(id(2)));
}

#[test]
fn seized_channel_is_idle_again_when_the_call_is_refused_or_cancelled() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "1001").0.unwrap();
    let transaction = shard.call(call).caller().unwrap().transaction.clone().unwrap();
    shard.event(GatewayEvent::Cancel { transaction, q850: None });
    assert_eq!(channel(&shard, 1), None);

    let call = shard.invite("c2", "1001").0.unwrap();
    assert_eq!(state(&shard, 1), Some(&State::SeizedIn { call }));
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 486);
    assert_eq!(channel(&shard, 1), None);
}

#[test]
fn released_channel_rests_for_its_guard_time() {
    let mut shard = with_guard();
    let call = shard.invite("c1", "4003").0.unwrap();
    shard.ack(call);
    shard.bye(call, 2);
    let until = Millis(shard.now + GUARD_MS);
    assert_eq!(state(&shard, 1), Some(&State::Guard { until }));
    assert_eq!(query::channels(&shard.leader, &"carrier".into()).unwrap()[0].state, "guard");
    let second = shard.invite("c2", "4003").0.unwrap();
    assert_eq!(shard.call(second).channel, Some(id(2)));
    assert_eq!(words(&shard.invite("c3", "4003").1), ["503"]);
    shard.due(GUARD_MS);
    assert_eq!(channel(&shard, 1), None);
    let third = shard.invite("c4", "4003").0.unwrap();
    assert_eq!(shard.call(third).channel, Some(id(1)));
}

#[test]
fn guard_time_does_not_end_early_nor_for_a_channel_that_is_seized() {
    let mut shard = with_guard();
    let call = shard.invite("c1", "4003").0.unwrap();
    let over = || Command::Due(Deadline::GuardOver { channel: id(1) });
    let (reply, _) = shard.apply(over());
    assert!(matches!(reply, Reply::Rejected(Rejection::NotFound(_))), "{reply:?}");
    assert_eq!(state(&shard, 1), Some(&State::Active { call }));
    shard.ack(call);
    shard.bye(call, 2);
    let (reply, _) = shard.apply(over());
    assert!(matches!(reply, Reply::Rejected(Rejection::NotFound(_))), "{reply:?}");
    assert!(matches!(state(&shard, 1), Some(State::Guard { .. })));
}

#[test]
fn trunk_never_carries_more_calls_than_it_has_channels() {
    let mut shard = Shard::with(|config| config.trunks[0].channels = 2);
    shard.invite("c1", "4003");
    shard.invite("c2", "4003");
    assert_eq!(words(&shard.invite("c3", "4003").1), ["503"]);
    let trunk = &query::trunks(&shard.leader)[0];
    assert_eq!((trunk.busy, trunk.idle), (2, 0));
    assert_eq!(shard.leader.calls.len(), 2);
}

#[test]
fn refused_call_seizes_no_channel() {
    let mut shard = Shard::new();
    shard.log_in(Vec::new());
    for number in ["4999", "1001", "4003"] {
        assert_eq!(shard.invite(number, number).0, None);
        assert!(shard.leader.channels.is_empty(), "{number}");
    }
}

#[test]
fn call_is_admitted_by_the_trunk_of_its_source_only() {
    let mut shard = Shard::with(|config| {
        let mut other = config.trunks[0].clone();
        other.id = TrunkId("other".into());
        other.sources = vec!["192.0.2.2".parse().unwrap()];
        config.trunks[0].sources = vec!["192.0.2.1".parse().unwrap()];
        config.trunks.push(other);
    });
    assert_eq!(words(&shard.invite("c1", "4003").1), ["403"]);
    let from = |source: &str| source.parse().unwrap();
    let call = shard.invite_from("c2", "4003", from("192.0.2.2:5060")).0.unwrap();
    assert_eq!(shard.call(call).channel.as_ref().unwrap().trunk.0[..], *"other");
    let call = shard.invite_from("c3", "4003", from("192.0.2.1:5060")).0.unwrap();
    assert_eq!(shard.call(call).channel, Some(id(1)));
}

#[test]
fn agents_phone_seizes_no_channel_even_where_the_trunk_takes_any_source() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite_from("c1", "4003", phone(1001)).0.unwrap();
    assert_eq!(shard.call(call).channel, None);
    assert!(shard.leader.channels.is_empty());
}

#[test]
fn channel_is_held_until_its_call_is_over_whatever_the_gateway_and_the_leader_do() {
    let mut shard = Shard::new();
    let call = shard.invite("c1", "4003").0.unwrap();
    let before = channel(&shard, 1).cloned();
    shard.log_in(vec![20_000, 20_002]);
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    assert_eq!(channel(&shard, 1).cloned(), before);
    shard.ack(call);
    shard.bye(call, 2);
    assert_eq!(channel(&shard, 1), None);
}
