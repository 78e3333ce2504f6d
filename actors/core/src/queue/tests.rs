//! Each transition of a waiting caller, and those that must not be.

use tandem_sip::{Method, Millis};

use super::state::{Entry, Queue, State};
use crate::cdr::{Disposition, Side};
use crate::command::{Command, GatewayEvent, OperatorCommand, RequestedState};
use crate::deadline::Deadline;
use crate::ids::{AgentId, CallId, OfferId, QueueId};
use crate::query;
use crate::tests::shard::{Shard, words};
use crate::world::{Rejection, Reply};

fn support(shard: &Shard) -> &Queue {
    &shard.leader.queues[&QueueId("support".into())]
}

fn waiting(shard: &Shard) -> Vec<CallId> {
    support(shard).entries.iter().map(|entry| entry.call).collect()
}

/// Who rings for the call.
fn rings(shard: &Shard, call: CallId) -> Option<&str> {
    let leg = shard.call(call).legs.iter().find(|leg| leg.is_ringing())?;
    leg.agent().map(|agent| &*agent.0)
}

// --- the order ---------------------------------------------------------------------------------

#[test]
fn callers_stand_in_the_order_of_time_and_of_the_log_where_times_are_equal() {
    let mut queue = Queue::new(QueueId("q".into()));
    for (call, at) in [(7, 20), (9, 10), (3, 20), (5, 15)] {
        queue.join(CallId(call), Millis(at));
    }
    let order: Vec<u64> = queue.entries.iter().map(|entry| entry.call.0).collect();
    assert_eq!(order, [9, 5, 7, 3]);
    assert_eq!(queue.position(CallId(5)), Some(2));
    assert_eq!(queue.position(CallId(8)), None);
    let offered = State::Offered { agent: AgentId("a".into()), offer: OfferId(1) };
    queue.entry_mut(CallId(9)).unwrap().state = offered;
    assert_eq!(queue.head().map(|entry| entry.call), Some(CallId(5)));
    queue.leave(CallId(5));
    assert_eq!(queue.head().map(|entry| entry.call), Some(CallId(7)));
    assert_eq!(queue.entry(CallId(5)), None);
}

#[test]
fn caller_who_joins_waits_with_music_at_a_fixed_time() {
    let mut shard = Shard::new();
    let (call, effects) = shard.invite("c1", "4001");
    assert_eq!(words(&effects), ["100", "200", "media [music]"]);
    let call = call.unwrap();
    let enqueued_at = Millis(shard.now);
    let entry = Entry { call, enqueued_at, state: State::Waiting };
    assert_eq!(support(&shard).entries, [entry]);
    assert_eq!(shard.call(call).queued_at, Some(enqueued_at));
    shard.invite("c2", "4001");
    assert_eq!(query::call(&shard.leader, call).unwrap().position, Some(1));
}

/// While they wait, and whenever they are on hold after that.
#[test]
fn callers_hear_the_music_of_their_queue() {
    let mut shard = Shard::with(|config| config.queues[0].music = Some("brand".into()));
    shard.register(1001);
    let call = shard.talk("c1");
    let (_, effects) = shard.invite("c2", "4001");
    assert_eq!(words(&effects), ["100", "200", "media [brand]"]);
    let effects = shard.hold(call, 1, 1, true);
    assert_eq!(words(&effects), ["200", "media [brand leg] recorded"]);
    let effects = shard.hold(call, 1, 2, false);
    assert_eq!(words(&effects), ["200", "media [leg leg] recorded"]);
}

#[test]
fn full_queue_refuses_the_next_caller_and_keeps_the_others() {
    let mut shard = Shard::with(|config| config.queues[0].waiting_max = 1);
    let first = shard.offered("c1");
    let (call, effects) = shard.invite("c2", "4001");
    assert_eq!((call, words(&effects)), (None, vec!["503".to_owned()]));
    assert_eq!(waiting(&shard), [first]);
    assert_eq!(shard.cdrs[0].disposition, Disposition::Rejected);
    shard.bye(first, 2);
    assert!(shard.invite("c3", "4001").0.is_some());
}

#[test]
fn number_of_a_queue_that_is_not_there_is_unknown() {
    let mut shard = Shard::with(|config| {
        config.queues.remove(0);
    });
    assert_eq!(words(&shard.invite("c1", "4001").1), ["404"]);
}

// --- who is offered to whom ----------------------------------------------------------------------

#[test]
fn first_caller_is_offered_to_the_agent_who_was_ready_longest() {
    let mut shard = Shard::new();
    let first = shard.offered("c1");
    let second = shard.offered("c2");
    shard.register(1003);
    shard.register(1001);
    assert_eq!((rings(&shard, first), rings(&shard, second)), (Some("1003"), Some("1001")));
    let states: Vec<_> = support(&shard).entries.iter().map(|entry| &entry.state).collect();
    assert!(matches!(states[0], State::Offered { agent, .. } if *agent.0 == *"1003"));
    assert!(matches!(states[1], State::Offered { agent, .. } if *agent.0 == *"1001"));
}

#[test]
fn agent_is_offered_one_caller_at_a_time() {
    let mut shard = Shard::new();
    shard.register(1001);
    let first = shard.offered("c1");
    let second = shard.offered("c2");
    assert_eq!((rings(&shard, first), rings(&shard, second)), (Some("1001"), None));
    let invite = shard.ringing(first).unwrap();
    shard.answer(&invite, 200);
    assert_eq!(rings(&shard, second), None);
    shard.bye(first, 2);
    assert_eq!(rings(&shard, second), None);
    shard.due(1_000);
    assert_eq!(rings(&shard, second), Some("1001"));
}

#[test]
fn agent_of_two_queues_serves_the_caller_who_waited_longest() {
    let mut shard = Shard::with(|config| config.queues[1].agents.push(AgentId("1001".into())));
    let sales = shard.invite("c1", "4002").0.unwrap();
    let support = shard.offered("c2");
    shard.register(1001);
    assert_eq!((rings(&shard, sales), rings(&shard, support)), (Some("1001"), None));
}

#[test]
fn agent_of_another_queue_gets_no_offer() {
    let mut shard = Shard::new();
    shard.register(1005);
    let call = shard.offered("c1");
    assert_eq!(rings(&shard, call), None);
    let sales = shard.invite("c2", "4002").0.unwrap();
    assert_eq!(rings(&shard, sales), Some("1005"));
}

#[test]
fn caller_waits_where_no_port_is_free_and_is_offered_when_one_is() {
    let mut shard = Shard::new();
    shard.log_in(vec![20_000, 20_002]);
    let call = shard.offered("c1");
    let echo = shard.invite("c2", "4003").0.unwrap();
    shard.ack(echo);
    shard.register(1001);
    assert_eq!((rings(&shard, call), shard.agent_state(1001)), (None, "ready"));
    shard.bye(echo, 2);
    assert_eq!(rings(&shard, call), Some("1001"));
}

// --- an offer's end ---------------------------------------------------------------------------

#[test]
fn offer_that_came_to_nothing_keeps_the_place_before_later_callers() {
    for status in [486, 480] {
        let mut shard = Shard::new();
        shard.register(1001);
        let first = shard.offered("c1");
        let second = shard.offered("c2");
        let invite = shard.ringing(first).unwrap();
        shard.answer(&invite, status);
        assert_eq!(waiting(&shard), [first, second]);
        assert!(support(&shard).entries.iter().all(|entry| entry.state == State::Waiting));
        assert_eq!(support(&shard).entries[0].enqueued_at, shard.call(first).queued_at.unwrap());
        shard.register(1002);
        assert_eq!(rings(&shard, first), Some("1002"));
    }
}

#[test]
fn answered_caller_leaves_the_queue_served() {
    let mut shard = Shard::new();
    let call = shard.offered("c1");
    shard.now += 7_000;
    shard.register(1001);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    assert!(support(&shard).entries.is_empty());
    let waited = shard.now - shard.call(call).queued_at.unwrap().0;
    shard.bye(call, 2);
    let shown = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((shown.disposition.as_str(), shown.wait_ms), ("answered", Some(waited)));
}

#[test]
fn caller_who_hangs_up_has_abandoned_and_the_offer_is_withdrawn() {
    let mut shard = Shard::new();
    let waits = shard.offered("c1");
    shard.bye(waits, 2);
    assert!(support(&shard).entries.is_empty());

    shard.register(1001);
    let offered = shard.offered("c2");
    let invite = shard.ringing(offered).unwrap();
    shard.answer(&invite, 180);
    assert_eq!(words(&shard.bye(offered, 2)), ["200", "media []", "CANCEL"]);
    assert!(support(&shard).entries.is_empty());
    for cdr in &shard.cdrs {
        assert_eq!((cdr.disposition, cdr.hung_up_by), (Disposition::Abandoned, Side::Caller));
        assert_eq!((cdr.connected_at, cdr.agent.as_ref()), (None, None));
    }
}

#[test]
fn withdrawn_agent_is_offered_the_next_caller_at_once() {
    let mut shard = Shard::new();
    shard.register(1001);
    let first = shard.offered("c1");
    let second = shard.offered("c2");
    let invite = shard.ringing(first).unwrap();
    shard.answer(&invite, 180);
    let effects = shard.bye(first, 2);
    assert_eq!(words(&effects), ["200", "media []", "CANCEL", "INVITE"]);
    assert_eq!(rings(&shard, second), Some("1001"));
}

#[test]
fn operator_removes_a_waiting_caller() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.offered("c1");
    shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call }));
    assert!(support(&shard).entries.is_empty());
    let cdr = &shard.cdrs[0];
    assert_eq!((cdr.disposition, cdr.hung_up_by), (Disposition::Failed, Side::Operator));
    assert_eq!(shard.agent_state(1001), "ready");
}

#[test]
fn ring_out_of_an_earlier_offer_is_ignored() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.offered("c1");
    let State::Offered { offer, .. } = support(&shard).entries[0].state else { panic!("an offer") };
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 486);
    shard.register(1002);
    assert_eq!(rings(&shard, call), Some("1002"));
    let (reply, effects) = shard.apply(Command::Due(Deadline::RingOut { call, offer }));
    assert_eq!(reply, Reply::Rejected(Rejection::NotFound(format!("offer {offer}"))));
    assert!(effects.is_empty());
    assert_eq!(rings(&shard, call), Some("1002"));
}

#[test]
fn late_answer_of_an_earlier_agent_does_not_take_the_caller_from_the_next() {
    let mut shard = Shard::new();
    shard.register(1001);
    shard.register(1002);
    let call = shard.offered("c1");
    let late = shard.ringing(call).unwrap();
    shard.answer(&late, 180);
    shard.due(20_000);
    assert_eq!(rings(&shard, call), Some("1002"));
    assert_eq!(words(&shard.answer(&late, 200).1), ["ACK", "BYE"]);
    assert_eq!(rings(&shard, call), Some("1002"));
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    assert_eq!(shard.call(call).agent, Some(AgentId("1002".into())));
    assert_eq!(shard.agent_state(1001), "not_ready");
}

#[test]
fn hang_up_of_an_earlier_agent_that_crosses_ours_leaves_the_caller_where_they_are() {
    let mut shard = Shard::new();
    shard.register(1001);
    shard.register(1002);
    let call = shard.offered("c1");
    let late = shard.ringing(call).unwrap();
    shard.answer(&late, 180);
    shard.due(20_000);
    shard.answer(&late, 200);
    // The first agent's phone hangs up, too, before it sees our BYE.
    let effects = shard.agent_bye(call);
    assert_eq!(words(&effects), ["200"]);
    assert_eq!(shard.call(call).state_name(), "queued");
    assert_eq!(rings(&shard, call), Some("1002"));
    assert!(shard.cdrs.is_empty());

    // The same once the caller talks to the next agent.
    let mut shard = Shard::new();
    shard.register(1001);
    shard.register(1002);
    let call = shard.offered("c1");
    let late = shard.ringing(call).unwrap();
    shard.answer(&late, 180);
    shard.due(20_000);
    shard.answer(&late, 200);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    let bye = shard.of_peer(call, 1, Method::Bye, 1);
    shard.in_dialog(bye, None);
    assert_eq!(shard.call(call).state_name(), "connected");
    assert_eq!(shard.agent_state(1002), "talking");
}

// --- faults -------------------------------------------------------------------------------------

#[test]
fn leader_change_keeps_order_times_and_offers() {
    let mut shard = Shard::new();
    shard.register(1001);
    shard.offered("c1");
    shard.offered("c2");
    let before = support(&shard).clone();
    let (_, effects) = shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    assert!(effects.is_empty());
    assert_eq!(*support(&shard), before);
}

#[test]
fn pause_of_the_offered_agent_takes_nothing_from_the_caller() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.offered("c1");
    shard.ask(1001, RequestedState::NotReady { reason: "lunch".into() });
    let branch = shard.ringing(call).unwrap().headers.branch().to_owned();
    shard.event(GatewayEvent::ClientTimeout { branch });
    assert_eq!(support(&shard).entries[0].state, State::Waiting);
    assert_eq!(shard.agent_state(1001), "not_ready");
}
