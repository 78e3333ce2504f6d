//! Blind transfers: by REFER, over the API, to a queue, to an extension, and back.

use tandem_sip::{Method, Request};

use super::{connected, is_not_found, record, state, times_out};
use crate::call::leg::State;
use crate::call::state::{Outcome, State as CallState};
use crate::command::{Command, GatewayEvent, OperatorCommand};
use crate::effect::{Body, Effect, Source};
use crate::ids::CallId;
use crate::limits;
use crate::query;
use crate::tests::shard::{Shard, request, words};
use crate::world::{Rejection, Reply};

/// The agent 1001 talks with the caller; 1002 is there, too.
fn talking() -> (Shard, CallId) {
    let (mut shard, call) = connected();
    shard.register(1002);
    (shard, call)
}

/// What the NOTIFYs among the effects say.
fn told(effects: &[Effect]) -> Vec<String> {
    let notify = |effect: &Effect| match &effect.body {
        Body::Send { request, .. } if request.method == Method::Notify => {
            let event = request.headers.other("Event").unwrap_or_default();
            let state = request.headers.other("Subscription-State").unwrap_or_default();
            let body = String::from_utf8_lossy(&request.body);
            Some(format!("{event} {} {}", state.split(';').next().unwrap_or_default(), body.trim()))
        }
        Body::Send { .. } | Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => None,
    };
    effects.iter().filter_map(notify).collect()
}

fn outcomes(shard: &Shard, call: CallId) -> Vec<Outcome> {
    shard.call(call).transfers.iter().map(|transfer| transfer.outcome).collect()
}

fn transfer(shard: &mut Shard, call: CallId, to: &str) -> (Reply, Vec<Effect>) {
    let key = format!("t{}", shard.leader.index);
    shard.operate(&key, OperatorCommand::TransferCall { call, to: to.into() })
}

#[test]
fn refer_to_an_extension_rings_it_and_lets_the_transferor_go_when_it_answers() {
    let (mut shard, call) = talking();
    let recording = shard.call(call).recording;
    let first = shard.refer(call, 1, 2, "1002");
    assert_eq!(
        words(&first),
        ["202", "NOTIFY", "INVITE", "media [ringback silence silence] recorded"]
    );
    assert_eq!(told(&first), ["refer;id=2 active SIP/2.0 100 Trying"]);
    assert_eq!(query::call(&shard.leader, call).unwrap().state, "dialing");
    assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["talking", "reserved"]);
    assert!(shard.peers_answer(&first).is_empty());
    let invite = shard.ringing(call).unwrap();
    assert_eq!(invite.headers.from.uri.user.as_deref(), Some("138"));
    assert_eq!(invite.headers.other("Referred-By"), Some("<sip:1001@127.0.0.10>"));
    // The caller was answered long ago.
    assert!(shard.answer(&invite, 180).1.is_empty());
    let (_, second) = shard.answer(&invite, 200);
    assert_eq!(words(&second), ["ACK", "NOTIFY", "media [leg leg] recorded"]);
    assert_eq!(told(&second), ["refer;id=2 terminated SIP/2.0 200 OK"]);
    assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["acw", "talking"]);
    assert_eq!(outcomes(&shard, call), [Outcome::WentOver]);
    // The BYE does not overtake what is told.
    let third = shard.peers_answer(&second);
    assert_eq!(words(&third), ["BYE"]);
    shard.peers_answer(&third);
    assert_eq!(shard.call(call).legs.len(), 2);
    assert_eq!(shard.call(call).recording, recording);
    let last = shard.bye(call, 9);
    shard.peers_answer(&last);
    assert_eq!(record(&shard), ("answered", "caller", "normal_clearing"));
    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!(cdr.agent.as_deref(), Some("1002"));
    let [moved] = cdr.transfers.as_slice() else { panic!("{:?}", cdr.transfers) };
    assert_eq!([&moved.agent, &moved.to, &moved.outcome], ["1001", "1002", "went_over"]);
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn refer_to_a_queue_goes_over_at_once_and_the_call_keeps_its_recording() {
    let (mut shard, call) = talking();
    let recording = shard.call(call).recording;
    let first = shard.refer(call, 1, 2, "4002");
    assert_eq!(words(&first), ["202", "NOTIFY", "media [music] recorded"]);
    assert_eq!(shard.agent_state(1001), "acw");
    let second = shard.peers_answer(&first);
    assert_eq!(told(&second), ["refer;id=2 terminated SIP/2.0 200 OK"]);
    let third = shard.peers_answer(&second);
    assert_eq!(words(&third), ["BYE"]);
    shard.peers_answer(&third);
    let shown = query::call(&shard.leader, call).unwrap();
    assert_eq!((shown.state.as_str(), shown.queue.as_deref()), ("queued", Some("sales")));
    shard.register(1005);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    assert_eq!(shard.agent_state(1005), "talking");
    assert_eq!(shard.call(call).recording, recording);
    let manifests = shard.rows.keys().filter(|(family, _)| *family == crate::rows::RECORDINGS);
    assert_eq!(manifests.count(), 1);
    shard.bye(call, 9);
    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((cdr.agent.as_deref(), cdr.queue.as_deref()), (Some("1005"), Some("sales")));
    assert_eq!(shard.cdrs.len(), 1);
}

#[test]
fn transferred_call_waits_behind_those_who_waited_before() {
    let (mut shard, call) = talking();
    let earlier = shard.invite("c2", "4002").0.unwrap();
    shard.ack(earlier);
    shard.refer(call, 1, 2, "4002");
    assert_eq!(query::call(&shard.leader, call).unwrap().position, Some(2));
    assert_eq!(query::call(&shard.leader, earlier).unwrap().position, Some(1));
}

#[test]
fn failed_transfer_comes_back_to_whoever_sent_the_call_on() {
    for (status, says) in [(486, "486 Busy Here"), (603, "603 Decline"), (503, "480")] {
        let (mut shard, call) = talking();
        let first = shard.refer(call, 1, 2, "1002");
        shard.peers_answer(&first);
        let invite = shard.ringing(call).unwrap();
        let (_, effects) = shard.answer(&invite, status);
        assert_eq!(words(&effects), ["NOTIFY", "media [leg leg] recorded"], "{status}");
        let [said] = told(&effects).try_into().unwrap();
        assert!(said.starts_with(&format!("refer;id=2 terminated SIP/2.0 {says}")), "{said}");
        assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["talking", "ready"]);
        assert!(shard.peers_answer(&effects).is_empty());
        assert_eq!(state(&shard, call, 1), &State::Active);
        assert!(shard.cdrs.is_empty());
        // And may be sent on again.
        let again = shard.refer(call, 1, 3, "1002");
        assert_eq!(words(&again)[0], "202");
        assert_eq!(outcomes(&shard, call).len(), 2);
    }
}

#[test]
fn target_that_rings_out_is_cancelled_and_the_call_comes_back() {
    let (mut shard, call) = talking();
    shard.refer(call, 1, 2, "1002");
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let ring_ms = shard.leader.config.as_ref().unwrap().no_answer_ms;
    shard.due(ring_ms);
    assert_eq!(outcomes(&shard, call), [Outcome::CameBack { status: 480 }]);
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "BYE"]);
    assert_eq!(shard.agent_state(1001), "talking");
    let (mut shard, call) = talking();
    shard.refer(call, 1, 2, "1002");
    let branch = shard.ringing(call).unwrap().headers.branch().to_owned();
    times_out(&mut shard, &branch);
    assert_eq!(outcomes(&shard, call), [Outcome::CameBack { status: 480 }]);
}

#[test]
fn what_the_numbers_tell_at_once_is_told_in_the_notify() {
    for (to, says) in [("4999", "404"), ("1003", "480"), ("1001", "486"), ("", "404")] {
        let (mut shard, call) = talking();
        let first = shard.refer(call, 1, 2, to);
        assert_eq!(words(&first), ["202", "NOTIFY", "media [leg leg] recorded"], "{to}");
        let second = shard.peers_answer(&first);
        let [said] = told(&second).try_into().unwrap();
        assert!(said.contains(&format!("terminated SIP/2.0 {says}")), "{to}: {said}");
        assert!(shard.peers_answer(&second).is_empty());
        assert_eq!(shard.agent_state(1001), "talking");
    }
}

#[test]
fn refer_that_can_not_be_right_is_refused_and_the_call_stays() {
    let headers: [(&[&str], &str); 7] = [
        (&[], "400"),
        (&["<sip:1002@x>", "<sip:4001@x>"], "400"),
        (&["<sip:1002@x>, <sip:4001@x>"], "400"),
        (&["<<<"], "400"),
        (&["<sip:1002@x?Replaces=a%3Bto-tag%3D1>"], "400"),
        (&["<sip:1002@x;method=BYE>"], "603"),
        (&["<mailto:1002@x>"], "603"),
    ];
    let (mut shard, call) = talking();
    for (cseq, (refer_to, status)) in (2..).zip(headers) {
        let mut refer = shard.of_peer(call, 1, Method::Refer, cseq);
        for value in refer_to {
            refer.headers.push_other("Refer-To", value);
        }
        assert_eq!(words(&shard.in_dialog(refer, None)), [status], "{refer_to:?}");
    }
    // The caller's own phone sends nobody on.
    assert_eq!(words(&shard.refer(call, 0, 3, "1002")), ["403"]);
    // One at a time.
    shard.refer(call, 1, 20, "1002");
    assert_eq!(words(&shard.refer(call, 1, 21, "4002")), ["491"]);
    let notify = shard.of_peer(call, 1, Method::Notify, 22);
    assert_eq!(words(&shard.in_dialog(notify, None)), ["489"]);
    assert_eq!(shard.agent_state(1001), "talking");
}

#[test]
fn comma_within_quotes_or_brackets_parts_no_values() {
    for value in ["\"a, \\\"b\" <sip:1002@x>", "<sip:1002@x;p=a,b>"] {
        let (mut shard, call) = talking();
        let mut refer = shard.of_peer(call, 1, Method::Refer, 2);
        refer.headers.push_other("Refer-To", value);
        assert_eq!(words(&shard.in_dialog(refer, None))[0], "202", "{value}");
    }
}

#[test]
fn phone_that_wants_to_hear_nothing_is_hung_up_at_once() {
    let (mut shard, call) = talking();
    let mut refer = shard.of_peer(call, 1, Method::Refer, 2);
    refer.headers.push_other("r", "<sip:4002@127.0.0.10>");
    refer.headers.push_other("Refer-Sub", "false");
    let effects = shard.in_dialog(refer, None);
    assert_eq!(words(&effects), ["202", "BYE", "media [music] recorded"]);
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a 202") };
    assert_eq!(response.headers.other("Refer-Sub"), Some("false"));
}

#[test]
fn caller_waits_on_when_the_transferor_hangs_up_first() {
    let (mut shard, call) = talking();
    shard.refer(call, 1, 2, "1002");
    let bye = shard.of_peer(call, 1, Method::Bye, 3);
    assert_eq!(words(&shard.in_dialog(bye, None)), ["200", "media [ringback silence] recorded"]);
    assert_eq!(shard.agent_state(1001), "acw");
    let invite = shard.ringing(call).unwrap();
    assert_eq!(words(&shard.answer(&invite, 200).1), ["ACK", "media [leg leg] recorded"]);
    assert_eq!(outcomes(&shard, call), [Outcome::WentOver]);
    assert_eq!(shard.agent_state(1002), "talking");
}

#[test]
fn caller_whom_nobody_took_waits_in_the_queue_again_when_the_transferor_is_gone() {
    let (mut shard, call) = talking();
    shard.refer(call, 1, 2, "1002");
    let bye = shard.of_peer(call, 1, Method::Bye, 3);
    shard.in_dialog(bye, None);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 486);
    assert_eq!(outcomes(&shard, call), [Outcome::CameBack { status: 486 }]);
    // The extension's agent serves that queue, too, and is free.
    assert_eq!(shard.call(call).state, CallState::Queued { queue: "support".into() });
    assert_eq!(shard.agent_state(1002), "reserved");
}

#[test]
fn caller_who_dialled_the_extension_is_hung_up_when_nobody_is_left() {
    let mut shard = Shard::new();
    shard.register(1001);
    shard.register(1002);
    let call = shard.invite("c1", "1001").0.unwrap();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    shard.ack(call);
    shard.refer(call, 1, 2, "1002");
    let bye = shard.of_peer(call, 1, Method::Bye, 3);
    shard.in_dialog(bye, None);
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 486);
    assert_eq!(words(&effects), ["media []", "BYE"]);
    assert_eq!(record(&shard), ("answered", "system", "486"));
    assert_eq!(query::show_cdr(&shard.cdrs[0]).transfers[0].outcome, "ended");
}

#[test]
fn caller_who_hangs_up_ends_the_transfer_and_everybody_is_let_go() {
    let (mut shard, call) = talking();
    let first = shard.refer(call, 1, 2, "1002");
    shard.peers_answer(&first);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let effects = shard.bye(call, 9);
    assert_eq!(words(&effects), ["200", "media []", "NOTIFY", "CANCEL"]);
    assert_eq!(told(&effects), ["refer;id=2 terminated SIP/2.0 487 Request Terminated"]);
    assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["acw", "ready"]);
    let more = shard.peers_answer(&effects);
    assert_eq!(words(&more), ["BYE"]);
    shard.peers_answer(&more);
    assert!(shard.leader.calls.is_empty());
    assert_eq!(record(&shard), ("answered", "caller", "normal_clearing"));
}

#[test]
fn notify_is_sent_again_by_the_next_leader_until_it_is_answered() {
    let (mut shard, call) = talking();
    let first = shard.refer(call, 1, 2, "4002");
    let notifies = |shard: &Shard| -> Vec<Request> {
        let sent = shard.leader.outbox.values().filter_map(|effect| match &effect.body {
            Body::Send { request, .. } if request.method == Method::Notify => {
                Some((**request).clone())
            }
            Body::Send { .. } | Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => None,
        });
        sent.collect()
    };
    // Done is not answered.
    shard.done = first.iter().map(|effect| effect.id).collect();
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    let [notify] = notifies(&shard).try_into().unwrap();
    assert!(shard.rows.keys().any(|(family, _)| *family == crate::rows::OUTBOX));
    // Nobody answers: the subscription is over, and the phone is hung up all the same.
    let (reply, effects) = times_out(&mut shard, notify.headers.branch());
    assert_eq!((reply, words(&effects)), (Reply::Done, vec!["BYE".to_owned()]));
    assert!(notifies(&shard).is_empty());
    let event = GatewayEvent::ClientTimeout { branch: notify.headers.branch().to_owned() };
    assert!(is_not_found(&shard.event(event).0));
}

#[test]
fn notify_that_is_never_answered_at_all_does_not_keep_the_leg() {
    let (mut shard, call) = talking();
    shard.refer(call, 1, 2, "4002");
    shard.due(limits::RELEASE_MS_MAX + 1);
    let leg = &shard.call(call).legs[1];
    assert!(leg.bye_branch.is_some() && leg.refer.is_none(), "{leg:?}");
    shard.due(limits::RELEASE_MS_MAX + 1);
    assert_eq!(shard.call(call).legs.len(), 1);
}

#[test]
fn operator_sends_a_caller_on_and_is_told_at_once_what_can_not_be() {
    let (mut shard, call) = talking();
    let (reply, effects) = transfer(&mut shard, call, "1002");
    let media = "media [ringback silence silence] recorded";
    assert_eq!((reply, words(&effects)), (Reply::Done, vec!["INVITE".to_owned(), media.into()]));
    let (reply, _) = transfer(&mut shard, call, "4002");
    assert!(matches!(reply, Reply::Rejected(Rejection::Refused(_))), "{reply:?}");
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 486);
    assert_eq!(words(&effects), ["media [leg leg] recorded"]);
    for (to, says) in [
        ("4999", "there is no number \"4999\""),
        ("1003", "extension 1003 has no registered phone"),
        ("1001", "the agent of extension 1001 is busy"),
    ] {
        let (reply, effects) = transfer(&mut shard, call, to);
        let Reply::Rejected(rejection) = reply else { panic!("{to} is refused") };
        assert_eq!((rejection.to_string().as_str(), effects.len()), (says, 0));
    }
    assert_eq!(outcomes(&shard, call).len(), 1);
    let (_, effects) = transfer(&mut shard, call, "4003");
    assert_eq!(words(&effects), ["BYE", "media [echo] recorded"]);
    assert_eq!(shard.agent_state(1001), "acw");
}

#[test]
fn transfers_of_one_call_are_bounded() {
    let (mut shard, call) = talking();
    for cseq in 2..2 + limits::TRANSFERS_MAX as u32 {
        let first = shard.refer(call, 1, cseq, "1003");
        let second = shard.peers_answer(&first);
        shard.peers_answer(&second);
    }
    assert_eq!(outcomes(&shard, call).len(), limits::TRANSFERS_MAX);
    assert_eq!(words(&shard.refer(call, 1, 900, "1002")), ["603"]);
    let (reply, _) = transfer(&mut shard, call, "1002");
    assert!(matches!(reply, Reply::Rejected(Rejection::Refused(_))));
}

#[test]
fn transferor_without_rtp_does_not_end_the_call_that_goes_on() {
    let (mut shard, call) = talking();
    shard.refer(call, 1, 2, "1002");
    let leg = shard.call(call).legs[1].id;
    let event = GatewayEvent::RtpSilence { call, leg, since_ms: 300_000 };
    let (reply, effects) = shard.event(event);
    assert_eq!(reply, Reply::Done);
    assert_eq!(words(&effects), ["BYE", "media [ringback silence] recorded"]);
    assert_eq!(shard.agent_state(1001), "acw");
}

#[test]
fn recording_goes_on_with_whoever_is_there() {
    let (mut shard, call) = talking();
    let [caller, transferor] = [0, 1].map(|at| shard.call(call).legs[at].id);
    let channels = |effects: &[Effect]| {
        let plan = super::plan(effects);
        plan.recording.map(|recording| (recording.left, recording.right))
    };
    let effects = shard.refer(call, 1, 2, "1002");
    assert_eq!(channels(&effects), Some((caller, transferor)));
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 200);
    let target = shard.call(call).legs.last().unwrap().id;
    assert_eq!(channels(&effects), Some((caller, target)));
    assert!(super::plan(&effects).legs.iter().any(|leg| leg.source == Source::Leg(target)));
    let effects = transfer(&mut shard, call, "4002").1;
    assert_eq!(channels(&effects), Some((caller, caller)));
}

#[test]
fn refer_outside_of_any_dialog_is_481() {
    let mut shard = Shard::new();
    let refer = request(Method::Refer, "unknown", "tag", "");
    assert_eq!(words(&shard.in_dialog(refer, None)), ["481"]);
}
