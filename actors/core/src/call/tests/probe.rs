//! Dialogs over connections after their gateway's death, and all of them when everything was dead.

use tandem_sip::{Carrier, ConnectionId, Method, Request};

use super::{leg, record, times_out};
use crate::call::session_timer::Refresher;
use crate::command::{Command, GatewayEvent};
use crate::deadline::Deadline;
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::limits;
use crate::tests::shard::{Shard, response, words};

const WS: Carrier = Carrier::Ws { connection: Some(ConnectionId(7)) };

/// An agent's phone talks over this, and its gateway begins a new life.
fn begun_anew(carrier: Carrier) -> (Shard, CallId) {
    let mut shard = Shard::new();
    shard.register_over(1001, carrier);
    let call = shard.talk("c1");
    shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect());
    (shard, call)
}

/// What the session timers that are due by then do.
fn wait(shard: &mut Shard, ms: u64) -> Vec<Effect> {
    shard.now += ms;
    let due = shard.leader.due(tandem_sip::Millis(shard.now));
    let timers = due.into_iter().filter(|due| matches!(due, Deadline::SessionTimer { .. }));
    timers.flat_map(|due| shard.apply(Command::Due(due)).1).collect()
}

fn asked(effects: &[Effect]) -> Request {
    let [Effect { body: Body::Send { request, .. }, .. }] = effects else { panic!("{effects:?}") };
    Request::clone(request)
}

fn answer(shard: &mut Shard, to: &Request, status: u16) -> Vec<Effect> {
    let branch = to.headers.branch().to_owned();
    let response = response(to, status).into();
    shard.event(GatewayEvent::Response { branch, response, answer: None }).1
}

#[test]
fn phone_that_has_hung_up_meanwhile_says_so_when_it_is_asked() {
    let (mut shard, _) = begun_anew(WS);
    assert_eq!(wait(&mut shard, limits::PROBE_AFTER_MS - 1), []);
    let effects = wait(&mut shard, 1);
    let update = asked(&effects);
    assert_eq!((&update.method, update.body.len()), (&Method::Update, 0));
    let effects = answer(&mut shard, &update, 481);
    assert!(words(&effects).contains(&"BYE".to_owned()), "{effects:?}");
    assert_eq!(record(&shard), ("answered", "system", "session_expired"));
}

#[test]
fn phone_that_knows_its_call_is_asked_once() {
    let (mut shard, call) = begun_anew(WS);
    let update = asked(&wait(&mut shard, limits::PROBE_AFTER_MS));
    // It takes no UPDATE: the same by a re-INVITE, which describes the media as before.
    answer(&mut shard, &update, 405);
    let invite = asked(&wait(&mut shard, 0));
    assert_eq!(invite.method, Method::Invite);
    let effects = answer(&mut shard, &invite, 200);
    assert_eq!(words(&effects), ["ACK"]);
    assert_eq!(leg(&shard, call, 1).timer, None);
    assert_eq!(wait(&mut shard, 1_000 * u64::from(limits::PROBE_S)), []);
    assert_eq!(shard.call(call).state_name(), "connected");
}

#[test]
fn phone_that_does_not_come_back_is_given_up_and_named() {
    let (mut shard, _) = begun_anew(WS);
    let begun = shard.now;
    let mut effects = wait(&mut shard, limits::PROBE_AFTER_MS);
    let mut asked_times = 0;
    while words(&effects) == ["UPDATE"] {
        asked_times += 1;
        times_out(&mut shard, asked(&effects).headers.branch());
        effects = wait(&mut shard, limits::PROBE_AGAIN_MS);
    }
    assert!(words(&effects).contains(&"BYE".to_owned()), "{effects:?}");
    assert_eq!(record(&shard), ("answered", "system", "agent_unreachable"));
    let over_ms = limits::PROBE_AFTER_MS + 1_000 * u64::from(limits::PROBE_S);
    assert!(shard.now - begun <= over_ms, "{} ms", shard.now - begun);
    assert!(asked_times >= 10, "{asked_times}");
}

#[test]
fn phone_over_udp_says_again_what_nobody_has_heard() {
    let (mut shard, call) = begun_anew(Carrier::Udp);
    assert_eq!(leg(&shard, call, 1).timer, None);
    assert_eq!(wait(&mut shard, 1_000 * u64::from(limits::PROBE_S)), []);
}

// --- all was dead, nodes and gateways -------------------------------------------------------------

/// Nobody led, and then somebody does.
fn dark(shard: &mut Shard) {
    shard.apply(Command::Elected { node: "node-b".into(), dark: true });
}

fn begins(shard: &mut Shard) {
    shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect());
}

/// Whom the requests ask: Call-IDs.
fn whom(effects: &[Effect]) -> Vec<String> {
    let of = |effect: &Effect| match &effect.body {
        Body::Send { request, .. } => request.headers.call_id.clone(),
        Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => panic!("{effect:?}"),
    };
    effects.iter().map(of).collect()
}

#[test]
fn everybody_who_was_answered_is_asked_when_all_was_dead_and_agents_talks_come_first() {
    let mut shard = Shard::new();
    let (echo, _) = shard.invite("c0", "4003");
    shard.ack(echo.unwrap());
    shard.register_over(1002, WS);
    let connection = shard.talk("c1");
    shard.register(1001);
    let talk = shard.talk("c2");
    dark(&mut shard);
    begins(&mut shard);
    let agents = |call: CallId| leg(&shard, call, 1).invite.headers.call_id.clone();
    let (over_ws, over_udp) = (agents(connection), agents(talk));
    let mut first = vec!["c1".to_owned(), "c2".to_owned(), over_udp];
    first.sort();

    assert_eq!(wait(&mut shard, limits::DARK_ASKED_AFTER_MS - 1), []);
    let (begun, mut asked) = (shard.now, Vec::new());
    while shard.now < begun + 4 * limits::PROBE_APART_MS {
        let now = whom(&wait(&mut shard, 1));
        assert!(now.len() <= 1, "{now:?}");
        asked.extend(now);
    }
    let rest = asked.split_off(3);
    asked.sort();
    assert_eq!((asked, rest), (first, vec!["c0".to_owned()]));
    // It has the time to connect again.
    assert_eq!(wait(&mut shard, limits::PROBE_AFTER_MS - limits::DARK_ASKED_AFTER_MS - 50), []);
    assert_eq!(whom(&wait(&mut shard, 51)), [over_ws]);
}

#[test]
fn who_knows_the_call_goes_on_and_who_is_silent_is_named() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.talk("c1");
    dark(&mut shard);
    begins(&mut shard);
    wait(&mut shard, limits::DARK_ASKED_AFTER_MS - 1);
    let (one, two) = (wait(&mut shard, 1), wait(&mut shard, limits::PROBE_APART_MS));
    let (one, two) = (asked(&one), asked(&two));
    let (caller, agent) = if one.headers.call_id == "c1" { (one, two) } else { (two, one) };
    assert_eq!(answer(&mut shard, &agent, 200), []);
    assert_eq!(shard.call(call).state_name(), "connected");
    assert_eq!(leg(&shard, call, 1).timer, None);
    let (_, effects) = times_out(&mut shard, caller.headers.branch());
    assert_eq!(words(&effects), ["media []", "BYE", "BYE"]);
    assert_eq!(record(&shard), ("answered", "system", "caller_unreachable"));
}

#[test]
fn gateway_that_lived_while_all_nodes_were_dead_has_heard_who_hung_up() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.talk("c1");
    dark(&mut shard);
    // Anything that it says.
    shard.event(GatewayEvent::ClientTimeout { branch: "x".into() });
    begins(&mut shard);
    assert_eq!(wait(&mut shard, 1_000 * u64::from(limits::PROBE_S)), []);
    assert_eq!(leg(&shard, call, 1).timer, None);
}

#[test]
fn next_leader_does_not_forget_that_all_was_dead() {
    let mut shard = Shard::new();
    let call = shard.invite("c1", "4003").0.unwrap();
    shard.ack(call);
    dark(&mut shard);
    shard.apply(Command::Elected { node: "node-a".into(), dark: false });
    begins(&mut shard);
    assert_eq!(words(&wait(&mut shard, limits::DARK_ASKED_AFTER_MS)), ["UPDATE"]);
    // It asks once, not in each later life.
    begins(&mut shard);
    assert_eq!(wait(&mut shard, limits::PROBE_AFTER_MS), []);
}

#[test]
fn peer_that_refreshes_is_asked_too_before_its_session_is_over_and_goes_on_to_refresh() {
    let mut shard = Shard::new();
    let headers = [("Supported", "timer"), ("Session-Expires", "90;refresher=uac")];
    let (status, _) = shard.invite_with_number("c1", "4003", &headers);
    assert_eq!(status, 200);
    let call = *shard.leader.calls.keys().next().expect("a call");
    shard.ack(call);
    // Its session ended long ago.
    shard.now += 3_600_000;
    dark(&mut shard);
    begins(&mut shard);
    let update = asked(&wait(&mut shard, limits::DARK_ASKED_AFTER_MS));
    assert_eq!(update.headers.other("Session-Expires"), Some("90;refresher=uas"));
    assert_eq!(wait(&mut shard, limits::ASKED_MS_MAX - 1_000), [], "it has the time to answer");
    let branch = update.headers.branch().to_owned();
    let mut accepted = response(&update, 200);
    accepted.headers.push_other("Session-Expires", "90;refresher=uas");
    shard.event(GatewayEvent::Response { branch, response: accepted.into(), answer: None });
    let timer = leg(&shard, call, 0).timer.clone().expect("a timer");
    assert_eq!((timer.refresher, timer.refresh_at), (Refresher::Peer, None));
    assert_eq!(words(&wait(&mut shard, 90_000)), ["media []", "BYE"]);
    assert_eq!(record(&shard), ("answered", "system", "session_expired"));
}

#[test]
fn phone_that_rings_is_not_asked_and_its_time_goes_on() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "1001").0.expect("a call");
    let invite = shard.ringing(call).expect("it rings");
    shard.answer(&invite, 180);
    dark(&mut shard);
    begins(&mut shard);
    assert!(shard.call(call).legs.iter().all(|leg| leg.timer.is_none()));
    shard.due(60_000);
    assert!(!shard.call(call).is_live());
}
