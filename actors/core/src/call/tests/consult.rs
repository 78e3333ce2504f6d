//! Consultations: what each party hears, how each ends, and who hangs up when.

use tandem_sip::Method;

use super::{connected, is_not_found, record, state, times_out};
use crate::call::leg::State;
use crate::call::state::{Consulted, Outcome, State as CallState};
use crate::command::{GatewayEvent, OperatorCommand};
use crate::effect::{Effect, Source};
use crate::ids::CallId;
use crate::limits;
use crate::query;
use crate::tests::shard::{Shard, words};
use crate::view;
use crate::world::{Rejection, Reply};

/// The agent 1001 talks with the caller; 1002 is there, too.
fn talking() -> (Shard, CallId) {
    let (mut shard, call) = connected();
    shard.register(1002);
    (shard, call)
}

fn ask(shard: &mut Shard, command: OperatorCommand) -> (Reply, Vec<Effect>) {
    let key = format!("k{}", shard.leader.index);
    shard.operate(&key, command)
}

fn consult(shard: &mut Shard, call: CallId, to: &str) -> (Reply, Vec<Effect>) {
    ask(shard, OperatorCommand::Consult { call, to: to.into() })
}

fn complete(shard: &mut Shard, call: CallId) -> (Reply, Vec<Effect>) {
    ask(shard, OperatorCommand::CompleteConsult { call })
}

fn cancel(shard: &mut Shard, call: CallId) -> (Reply, Vec<Effect>) {
    ask(shard, OperatorCommand::CancelConsult { call })
}

/// 1001 asks 1002, whose phone rings.
fn ringing() -> (Shard, CallId) {
    let (mut shard, call) = talking();
    assert_eq!(consult(&mut shard, call, "1002").0, Reply::Done);
    let invite = shard.ringing(call).expect("1002 rings");
    shard.answer(&invite, 180);
    (shard, call)
}

/// Both speak, and what the answer brought.
fn asking() -> (Shard, CallId, Vec<Effect>) {
    let (mut shard, call) = ringing();
    let invite = shard.ringing(call).expect("1002 rings");
    let effects = shard.answer(&invite, 200).1;
    (shard, call, effects)
}

fn shown(shard: &Shard, call: CallId) -> view::Call {
    query::call(&shard.leader, call).expect("a live call")
}

fn consult_state(shard: &Shard, call: CallId) -> (String, Option<u16>) {
    let consult = shown(shard, call).consult.expect("a consultation");
    (consult.state, consult.status)
}

fn agents(shard: &Shard) -> [&'static str; 2] {
    [shard.agent_state(1001), shard.agent_state(1002)]
}

fn moves(shard: &Shard) -> Vec<[String; 4]> {
    let cdr = query::show_cdr(&shard.cdrs[0]);
    cdr.transfers.into_iter().map(|it| [it.agent, it.to, it.kind, it.outcome]).collect()
}

fn refused(reply: &Reply) -> String {
    match reply {
        Reply::Rejected(rejection @ Rejection::Refused(_)) => rejection.to_string(),
        Reply::Done | Reply::Rejected(_) => panic!("not refused: {reply:?}"),
    }
}

#[test]
fn colleague_rings_while_the_caller_hears_music() {
    let (mut shard, call) = talking();
    let (reply, effects) = consult(&mut shard, call, "1002");
    assert_eq!(reply, Reply::Done);
    assert_eq!(words(&effects), ["INVITE", "media [music ringback silence] recorded"]);
    let invite = shard.ringing(call).unwrap();
    assert_eq!(invite.headers.from.uri.user.as_deref(), Some("1001"), "who asks is shown");
    assert_eq!(invite.headers.other("Referred-By"), None);
    assert_eq!(agents(&shard), ["talking", "reserved"]);
    let shown = shown(&shard, call);
    assert_eq!((shown.state.as_str(), shown.agent.as_deref()), ("consulting", Some("1001")));
    assert_eq!(consult_state(&shard, call), ("ringing".into(), None));
}

#[test]
fn agent_and_colleague_speak_once_it_is_answered_and_the_recording_is_of_the_caller_s_call() {
    let (shard, call, effects) = asking();
    assert_eq!(words(&effects), ["ACK", "media [music leg leg] recorded"]);
    let [caller, asks, asked] = [0, 1, 2].map(|at| shard.call(call).legs[at].id);
    let plan = super::plan(&effects);
    let hears = |of| plan.legs.iter().find(|leg| leg.leg == of).map(|leg| leg.source.clone());
    assert_eq!(hears(caller), Some(Source::Music(None)));
    assert_eq!(hears(asks), Some(Source::Leg(asked)));
    assert_eq!(hears(asked), Some(Source::Leg(asks)));
    let recording = plan.recording.expect("it goes on");
    assert_eq!((recording.left, recording.right), (caller, asks));
    assert_eq!(agents(&shard), ["talking", "talking"]);
    assert_eq!(consult_state(&shard, call), ("talking".into(), None));
}

#[test]
fn completed_consultation_joins_caller_and_colleague_in_the_same_call() {
    let (mut shard, call, _) = asking();
    let recording = shard.call(call).recording;
    let (reply, effects) = complete(&mut shard, call);
    assert_eq!(reply, Reply::Done);
    assert_eq!(words(&effects), ["BYE", "media [leg leg] recorded"]);
    assert_eq!(agents(&shard), ["acw", "talking"]);
    shard.peers_answer(&effects);
    assert_eq!(shard.call(call).legs.len(), 2);
    let shown = shown(&shard, call);
    assert_eq!((shown.state.as_str(), shown.agent.as_deref()), ("connected", Some("1002")));
    assert_eq!(consult_state(&shard, call), ("completed".into(), None));
    assert_eq!(shard.call(call).recording, recording);
    let last = shard.bye(call, 9);
    shard.peers_answer(&last);
    assert!(shard.leader.calls.is_empty());
    assert_eq!(record(&shard), ("answered", "caller", "normal_clearing"));
    assert_eq!(moves(&shard), [["1001", "1002", "attended", "went_over"]]);
    assert_eq!(agents(&shard), ["acw", "acw"]);
}

#[test]
fn consultation_completed_while_it_rings_goes_on_as_a_transfer() {
    let (mut shard, call) = ringing();
    let (reply, effects) = complete(&mut shard, call);
    assert_eq!(reply, Reply::Done);
    assert_eq!(words(&effects), ["media [ringback silence silence] recorded"]);
    assert_eq!(shown(&shard, call).state, "dialing");
    assert_eq!(agents(&shard), ["talking", "reserved"]);
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "BYE", "media [leg leg] recorded"]);
    assert_eq!(agents(&shard), ["acw", "talking"]);

    let (mut shard, call) = ringing();
    complete(&mut shard, call);
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 486);
    assert_eq!(words(&effects), ["media [leg leg] recorded"]);
    assert_eq!(agents(&shard), ["talking", "ready"]);
    shard.bye(call, 9);
    assert_eq!(moves(&shard), [["1001", "1002", "attended", "came_back"]]);
}

#[test]
fn cancelled_consultation_brings_the_agent_back_to_the_caller() {
    let (mut shard, call) = ringing();
    let (reply, effects) = cancel(&mut shard, call);
    assert_eq!(reply, Reply::Done);
    assert_eq!(words(&effects), ["CANCEL", "media [leg leg] recorded"]);
    assert_eq!(agents(&shard), ["talking", "ready"]);
    assert_eq!(consult_state(&shard, call), ("cancelled".into(), None));
    shard.peers_answer(&effects);

    let (mut shard, call, _) = asking();
    let effects = cancel(&mut shard, call).1;
    assert_eq!(words(&effects), ["BYE", "media [leg leg] recorded"]);
    assert_eq!(agents(&shard), ["talking", "acw"]);
    assert_eq!(shown(&shard, call).state, "connected");
    // And somebody may be asked again.
    shard.register(1003);
    assert_eq!(consult(&mut shard, call, "1003").0, Reply::Done);
    shard.bye(call, 9);
    assert_eq!(moves(&shard), [] as [[String; 4]; 0]);
}

#[test]
fn answer_that_crosses_the_cancel_is_taken_down() {
    let (mut shard, call) = ringing();
    let invite = shard.ringing(call).unwrap();
    cancel(&mut shard, call);
    assert_eq!(words(&shard.answer(&invite, 200).1), ["ACK", "BYE"]);
    assert_eq!(agents(&shard), ["talking", "ready"]);
    assert_eq!(shown(&shard, call).state, "connected");
}

#[test]
fn colleague_who_does_not_take_it_leaves_the_agent_with_the_caller() {
    for (status, says) in [(486, 486), (603, 603), (503, 480)] {
        let (mut shard, call) = ringing();
        let invite = shard.ringing(call).unwrap();
        let (_, effects) = shard.answer(&invite, status);
        assert_eq!(words(&effects), ["media [leg leg] recorded"], "{status}");
        assert_eq!(consult_state(&shard, call), ("failed".into(), Some(says)));
        assert_eq!(agents(&shard), ["talking", "ready"]);
    }
    let (mut shard, call) = ringing();
    let ring_ms = shard.leader.config.as_ref().unwrap().no_answer_ms;
    shard.due(ring_ms);
    assert_eq!(consult_state(&shard, call), ("failed".into(), Some(480)));
    let (mut shard, call) = talking();
    consult(&mut shard, call, "1002");
    let branch = shard.ringing(call).unwrap().headers.branch().to_owned();
    times_out(&mut shard, &branch);
    assert_eq!(consult_state(&shard, call), ("failed".into(), Some(480)));
    assert_eq!(shown(&shard, call).state, "connected");
}

#[test]
fn colleague_who_hangs_up_leaves_the_agent_with_the_caller() {
    let (mut shard, call, _) = asking();
    let bye = shard.of_peer(call, 2, Method::Bye, 2);
    assert_eq!(words(&shard.in_dialog(bye, None)), ["200", "media [leg leg] recorded"]);
    assert_eq!(consult_state(&shard, call), ("hung_up".into(), None));
    assert_eq!(agents(&shard), ["talking", "acw"]);
}

#[test]
fn agent_who_hangs_up_has_completed() {
    let (mut shard, call, _) = asking();
    let bye = shard.of_peer(call, 1, Method::Bye, 2);
    assert_eq!(words(&shard.in_dialog(bye, None)), ["200", "media [leg leg] recorded"]);
    assert_eq!(agents(&shard), ["acw", "talking"]);
    assert_eq!(shown(&shard, call).state, "connected");
    assert_eq!(consult_state(&shard, call), ("completed".into(), None));
    let outcomes: Vec<_> = shard.call(call).transfers.iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Outcome::WentOver]);
}

#[test]
fn agent_who_hangs_up_while_it_rings_leaves_the_caller_to_the_colleague_or_the_queue() {
    let leaves = || {
        let (mut shard, call) = ringing();
        let bye = shard.of_peer(call, 1, Method::Bye, 2);
        let effects = shard.in_dialog(bye, None);
        assert_eq!(words(&effects), ["200", "media [ringback silence] recorded"]);
        assert_eq!(agents(&shard), ["acw", "reserved"]);
        let invite = shard.ringing(call).unwrap();
        (shard, call, invite)
    };
    let (mut shard, call, invite) = leaves();
    shard.answer(&invite, 200);
    assert_eq!(agents(&shard), ["acw", "talking"]);
    assert_eq!(shown(&shard, call).state, "connected");
    let (mut shard, call, invite) = leaves();
    shard.answer(&invite, 486);
    assert_eq!(shard.call(call).state, CallState::Queued { queue: "support".into() });
}

#[test]
fn caller_who_hangs_up_ends_it_and_lets_both_go() {
    let (mut shard, call) = ringing();
    let effects = shard.bye(call, 9);
    assert_eq!(words(&effects), ["200", "media []", "BYE", "CANCEL"]);
    assert_eq!(agents(&shard), ["acw", "ready"]);
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
    let (mut shard, call, _) = asking();
    let effects = shard.bye(call, 9);
    assert_eq!(words(&effects), ["200", "media []", "BYE", "BYE"]);
    assert_eq!(agents(&shard), ["acw", "acw"]);
    let consult = shard.call(call).consult.clone().unwrap();
    assert_eq!(consult.outcome, Consulted::Ended);
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
    assert_eq!(record(&shard), ("answered", "caller", "normal_clearing"));
    assert_eq!(moves(&shard), [] as [[String; 4]; 0]);
}

#[test]
fn party_without_rtp_is_one_that_has_hung_up() {
    let (mut shard, call, _) = asking();
    let leg = shard.call(call).legs[2].id;
    let (_, effects) = shard.event(GatewayEvent::RtpSilence { call, leg, since_ms: 300_000 });
    assert_eq!(words(&effects), ["BYE", "media [leg leg] recorded"]);
    let (mut shard, call, _) = asking();
    let leg = shard.call(call).legs[1].id;
    let (_, effects) = shard.event(GatewayEvent::RtpSilence { call, leg, since_ms: 300_000 });
    assert_eq!(words(&effects), ["BYE", "media [leg leg] recorded"]);
    assert_eq!(agents(&shard), ["acw", "talking"]);
}

#[test]
fn party_that_holds_gives_the_other_music_and_the_caller_has_it_anyway() {
    let (mut shard, call, _) = asking();
    let effects = shard.hold(call, 1, 2, true);
    assert_eq!(words(&effects), ["200", "media [music leg music] recorded"]);
    assert_eq!(agents(&shard), ["held", "talking"]);
    let effects = shard.hold(call, 2, 2, true);
    assert_eq!(words(&effects), ["200", "media [music music music] recorded"]);
    assert_eq!(agents(&shard), ["held", "held"]);
    complete(&mut shard, call);
    assert_eq!(agents(&shard), ["acw", "held"]);
}

#[test]
fn what_can_not_be_is_refused_at_once_and_the_call_stays() {
    let (mut shard, call) = talking();
    for (to, says) in [
        ("1003", "extension 1003 has no registered phone"),
        ("1001", "the agent of extension 1001 is busy"),
        ("4002", "4002 is no extension; only one can be asked"),
        ("4003", "4003 is no extension; only one can be asked"),
        ("4000", "4000 is no extension; only one can be asked"),
    ] {
        let (reply, effects) = consult(&mut shard, call, to);
        assert_eq!((refused(&reply).as_str(), effects.len()), (says, 0));
    }
    assert!(is_not_found(&consult(&mut shard, call, "4999").0));
    assert!(refused(&complete(&mut shard, call).0).contains("nobody is consulted"));
    assert!(refused(&cancel(&mut shard, call).0).contains("nobody is consulted"));
    assert!(is_not_found(&consult(&mut shard, CallId(7), "1002").0));
    assert!(is_not_found(&complete(&mut shard, CallId(7)).0));
    assert!(is_not_found(&cancel(&mut shard, CallId(7)).0));
    assert_eq!(shown(&shard, call).consult, None);

    // One at a time, and nothing else beside it.
    consult(&mut shard, call, "1002");
    shard.register(1003);
    assert!(refused(&consult(&mut shard, call, "1003").0).contains("is consulting"));
    let transfer = OperatorCommand::TransferCall { call, to: "4002".into() };
    assert!(refused(&ask(&mut shard, transfer).0).contains("is consulting"));
    assert_eq!(words(&shard.refer(call, 1, 2, "4002")), ["491"]);
    assert_eq!(state(&shard, call, 1), &State::Active);
}

#[test]
fn call_that_may_not_be_transferred_any_more_has_nobody_asked() {
    let (mut shard, call) = talking();
    for cseq in 2..2 + limits::TRANSFERS_MAX as u32 {
        let first = shard.refer(call, 1, cseq, "1003");
        let second = shard.peers_answer(&first);
        shard.peers_answer(&second);
    }
    assert!(refused(&consult(&mut shard, call, "1002").0).contains("times at most"));
}

#[test]
fn key_completes_once_and_tells_the_same_again() {
    let (mut shard, call, _) = asking();
    let command = OperatorCommand::CompleteConsult { call };
    assert_eq!(shard.operate("once", command.clone()).0, Reply::Done);
    let again = shard.operate("once", command);
    assert_eq!(again, (Reply::Rejected(Rejection::Repeated), Vec::new()));
    assert_eq!(shard.call(call).transfers.len(), 1);
}

// --- all three together ------------------------------------------------------------------------

fn conference(shard: &mut Shard, call: CallId) -> (Reply, Vec<Effect>) {
    ask(shard, OperatorCommand::Conference { call })
}

/// Caller, 1001 and 1002 speak together.
fn conferenced() -> (Shard, CallId, Vec<Effect>) {
    let (mut shard, call, _) = asking();
    let (reply, effects) = conference(&mut shard, call);
    assert_eq!(reply, Reply::Done);
    (shard, call, effects)
}

#[test]
fn in_a_conference_each_hears_both_others_and_the_recording_has_all() {
    let (shard, call, effects) = conferenced();
    assert_eq!(words(&effects), ["media [mix mix mix] recorded"]);
    let [caller, asks, asked] = [0, 1, 2].map(|at| shard.call(call).legs[at].id);
    let plan = super::plan(&effects);
    let hears = |of| plan.legs.iter().find(|leg| leg.leg == of).map(|leg| leg.source.clone());
    assert_eq!(hears(caller), Some(Source::Mix(vec![asks, asked])));
    assert_eq!(hears(asks), Some(Source::Mix(vec![caller, asked])));
    assert_eq!(hears(asked), Some(Source::Mix(vec![caller, asks])));
    let recording = plan.recording.expect("it goes on");
    assert_eq!((recording.left, recording.mixed), (caller, true));
    let shown = shown(&shard, call);
    assert_eq!((shown.state.as_str(), shown.agent.as_deref()), ("conferenced", Some("1001")));
    assert_eq!(consult_state(&shard, call), ("joined".into(), None));
    assert_eq!(agents(&shard), ["talking", "talking"]);
}

#[test]
fn conference_has_as_many_ways_out_as_parties() {
    // The agent leaves, by telephone or over the API: the caller is the colleague's.
    for by_phone in [true, false] {
        let (mut shard, call, _) = conferenced();
        let effects = if by_phone {
            let bye = shard.of_peer(call, 1, Method::Bye, 2);
            shard.in_dialog(bye, None)
        } else {
            complete(&mut shard, call).1
        };
        assert!(words(&effects).iter().any(|it| *it == "media [leg leg] recorded"));
        assert_eq!(agents(&shard), ["acw", "talking"]);
        let shown = shown(&shard, call);
        assert_eq!((shown.state.as_str(), shown.agent.as_deref()), ("connected", Some("1002")));
        shard.bye(call, 9);
        assert_eq!(moves(&shard), [["1001", "1002", "attended", "went_over"]]);
    }
    // The colleague leaves, or is put out: all is as it was.
    for by_phone in [true, false] {
        let (mut shard, call, _) = conferenced();
        let effects = if by_phone {
            let bye = shard.of_peer(call, 2, Method::Bye, 2);
            shard.in_dialog(bye, None)
        } else {
            cancel(&mut shard, call).1
        };
        assert!(words(&effects).iter().any(|it| *it == "media [leg leg] recorded"));
        assert_eq!(agents(&shard), ["talking", "acw"]);
        assert_eq!(shown(&shard, call).state, "connected");
        shard.bye(call, 9);
        assert_eq!(moves(&shard), [] as [[String; 4]; 0]);
    }
    // The caller leaves: nobody is left to be served.
    let (mut shard, call, _) = conferenced();
    let effects = shard.bye(call, 9);
    assert_eq!(agents(&shard), ["acw", "acw"]);
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
    assert_eq!(record(&shard), ("answered", "caller", "normal_clearing"));
}

#[test]
fn conference_needs_three_who_speak_and_begins_once() {
    let (mut shard, call) = talking();
    assert!(refused(&conference(&mut shard, call).0).contains("nobody is consulted"));
    let (mut shard, call) = ringing();
    assert!(refused(&conference(&mut shard, call).0).contains("has not answered yet"));
    let (mut shard, call, _) = conferenced();
    assert!(refused(&conference(&mut shard, call).0).contains("already"));
    assert!(is_not_found(&conference(&mut shard, CallId(4711)).0));
    // Who is in it is asked nobody else.
    shard.register(1003);
    assert!(refused(&consult(&mut shard, call, "1003").0).contains("conferenced"));
}
