//! Session timers (RFC 4028) of both kinds of legs, by both refreshers.

use tandem_sip::{Method, Request, Response};

use super::{connected, leg, record, state, times_out, with_agent};
use crate::call::leg::State;
use crate::call::session_timer::Refresher;
use crate::command::{Command, GatewayEvent, Inbound};
use crate::deadline::Deadline;
use crate::effect::{Body, Effect};
use crate::ids::{CallId, EntityId};
use crate::tests::shard::{Shard, audio, key, request, response, words};

const INTERVAL_MS: u64 = 90_000;

/// The header of the first response or request of that name among the effects.
fn header(effects: &[Effect], name: &str) -> Option<String> {
    let headers = |effect: &Effect| match &effect.body {
        Body::Respond { response, .. } => response.headers.other(name).map(str::to_owned),
        Body::Send { request, .. } => request.headers.other(name).map(str::to_owned),
        Body::Notify { .. } | Body::Media(_) => None,
    };
    effects.iter().find_map(headers)
}

fn sent(effects: &[Effect]) -> Request {
    let sent = effects.iter().find_map(|effect| match &effect.body {
        Body::Send { request, .. } => Some((**request).clone()),
        Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => None,
    });
    sent.expect("a request")
}

/// The echo answers an INVITE with these header lines.
fn called_with(headers: &[(&str, &str)]) -> (Shard, CallId, Vec<Effect>) {
    let mut shard = with_agent();
    let mut invite = request(Method::Invite, "c1", "", "<sip:c@127.0.0.1:6000>");
    invite.headers.content_type = Some("application/sdp".into());
    for (name, value) in headers {
        invite.headers.push_other(name, value);
    }
    let (_, effects) = shard.event(GatewayEvent::Invite(Inbound {
        transaction: key(&invite),
        source: "127.0.0.1:6000".parse().unwrap(),
        carrier: tandem_sip::Carrier::Udp,
        request: invite.into(),
        offer: Some(audio(4_000)),
        names: Vec::new(),
    }));
    let call = *shard.leader.calls.keys().next().expect("a call");
    shard.ack(call);
    (shard, call, effects)
}

/// An agent's phone answers with these header lines.
fn answered_with(headers: &[(&str, &str)]) -> (Shard, CallId) {
    let mut shard = with_agent();
    let call = shard.offered("c1");
    let invite = shard.ringing(call).expect("it rings");
    respond(&mut shard, &invite, 200, headers, true);
    assert_eq!(state(&shard, call, 1), &State::Active);
    (shard, call)
}

fn respond(
    shard: &mut Shard,
    to: &Request,
    status: u16,
    headers: &[(&str, &str)],
    answers: bool,
) -> Vec<Effect> {
    let mut response: Response = response(to, status);
    for (name, value) in headers {
        response.headers.push_other(name, value);
    }
    let branch = to.headers.branch().to_owned();
    let answer = answers.then(|| audio(5_000));
    shard.event(GatewayEvent::Response { branch, response: response.into(), answer }).1
}

/// What the session timers that are due by then do.
fn wait(shard: &mut Shard, ms: u64) -> Vec<Effect> {
    shard.now += ms;
    let mut effects = Vec::new();
    for deadline in shard.leader.due(tandem_sip::Millis(shard.now)) {
        if matches!(deadline, Deadline::SessionTimer { .. }) {
            effects.extend(shard.apply(Command::Due(deadline)).1);
        }
    }
    effects
}

const UPDATES: (&str, &str) = ("Allow", "INVITE, ACK, BYE, UPDATE");

#[test]
fn refresher_of_an_answered_call_is_chosen_by_the_table() {
    let timer = ("Supported", "timer");
    for (headers, said, required) in [
        (vec![timer, ("Session-Expires", "90")], Some("90;refresher=uac"), true),
        (vec![timer, ("Session-Expires", "90;refresher=uac")], Some("90;refresher=uac"), true),
        (vec![timer, ("x", "600;refresher=uas")], Some("600;refresher=uas"), true),
        // A proxy asked.
        (vec![("Session-Expires", "90")], Some("90;refresher=uas"), false),
        (vec![("Session-Expires", "89")], None, false),
        (vec![timer], None, false),
        (vec![], None, false),
    ] {
        let (shard, call, effects) = called_with(&headers);
        assert_eq!(words(&effects)[..2], ["100", "200"]);
        assert_eq!(header(&effects, "Session-Expires").as_deref(), said, "{headers:?}");
        assert_eq!(header(&effects, "Require").is_some(), required, "{headers:?}");
        assert_eq!(header(&effects, "Supported").as_deref(), Some("timer"));
        let refresher = leg(&shard, call, 0).timer.as_ref().map(|timer| timer.refresher);
        let uas = said.map(|said| said.ends_with("uas"));
        assert_eq!(refresher.map(|refresher| refresher == Refresher::We), uas, "{headers:?}");
    }
}

#[test]
fn caller_who_does_not_refresh_is_hung_up_before_the_end() {
    let (mut shard, _, _) =
        called_with(&[("Supported", "timer"), ("Session-Expires", "90;refresher=uac")]);
    assert_eq!(wait(&mut shard, 59_900), []);
    let effects = wait(&mut shard, 200);
    assert_eq!(words(&effects), ["media []", "BYE"]);
    assert!(header(&effects, "Reason").is_some_and(|it| it.starts_with("Q.850;cause=102;")));
    assert_eq!(record(&shard), ("answered", "system", "session_expired"));
    assert_eq!(shard.cdrs[0].q850.map(|q850| q850.get()), Some(102));
}

#[test]
fn caller_who_refreshes_talks_on() {
    let (mut shard, call, _) =
        called_with(&[("Supported", "timer"), ("Session-Expires", "90;refresher=uac")]);
    for cseq in 2..6 {
        assert_eq!(wait(&mut shard, 45_000), []);
        let method = if cseq % 2 == 0 { Method::Update } else { Method::Invite };
        let mut refresh = shard.of_peer(call, 0, method.clone(), cseq);
        refresh.headers.push_other("Supported", "timer");
        refresh.headers.push_other("Session-Expires", "90;refresher=uac");
        let offer = (method == Method::Invite).then(|| audio(4_000));
        let effects = shard.in_dialog(refresh, offer);
        assert_eq!(words(&effects)[0], "200");
        assert_eq!(header(&effects, "Session-Expires").as_deref(), Some("90;refresher=uac"));
        assert_eq!(header(&effects, "Require").as_deref(), Some("timer"));
    }
    // A refresh that asks for nothing more ends the timer: nobody has promised another.
    let update = shard.of_peer(call, 0, Method::Update, 6);
    assert_eq!(header(&shard.in_dialog(update, None), "Session-Expires"), None);
    assert_eq!(leg(&shard, call, 0).timer, None);
    assert_eq!(wait(&mut shard, 10 * INTERVAL_MS), []);
}

#[test]
fn we_refresh_by_update_at_half_time_and_the_answer_begins_it_anew() {
    let (mut shard, call) = answered_with(&[("Session-Expires", "90;refresher=uac"), UPDATES]);
    assert_eq!(wait(&mut shard, 44_900), []);
    let effects = wait(&mut shard, 200);
    assert_eq!(words(&effects), ["UPDATE"]);
    let update = sent(&effects);
    assert_eq!(update.headers.other("Session-Expires"), Some("90;refresher=uac"));
    assert_eq!(update.headers.other("Supported"), Some("timer"));
    assert_eq!((update.body.len(), update.headers.cseq.number), (0, 2));
    assert_eq!(wait(&mut shard, 10_000), []);
    let effects =
        respond(&mut shard, &update, 200, &[("Session-Expires", "120;refresher=uac")], false);
    assert_eq!(words(&effects), [""; 0]);
    assert_eq!(wait(&mut shard, 59_000), []);
    let update = sent(&wait(&mut shard, 2_000));
    assert_eq!(update.headers.other("Session-Expires"), Some("120;refresher=uac"));
    assert_eq!(update.headers.cseq.number, 3);
    // The peer takes over.
    respond(&mut shard, &update, 200, &[("Session-Expires", "120;refresher=uas")], false);
    assert_eq!(wait(&mut shard, 60_500), []);
    assert_eq!(leg(&shard, call, 1).timer.as_ref().map(|t| t.refresher), Some(Refresher::Peer));
    assert_eq!(words(&wait(&mut shard, 30_000)), ["media []", "BYE", "BYE"]);
}

#[test]
fn phone_without_update_gets_the_offer_of_before_in_a_reinvite() {
    let (mut shard, call) = answered_with(&[("Session-Expires", "90;refresher=uac")]);
    let first = leg(&shard, call, 1).invite.clone();
    let media = leg(&shard, call, 1).media.clone();
    let effects = wait(&mut shard, 45_000);
    assert_eq!(words(&effects), ["INVITE"]);
    let reinvite = sent(&effects);
    assert_eq!((&reinvite.body, reinvite.headers.cseq.number), (&first.body, 2));
    assert_eq!(respond(&mut shard, &reinvite, 100, &[], false), []);
    let accepted = [("Session-Expires", "90;refresher=uac")];
    let effects = respond(&mut shard, &reinvite, 200, &accepted, true);
    assert_eq!(words(&effects), ["ACK"]);
    assert_eq!(sent(&effects).headers.cseq.number, 2);
    assert_eq!(leg(&shard, call, 1).media, media);
    // The gateway's next life has no ACK to repeat.
    assert_eq!(words(&respond(&mut shard, &reinvite, 200, &accepted, true)), ["ACK"]);
    let again = sent(&wait(&mut shard, 45_000));
    assert_eq!((&again.body, again.headers.cseq.number), (&first.body, 3));
}

#[test]
fn refresh_that_finds_nobody_ends_the_call() {
    for answer in [Some(408), Some(481), None] {
        let (mut shard, _) = answered_with(&[("Session-Expires", "90;refresher=uac"), UPDATES]);
        let update = sent(&wait(&mut shard, 45_000));
        let effects = match answer {
            Some(status) => respond(&mut shard, &update, status, &[], false),
            None => times_out(&mut shard, update.headers.branch()).1,
        };
        assert_eq!(words(&effects), ["media []", "BYE", "BYE"], "{answer:?}");
        let cause = if answer == Some(481) { "session_expired" } else { "agent_unreachable" };
        assert_eq!(record(&shard), ("answered", "system", cause));
    }
}

#[test]
fn refresh_that_meets_anothers_waits_and_tries_again() {
    let (mut shard, call) = answered_with(&[("Session-Expires", "90;refresher=uac"), UPDATES]);
    let update = sent(&wait(&mut shard, 45_000));
    respond(&mut shard, &update, 491, &[], false);
    // The Call-ID is ours.
    let wait_ms = leg(&shard, call, 1).timer.as_ref().unwrap().refresh_at.unwrap().0 - shard.now;
    assert!((2_100..=4_000).contains(&wait_ms), "{wait_ms}");
    assert_eq!(words(&wait(&mut shard, 4_000)), ["UPDATE"]);

    let headers = [("Supported", "timer"), ("Session-Expires", "90;refresher=uas"), UPDATES];
    let (mut shard, call, _) = called_with(&headers);
    let update = sent(&wait(&mut shard, 45_000));
    respond(&mut shard, &update, 491, &[], false);
    let at = leg(&shard, call, 0).timer.as_ref().unwrap().refresh_at.unwrap().0;
    assert!((0..=2_000).contains(&(at - shard.now)), "{at}");
}

#[test]
fn refused_refresh_is_tried_again_while_there_is_time() {
    let (mut shard, _) = answered_with(&[("Session-Expires", "90;refresher=uac"), UPDATES]);
    let mut last = sent(&wait(&mut shard, 45_000));
    let mut tries = 1;
    let effects = loop {
        respond(&mut shard, &last, 500, &[], false);
        let effects = wait(&mut shard, 7_600);
        match words(&effects)[0].as_str() {
            "UPDATE" => (last, tries) = (sent(&effects), tries + 1),
            _ => break effects,
        }
    };
    assert_eq!((words(&effects), tries), (vec!["media []".into(), "BYE".into(), "BYE".into()], 2));
}

#[test]
fn update_that_is_not_taken_becomes_a_reinvite_and_a_short_interval_a_longer_one() {
    let (mut shard, _) = answered_with(&[("Session-Expires", "90;refresher=uac"), UPDATES]);
    let update = sent(&wait(&mut shard, 45_000));
    respond(&mut shard, &update, 405, &[], false);
    let reinvite = sent(&wait(&mut shard, 0));
    assert_eq!(reinvite.method, Method::Invite);
    respond(&mut shard, &reinvite, 422, &[("Min-SE", "300")], false);
    let longer = sent(&wait(&mut shard, 0));
    assert_eq!(longer.headers.other("Session-Expires"), Some("300;refresher=uac"));
    // The same again helps nobody.
    respond(&mut shard, &longer, 422, &[("Min-SE", "300")], false);
    assert_eq!(wait(&mut shard, 100), []);
}

#[test]
fn phone_that_wants_a_longer_interval_is_asked_once_more() {
    let mut shard = with_agent();
    let call = shard.offered("c1");
    let invite = shard.ringing(call).expect("it rings");
    assert_eq!(invite.headers.other("Session-Expires"), Some("1800"));
    let effects = respond(&mut shard, &invite, 422, &[("Min-SE", "3600")], false);
    assert_eq!(words(&effects), ["INVITE"]);
    let again = sent(&effects);
    assert_eq!(again.headers.other("Session-Expires"), Some("3600"));
    assert_eq!(again.headers.other("Min-SE"), Some("3600"));
    assert_eq!((&again.headers.call_id, again.headers.cseq.number), (&invite.headers.call_id, 2));
    assert_eq!(again.headers.from, invite.headers.from);
    // What comes late of the first is nobody's.
    assert_eq!(respond(&mut shard, &invite, 180, &[], false), []);
    respond(&mut shard, &again, 180, &[], false);
    respond(&mut shard, &again, 200, &[("Session-Expires", "3600;refresher=uas")], true);
    assert_eq!(leg(&shard, call, 1).timer.as_ref().map(|t| t.interval_s), Some(3_600));
    assert_eq!(shard.agent_state(1001), "talking");

    // One that asks for no more than that, or for more than anybody may, is a refusal.
    for least in ["1800", "86401", "x"] {
        let mut shard = with_agent();
        let call = shard.offered("c1");
        let invite = shard.ringing(call).expect("it rings");
        let effects = respond(&mut shard, &invite, 422, &[("Min-SE", least)], false);
        assert_eq!(words(&effects), [""; 0], "{least}");
        assert_eq!(shard.agent_state(1001), "not_ready");
    }
}

#[test]
fn answer_of_less_than_we_take_is_taken_for_the_least() {
    let (shard, call) = answered_with(&[("Session-Expires", "1;refresher=uac")]);
    assert_eq!(leg(&shard, call, 1).timer.as_ref().map(|timer| timer.interval_s), Some(90));
}

#[test]
fn refresh_is_sent_again_by_the_next_leader_until_it_is_answered() {
    let (mut shard, call) = answered_with(&[("Session-Expires", "90;refresher=uac"), UPDATES]);
    let effects = wait(&mut shard, 45_000);
    let update = sent(&effects);
    let owed = |shard: &Shard| {
        let entity = EntityId::Call(call);
        let owed = shard.leader.effects_of(&entity).cloned();
        words(&owed.collect::<Vec<_>>()).contains(&"UPDATE".to_owned())
    };
    shard.done = vec![effects[0].id];
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    assert!(owed(&shard), "its answer has not come");
    respond(&mut shard, &update, 200, &[("Session-Expires", "90;refresher=uac")], false);
    assert!(!owed(&shard));
}

#[test]
fn tenant_without_session_timers_asks_for_none() {
    let mut shard = Shard::with(|config| config.session_expires_s = 0);
    shard.register(1001);
    let call = shard.offered("c1");
    let invite = shard.ringing(call).expect("it rings");
    assert_eq!(invite.headers.other("Session-Expires"), None);
    assert_eq!(invite.headers.other("Supported"), Some("timer"));
}

#[test]
fn leg_that_hangs_up_is_refreshed_no_more() {
    let (mut shard, call) = connected();
    assert_eq!(leg(&shard, call, 1).timer, None);
    shard.bye(call, 2);
    assert_eq!(wait(&mut shard, 10 * INTERVAL_MS), []);
}

#[test]
fn answer_to_our_reinvite_moves_the_media() {
    let (mut shard, call) = answered_with(&[("Session-Expires", "90;refresher=uac")]);
    let reinvite = sent(&wait(&mut shard, 45_000));
    let mut accepted = response(&reinvite, 200);
    accepted.headers.push_other("Session-Expires", "90;refresher=uac");
    let branch = reinvite.headers.branch().to_owned();
    let answer = Some(audio(5_500));
    let event = GatewayEvent::Response { branch, response: accepted.into(), answer };
    let (_, effects) = shard.event(event);
    assert_eq!(words(&effects), ["ACK", "media [leg leg] recorded"]);
    assert_eq!(leg(&shard, call, 1).media.remote, audio(5_500).remote());
}

#[test]
fn caller_whose_refresh_waits_for_a_leader_is_not_hung_up_by_it() {
    let headers = [("Supported", "timer"), ("Session-Expires", "90;refresher=uac")];
    let (mut shard, call, _) = called_with(&headers);
    shard.now += INTERVAL_MS;
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    assert_eq!(wait(&mut shard, 9_000), []);
    let mut refresh = shard.of_peer(call, 0, Method::Update, 2);
    refresh.headers.push_other("Supported", "timer");
    refresh.headers.push_other("Session-Expires", "90;refresher=uac");
    assert_eq!(words(&shard.in_dialog(refresh, None))[0], "200");
    assert_eq!(wait(&mut shard, 59_000), []);
    assert_eq!(words(&wait(&mut shard, 2_000)), ["media []", "BYE"]);
}
