//! What is said of why a call ends, and what is heard.

use tandem_sip::reason::Q850;
use tandem_sip::{Method, Request};

use super::{connected, dialing, transaction};
use crate::call::leg::State;
use crate::command::Command;
use crate::command::{GatewayEvent, OperatorCommand};
use crate::effect::{Body, Effect};
use crate::tests::shard::{Shard, response, words};

/// The Reason of the effect at that place.
fn reason(effects: &[Effect], at: usize) -> Option<&str> {
    match &effects[at].body {
        Body::Respond { response, .. } => response.headers.other("Reason"),
        Body::Send { request, .. } => request.headers.other("Reason"),
        Body::Notify { .. } | Body::Media(_) => None,
    }
}

fn q850(shard: &Shard) -> Option<u8> {
    assert_eq!(shard.cdrs.len(), 1);
    shard.cdrs[0].q850.map(Q850::get)
}

fn refuse(shard: &mut Shard, invite: &Request, status: u16, reason: &str) -> Vec<Effect> {
    let mut refusal = response(invite, status);
    refusal.headers.push_other("Reason", reason);
    let branch = invite.headers.branch().to_owned();
    shard.event(GatewayEvent::Response { branch, response: refusal.into(), answer: None }).1
}

#[test]
fn cause_of_a_bye_goes_to_the_record_and_the_other_leg() {
    let (mut shard, call) = connected();
    let mut bye = shard.of_peer(call, 0, Method::Bye, 2);
    bye.headers.push_other("Reason", "Q.850;cause=27;text=\"gone\"");
    let effects = shard.in_dialog(bye, None);
    assert_eq!(words(&effects), ["200", "media []", "BYE"]);
    assert_eq!(reason(&effects, 2), Some("Q.850;cause=27;text=\"Destination out of order\""));
    assert_eq!((shard.cdrs[0].cause.as_str(), q850(&shard)), ("normal_clearing", Some(27)));
}

#[test]
fn bye_without_a_cause_is_normal_clearing() {
    let (mut shard, call) = connected();
    let effects = shard.bye(call, 2);
    assert_eq!(reason(&effects, 2), Some("Q.850;cause=16;text=\"Normal call clearing\""));
    assert_eq!(q850(&shard), Some(16));
}

#[test]
fn refusal_of_a_phone_reaches_the_caller_with_its_cause() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).expect("it rings");
    let effects = refuse(&mut shard, &invite, 603, "Q.850;cause=22");
    assert_eq!(words(&effects), ["603", "media []"]);
    assert_eq!(reason(&effects, 0), Some("Q.850;cause=22;text=\"Number changed\""));
    assert_eq!((shard.cdrs[0].cause.as_str(), q850(&shard)), ("603", Some(22)));
}

#[test]
fn refusal_without_a_cause_has_the_one_of_its_status() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).expect("it rings");
    let effects = shard.answer(&invite, 486).1;
    assert_eq!(reason(&effects, 0), Some("Q.850;cause=17;text=\"User busy\""));
    assert_eq!(q850(&shard), Some(17));

    let mut shard = Shard::new();
    let effects = shard.invite("c1", "4999").1;
    assert_eq!(words(&effects), ["404"]);
    assert!(reason(&effects, 0).is_some_and(|reason| reason.starts_with("Q.850;cause=1;")));
    assert_eq!(q850(&shard), Some(1));
}

#[test]
fn cancelled_caller_is_not_told_why_and_its_own_cause_goes_on_to_the_phone() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).expect("it rings");
    shard.answer(&invite, 180);
    let transaction = transaction(&shard, call);
    let q = Q850::new(31);
    let (_, effects) = shard.event(GatewayEvent::Cancel { transaction, q850: q });
    assert_eq!(words(&effects), ["487", "media []", "CANCEL"]);
    assert_eq!(reason(&effects, 2), Some("Q.850;cause=31;text=\"Normal, unspecified\""));
    assert_eq!(q850(&shard), Some(31));

    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).expect("it rings");
    shard.answer(&invite, 180);
    let transaction = super::transaction(&shard, call);
    let (_, effects) = shard.event(GatewayEvent::Cancel { transaction, q850: None });
    assert_eq!(reason(&effects, 0), None);
    assert!(reason(&effects, 2).is_some_and(|reason| reason.starts_with("Q.850;cause=16;")));
    assert_eq!(q850(&shard), None);
}

#[test]
fn phone_that_lets_a_call_ring_out_is_told_so() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).expect("it rings");
    shard.answer(&invite, 180);
    shard.now += 60_000;
    let due = shard.leader.due(tandem_sip::Millis(shard.now));
    let (_, effects) = shard.apply(Command::Due(due[0].clone()));
    assert_eq!(words(&effects), ["CANCEL", "480", "media []"]);
    assert!(reason(&effects, 0).is_some_and(|reason| reason.starts_with("Q.850;cause=19;")));
    assert!(reason(&effects, 1).is_some_and(|reason| reason.starts_with("Q.850;cause=18;")));
}

#[test]
fn second_branch_of_a_fork_hears_that_the_first_has_the_call() {
    let (mut shard, call) = connected();
    let invite = shard.call(call).legs[1].invite.clone();
    let mut second = response(&invite, 200);
    second.headers.to = invite.headers.to.clone();
    second.headers.to.set_tag("other");
    let branch = invite.headers.branch().to_owned();
    let event = GatewayEvent::Response { branch, response: second.into(), answer: None };
    let (_, effects) = shard.event(event);
    assert_eq!(words(&effects), ["ACK", "BYE"]);
    assert_eq!(reason(&effects, 1), Some("SIP;cause=200;text=\"Call completed elsewhere\""));
}

#[test]
fn bye_that_waits_for_an_ack_keeps_its_cause() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "1001").0.expect("a call");
    let invite = shard.ringing(call).expect("it rings");
    shard.answer(&invite, 200);
    let mut bye = shard.of_peer(call, 1, Method::Bye, 1);
    bye.headers.push_other("Reason", "Q.850;cause=41");
    assert_eq!(words(&shard.in_dialog(bye, None)), ["200", "media []"]);
    assert_eq!(super::state(&shard, call, 0), &State::Answered);
    let caller = shard.call(call).caller().expect("a caller");
    let local_tag = caller.local_tag.clone();
    let ack = GatewayEvent::Ack { call_id: "c1".into(), local_tag, cseq: 1, answer: None };
    let (_, effects) = shard.event(ack);
    assert_eq!(reason(&effects, 0), Some("Q.850;cause=41;text=\"Temporary failure\""));
}

#[test]
fn operator_hangs_up_in_the_normal_way() {
    let (mut shard, call) = connected();
    let (_, effects) = shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call }));
    assert_eq!(words(&effects), ["media []", "BYE", "BYE"]);
    for at in [1, 2] {
        assert!(reason(&effects, at).is_some_and(|reason| reason.starts_with("Q.850;cause=16;")));
    }
}
