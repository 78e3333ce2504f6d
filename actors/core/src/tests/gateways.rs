//! A gateway's lives, the ports that it grants, and which of its events count.

use std::collections::BTreeSet;

use tandem_sip::Millis;

use super::shard::{GATEWAY, Shard, words};
use crate::command::{Command, Envelope, GatewayEvent, Login, Origin};
use crate::effect::{Body, EffectId};
use crate::gateway::{Counts, Fresh, Gateway, Runs};
use crate::ids::{EntityId, GatewayId};
use crate::limits;
use crate::world::{Meta, Rejection, Reply};

fn gateway(shard: &Shard) -> &Gateway {
    &shard.leader.gateways[&GatewayId(GATEWAY.into())]
}

fn from(name: &str, incarnation: u64, sequence: u64) -> Option<Origin> {
    Some(Origin { gateway: GatewayId(name.into()), incarnation, sequence })
}

fn timeout() -> Command {
    Command::Gateway(GatewayEvent::ClientTimeout { branch: "x".into() })
}

#[test]
fn events_count_once_in_any_order() {
    let mut shard = Shard::new();
    for (sequence, counted, ahead) in [(4, 1, vec![4]), (3, 1, vec![3, 4]), (2, 4, vec![])] {
        let (reply, _) = shard.apply_from(from(GATEWAY, 1, sequence), timeout());
        assert!(matches!(reply, Reply::Rejected(Rejection::NotFound(_))), "{reply:?}");
        let (again, _) = shard.apply_from(from(GATEWAY, 1, sequence), timeout());
        assert_eq!(again, Reply::Rejected(Rejection::Repeated));
        let gateway = gateway(&shard);
        let ahead = ahead.into_iter().collect();
        assert_eq!(gateway.counts, Counts { counted, ahead, dark: false });
    }
}

#[test]
fn event_too_far_ahead_of_a_missing_one_is_refused_and_counts_when_it_comes_again() {
    let mut gateway = gateway(&Shard::new()).clone();
    for sequence in 3..3 + limits::EVENTS_AHEAD_MAX as u64 {
        assert_eq!(gateway.judge(sequence), Fresh::New);
        gateway.count(sequence);
    }
    let next = 3 + limits::EVENTS_AHEAD_MAX as u64;
    assert_eq!(gateway.judge(next), Fresh::TooEarly);
    assert_eq!(gateway.judge(5), Fresh::Repeated);
    assert_eq!(gateway.judge(2), Fresh::New, "or none would ever count again");
    gateway.count(2);
    let ahead = Runs::default();
    assert_eq!(gateway.counts, Counts { counted: next - 1, ahead, dark: false });
    assert_eq!(gateway.judge(next), Fresh::New);
}

#[test]
fn event_without_a_gateway_that_is_known_is_refused() {
    let mut shard = Shard::new();
    let (reply, _) = shard.apply(timeout());
    assert_eq!(reply, Reply::Rejected(Rejection::Refused("an event without origin".into())));
    let (reply, _) = shard.apply_from(from("gateway-x", 1, 1), timeout());
    // Its login has been overtaken: the event counts when it comes again.
    assert_eq!(reply, Reply::Rejected(Rejection::TooEarly));
    assert_eq!(shard.leader.gateways.len(), 1);
}

#[test]
fn only_a_later_life_may_log_in() {
    let mut shard = Shard::new();
    shard.log_in(vec![30_000]);
    let before = gateway(&shard).clone();
    for incarnation in [1, 2] {
        let vip = "127.0.0.66:5060".parse().unwrap();
        let login = GatewayEvent::Login(Login { vip, ports: vec![40_000] });
        let origin = from(GATEWAY, incarnation, 9);
        let (reply, _) = shard.apply_from(origin, Command::Gateway(login));
        assert_eq!(reply, Reply::Rejected(Rejection::Repeated));
        assert_eq!(*gateway(&shard), before);
    }
    let (reply, _) = shard.apply_from(from(GATEWAY, 1, 2), timeout());
    assert_eq!(reply, Reply::Rejected(Rejection::Stale));
    let (reply, _) = shard.apply_from(from(GATEWAY, 3, 2), timeout());
    assert_eq!(reply, Reply::Rejected(Rejection::TooEarly), "its login is on the way");
}

#[test]
fn new_life_keeps_the_ports_of_live_calls_and_hears_their_plans_again() {
    let mut shard = Shard::new();
    let call = shard.invite("c1", "4003").0.unwrap();
    let port = shard.call(call).legs[0].media.port;
    let outbox = |shard: &Shard| -> Vec<Body> {
        shard.leader.effects_of(&EntityId::Call(call)).map(|effect| effect.body.clone()).collect()
    };
    let Some(Body::Media(first)) = outbox(&shard).pop() else { panic!("a plan") };
    shard.log_in(vec![port, 30_000]);
    assert_eq!(gateway(&shard).free_ports, BTreeSet::from([30_000]));
    let Some(Body::Media(again)) = outbox(&shard).pop() else { panic!("a plan") };
    assert_eq!((again.version, again.legs), (first.version + 1, first.legs));
    shard.ack(call);
    shard.bye(call, 2);
    assert_eq!(gateway(&shard).free_ports, BTreeSet::from([port, 30_000]));
}

#[test]
fn effect_that_is_done_leaves_the_outbox_with_any_entry() {
    let mut shard = Shard::new();
    let (_, effects) = shard.invite("c1", "4003");
    assert_eq!(words(&effects), ["100", "200", "media [echo]"]);
    let left = |shard: &Shard| shard.leader.outbox.keys().copied().collect::<Vec<_>>();
    // The 200 took the place of the 100.
    assert_eq!(left(&shard), [effects[1].id, effects[2].id]);
    let unknown = EffectId { shard: 0, index: 1, ordinal: 9 };
    let index = shard.leader.index + 1;
    let at = Millis(shard.now);
    let meta = Meta { at, seed: 1, version: 1, shard: 0, index, term: 1 };
    let envelope = Envelope {
        at,
        seed: 1,
        version: 1,
        origin: None,
        done: vec![effects[2].id, unknown],
        command: Command::Trim,
    };
    let applied = shard.leader.apply(&meta, &envelope);
    assert_eq!(applied.reply, Reply::Done);
    assert_eq!(left(&shard), [effects[1].id]);
}

#[test]
fn answer_that_is_done_stays_in_the_outbox_until_its_ack() {
    let mut shard = Shard::new();
    let (call, effects) = shard.invite("c1", "4003");
    shard.done = effects.iter().map(|effect| effect.id).collect();
    shard.apply(Command::Trim);
    let left = |shard: &Shard| shard.leader.outbox.keys().copied().collect::<Vec<_>>();
    // It may be lost together with its gateway: the next life repeats it.
    assert_eq!(left(&shard), [effects[1].id]);
    shard.ack(call.unwrap());
    assert_eq!(left(&shard), []);
}

#[test]
fn time_never_goes_back() {
    let mut shard = Shard::new();
    let before = shard.leader.at;
    shard.now -= 5_000;
    let call = shard.invite("c1", "4003").0.unwrap();
    assert_eq!((shard.leader.at, shard.call(call).started_at), (before, before));
}
