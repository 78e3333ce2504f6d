//! Click-to-dial, and keys that count once.

use tandem_sip::Method;

use super::{is_not_found, plan, record, state, times_out};
use crate::answered::Outcome;
use crate::call::leg::State;
use crate::command::{Command, GatewayEvent, OperatorCommand, RequestedState};
use crate::config::{Config, Country};
use crate::deadline::Deadline;
use crate::demo::demo_config;
use crate::effect::{Body, Effect, Source};
use crate::ids::{AgentId, CallId};
use crate::limits;
use crate::query;
use crate::tests::shard::{Shard, words};
use crate::world::{Rejection, Reply};

/// The phone of 1001 rings, to call the number then.
fn routing(to: &str) -> (Shard, CallId) {
    let mut shard = Shard::new();
    shard.register(1001);
    let (reply, call, effects) = shard.originate(1001, to);
    assert_eq!((reply, words(&effects)), (Reply::Done, vec!["INVITE".to_owned()]));
    (shard, call.expect("a call"))
}

fn answered(shard: &mut Shard, call: CallId) -> Vec<String> {
    let invite = shard.ringing(call).expect("a phone rings");
    words(&shard.answer(&invite, 200).1)
}

#[test]
fn phone_is_rung_first_and_shows_where_the_call_will_lead() {
    let (shard, call) = routing("4003");
    let invite = shard.ringing(call).unwrap();
    assert_eq!(invite.uri.user.as_deref(), Some("1001"));
    assert_eq!(invite.headers.from.uri.user.as_deref(), Some("4003"));
    let shown = query::call(&shard.leader, call).unwrap();
    assert_eq!((shown.state.as_str(), shown.legs[0].role.as_str()), ("routing", "caller"));
    assert_eq!((shown.from.as_str(), shown.to.as_str()), ("1001", "4003"));
    assert_eq!(shard.agent_state(1001), "reserved");
}

#[test]
fn answered_phone_is_where_the_number_leads() {
    let (mut shard, call) = routing("4003");
    assert_eq!(answered(&mut shard, call), ["ACK", "media [echo]"]);
    assert_eq!(shard.agent_state(1001), "talking");
    assert_eq!(shard.call(call).answered_at.map(|at| at.0), Some(shard.now));
    let bye = shard.of_peer(call, 0, Method::Bye, 1);
    assert_eq!(words(&shard.in_dialog(bye, None)), ["200", "media []"]);
    assert_eq!(record(&shard), ("answered", "caller", "normal_clearing"));
    assert_eq!(shard.agent_state(1001), "acw");
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn phone_waits_in_the_queue_that_it_was_to_call() {
    let (mut shard, call) = routing("4002");
    assert_eq!(answered(&mut shard, call), ["ACK", "media [music]"]);
    shard.register(1005);
    let invite = shard.ringing(call).unwrap();
    assert_eq!(invite.headers.from.uri.user.as_deref(), Some("1001"));
    assert_eq!(words(&shard.answer(&invite, 200).1), ["ACK", "media [leg leg] recorded"]);
    assert_eq!([shard.agent_state(1001), shard.agent_state(1005)], ["talking", "talking"]);
}

#[test]
fn ringing_tone_is_that_of_the_tenants_country() {
    let mut shard = Shard::with(|config| config.country = Country::Gb);
    shard.register(1001);
    shard.register(1002);
    let (_, call, _) = shard.originate(1001, "1002");
    let call = call.expect("a call");
    let invite = shard.ringing(call).expect("the extension rings");
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(plan(&effects).legs[0].source, Source::Ringback(Country::Gb));
}

#[test]
fn phone_hears_ringback_until_the_extension_answers() {
    let (mut shard, call) = routing("1002");
    shard.register(1002);
    assert_eq!(answered(&mut shard, call), ["ACK", "INVITE", "media [ringback silence]"]);
    let invite = shard.ringing(call).unwrap();
    // There is nobody to be told but by the sound.
    assert!(shard.answer(&invite, 180).1.is_empty());
    assert_eq!(words(&shard.answer(&invite, 200).1), ["ACK", "media [leg leg]"]);
}

/// The gateway has played the tone that the phone hears.
fn tone_ends(shard: &mut Shard, call: CallId) -> Vec<Effect> {
    let leg = shard.call(call).legs[0].id;
    let play = shard.call(call).flow.as_ref().expect("a tone").turn;
    shard.event(GatewayEvent::PromptEnded { call, leg, play, missing: false }).1
}

#[test]
fn phone_hears_the_tone_of_who_is_not_reached_and_is_hung_up() {
    for (status, how, tone) in [
        (486, "busy", "media [tone-busy-cn]"),
        (603, "rejected", "media [tone-congestion-cn]"),
        (480, "failed", "media [tone-congestion-cn]"),
    ] {
        let (mut shard, call) = routing("1002");
        shard.register(1002);
        answered(&mut shard, call);
        let invite = shard.ringing(call).unwrap();
        assert_eq!(words(&shard.answer(&invite, status).1), [tone], "{status}");
        assert!(shard.cdrs.is_empty(), "it has not ended");
        assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["talking", "ready"]);
        // The tone goes on with another leader.
        shard.apply(Command::Elected { node: "node-b".into(), dark: false });
        let effects = tone_ends(&mut shard, call);
        assert_eq!(words(&effects), ["media []", "BYE"], "{status}");
        assert_eq!(record(&shard), (how, "callee", status.to_string().as_str()));
        assert_eq!(shard.agent_state(1001), "acw");
        shard.peers_answer(&effects);
        assert!(shard.leader.calls.is_empty());
    }
}

#[test]
fn phone_that_hangs_up_on_the_tone_was_not_reached_all_the_same() {
    let (mut shard, call) = routing("1002");
    shard.register(1002);
    answered(&mut shard, call);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 486);
    let shown = query::call(&shard.leader, call).unwrap();
    assert_eq!(shown.state, "in_flow");
    let bye = shard.of_peer(call, 0, Method::Bye, 1);
    assert_eq!(words(&shard.in_dialog(bye, None)), ["200", "media []"]);
    assert_eq!(record(&shard), ("busy", "caller", "486"));
    assert_eq!(shard.agent_state(1001), "acw");
}

#[test]
fn phone_hears_congestion_when_the_number_leads_nowhere_by_then() {
    let (mut shard, call) = routing("1002");
    assert_eq!(answered(&mut shard, call), ["ACK", "media [tone-congestion-cn]"]);
    tone_ends(&mut shard, call);
    assert_eq!(record(&shard), ("no_answer", "system", "480"));
    let (mut shard, call) = routing("4003");
    let config = Config { numbers: Vec::new(), version: 2, country: Country::Us, ..demo_config() };
    shard.apply(Command::Configure(Box::new(config)));
    assert_eq!(answered(&mut shard, call), ["ACK", "media [tone-congestion-us]"]);
    tone_ends(&mut shard, call);
    assert_eq!(record(&shard), ("rejected", "system", "404"));
}

#[test]
fn phone_that_does_not_take_it_ends_the_call_and_stays_ready() {
    for (status, how, cause) in [(486, "busy", "486"), (603, "rejected", "603")] {
        let (mut shard, call) = routing("4003");
        let invite = shard.ringing(call).unwrap();
        assert_eq!(words(&shard.answer(&invite, status).1), ["media []"], "{status}");
        assert_eq!(record(&shard), (how, "callee", cause));
        assert_eq!(shard.agent_state(1001), "ready");
        assert!(shard.leader.calls.is_empty());
    }
    let (mut shard, call) = routing("4003");
    let branch = shard.ringing(call).unwrap().headers.branch().to_owned();
    assert_eq!(words(&times_out(&mut shard, &branch).1), ["media []"]);
    assert_eq!(record(&shard), ("failed", "callee", "480"));
}

#[test]
fn phone_that_rings_out_is_cancelled_and_its_late_answer_taken_down() {
    let (mut shard, call) = routing("4003");
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let no_answer_ms = demo_config().no_answer_ms;
    let due = shard.due(no_answer_ms);
    assert!(matches!(due.as_slice(), [Deadline::RingOut { .. }]), "{due:?}");
    assert_eq!(record(&shard), ("no_answer", "callee", "480"));
    assert_eq!(state(&shard, call, 0), &State::Cancelling { sent: true });
    assert_eq!(shard.agent_state(1001), "ready");
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "BYE"]);
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
    assert_eq!(shard.cdrs.len(), 1);
}

#[test]
fn operator_takes_the_call_back_in_each_of_its_states() {
    let release = |shard: &mut Shard, call| {
        words(&shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call })).1)
    };
    let (mut shard, call) = routing("4003");
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    assert_eq!(release(&mut shard, call), ["media []", "CANCEL"]);
    assert_eq!(record(&shard), ("rejected", "operator", "480"));
    assert_eq!(shard.agent_state(1001), "ready");
    for (to, rings) in [("4003", false), ("4002", false), ("1002", true)] {
        let (mut shard, call) = routing(to);
        shard.register(1002);
        answered(&mut shard, call);
        if rings {
            let invite = shard.ringing(call).unwrap();
            shard.answer(&invite, 180);
        }
        let told: &[&str] =
            if rings { &["media []", "BYE", "CANCEL"] } else { &["media []", "BYE"] };
        assert_eq!(release(&mut shard, call), told, "{to}");
        assert_eq!(record(&shard).1, "operator", "{to}");
        assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["acw", "ready"]);
    }
}

#[test]
fn call_that_can_not_be_placed_is_refused_with_a_sentence() {
    let mut shard = Shard::new();
    let (reply, call, effects) = shard.originate(1001, "4003");
    let sentence = |reply: &Reply| match reply {
        Reply::Rejected(rejection) => rejection.to_string(),
        Reply::Done => "done".to_owned(),
    };
    assert_eq!(sentence(&reply), "extension 1001 has no registered phone");
    assert_eq!((call, effects.len()), (None, 0));
    assert!(is_not_found(&shard.originate(1999, "4003").0));
    shard.register(1001);
    let (reply, ..) = shard.originate(1001, "4999");
    assert_eq!(sentence(&reply), "there is no number \"4999\"");
    let (reply, ..) = shard.originate(1001, "1001");
    assert_eq!(sentence(&reply), "extension 1001 can't call itself");
    shard.originate(1001, "4003");
    let (reply, ..) = shard.originate(1001, "4003");
    assert_eq!(sentence(&reply), "the agent of extension 1001 is reserved");
    assert!(shard.cdrs.is_empty());
}

#[test]
fn call_that_finds_no_port_may_be_asked_for_again_with_its_key() {
    let mut shard = Shard::new();
    shard.register(1001);
    let from = AgentId::from("1001");
    let command = OperatorCommand::Originate { from, to: "4003".into() };
    shard.log_in(Vec::new());
    let (reply, _) = shard.operate("k", command.clone());
    assert_eq!(reply, Reply::Rejected(Rejection::Full));
    assert!(shard.leader.calls.is_empty());
    shard.log_in(vec![20_000]);
    assert_eq!(shard.operate("k", command).0, Reply::Done);
}

#[test]
fn key_that_is_repeated_does_nothing_twice_over_a_takeover() {
    let (mut shard, call) = routing("4003");
    let (key, answered) = shard.leader.answered.first_key_value().unwrap();
    let (key, answered) = (key.clone(), answered.clone());
    let Outcome::Done { json } = &answered.outcome else { panic!("{answered:?}") };
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["id"], call.to_string());
    assert_eq!(json["state"], "routing");
    shard.leader = shard.restored();
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    let (reply, effects) = shard.operate(&key, answered.command.clone());
    assert_eq!((reply, effects.len()), (Reply::Rejected(Rejection::Repeated), 0));
    assert_eq!(shard.leader.calls.len(), 1);
    assert_eq!(shard.leader.answered[&key], answered);
    let other = OperatorCommand::Originate { from: AgentId::from("1001"), to: "4001".into() };
    let (reply, effects) = shard.operate(&key, other);
    assert_eq!((reply, effects.len()), (Reply::Rejected(Rejection::KeyReused(key)), 0));
}

#[test]
fn refusal_is_remembered_with_its_key_and_forgotten_in_time() {
    let mut shard = Shard::new();
    let agent = AgentId::from("1001");
    let ready =
        || OperatorCommand::SetAgentState { agent: agent.clone(), state: RequestedState::Ready };
    let (first, _) = shard.operate("k", ready());
    assert_eq!(
        shard.leader.answered["k"].outcome,
        Outcome::Refused { sentence: "agent 1001 has no registered phone".into() }
    );
    assert!(matches!(first, Reply::Rejected(Rejection::Refused(_))));
    shard.register(1001);
    assert_eq!(shard.operate("k", ready()).0, Reply::Rejected(Rejection::Repeated));
    shard.now += 60_000;
    assert_eq!(shard.operate("k", ready()).0, Reply::Done);
    let Outcome::Done { json } = &shard.leader.answered["k"].outcome else { panic!("done") };
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["id"], "1001");
    assert_eq!(shard.leader.answered.len(), 1);
}

#[test]
fn keys_are_bounded_and_the_one_that_ends_first_makes_room() {
    let mut shard = Shard::new();
    let command = || OperatorCommand::ReleaseCall { call: CallId(1) };
    let keyed = |key: String, keep_ms| crate::command::Keyed { key, keep_ms, command: command() };
    shard.apply(Command::Keyed(keyed("long".into(), u64::MAX)));
    let until = shard.leader.answered["long"].until;
    assert_eq!(until.since(shard.leader.at), limits::KEY_MS_MAX);
    shard.apply(Command::Keyed(keyed("short".into(), 10_000)));
    let mut world = shard.leader.clone();
    let known = world.answered["short"].clone();
    for n in 2..limits::KEYS_MAX {
        let key = format!("k{n}");
        let until = known.until.after(n as u64);
        world
            .answered
            .insert(key.clone(), crate::answered::Answered { key, until, ..known.clone() });
    }
    world.restored().unwrap();
    (shard.leader, shard.follower) = (world.clone(), world);
    for (key, answered) in &shard.leader.answered {
        let row = crate::rows::answered(key, Some(answered));
        shard.rows.insert((row.family, row.key), row.value.unwrap());
    }
    shard.apply(Command::Keyed(keyed("new".into(), 1_000)));
    assert_eq!(shard.leader.answered.len(), limits::KEYS_MAX);
    assert!(!shard.leader.answered.contains_key("short"));
    let (reply, _) = shard.apply(Command::Keyed(keyed("k".repeat(limits::KEY_BYTES_MAX + 1), 1)));
    assert!(matches!(reply, Reply::Rejected(Rejection::Refused(_))));
    assert_eq!(shard.leader.answered.len(), limits::KEYS_MAX);
}

#[test]
fn invite_of_a_placed_call_is_sent_again_by_the_next_leader_until_it_is_answered() {
    let (mut shard, call) = routing("4003");
    let invites = |shard: &Shard| {
        let outbox = shard.leader.outbox.values();
        outbox.filter(|effect| matches!(effect.body, Body::Send { .. })).count()
    };
    assert_eq!(invites(&shard), 1);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    assert_eq!(invites(&shard), 0);
}
