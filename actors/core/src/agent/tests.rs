//! Each transition of an agent's session, and those that must not be.

use tandem_sip::{Carrier, ConnectionId, Method, Millis};

use super::state::{Rest, State};
use crate::command::{Command, GatewayEvent, Inbound, OperatorCommand, Register, RequestedState};
use crate::deadline::Deadline;
use crate::effect::{Body, Effect};
use crate::ids::{AgentId, CallId, EntityId};
use crate::tests::shard::{Shard, audio, key, phone, request, words};
use crate::world::{Rejection, Reply};

const LUNCH: &str = "lunch";

fn lunch() -> RequestedState {
    RequestedState::NotReady { reason: LUNCH.into() }
}

fn not_ready(reason: &str) -> State {
    State::NotReady { reason: reason.into() }
}

/// A shard with one agent, registered and ready.
fn with_agent() -> Shard {
    let mut shard = Shard::new();
    shard.register(1001);
    shard
}

fn quarantine(shard: &mut Shard, agent: u16) {
    let entity = EntityId::Agent(AgentId::from(agent.to_string()));
    shard.apply(Command::Quarantine { entity, reason: "crash_loop".into() });
}

/// The Contact of a REGISTER's answer.
fn contact(effects: &[Effect]) -> Option<String> {
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    response.headers.contact.first().map(ToString::to_string)
}

// --- without a call --------------------------------------------------------------------------

#[test]
fn first_registration_logs_the_agent_in_ready() {
    let mut shard = Shard::new();
    assert_eq!(shard.agent(1001).state, State::LoggedOut);
    let (_, effects) = shard.register_for(1001, None);
    assert_eq!(words(&effects), ["200"]);
    assert_eq!(contact(&effects).unwrap(), "<sip:1001@127.0.0.1:8001>;expires=3600");
    let agent = shard.agent(1001);
    assert_eq!((&agent.state, agent.since), (&State::Ready, Millis(shard.now)));
}

#[test]
fn registration_of_an_unknown_agent_is_refused() {
    let mut shard = Shard::new();
    let (reply, effects) = shard.register_for(9999, None);
    assert_eq!(reply, Reply::Rejected(Rejection::NotFound("agent 9999".into())));
    assert!(effects.is_empty());
}

#[test]
fn registration_lasts_no_longer_than_the_limit_and_a_refresh_moves_its_end() {
    let mut shard = Shard::new();
    let (_, effects) = shard.register_for(1001, Some(86_400));
    assert_eq!(contact(&effects).unwrap(), "<sip:1001@127.0.0.1:8001>;expires=3600");
    let since_index = shard.leader.index;
    shard.now += 3_000_000;
    shard.register(1001);
    shard.due(1_000_000);
    assert_eq!(shard.agent_state(1001), "ready");
    let agent = AgentId("1001".into());
    let stale = Deadline::RegistrationExpired { agent, since_index };
    let (reply, _) = shard.apply(Command::Due(stale));
    assert!(matches!(reply, Reply::Rejected(Rejection::NotFound(_))), "{reply:?}");
    assert!(shard.agent(1001).is_registered());
}

#[test]
fn register_without_contact_asks_and_changes_nothing() {
    let mut shard = with_agent();
    let before = shard.agent(1001).clone();
    let request = request(Method::Register, "query", "", "");
    let (_, effects) = shard.event(GatewayEvent::Register(Register {
        transaction: key(&request),
        source: phone(1001),
        carrier: Carrier::Udp,
        request: Box::new(request),
        agent: AgentId("1001".into()),
    }));
    assert_eq!(contact(&effects).unwrap(), "<sip:1001@127.0.0.1:8001>;expires=3599");
    assert_eq!(*shard.agent(1001), before);
}

#[test]
fn logged_out_agent_stays_out_while_the_phone_refreshes() {
    let mut shard = with_agent();
    assert_eq!(shard.ask(1001, RequestedState::LoggedOut), Reply::Done);
    shard.register(1001);
    assert_eq!(shard.agent(1001).state, State::LoggedOut);
    shard.register_for(1001, Some(0));
    shard.register(1001);
    assert_eq!(shard.agent(1001).state, State::Ready);
}

#[test]
fn not_ready_agent_becomes_ready_only_with_a_phone() {
    let mut shard = Shard::new();
    let refused = Rejection::Refused("agent 1001 has no registered phone".into());
    assert_eq!(shard.ask(1001, RequestedState::Ready), Reply::Rejected(refused));
    assert_eq!(shard.ask(1001, lunch()), Reply::Done);
    shard.register(1001);
    assert_eq!(shard.agent(1001).state, not_ready(LUNCH));
    shard.ask(1001, RequestedState::Ready);
    let agent = shard.agent(1001);
    assert_eq!((&agent.state, agent.since), (&State::Ready, Millis(shard.now)));
    shard.ask(1001, lunch());
    assert_eq!(shard.agent(1001).state, not_ready(LUNCH));
    shard.ask(1001, RequestedState::LoggedOut);
    assert_eq!(shard.agent(1001).state, State::LoggedOut);
}

#[test]
fn not_ready_with_another_reason_is_a_new_interval_and_ready_twice_is_not() {
    let mut shard = with_agent();
    let since = shard.agent(1001).since;
    shard.ask(1001, RequestedState::Ready);
    assert_eq!(shard.agent(1001).since, since);
    shard.ask(1001, lunch());
    shard.now += 500;
    shard.ask(1001, RequestedState::NotReady { reason: "meeting".into() });
    let agent = shard.agent(1001);
    assert_eq!((&agent.state, agent.since), (&not_ready("meeting"), Millis(shard.now)));
}

#[test]
fn unknown_agent_can_not_be_set() {
    let mut shard = Shard::new();
    let unknown = Rejection::NotFound("agent 9999".into());
    assert_eq!(shard.ask(9999, lunch()), Reply::Rejected(unknown));
}

#[test]
fn ready_agent_whose_phone_is_gone_is_not_ready_and_comes_back_with_it() {
    let mut shard = with_agent();
    let (_, effects) = shard.register_for(1001, Some(0));
    assert_eq!(contact(&effects), None);
    assert_eq!(shard.agent(1001).state, not_ready("station_lost"));
    shard.register(1001);
    assert_eq!(shard.agent(1001).state, State::Ready);
}

#[test]
fn phone_that_was_replaced_takes_nothing_away_when_it_signs_off() {
    let mut shard = with_agent();
    let before = shard.agent(1001).clone();
    let mut request = request(Method::Register, "old", "", "<sip:1001@127.0.0.1:7999>");
    request.headers.expires = Some(0);
    let (_, effects) = shard.event(GatewayEvent::Register(Register {
        transaction: key(&request),
        source: phone(999),
        carrier: Carrier::Udp,
        request: Box::new(request),
        agent: AgentId("1001".into()),
    }));
    assert_eq!(contact(&effects).unwrap(), "<sip:1001@127.0.0.1:8001>;expires=3599");
    assert_eq!(*shard.agent(1001), before);
}

#[test]
fn wildcard_contact_takes_the_phone_away_whatever_it_was() {
    let mut shard = with_agent();
    let mut request = request(Method::Register, "all", "", "");
    request.headers.expires = Some(0);
    request.headers.push_other("Contact", "*");
    let (_, effects) = shard.event(GatewayEvent::Register(Register {
        transaction: key(&request),
        source: phone(999),
        carrier: Carrier::Udp,
        request: Box::new(request),
        agent: AgentId("1001".into()),
    }));
    assert_eq!(contact(&effects), None);
    assert_eq!(shard.agent(1001).state, not_ready("station_lost"));
}

#[test]
fn phone_that_comes_back_does_not_end_a_pause() {
    let mut shard = with_agent();
    shard.ask(1001, lunch());
    shard.register_for(1001, Some(0));
    assert_eq!(shard.agent(1001).state, not_ready(LUNCH));
    shard.register(1001);
    assert_eq!(shard.agent(1001).state, not_ready(LUNCH));
}

// --- an offer ----------------------------------------------------------------------------------

#[test]
fn only_a_ready_agent_gets_an_offer() {
    let mut shard = with_agent();
    shard.ask(1001, lunch());
    let call = shard.offered("c1");
    assert_eq!(shard.ringing(call), None);
    shard.ask(1001, RequestedState::LoggedOut);
    assert_eq!(shard.ringing(call), None);
    let since = shard.agent(1001).since;
    shard.ask(1001, RequestedState::Ready);
    assert!(shard.ringing(call).is_some());
    let State::Reserved { call: of, back, back_since, .. } = &shard.agent(1001).state else {
        panic!("{:?}", shard.agent(1001));
    };
    assert_eq!((*of, back), (call, &Rest::Ready));
    assert!(*back_since > since);
}

#[test]
fn reserved_agent_who_answers_talks() {
    let mut shard = with_agent();
    let call = shard.talk("c1");
    assert_eq!(shard.agent(1001).state, State::Talking { call, back: Rest::Ready });
    assert_eq!(shard.agent(1001).since, Millis(shard.now));
}

#[test]
fn reserved_agent_whose_caller_is_gone_keeps_the_idle_rank() {
    let mut shard = with_agent();
    let since = shard.agent(1001).since;
    let call = shard.offered("c1");
    shard.now += 3_000;
    shard.bye(call, 2);
    let agent = shard.agent(1001);
    assert_eq!((&agent.state, agent.since), (&State::Ready, since));
}

#[test]
fn offer_that_is_not_taken_makes_the_agent_not_ready_with_the_reason() {
    for (status, reason) in [
        (486, "rejected"),
        (603, "rejected"),
        (302, "rejected"),
        (480, "station_lost"),
        (503, "station_lost"),
    ] {
        let mut shard = with_agent();
        let call = shard.offered("c1");
        let invite = shard.ringing(call).unwrap();
        shard.answer(&invite, status);
        assert_eq!(shard.agent(1001).state, not_ready(reason), "{status}");
    }
    let mut shard = with_agent();
    shard.offered("c1");
    shard.due(20_000);
    assert_eq!(shard.agent(1001).state, not_ready("missed"));

    let mut shard = with_agent();
    let call = shard.offered("c1");
    let branch = shard.ringing(call).unwrap().headers.branch().to_owned();
    shard.event(GatewayEvent::ClientTimeout { branch });
    assert_eq!(shard.agent(1001).state, not_ready("station_lost"));
}

#[test]
fn reserved_agent_who_asks_for_a_pause_keeps_the_offer_and_gets_the_pause_after() {
    let mut shard = with_agent();
    let call = shard.offered("c1");
    shard.ask(1001, lunch());
    assert_eq!(shard.agent_state(1001), "reserved");
    assert!(shard.ringing(call).is_some());
    shard.bye(call, 2);
    assert_eq!(shard.agent(1001).state, not_ready(LUNCH));
    assert_eq!(shard.agent(1001).pending, None);
}

#[test]
fn reserved_agent_who_logs_out_and_misses_is_logged_out() {
    let mut shard = with_agent();
    shard.offered("c1");
    shard.ask(1001, RequestedState::LoggedOut);
    shard.due(20_000);
    assert_eq!(shard.agent(1001).state, State::LoggedOut);
}

#[test]
fn withdrawn_offer_makes_nobody_ready_without_a_phone() {
    for pending in [None, Some(RequestedState::Ready)] {
        let mut shard = with_agent();
        let call = shard.offered("c1");
        if let Some(pending) = pending {
            shard.ask(1001, pending);
        }
        shard.register_for(1001, Some(0));
        assert_eq!(shard.agent_state(1001), "reserved");
        shard.bye(call, 2);
        assert_eq!(shard.agent(1001).state, not_ready("station_lost"));
    }
}

#[test]
fn extension_that_did_not_answer_leaves_its_agent_as_before() {
    let mut shard = with_agent();
    shard.ask(1001, lunch());
    let before = shard.agent(1001).clone();
    let call = shard.invite("c1", "1001").0.unwrap();
    assert_eq!(shard.agent_state(1001), "reserved");
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    shard.due(30_000);
    let after = shard.agent(1001);
    assert_eq!((&after.state, after.since), (&before.state, before.since));
}

// --- a call -----------------------------------------------------------------------------------

#[test]
fn talking_agent_holds_and_retrieves() {
    let mut shard = with_agent();
    let call = shard.talk("c1");
    shard.hold(call, 1, 1, true);
    assert_eq!(shard.agent(1001).state, State::Held { call, back: Rest::Ready });
    shard.hold(call, 1, 2, true);
    assert_eq!(shard.agent_state(1001), "held");
    shard.hold(call, 1, 3, false);
    assert_eq!(shard.agent(1001).state, State::Talking { call, back: Rest::Ready });
}

#[test]
fn callers_hold_is_not_the_agents() {
    let mut shard = with_agent();
    let call = shard.talk("c1");
    shard.hold(call, 0, 2, true);
    assert_eq!(shard.agent_state(1001), "talking");
}

#[test]
fn agent_who_placed_the_call_holds_it_too() {
    let mut shard = with_agent();
    shard.register(1002);
    let call = shard.invite_from("c1", "1002", phone(1001)).0.unwrap();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    shard.ack(call);
    shard.hold(call, 0, 2, true);
    assert_eq!((shard.agent_state(1001), shard.agent_state(1002)), ("held", "talking"));
    shard.hold(call, 0, 3, false);
    assert_eq!(shard.agent_state(1001), "talking");
}

#[test]
fn what_a_talking_agent_asks_for_waits_and_the_last_wish_counts() {
    let mut shard = with_agent();
    let call = shard.talk("c1");
    shard.ask(1001, RequestedState::LoggedOut);
    shard.hold(call, 1, 1, true);
    shard.ask(1001, lunch());
    assert_eq!(shard.agent_state(1001), "held");
    let pending = Rest::NotReady { reason: LUNCH.into() };
    assert_eq!(shard.agent(1001).pending, Some(pending.clone()));
    shard.bye(call, 2);
    let until = Millis(shard.now + 1_000);
    assert_eq!(shard.agent(1001).state, State::Acw { until, next: pending });
    shard.due(1_000);
    assert_eq!(shard.agent(1001).state, not_ready(LUNCH));
}

#[test]
fn last_leg_that_ends_begins_after_call_work_where_there_is_some() {
    let mut shard = with_agent();
    let call = shard.talk("c1");
    shard.agent_bye(call);
    let until = Millis(shard.now + 1_000);
    assert_eq!(shard.agent(1001).state, State::Acw { until, next: Rest::Ready });

    let mut shard = Shard::with(|config| config.acw_ms = 0);
    shard.register(1001);
    let call = shard.talk("c1");
    shard.agent_bye(call);
    assert_eq!(shard.agent(1001).state, State::Ready);
}

#[test]
fn talking_agent_without_a_phone_keeps_the_call_and_is_not_ready_after() {
    let mut shard = Shard::with(|config| config.acw_ms = 0);
    shard.register(1001);
    let call = shard.talk("c1");
    shard.register_for(1001, Some(0));
    assert_eq!(shard.agent_state(1001), "talking");
    shard.bye(call, 2);
    assert_eq!(shard.agent(1001).state, not_ready("station_lost"));
}

#[test]
fn agent_who_calls_out_comes_back_to_where_the_call_found_them() {
    for (before, back) in
        [(lunch(), Rest::NotReady { reason: LUNCH.into() }), (RequestedState::Ready, Rest::Ready)]
    {
        let mut shard = Shard::with(|config| config.acw_ms = 0);
        shard.register(1001);
        shard.ask(1001, before);
        let call = shard.invite_from("c1", "4003", phone(1001)).0.unwrap();
        assert_eq!(shard.agent(1001).state, State::Talking { call, back: back.clone() });
        shard.ack(call);
        shard.bye(call, 2);
        assert_eq!(shard.agent(1001).state, State::from(back));
    }
}

#[test]
fn busy_agent_neither_calls_nor_is_called() {
    let mut shard = with_agent();
    let call = shard.offered("c1");
    for state in ["reserved", "talking", "acw"] {
        assert_eq!(shard.agent_state(1001), state);
        let before = shard.agent(1001).clone();
        assert_eq!(words(&shard.invite_from(state, "4003", phone(1001)).1), ["403"], "{state}");
        assert_eq!(words(&shard.invite(&format!("to {state}"), "1001").1), ["486"], "{state}");
        assert_eq!(*shard.agent(1001), before);
        match state {
            "reserved" => drop(shard.answer(&shard.ringing(call).unwrap(), 200)),
            _ => drop(shard.bye(call, 2)),
        }
    }
}

// --- after-call work ------------------------------------------------------------------------

/// An agent in after-call work, and the log index at which it began.
fn in_acw() -> (Shard, u64) {
    let mut shard = with_agent();
    let call = shard.talk("c1");
    shard.bye(call, 2);
    assert_eq!(shard.agent_state(1001), "acw");
    let since_index = shard.leader.index;
    (shard, since_index)
}

fn acw_over(since_index: u64) -> Command {
    Command::Due(Deadline::AcwOver { agent: AgentId("1001".into()), since_index })
}

#[test]
fn after_call_work_ends_when_it_is_due_and_not_before() {
    let (mut shard, since_index) = in_acw();
    let (reply, _) = shard.apply(acw_over(since_index));
    assert!(matches!(reply, Reply::Rejected(Rejection::Illegal { state: "acw", .. })), "{reply:?}");
    shard.due(1_000);
    assert_eq!(shard.agent(1001).state, State::Ready);
    let (reply, _) = shard.apply(acw_over(since_index));
    assert!(
        matches!(reply, Reply::Rejected(Rejection::Illegal { state: "ready", .. })),
        "{reply:?}"
    );
}

#[test]
fn late_deadline_of_an_earlier_after_call_work_is_ignored() {
    let (mut shard, first) = in_acw();
    shard.ask(1001, RequestedState::Ready);
    let call = shard.talk("c2");
    shard.bye(call, 2);
    shard.now += 1_000;
    let (reply, _) = shard.apply(acw_over(first));
    assert!(matches!(reply, Reply::Rejected(Rejection::Illegal { .. })), "{reply:?}");
    assert_eq!(shard.agent_state(1001), "acw");
}

#[test]
fn agent_leaves_after_call_work_at_once_when_asked() {
    for (wanted, state) in [
        (RequestedState::Ready, State::Ready),
        (lunch(), not_ready(LUNCH)),
        (RequestedState::LoggedOut, State::LoggedOut),
    ] {
        let (mut shard, _) = in_acw();
        shard.ask(1001, wanted);
        assert_eq!(shard.agent(1001).state, state);
    }
}

#[test]
fn after_call_work_ends_not_ready_where_the_phone_is_lost() {
    let (mut shard, _) = in_acw();
    shard.register_for(1001, Some(0));
    assert_eq!(shard.agent_state(1001), "acw");
    shard.due(1_000);
    assert_eq!(shard.agent(1001).state, not_ready("station_lost"));
}

// --- faults ------------------------------------------------------------------------------------

#[test]
fn leader_change_moves_no_agent() {
    let mut shard = with_agent();
    shard.register(1002);
    shard.talk("c1");
    shard.offered("c2");
    let agents = shard.leader.agents.clone();
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    assert_eq!(shard.leader.agents, agents);
}

#[test]
fn quarantined_agent_gets_no_offer_and_keeps_the_call() {
    let mut shard = with_agent();
    quarantine(&mut shard, 1001);
    assert_eq!(shard.agent(1001).state, not_ready("crash_loop"));

    let mut shard = with_agent();
    let call = shard.talk("c1");
    quarantine(&mut shard, 1001);
    assert_eq!(shard.agent_state(1001), "talking");
    shard.bye(call, 2);
    shard.due(1_000);
    assert_eq!(shard.agent(1001).state, not_ready("crash_loop"));

    let (mut shard, _) = in_acw();
    quarantine(&mut shard, 1001);
    assert_eq!(shard.agent(1001).state, not_ready("crash_loop"));

    let mut shard = Shard::new();
    quarantine(&mut shard, 1001);
    assert_eq!(shard.agent(1001).state, State::LoggedOut);
}

#[test]
fn phones_behind_one_address_are_told_apart_the_same_way_on_every_replica() {
    let mut shard = Shard::new();
    let register = |shard: &mut Shard, agent: &str, expires: Option<u32>| {
        let contact = format!("<sip:{agent}@127.0.0.1:9000>");
        let call_id = format!("{agent}-{}", shard.sequence);
        let mut request = request(Method::Register, &call_id, "", &contact);
        request.headers.expires = expires;
        shard.event(GatewayEvent::Register(Register {
            transaction: key(&request),
            source: phone(2_000),
            carrier: Carrier::Udp,
            request: Box::new(request),
            agent: AgentId(agent.into()),
        }));
    };
    register(&mut shard, "1002", None);
    register(&mut shard, "1001", None);
    // A change of the other agent says nothing about who calls from there.
    shard.ask(1002, lunch());
    let call = shard.invite_from("c1", "4003", phone(2_000)).0.unwrap();
    assert_eq!(calling(&shard, call), None, "who is named by nobody comes by a trunk");
    shard.ack(call);
    let mut named = request(Method::Invite, "named", "", "<sip:1002@127.0.0.1:9000>");
    named.headers.from.uri.user = Some("1002".into());
    shard.event(GatewayEvent::Invite(Inbound {
        transaction: key(&named),
        source: phone(2_000),
        carrier: Carrier::Udp,
        request: named.into(),
        offer: Some(audio(4_000)),
        names: Vec::new(),
    }));
    let of = |agent: &str| shard.leader.agents[&AgentId(agent.into())].call();
    assert!(of("1002").is_some() && of("1001").is_none());
    let second = of("1002").unwrap();
    shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call: second }));
    shard.due(1_000);
    shard.bye(call, 2);
    register(&mut shard, "1001", Some(0));
    let call = shard.invite_from("c2", "4003", phone(2_000)).0.unwrap();
    assert_eq!(calling(&shard, call), Some("1002"));
}

/// A port behind a NAT is another phone's tomorrow; a connection's number is nobody else's.
#[test]
fn phone_of_a_connection_is_known_over_that_connection_alone() {
    let mut shard = Shard::new();
    let over = |number| Carrier::Tcp { connection: Some(ConnectionId(number)) };
    shard.register_over(1001, over(7));
    let call = |shard: &mut Shard, call_id: &str, carrier| {
        let mut invite = request(Method::Invite, call_id, "", "<sip:1001@127.0.0.1:8001>");
        invite.uri.user = Some("4003".into());
        shard.event(GatewayEvent::Invite(Inbound {
            transaction: key(&invite),
            source: phone(1001),
            carrier,
            request: invite.into(),
            offer: Some(audio(4_000)),
            names: Vec::new(),
        }));
        let of = |call: &&crate::call::state::Call| {
            call.caller().is_some_and(|leg| leg.invite.headers.call_id == call_id)
        };
        let found = shard.leader.calls.values().find(of);
        found.and_then(|call| call.calling_agent.clone())
    };
    for (call_id, carrier) in [("c1", Carrier::Udp), ("c2", Carrier::TCP), ("c3", over(8))] {
        assert_eq!(call(&mut shard, call_id, carrier), None, "{carrier:?}");
    }
    assert_eq!(call(&mut shard, "c4", over(7)), Some(AgentId("1001".into())));
}

#[test]
fn contact_that_asks_for_tcp_is_reached_by_it() {
    let register = |carrier: Carrier, contact: &str| carrier.towards(&contact.parse().unwrap());
    let over = Carrier::Tcp { connection: Some(ConnectionId(7)) };
    assert_eq!(register(Carrier::Udp, "sip:1001@192.0.2.1"), Carrier::Udp);
    assert_eq!(register(Carrier::Udp, "sip:1001@192.0.2.1;transport=TCP"), Carrier::TCP);
    assert_eq!(register(over, "sip:1001@192.0.2.1"), over);
}

fn calling(shard: &Shard, call: CallId) -> Option<&str> {
    shard.call(call).calling_agent.as_ref().map(|agent| &*agent.0)
}
