//! How calls end, and that they end once.

use tandem_sip::Method;
use tandem_sip::sdp::Codec;

use super::{
    connected, dialing, is_illegal, is_not_found, leg, record, state, times_out, transaction,
    with_agent,
};
use crate::call::leg::State;
use crate::cdr::{LegQuality, Side};
use crate::command::{Command, Gap, GatewayEvent, OperatorCommand, Quality, Recorded};
use crate::deadline::Deadline;
use crate::effect::Body;
use crate::ids::{CallId, GatewayId, LegId};
use crate::limits;
use crate::rows;
use crate::survival::Survival;
use crate::tests::shard::{GATEWAY, Shard, words};
use crate::world::Reply;

fn release(shard: &mut Shard, call: CallId) -> Vec<String> {
    words(&shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call })).1)
}

fn silence(shard: &mut Shard, call: CallId, leg: LegId) -> (Reply, Vec<String>) {
    let (reply, effects) = shard.event(GatewayEvent::RtpSilence { call, leg, since_ms: 30_000 });
    (reply, words(&effects))
}

fn free_ports(shard: &Shard) -> usize {
    shard.leader.gateways[&GatewayId(GATEWAY.into())].free_ports.len()
}

#[test]
fn either_side_that_hangs_up_ends_the_call_and_is_named() {
    let (mut shard, call) = connected();
    assert_eq!(words(&shard.bye(call, 2)), ["200", "media []", "BYE"]);
    assert_eq!(record(&shard), ("answered", "caller", "normal_clearing"));

    let (mut shard, call) = connected();
    assert_eq!(words(&shard.agent_bye(call)), ["200", "media []", "BYE"]);
    assert_eq!(record(&shard), ("answered", "agent", "normal_clearing"));

    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    shard.ack(call);
    assert_eq!(words(&shard.agent_bye(call)), ["200", "media []", "BYE"]);
    assert_eq!(record(&shard), ("answered", "callee", "normal_clearing"));
}

#[test]
fn ended_call_gives_everything_back_at_once_and_is_gone_with_its_last_leg() {
    let (mut shard, call) = connected();
    let effects = shard.bye(call, 2);
    assert_eq!((free_ports(&shard), shard.leader.channels.len()), (40, 0));
    assert_eq!(state(&shard, call, 1), &State::Releasing);
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn bye_that_nobody_answers_is_given_up() {
    let (mut shard, call) = connected();
    shard.bye(call, 2);
    let branch = leg(&shard, call, 1).bye_branch.clone().unwrap();
    times_out(&mut shard, &branch);
    assert!(shard.leader.calls.is_empty());

    let (mut shard, call) = connected();
    shard.bye(call, 2);
    let leg = leg(&shard, call, 1).id;
    let (reply, _) = shard.apply(Command::Due(Deadline::ReleaseOver { call, leg }));
    assert!(is_illegal(&reply, "releasing"), "{reply:?}");
    shard.due(limits::RELEASE_MS_MAX);
    assert!(shard.leader.calls.is_empty());
    assert_eq!(shard.cdrs.len(), 1);
}

#[test]
fn hang_ups_that_cross_end_the_call_once() {
    let (mut shard, call) = connected();
    shard.bye(call, 2);
    assert_eq!(words(&shard.agent_bye(call)), ["200"]);
    assert!(shard.leader.calls.is_empty());
    assert_eq!(record(&shard), ("answered", "caller", "normal_clearing"));
}

#[test]
fn cancel_ends_a_call_that_is_not_answered() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let transaction = transaction(&shard, call);
    let (_, effects) = shard.event(GatewayEvent::Cancel { transaction, q850: None });
    assert_eq!(words(&effects), ["487", "media []", "CANCEL"]);
    assert_eq!(record(&shard), ("abandoned", "caller", "487"));
    assert_eq!(shard.agent_state(1001), "ready");
    assert_eq!(free_ports(&shard), 40);
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn cancel_that_comes_too_late_changes_nothing() {
    let mut shard = with_agent();
    let call = shard.invite("c1", "4001").0.unwrap();
    for state in ["answered", "active"] {
        let transaction = transaction(&shard, call);
        let (reply, effects) = shard.event(GatewayEvent::Cancel { transaction, q850: None });
        assert!(is_illegal(&reply, state), "{reply:?}");
        assert!(effects.is_empty());
        shard.ack(call);
    }
    let mut unknown = transaction(&shard, call);
    unknown.branch = "z9hG4bKother".into();
    let (reply, _) = shard.event(GatewayEvent::Cancel { transaction: unknown, q850: None });
    assert!(is_not_found(&reply), "{reply:?}");
    assert_eq!(shard.call(call).state_name(), "queued");
}

#[test]
fn bye_before_the_answer_ends_the_invite_too() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let effects = shard.bye(call, 2);
    assert_eq!(words(&effects), ["200", "487", "media []", "CANCEL"]);
    assert_eq!(record(&shard), ("abandoned", "caller", "487"));
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn answer_without_its_ack_is_taken_down_as_a_failure() {
    let mut shard = with_agent();
    let call = shard.invite("c1", "4003").0.unwrap();
    let missing = transaction(&shard, call);
    let (_, effects) = shard.event(GatewayEvent::AckTimeout { transaction: missing.clone() });
    assert_eq!(words(&effects), ["BYE", "media []"]);
    assert_eq!(record(&shard), ("failed", "system", "no_ack"));
    let (reply, _) = shard.event(GatewayEvent::AckTimeout { transaction: missing });
    assert!(is_illegal(&reply, "releasing"), "{reply:?}");
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn ack_timeout_of_a_leg_that_is_up_changes_nothing() {
    let (mut shard, call) = connected();
    let transaction = transaction(&shard, call);
    let (reply, _) = shard.event(GatewayEvent::AckTimeout { transaction });
    assert!(is_illegal(&reply, "active"), "{reply:?}");
    assert_eq!(shard.call(call).state_name(), "connected");
}

#[test]
fn operator_releases_a_call_in_any_state_once() {
    let (mut shard, call) = connected();
    assert_eq!(release(&mut shard, call), ["media []", "BYE", "BYE"]);
    assert_eq!(record(&shard), ("answered", "operator", "normal_clearing"));
    let (reply, _) = shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call }));
    assert!(is_not_found(&reply), "{reply:?}");
    assert_eq!(shard.cdrs.len(), 1);

    let (mut shard, call) = dialing();
    assert_eq!(release(&mut shard, call), ["480", "media []"]);
    assert_eq!(record(&shard), ("rejected", "operator", "480"));
    assert_eq!(shard.agent_state(1001), "ready");
}

#[test]
fn peer_that_fell_silent_ends_the_call_unless_somebody_holds_it() {
    let (mut shard, call) = connected();
    let caller = leg(&shard, call, 0).id;
    shard.hold(call, 1, 1, true);
    let (reply, effects) = silence(&mut shard, call, caller);
    assert!(is_illegal(&reply, "active") && effects.is_empty(), "{reply:?}");
    shard.hold(call, 1, 2, false);
    let (_, effects) = silence(&mut shard, call, caller);
    assert_eq!(effects, ["media []", "BYE", "BYE"]);
    assert_eq!(record(&shard), ("answered", "system", "rtp_silence"));
    let (reply, _) = silence(&mut shard, call, caller);
    assert!(is_illegal(&reply, "releasing"), "{reply:?}");
    let (reply, _) = silence(&mut shard, CallId(1), caller);
    assert!(is_not_found(&reply), "{reply:?}");
}

#[test]
fn call_that_lasts_too_long_is_ended() {
    let (mut shard, call) = connected();
    shard.due(4 * 3_600_000 + 1);
    assert_eq!(record(&shard), ("answered", "system", "too_long"));
    let (reply, _) = shard.apply(Command::Due(Deadline::TooLong { call }));
    assert!(is_not_found(&reply), "{reply:?}");
}

#[test]
fn call_that_nobody_answered_in_time_is_not_recorded_as_answered() {
    let mut shard = Shard::with(|config| config.call_ms_max = 5_000);
    shard.register(1001);
    let call = shard.invite("c1", "1001").0.unwrap();
    shard.due(5_000);
    assert_eq!(record(&shard), ("no_answer", "system", "too_long"));
    assert_eq!(shard.agent_state(1001), "ready");
    assert_eq!(state(&shard, call, 0), &State::Released);
}

#[test]
fn change_of_the_longest_call_counts_for_the_calls_that_are_up() {
    let mut shard = with_agent();
    let call = shard.invite("c1", "4003").0.unwrap();
    shard.ack(call);
    let mut config = crate::demo::demo_config();
    config.call_ms_max = 8 * 3_600_000;
    shard.apply(Command::Configure(Box::new(config.clone())));
    shard.due(5 * 3_600_000);
    assert_eq!(shard.call(call).state_name(), "in_flow");
    // What an earlier leader thought due is so no more.
    let (reply, _) = shard.apply(Command::Due(Deadline::TooLong { call }));
    assert!(is_not_found(&reply), "{reply:?}");
    config.call_ms_max = 6 * 3_600_000;
    shard.apply(Command::Configure(Box::new(config)));
    shard.due(3_600_000);
    assert_eq!(record(&shard), ("answered", "system", "too_long"));
}

#[test]
fn takeovers_are_counted_for_live_calls_only() {
    let (mut shard, call) = connected();
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    shard.apply(Command::Elected { node: "node-a".into(), dark: false });
    shard.bye(call, 2);
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    assert_eq!(shard.cdrs[0].takeovers, 2);
    assert_eq!(shard.call(call).takeovers, 2);
    // Both by the first call alone, and a caller who hangs up is no loss.
    assert_eq!(shard.survival, Survival { at_risk: 2, lost: 0 });
}

#[test]
fn call_that_goes_silent_is_lost_only_if_it_has_lived_through_a_takeover() {
    for taken_over in [false, true] {
        let (mut shard, call) = connected();
        if taken_over {
            shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect());
        }
        let caller = leg(&shard, call, 0).id;
        silence(&mut shard, call, caller);
        let at_risk = u64::from(taken_over);
        assert_eq!(record(&shard).2, "rtp_silence");
        assert_eq!(shard.survival, Survival { at_risk, lost: at_risk });
    }
}

#[test]
fn recording_is_sealed_after_its_call_with_its_gaps() {
    let (mut shard, call) = connected();
    let recording = shard.call(call).recording.unwrap();
    let effects = shard.bye(call, 2);
    shard.peers_answer(&effects);
    assert_eq!(shard.cdrs[0].recording, Some(recording));
    let (reply, _) = shard.event(GatewayEvent::Recorded(Recorded {
        call,
        recording,
        duration_ms: 9_000,
        chunks: 9,
        gaps: vec![Gap { at_ms: 4_000, len_ms: 60 }],
        hash: "b1a2e3".into(),
        bytes: 288_044,
        pauses: Vec::new(),
        began_at: None,
        holder: "".into(),
    }));
    assert_eq!(reply, Reply::Done);
    let key = (rows::RECORDINGS, recording.0.to_be_bytes().to_vec());
    let manifest = rows::decode_manifest(&shard.rows[&key]).unwrap();
    assert!(manifest.sealed && manifest.hash == "b1a2e3");
    assert_eq!(manifest.gaps, [Gap { at_ms: 4_000, len_ms: 60 }]);
}

#[test]
fn quality_of_a_leg_stands_beside_the_record_that_did_not_wait_for_it() {
    let (mut shard, call) = connected();
    let (caller, agent) = (leg(&shard, call, 0).id, leg(&shard, call, 1).id);
    let effects = shard.bye(call, 2);
    shard.peers_answer(&effects);
    assert_eq!((shard.cdrs.len(), shard.leader.calls.len()), (1, 0));
    let record = shard.cdrs[0].clone();
    let of = |leg, role| Quality {
        call,
        leg,
        role: Some(role),
        codec: Codec::Pcma,
        packets_sent: 50,
        packets_received: 48,
        packets_lost: 2,
        packets_late: 1,
        packets_duplicate: 0,
        jitter_us: 900,
        round_trip_us: Some(1_200),
        mos_x100: Some(377),
    };
    for (leg, role) in [(caller, Side::Caller), (agent, Side::Agent)] {
        let (reply, effects) = shard.event(GatewayEvent::Quality(of(leg, role)));
        assert_eq!((reply, effects), (Reply::Done, Vec::new()));
        let gateway = GatewayId::from(GATEWAY);
        let incarnation = shard.leader.gateways[&gateway].incarnation;
        let expected = LegQuality { gateway, incarnation, quality: of(leg, role) };
        let row = &shard.rows[&(rows::QUALITIES, expected.key())];
        assert_eq!(rows::decode_quality(row), Ok(expected));
    }
    assert_eq!(shard.cdrs, [record], "written once");
}

#[test]
fn bye_of_ours_is_of_the_dialog_that_the_peer_knows() {
    let (mut shard, call) = connected();
    let caller = leg(&shard, call, 0).clone();
    let effects = shard.agent_bye(call);
    let Body::Send { request, destination, .. } = &effects[2].body else { panic!("a BYE") };
    assert_eq!((&request.method, *destination), (&Method::Bye, caller.peer));
    assert_eq!(request.headers.call_id, caller.invite.headers.call_id);
    assert_eq!(request.headers.from_tag(), Some(caller.local_tag.as_str()));
    assert_eq!(request.headers.to_tag(), Some("peer"));
}
