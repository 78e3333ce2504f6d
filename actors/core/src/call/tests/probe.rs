//! Dialogs over connections, after their gateway's death.

use tandem_sip::{Carrier, ConnectionId, Method, Request};

use super::{leg, record, times_out};
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
