//! INVITE with Replaces: an agent's phone takes the place of one that rings or talks.

use tandem_sip::Method;

use super::{connected, dialing, plan, record, with_agent};
use crate::call::leg::State;
use crate::command::{GatewayEvent, OperatorCommand};
use crate::effect::{Body, Effect, Source};
use crate::ids::CallId;
use crate::query;
use crate::tests::shard::{Shard, phone, response, words};
use crate::world::Reply;

/// How the phone of a leg names its dialog for us.
fn dialog(shard: &Shard, call: CallId, leg: usize) -> String {
    let leg = &shard.call(call).legs[leg];
    let tag = leg.rang.first().cloned();
    let peer = tag.or_else(|| Some(leg.dialog.as_ref()?.remote_tag.clone())).expect("a dialog");
    format!("{};to-tag={};from-tag={peer}", leg.invite.headers.call_id, leg.local_tag)
}

/// 1001 rings for a caller of the queue, 1002 is there.
fn ringing() -> (Shard, CallId) {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.offered("c1");
    let invite = shard.ringing(call).expect("1001 rings");
    shard.answer(&invite, 180);
    shard.register(1002);
    (shard, call)
}

/// 1001 talks with the caller of the queue, 1002 is there.
fn talking() -> (Shard, CallId) {
    let (mut shard, call) = connected();
    shard.register(1002);
    (shard, call)
}

fn ack(shard: &mut Shard, call: CallId, leg: usize) -> Reply {
    let leg = &shard.call(call).legs[leg];
    let (call_id, local_tag) = (leg.invite.headers.call_id.clone(), leg.local_tag.clone());
    shard.event(GatewayEvent::Ack { call_id, local_tag, cseq: 1, answer: None }).0
}

fn reason(effects: &[Effect], method: Method) -> Option<String> {
    effects.iter().find_map(|effect| match &effect.body {
        Body::Send { request, .. } if request.method == method => {
            request.headers.other("Reason").map(str::to_owned)
        }
        Body::Send { .. } | Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => None,
    })
}

#[test]
fn colleague_picks_up_what_rings_at_another_desk() {
    let (mut shard, call) = ringing();
    let replaces = dialog(&shard, call, 1);
    let (status, effects) = shard.invite_replacing("pick", &replaces, phone(1002));
    assert_eq!(status, 200);
    assert_eq!(words(&effects), ["200", "CANCEL", "media [leg leg] recorded"]);
    assert_eq!(
        reason(&effects, Method::Cancel).as_deref(),
        Some("SIP;cause=200;text=\"Call completed elsewhere\"")
    );
    // The one whose phone rang has missed nothing.
    assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["ready", "talking"]);
    let [caller, old, new] = [0, 1, 2].map(|at| shard.call(call).legs[at].clone());
    assert_eq!((&old.state, old.media.port), (&State::Cancelling { sent: true }, 0));
    let of = |leg| plan(&effects).legs.iter().find(|planned| planned.leg == leg).unwrap();
    assert_eq!(of(caller.id).source, Source::Leg(new.id));
    assert_eq!(of(new.id).source, Source::Leg(caller.id));
    assert_eq!(ack(&mut shard, call, 2), Reply::Done);
    shard.peers_answer(&effects);
    let at = shard.call(call).legs.iter().position(|leg| leg.id == new.id).unwrap();
    let bye = shard.of_peer(call, at, Method::Bye, 2);
    let over = shard.in_dialog(bye, None);
    assert_eq!(words(&over), ["200", "media []", "BYE"]);
    shard.peers_answer(&over);
    assert_eq!(record(&shard), ("answered", "agent", "normal_clearing"));
    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((cdr.agent.as_deref(), cdr.queue.as_deref()), (Some("1002"), Some("support")));
    assert!(cdr.transfers.is_empty() && shard.cdrs[0].recording.is_some());
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn extension_that_is_called_is_picked_up_and_its_caller_answered() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    shard.register(1002);
    let replaces = format!("{};early-only", dialog(&shard, call, 1));
    let (status, effects) = shard.invite_replacing("pick", &replaces, phone(1002));
    assert_eq!(status, 200);
    assert_eq!(words(&effects), ["200", "CANCEL", "200", "media [leg leg]"]);
    // A gateway that started anew is told the same again.
    let again = shard.invite_replacing("pick", &replaces, phone(1002)).1;
    let [Body::Respond { response: first, .. }, Body::Respond { response: second, .. }] =
        [&effects[0].body, &again[0].body]
    else {
        panic!("{again:?}");
    };
    assert_eq!(first, second);
}

#[test]
fn colleague_takes_a_conversation_over() {
    let (mut shard, call) = talking();
    let recording = shard.call(call).recording;
    let replaces = dialog(&shard, call, 1);
    let (status, effects) = shard.invite_replacing("take", &replaces, phone(1002));
    assert_eq!(status, 200);
    assert_eq!(words(&effects), ["200", "BYE", "media [leg leg] recorded"]);
    assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["acw", "talking"]);
    // Its ACK is awaited: nobody sends it on before.
    let transfer = OperatorCommand::TransferCall { call, to: "4003".into() };
    assert!(matches!(shard.operate("t", transfer).0, Reply::Rejected(_)));
    let consult = OperatorCommand::Consult { call, to: "1003".into() };
    assert!(matches!(shard.operate("c", consult).0, Reply::Rejected(_)));
    assert_eq!(words(&shard.refer(call, 2, 2, "4003")), ["491"]);
    let new = dialog(&shard, call, 2);
    shard.register(1003);
    assert_eq!(shard.invite_replacing("again", &new, phone(1003)).0, 491);
    shard.cdrs.clear();
    ack(&mut shard, call, 2);
    assert_eq!(shard.invite_replacing("third", &new, phone(1003)).0, 200);
    ack(&mut shard, call, 3);
    shard.bye(call, 9);
    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((cdr.agent.as_deref(), shard.cdrs[0].recording), (Some("1003"), recording));
    let moves: Vec<_> =
        cdr.transfers.iter().map(|it| [&*it.agent, &*it.to, &*it.outcome]).collect();
    assert_eq!(moves, [["1001", "1002", "went_over"], ["1002", "1003", "went_over"]]);
}

#[test]
fn phone_that_begins_anew_takes_its_own_conversation_back() {
    let (mut shard, call) = talking();
    shard.hold(call, 1, 2, true);
    let replaces = dialog(&shard, call, 1);
    assert_eq!(shard.invite_replacing("anew", &replaces, phone(1001)).0, 200);
    assert_eq!(shard.agent_state(1001), "talking");
    assert!(shard.call(call).transfers.is_empty());
    // Early it would answer its own ringing.
    let (mut shard, call) = ringing();
    let replaces = dialog(&shard, call, 1);
    assert_eq!(shard.invite_replacing("anew", &replaces, phone(1001)).0, 403);
}

#[test]
fn ack_that_never_comes_brings_the_caller_back_to_the_place_in_the_queue() {
    for mut case in [ringing(), talking()] {
        let (shard, call) = (&mut case.0, case.1);
        let queued_at = shard.call(call).queued_at.unwrap();
        let replaces = dialog(shard, call, 1);
        shard.invite_replacing("take", &replaces, phone(1002));
        let later = shard.invite("later", "4001").0.unwrap();
        let unheard = shard.call(call).legs[2].transaction.clone().unwrap();
        let (_, effects) = shard.event(GatewayEvent::AckTimeout { transaction: unheard.clone() });
        assert_eq!(words(&effects)[0], "BYE");
        let [caller] = &plan(&effects).legs[..] else { panic!("the caller's leg alone") };
        assert_eq!(caller.source, Source::Music(None));
        let queue = &shard.leader.queues[&"support".into()];
        assert_eq!((queue.position(call), queue.position(later)), (Some(1), Some(2)));
        assert_eq!(queue.entry(call).unwrap().enqueued_at, queued_at);
        assert_eq!(shard.agent_state(1002), "acw");
        shard.event(GatewayEvent::AckTimeout { transaction: unheard });
        assert_eq!(shard.leader.queues[&"support".into()].position(call), Some(1));
    }
}

#[test]
fn ack_that_never_comes_ends_a_call_that_has_no_queue() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    shard.register(1002);
    let replaces = dialog(&shard, call, 1);
    shard.invite_replacing("take", &replaces, phone(1002));
    shard.ack(call);
    let transaction = shard.call(call).legs[2].transaction.clone().unwrap();
    let (_, effects) = shard.event(GatewayEvent::AckTimeout { transaction });
    assert_eq!(words(&effects), ["BYE", "media []", "BYE"]);
    assert_eq!(record(&shard), ("answered", "system", "no_ack"));
}

#[test]
fn what_can_not_be_replaced_is_refused_as_rfc_3891_says() {
    let cases: [(&str, u16); 6] = [
        ("other;to-tag=TO;from-tag=FROM", 481),
        ("ID;to-tag=other;from-tag=FROM", 481),
        ("ID;to-tag=TO;from-tag=other", 481),
        ("ID;to-tag=TO;from-tag=FROM;early-only", 486),
        ("ID;to-tag=TO", 400),
        ("ID;to-tag=TO;from-tag=FROM;from-tag=FROM", 400),
    ];
    for (replaces, status) in cases {
        let (mut shard, call) = talking();
        let own = dialog(&shard, call, 1);
        let [id, to, from] = own.split(';').collect::<Vec<_>>()[..] else { panic!("{own}") };
        let replaces = replaces
            .replace("ID", id)
            .replace("TO", to.trim_start_matches("to-tag="))
            .replace("FROM", from.trim_start_matches("from-tag="));
        assert_eq!(shard.invite_replacing("x", &replaces, phone(1002)).0, status, "{replaces}");
        assert_eq!(record(&shard), ("rejected", "system", &*status.to_string()));
        assert_eq!([shard.agent_state(1001), shard.agent_state(1002)], ["talking", "ready"]);
    }
    let (mut shard, call) = talking();
    let own = dialog(&shard, call, 1);
    for more in [("Replaces", own.as_str()), ("Join", own.as_str())] {
        let headers = [("Replaces", own.as_str()), more];
        assert_eq!(shard.invite_with("x", &headers, phone(1002)).0, 400, "{more:?}");
    }
    // A phone that only says 100 has no dialog yet, whatever its tag.
    let mut shard = with_agent();
    let call = shard.offered("c1");
    shard.register(1002);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 100);
    let leg = &shard.call(call).legs[1];
    let early = format!("{};to-tag={};from-tag=phone", invite.headers.call_id, leg.local_tag);
    assert_eq!(shard.invite_replacing("x", &early, phone(1002)).0, 481);
    // An early dialog that its caller has begun.
    let (mut shard, call) = dialing();
    shard.register(1002);
    let leg = &shard.call(call).legs[0];
    let theirs = format!("c1;to-tag={};from-tag=peer", leg.local_tag);
    assert_eq!(shard.invite_replacing("x", &theirs, phone(1002)).0, 481);
    // One that is over.
    let (mut shard, call) = talking();
    let own = dialog(&shard, call, 1);
    shard.bye(call, 2);
    assert_eq!(shard.invite_replacing("x", &own, phone(1002)).0, 603);
    // And its early one, when it was answered by another.
    let (mut shard, call) = ringing();
    let own = dialog(&shard, call, 1);
    shard.invite_replacing("pick", &own, phone(1002));
    shard.register(1003);
    assert_eq!(shard.invite_replacing("x", &own, phone(1003)).0, 603);
}

#[test]
fn strangers_trunks_customers_and_the_busy_replace_nobody() {
    let (mut shard, call) = talking();
    let own = dialog(&shard, call, 1);
    // The trunk's address, and one that nobody knows.
    for source in ["127.0.0.1:6000", "198.51.100.9:5060"] {
        assert_eq!(shard.invite_replacing(source, &own, source.parse().unwrap()).0, 403);
    }
    let customer = dialog(&shard, call, 0);
    assert_eq!(shard.invite_replacing("customer", &customer, phone(1002)).0, 403);
    shard.invite_from("echo", "4003", phone(1002));
    assert_eq!(shard.invite_replacing("busy", &own, phone(1002)).0, 403);
    // Who has placed a call stays in it.
    let echo = shard.leader.calls.values().find(|call| call.calling_agent.is_some()).unwrap().id;
    let placed = dialog(&shard, echo, 0);
    shard.register(1003);
    assert_eq!(shard.invite_replacing("placed", &placed, phone(1003)).0, 603);
    assert_eq!(shard.agent_state(1001), "talking");
}

#[test]
fn consultation_and_transfer_under_way_are_not_disturbed() {
    let (mut shard, call) = talking();
    shard.operate("c", OperatorCommand::Consult { call, to: "1002".into() });
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    shard.register(1003);
    for leg in [1, 2] {
        let own = dialog(&shard, call, leg);
        assert_eq!(shard.invite_replacing(&format!("x{leg}"), &own, phone(1003)).0, 491);
    }
    // A transfer's extension may be picked up, and who has sent the caller on is let go.
    let (mut shard, call) = talking();
    shard.operate("t", OperatorCommand::TransferCall { call, to: "1002".into() });
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let waits = dialog(&shard, call, 1);
    shard.register(1003);
    assert_eq!(shard.invite_replacing("waits", &waits, phone(1003)).0, 491);
    let own = dialog(&shard, call, 2);
    let (status, effects) = shard.invite_replacing("pick", &own, phone(1003));
    assert_eq!(status, 200);
    assert_eq!(words(&effects), ["200", "CANCEL", "BYE", "media [leg leg] recorded"]);
    let states = [1001, 1002, 1003].map(|agent| shard.agent_state(agent));
    assert_eq!(states, ["acw", "ready", "talking"]);
    let [moved] = &shard.call(call).transfers[..] else { panic!("one transfer") };
    assert_eq!((moved.to.as_str(), moved.outcome.as_str()), ("1002", "went_over"));
}

#[test]
fn early_dialogs_that_are_remembered_are_bounded() {
    let (mut shard, call) = ringing();
    let invite = shard.ringing(call).unwrap();
    for branch in 0..20 {
        let mut said = response(&invite, 180);
        said.headers.to.set_tag(&format!("fork{branch}"));
        let branch = invite.headers.branch().to_owned();
        let response = Box::new(said);
        shard.event(GatewayEvent::Response { branch, response, answer: None });
    }
    assert_eq!(shard.call(call).legs[1].rang.len(), crate::limits::EARLY_DIALOGS_MAX);
}
