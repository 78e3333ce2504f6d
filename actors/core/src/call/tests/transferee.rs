//! An agent who has placed a call sends on whom it has called.

use tandem_sip::Method;

use super::{is_not_found, leg, record, state};
use crate::call::leg::State;
use crate::command::OperatorCommand;
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::query;
use crate::tests::shard::{OUT, Shard, phone, with_carriers, words};
use crate::world::{Rejection, Reply};

/// The phone of 1001 has called the number, and both talk.
fn placed(number: &str) -> (Shard, CallId) {
    let mut shard = Shard::with(with_carriers);
    for agent in 1001..=1004 {
        shard.register(agent);
    }
    let call = shard.invite_from("c1", number, phone(1001)).0.expect("a call");
    let invite = shard.ringing(call).expect("it rings");
    shard.answer(&invite, 180);
    shard.answer(&invite, 200);
    shard.ack(call);
    (shard, call)
}

/// Until nobody owes an answer.
fn settle(shard: &mut Shard, mut effects: Vec<Effect>) -> Vec<String> {
    let mut said = Vec::new();
    while !effects.is_empty() {
        said.extend(words(&effects));
        effects = shard.peers_answer(&effects);
    }
    said
}

fn sipfrags(effects: &[Effect]) -> Vec<String> {
    let body = |effect: &Effect| match &effect.body {
        Body::Send { request, .. } if request.method == Method::Notify => {
            Some(String::from_utf8_lossy(&request.body).trim().to_owned())
        }
        Body::Send { .. } | Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => None,
    };
    effects.iter().filter_map(body).collect()
}

#[test]
fn called_party_goes_on_to_a_third() {
    for (number, colleague) in [(OUT, None), ("1002", Some("1002"))] {
        let (mut shard, call) = placed(number);
        let effects = shard.refer(call, 0, 2, "1003");
        assert_eq!(words(&effects)[..2], ["202", "NOTIFY"], "{number}");
        shard.peers_answer(&effects);
        let invite = shard.ringing(call).expect("1003 rings");
        // It shows whom it will talk with, and who sends them.
        assert_eq!(invite.headers.from.uri.user.as_deref(), Some(number));
        let by = invite.headers.other("Referred-By").expect("who sends the party on");
        assert!(by.contains("1001"), "{by}");
        shard.answer(&invite, 180);
        let effects = shard.answer(&invite, 200).1;
        assert_eq!(sipfrags(&effects), ["SIP/2.0 200 OK"]);
        let said = settle(&mut shard, effects);
        assert!(said.contains(&"BYE".to_owned()), "{said:?}");
        assert_eq!([shard.agent_state(1001), shard.agent_state(1003)], ["acw", "talking"]);
        let shown = query::call(&shard.leader, call).unwrap();
        assert_eq!((shown.state.as_str(), shown.agent.as_deref()), ("connected", Some("1003")));
        assert_eq!((shown.from.as_str(), shown.to.as_str()), ("138", number));
        if let Some(colleague) = colleague {
            assert_eq!(shard.agent_state(colleague.parse().unwrap()), "talking");
        }
        // Whom it is for hangs up.
        let bye = shard.of_peer(call, 0, Method::Bye, 1);
        let effects = shard.in_dialog(bye, None);
        assert_eq!(words(&effects), ["200", "media []", "BYE"]);
        settle(&mut shard, effects);
        assert_eq!(record(&shard), ("answered", "callee", "normal_clearing"));
        assert_eq!(shard.cdrs[0].sip_call_id, "c1");
        assert_eq!(query::show_cdr(&shard.cdrs[0]).transfers[0].outcome, "went_over");
        assert!(shard.leader.calls.is_empty() && shard.leader.channels.is_empty());
        assert_eq!(shard.agent_state(1003), "acw");
    }
}

#[test]
fn transfer_that_nobody_takes_comes_back_to_who_has_called() {
    for number in [OUT, "1002"] {
        let (mut shard, call) = placed(number);
        let effects = shard.refer(call, 0, 2, "1003");
        shard.peers_answer(&effects);
        let invite = shard.ringing(call).unwrap();
        shard.answer(&invite, 180);
        let effects = shard.answer(&invite, 486).1;
        assert_eq!(sipfrags(&effects), ["SIP/2.0 486 Busy Here"]);
        assert!(words(&effects).contains(&"media [leg leg]".to_owned()));
        shard.peers_answer(&effects);
        assert_eq!(shard.agent_state(1001), "talking");
        // Once more, to somebody who is there.
        let effects = shard.refer(call, 1, 3, "1004");
        shard.peers_answer(&effects);
        let invite = shard.ringing(call).unwrap();
        let effects = shard.answer(&invite, 200).1;
        settle(&mut shard, effects);
        assert_eq!([shard.agent_state(1001), shard.agent_state(1004)], ["acw", "talking"]);
        // And a number that nobody has, of whoever has the call by now.
        let effects = shard.refer(call, 1, 1, "7777");
        assert_eq!(words(&effects)[..2], ["202", "NOTIFY"]);
        let bye = shard.of_peer(call, 1, Method::Bye, 2);
        let effects = shard.in_dialog(bye, None);
        settle(&mut shard, effects);
        assert!(shard.leader.calls.is_empty() && shard.leader.channels.is_empty());
        assert_eq!(record(&shard), ("answered", "callee", "normal_clearing"));
    }
}

#[test]
fn who_has_called_hangs_up_first_and_the_party_waits_for_the_answer() {
    let (mut shard, call) = placed(OUT);
    let effects = shard.refer(call, 0, 2, "1003");
    shard.peers_answer(&effects);
    let bye = shard.of_peer(call, 1, Method::Bye, 3);
    let effects = shard.in_dialog(bye, None);
    settle(&mut shard, effects);
    assert_eq!(shard.agent_state(1001), "acw");
    let invite = shard.ringing(call).expect("1003 rings on");
    let effects = shard.answer(&invite, 200).1;
    settle(&mut shard, effects);
    assert_eq!(shard.agent_state(1003), "talking");
    // Nobody takes another: there is no one left to come back to.
    let (mut shard, call) = placed(OUT);
    let effects = shard.refer(call, 0, 2, "1003");
    shard.peers_answer(&effects);
    let bye = shard.of_peer(call, 1, Method::Bye, 3);
    shard.in_dialog(bye, None);
    let effects = shard.answer(&shard.ringing(call).unwrap(), 486).1;
    settle(&mut shard, effects);
    assert!(shard.leader.calls.is_empty() && shard.leader.channels.is_empty());
}

#[test]
fn party_goes_outside_or_to_a_queue_like_any_customer() {
    let (mut shard, call) = placed("1002");
    let effects = shard.refer(call, 0, 2, OUT);
    shard.peers_answer(&effects);
    let invite = shard.ringing(call).expect("it goes out");
    let effects = shard.answer(&invite, 200).1;
    settle(&mut shard, effects);
    assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["acw", "talking"]);
    // From outside to outside: each has its channel.
    let (mut shard, call) = placed(OUT);
    let effects = shard.refer(call, 0, 2, OUT);
    shard.peers_answer(&effects);
    let invite = shard.ringing(call).expect("it goes out again");
    assert_eq!(shard.leader.channels.len(), 2);
    let effects = shard.answer(&invite, 200).1;
    settle(&mut shard, effects);
    let bye = shard.of_peer(call, 0, Method::Bye, 1);
    let effects = shard.in_dialog(bye, None);
    settle(&mut shard, effects);
    assert!(shard.leader.calls.is_empty() && shard.leader.channels.is_empty());
    let (mut shard, call) = placed(OUT);
    let effects = shard.refer(call, 0, 2, "4001");
    settle(&mut shard, effects);
    assert_eq!(shard.agent_state(1001), "acw");
    let invite = shard.ringing(call).expect("the queue has an agent for it");
    let effects = shard.answer(&invite, 200).1;
    assert!(words(&effects).contains(&"media [leg leg] recorded".to_owned()));
}

#[test]
fn click_to_dial_is_sent_on_by_its_agent() {
    let mut shard = Shard::with(with_carriers);
    shard.register(1001);
    shard.register(1003);
    let call = shard.originate(1001, OUT).1.unwrap();
    let own = shard.ringing(call).unwrap();
    shard.answer(&own, 200);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    let to = "1003".to_owned();
    let (reply, _) = shard.operate("k", OperatorCommand::TransferCall { call, to });
    assert_eq!(reply, Reply::Done);
    let invite = shard.ringing(call).expect("1003 rings");
    let effects = shard.answer(&invite, 200).1;
    settle(&mut shard, effects);
    assert_eq!([shard.agent_state(1001), shard.agent_state(1003)], ["acw", "talking"]);
}

#[test]
fn who_may_not_changes_nothing() {
    // A customer of a trunk.
    let (mut shard, call) = super::connected();
    assert_eq!(words(&shard.refer(call, 0, 2, "1002")), ["403"]);
    // Nobody talks yet, or a queue has given the agent.
    for number in [OUT, "4001"] {
        let mut shard = Shard::with(with_carriers);
        shard.register(1001);
        shard.register(1002);
        let call = shard.invite_from("c1", number, phone(1001)).0.unwrap();
        if number == "4001" {
            shard.ack(call);
            let invite = shard.ringing(call).expect("1002 rings");
            shard.answer(&invite, 200);
        }
        let before = shard.call(call).clone();
        let effects = shard.refer(call, 0, 2, "1002");
        assert!(["403", "481"].contains(&words(&effects)[0].as_str()), "{number}");
        assert_eq!(shard.call(call).state, before.state);
    }
    // Without its ACK a BYE could not go.
    let mut shard = Shard::with(with_carriers);
    shard.register(1001);
    let call = shard.invite_from("c1", OUT, phone(1001)).0.unwrap();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    assert_eq!(words(&shard.refer(call, 0, 2, "1002")), ["491"]);
    assert_eq!(state(&shard, call, 0), &State::Answered);
    let to = "1002".to_owned();
    let (reply, _) = shard.operate("k", OperatorCommand::TransferCall { call, to });
    assert!(is_not_found(&reply) || matches!(reply, Reply::Rejected(Rejection::Refused(_))));
    assert!(leg(&shard, call, 0).is_caller());
}

/// 1001 holds whom it has called, and speaks with 1002 in a second call.
fn asking() -> (Shard, CallId, CallId) {
    let (mut shard, call) = placed(OUT);
    shard.hold(call, 0, 2, true);
    assert_eq!(shard.agent_state(1001), "held");
    let second = shard.invite_from("second", "1002", phone(1001)).0.expect("a second call");
    let invite = shard.ringing(second).expect("1002 rings");
    shard.answer(&invite, 200);
    shard.ack(second);
    (shard, call, second)
}

#[test]
fn party_is_joined_to_a_colleague_who_was_asked() {
    let (mut shard, call, second) = asking();
    let tag = shard.call(second).caller().unwrap().local_tag.clone();
    let mut refer = shard.of_peer(call, 0, Method::Refer, 3);
    let replaces = format!("Replaces=second%3Bto-tag%3D{tag}%3Bfrom-tag%3Dpeer");
    refer.headers.push_other("Refer-To", &format!("<sip:1002@127.0.0.10?{replaces}>"));
    let effects = shard.in_dialog(refer, None);
    settle(&mut shard, effects);
    assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["acw", "talking"]);
    let shown = query::call(&shard.leader, call).unwrap();
    assert_eq!((shown.state.as_str(), shown.agent.as_deref()), ("connected", Some("1002")));
    assert!(shard.leader.calls.len() == 1);
    let bye = shard.of_peer(call, 0, Method::Bye, 1);
    let effects = shard.in_dialog(bye, None);
    settle(&mut shard, effects);
    assert!(shard.leader.calls.is_empty() && shard.leader.channels.is_empty());
}

#[test]
fn party_of_a_second_call_is_sent_on_and_the_first_is_left() {
    for status in [200, 486] {
        let (mut shard, call, second) = asking();
        let effects = shard.refer(second, 0, 2, "1003");
        shard.peers_answer(&effects);
        let invite = shard.ringing(second).expect("1003 rings");
        let effects = shard.answer(&invite, status).1;
        settle(&mut shard, effects);
        if status == 200 {
            assert_eq!((shard.agent_state(1001), shard.agent(1001).second()), ("held", None));
            assert_eq!(shard.agent_state(1003), "talking");
        } else {
            assert_eq!(shard.agent(1001).second(), Some(second));
        }
        assert_eq!(shard.agent(1001).call(), Some(call));
        assert_eq!(shard.agent_state(1002), "talking");
    }
}
