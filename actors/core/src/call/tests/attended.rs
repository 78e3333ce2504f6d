//! Attended transfers by the phone: a second call beside a held one, and a REFER that joins both.

use tandem_sip::Method;

use super::{connected, record};
use crate::call::state::{Outcome, State as CallState};
use crate::command::{Command, OperatorCommand};
use crate::effect::{Effect, Source};
use crate::ids::CallId;
use crate::query;
use crate::tests::shard::{OUT, Shard, phone, with_carriers, words};
use crate::world::Reply;

/// 1001 holds the caller; 1002 is there, too.
fn holding() -> (Shard, CallId) {
    let (mut shard, call) = connected();
    shard.register(1002);
    shard.hold(call, 1, 2, true);
    assert_eq!(shard.agent_state(1001), "held");
    (shard, call)
}

/// And has called the number.
fn calling(number: &str) -> (Shard, CallId, CallId) {
    let (mut shard, call) = holding();
    let second = shard.invite_from("second", number, phone(1001)).0.expect("a second call");
    (shard, call, second)
}

/// And speaks with 1002.
fn asking() -> (Shard, CallId, CallId) {
    let (mut shard, call, second) = calling("1002");
    let invite = shard.ringing(second).expect("1002 rings");
    shard.answer(&invite, 200);
    shard.ack(second);
    (shard, call, second)
}

/// The tag that is ours in the dialog of the phone's second call.
fn tag(shard: &Shard, second: CallId) -> String {
    shard.call(second).caller().expect("a caller").local_tag.clone()
}

fn refer(shard: &mut Shard, call: CallId, cseq: u32, replaces: &str) -> Vec<Effect> {
    let mut refer = shard.of_peer(call, 1, Method::Refer, cseq);
    let escaped = replaces.replace(';', "%3B").replace('=', "%3d").replace('@', "%40");
    let to = format!("<sip:1002@127.0.0.10?Require=replaces&Replaces={escaped}>");
    refer.headers.push_other("Refer-To", &to);
    shard.in_dialog(refer, None)
}

fn join(shard: &mut Shard, call: CallId, second: CallId) -> Vec<Effect> {
    let replaces = format!("second;to-tag={};from-tag=peer", tag(shard, second));
    refer(shard, call, 3, &replaces)
}

/// What the phone is told in the end.
fn came_back(shard: &Shard, call: CallId) -> u16 {
    match shard.call(call).transfers.last().map(|transfer| transfer.outcome) {
        Some(Outcome::CameBack { status }) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn phone_that_holds_its_call_places_one_beside_it() {
    let (mut shard, call, second) = calling("1002");
    let agent = shard.agent(1001).clone();
    assert_eq!((agent.call(), agent.second()), (Some(call), Some(second)));
    let shown = query::agent(&shard.leader, &agent.id).unwrap();
    assert_eq!(shown.state, "talking");
    assert_eq!(shown.second_call, Some(second.to_string()));
    assert_eq!(shard.agent_state(1002), "reserved");
    // A third has no room.
    assert_eq!(shard.invite_from("third", "4003", phone(1001)).0, None);
    let consult = OperatorCommand::Consult { call, to: "1002".into() };
    assert!(matches!(shard.operate("k", consult).0, Reply::Rejected(_)));

    let (mut shard, call) = connected();
    assert_eq!(shard.invite_from("second", "4003", phone(1001)).0, None, "nothing is held");
    shard.register(1002);
    shard.hold(call, 1, 2, true);
    shard.operate("c", OperatorCommand::Consult { call, to: "1002".into() });
    assert_eq!(shard.invite_from("again", "4003", phone(1001)).0, None, "it consults already");
}

#[test]
fn second_call_that_is_over_leaves_the_first_as_the_phone_has_it() {
    let (mut shard, call, second) = asking();
    shard.bye(second, 2);
    assert_eq!(shard.agent_state(1001), "held");
    assert_eq!(shard.agent_state(1002), "acw");
    assert_eq!(shard.agent(1001).call(), Some(call));
    let (mut shard, call, second) = asking();
    shard.hold(call, 1, 3, false);
    shard.bye(second, 2);
    assert_eq!(shard.agent_state(1001), "talking");
    assert_eq!(shard.agent(1001).second(), None);
}

#[test]
fn first_call_that_is_over_leaves_the_second() {
    let (mut shard, call, second) = asking();
    shard.bye(call, 9);
    assert_eq!((shard.agent_state(1001), shard.agent(1001).call()), ("talking", Some(second)));
    shard.hold(second, 0, 2, true);
    assert_eq!(shard.agent_state(1001), "held");
    shard.bye(second, 3);
    assert_eq!(shard.agent_state(1001), "acw");

    let (mut shard, call, second) = asking();
    shard.hold(second, 0, 2, true);
    shard.bye(call, 9);
    assert_eq!((shard.agent_state(1001), shard.agent(1001).call()), ("held", Some(second)));
}

#[test]
fn refer_with_replaces_moves_the_colleague_into_the_callers_call() {
    let (mut shard, call, second) = asking();
    let recording = shard.call(call).recording;
    let ssrc = shard.call(second).legs[1].media.ssrc;
    let first = join(&mut shard, call, second);
    assert_eq!(words(&first), ["202", "NOTIFY", "media []", "BYE", "media [leg leg] recorded"]);
    assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["acw", "talking"]);
    assert_eq!(shard.agent(1002).call(), Some(call));
    let plan = super::plan(&first);
    let [caller, colleague] = [0, 2].map(|at| shard.call(call).legs[at].clone());
    let hears = |of| plan.legs.iter().find(|leg| leg.leg == of).map(|leg| leg.source.clone());
    assert_eq!(hears(caller.id), Some(Source::Leg(colleague.id)));
    assert_eq!(hears(colleague.id), Some(Source::Leg(caller.id)));
    assert_ne!(colleague.media.ssrc, ssrc, "another stream");
    // The BYE of the held leg waits for what is told.
    let told = shard.peers_answer(&first);
    assert_eq!(words(&told), ["NOTIFY"]);
    assert_eq!(words(&shard.peers_answer(&told)), ["BYE"]);

    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((cdr.call, cdr.joined), (second.to_string(), Some(call.to_string())));
    assert_eq!((cdr.cause.as_str(), cdr.disposition.as_str()), ("transferred", "answered"));
    assert_eq!(cdr.agent.as_deref(), Some("1002"));
    assert!(!shard.leader.calls.contains_key(&second));
    shard.cdrs.clear();

    // The colleague's dialog is one of the caller's call by now.
    let at = shard.call(call).legs.iter().position(|leg| leg.id == colleague.id).unwrap();
    let bye = shard.of_peer(call, at, Method::Bye, 2);
    assert_eq!(words(&shard.in_dialog(bye, None)), ["200", "media []", "BYE"]);
    assert_eq!(record(&shard), ("answered", "callee", "normal_clearing"));
    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((cdr.agent.as_deref(), cdr.joined), (Some("1002"), None));
    assert_eq!(shard.cdrs[0].recording, recording);
    let [moved] = cdr.transfers.as_slice() else { panic!("{:?}", cdr.transfers) };
    assert_eq!([&moved.agent, &moved.to], ["1001", "1002"]);
    assert_eq!([&moved.kind, &moved.outcome], ["attended", "went_over"]);
}

#[test]
fn agent_whom_a_queue_gave_the_second_call_takes_the_caller_as_well() {
    let (mut shard, call, second) = calling("4002");
    shard.register(1005);
    let invite = shard.ringing(second).expect("1005 rings");
    shard.answer(&invite, 200);
    shard.ack(second);
    join(&mut shard, call, second);
    assert_eq!(shard.agent(1005).call(), Some(call));
    assert_eq!(shard.call(call).agent, Some("1005".into()));
    assert_eq!(shard.call(call).queue, Some("support".into()));
    assert!(shard.cdrs[0].recording.is_some_and(|of| Some(of) != shard.call(call).recording));
}

#[test]
fn second_call_that_went_outside_takes_its_channel_along() {
    let (mut shard, call) = holding();
    let mut config = shard.leader.config.clone().unwrap();
    with_carriers(&mut config);
    shard.apply(Command::Configure(Box::new(config)));
    let second = shard.invite_from("second", OUT, phone(1001)).0.expect("a second call");
    let invite = shard.ringing(second).unwrap();
    shard.answer(&invite, 200);
    shard.ack(second);
    let first = join(&mut shard, call, second);
    assert_eq!(words(&first), ["202", "NOTIFY", "media []", "BYE", "media [leg leg] recorded"]);
    let shown = query::call(&shard.leader, call).unwrap();
    assert_eq!(shown.outward.map(|out| out.number).as_deref(), Some(OUT));
    assert_eq!(shard.agent_state(1001), "acw");
    let told = shard.peers_answer(&first);
    shard.peers_answer(&told);
    assert_eq!(shard.cdrs[0].joined, Some(call));
    shard.cdrs.clear();
    let bye = shard.of_peer(call, 2, Method::Bye, 1);
    let over = shard.in_dialog(bye, None);
    shard.peers_answer(&over);
    assert_eq!(record(&shard), ("answered", "callee", "normal_clearing"));
    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((cdr.direction.as_str(), cdr.agent.as_deref()), ("in", Some("1001")));
    assert_eq!(cdr.transfers[0].to, OUT);
    let north = query::channels(&shard.leader, &"north".into()).unwrap();
    assert!(north.iter().all(|channel| channel.state == "idle"), "{north:?}");
}

#[test]
fn colleague_with_a_transaction_under_way_is_not_moved_meanwhile() {
    let (mut shard, call, second) = asking();
    // 1002 sends 1001 on, and has not answered the NOTIFY of it.
    shard.refer(second, 1, 2, "9999");
    join(&mut shard, call, second);
    assert_eq!(came_back(&shard, call), 491);
}

#[test]
fn dialog_that_can_not_be_replaced_is_told_in_the_notify() {
    let cases: [(&str, u16); 4] = [
        ("unknown;to-tag=TAG;from-tag=peer", 481),
        ("second;to-tag=other;from-tag=peer", 481),
        ("second;to-tag=TAG;from-tag=other", 481),
        ("second;to-tag=TAG;from-tag=peer;early-only", 486),
    ];
    for (replaces, status) in cases {
        let (mut shard, call, second) = asking();
        let replaces = replaces.replace("TAG", &tag(&shard, second));
        let effects = refer(&mut shard, call, 3, &replaces);
        assert_eq!(words(&effects)[0], "202");
        assert_eq!(came_back(&shard, call), status, "{replaces}");
        assert_eq!(shard.agent(1001).second(), Some(second), "both are as before");
    }
    // The dialog is that of the very leg that is to go.
    let (mut shard, call, _) = asking();
    let leg = &shard.call(call).legs[1];
    let own = format!("{};to-tag={};from-tag=phone", leg.invite.headers.call_id, leg.local_tag);
    refer(&mut shard, call, 3, &own);
    assert_eq!(came_back(&shard, call), 481);
    // It is somebody else's.
    let (mut shard, call, second) = asking();
    let leg = &shard.call(second).legs[1];
    let other = format!("{};to-tag={};from-tag=phone", leg.invite.headers.call_id, leg.local_tag);
    refer(&mut shard, call, 3, &other);
    assert_eq!(came_back(&shard, call), 481);
    // Nobody has answered it yet, or it leads to nobody.
    let (mut shard, call, second) = calling("1002");
    join(&mut shard, call, second);
    assert_eq!(came_back(&shard, call), 481);
    let (mut shard, call, second) = calling("4002");
    join(&mut shard, call, second);
    assert_eq!(came_back(&shard, call), 603);
    assert!(matches!(shard.call(second).state, CallState::Queued { .. }));
    // It has just ended.
    let (mut shard, call, second) = asking();
    let bye = shard.of_peer(second, 1, Method::Bye, 2);
    shard.in_dialog(bye, None);
    join(&mut shard, call, second);
    assert_eq!(came_back(&shard, call), 603);
}
