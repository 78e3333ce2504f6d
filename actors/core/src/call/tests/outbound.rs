//! Legs that we call, until they are answered or not.

use tandem_sip::{Carrier, ConnectionId, Method, Transport};

use super::{dialing, is_illegal, is_not_found, leg, record, state, times_out, with_agent};
use crate::call::leg::State;
use crate::command::{Command, GatewayEvent};
use crate::deadline::Deadline;
use crate::effect::Body;
use crate::ids::CallId;
use crate::tests::shard::{Shard, response, words};

/// A queued caller's agent was rung, and the caller hung up before any answer.
fn cancelling() -> (Shard, CallId, tandem_sip::Request) {
    let mut shard = with_agent();
    let call = shard.offered("c1");
    let invite = shard.ringing(call).unwrap();
    assert_eq!(words(&shard.bye(call, 2)), ["200", "media []"]);
    assert_eq!(state(&shard, call, 1), &State::Cancelling { sent: false });
    (shard, call, invite)
}

#[test]
fn invite_of_ours_goes_to_where_the_phone_registered_from() {
    let mut shard = with_agent();
    let (call, effects) = shard.invite("c1", "4001");
    let call = call.unwrap();
    let Body::Send { request, destination, .. } = &effects[3].body else { panic!("an INVITE") };
    assert_eq!(*destination, crate::tests::shard::phone(1001));
    assert_eq!(request.uri.to_string(), "sip:1001@127.0.0.1:8001");
    assert_eq!(request.headers.from.uri.user.as_deref(), Some("138"));
    assert_eq!(request.headers.from_tag(), Some(leg(&shard, call, 1).local_tag.as_str()));
    assert_eq!(state(&shard, call, 1), &State::Calling);
}

/// RFC 5626 §5.3: behind a NAT there is no other way.
#[test]
fn phone_that_registered_over_a_connection_is_reached_over_it() {
    let mut shard = Shard::new();
    let carrier = Carrier::Tcp { connection: Some(ConnectionId(7)) };
    shard.register_over(1001, carrier);
    let (call, effects) = shard.invite("c1", "4001");
    let call = call.unwrap();
    let Body::Send { request, carrier: over, .. } = &effects[3].body else { panic!("an INVITE") };
    assert_eq!(*over, carrier);
    assert_eq!(request.headers.via[0].transport, Transport::Tcp);
    let contact = request.headers.contact[0].to_string();
    assert_eq!(contact, "<sip:tandem@127.0.0.10:5060;transport=tcp>");
    // The caller is on UDP, and stays there.
    let Body::Respond { response, .. } = &effects[1].body else { panic!("a 200") };
    assert_eq!(response.headers.contact[0].to_string(), "<sip:tandem@127.0.0.10:5060>");
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 200);
    let Body::Send { request, carrier: over, .. } = &effects[0].body else { panic!("an ACK") };
    assert_eq!((request.headers.via[0].transport.clone(), *over), (Transport::Tcp, carrier));
    assert_eq!(leg(&shard, call, 1).carrier, carrier);
}

/// RFC 3261 §26.2.2, RFC 5630 §5.1.2.
#[test]
fn phone_that_registered_over_tls_is_reached_by_tls_alone() {
    let own = Carrier::Tls { connection: Some(ConnectionId(7)) };
    for (contact, over, carrier, ours) in [
        (
            "<sip:1001@127.0.0.1:8001;transport=tls>",
            own,
            own,
            "<sip:tandem@127.0.0.10:5061;transport=tls>",
        ),
        ("<sips:1001@127.0.0.1:8001>", own, own, "<sips:tandem@127.0.0.10:5061>"),
        ("<sips:1001@127.0.0.1:8001>", Carrier::Udp, Carrier::TLS, "<sips:tandem@127.0.0.10:5061>"),
    ] {
        let mut shard = Shard::new();
        shard.register_at(1001, contact, over);
        let (call, effects) = shard.invite("c1", "4001");
        let call = call.unwrap();
        let Body::Send { request, carrier: by, .. } = &effects[3].body else { panic!("an INVITE") };
        assert_eq!(*by, carrier, "{contact}");
        let via = &request.headers.via[0];
        assert_eq!((via.transport.clone(), via.port), (Transport::Tls, Some(5_061)));
        assert_eq!(request.headers.contact[0].to_string(), ours);
        let invite = shard.ringing(call).unwrap();
        let (_, effects) = shard.answer(&invite, 200);
        let Body::Send { request, carrier: by, .. } = &effects[0].body else { panic!("an ACK") };
        assert_eq!((request.headers.via[0].transport.clone(), *by), (Transport::Tls, carrier));
    }
}

#[test]
fn provisional_answers_lead_from_calling_to_alerting_and_not_back() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    for (status, after, told) in [
        (100, State::Proceeding, vec![]),
        (183, State::Alerting, vec!["180"]),
        (180, State::Alerting, vec![]),
        (100, State::Alerting, vec![]),
    ] {
        let (_, effects) = shard.answer(&invite, status);
        assert_eq!(state(&shard, call, 1), &after, "{status}");
        assert_eq!(words(&effects), told, "{status}");
    }
}

#[test]
fn waiting_caller_hears_nothing_of_the_agents_ringing() {
    let mut shard = with_agent();
    let call = shard.offered("c1");
    let invite = shard.ringing(call).unwrap();
    assert!(shard.answer(&invite, 180).1.is_empty());
}

#[test]
fn failure_of_the_extension_is_told_as_the_caller_may_know_it() {
    for (status, told, disposition) in [
        (486, "486", "busy"),
        (600, "486", "busy"),
        (603, "603", "rejected"),
        (415, "415", "rejected"),
        (404, "480", "failed"),
        (408, "480", "failed"),
        (410, "480", "failed"),
        (503, "480", "failed"),
        (302, "480", "rejected"),
        (401, "480", "rejected"),
        (407, "480", "rejected"),
    ] {
        let (mut shard, call) = dialing();
        let invite = shard.ringing(call).unwrap();
        let (_, effects) = shard.answer(&invite, status);
        assert_eq!(words(&effects), [told, "media []"], "{status}");
        assert_eq!(record(&shard), (disposition, "callee", told), "{status}");
        assert!(shard.leader.calls.is_empty(), "{status}");
        assert_eq!(shard.agent_state(1001), "ready", "{status}");
    }
}

#[test]
fn extension_that_never_answers_at_all_is_unavailable() {
    let (mut shard, call) = dialing();
    let branch = shard.ringing(call).unwrap().headers.branch().to_owned();
    let (_, effects) = times_out(&mut shard, &branch);
    assert_eq!(words(&effects), ["480", "media []"]);
    assert_eq!(record(&shard), ("failed", "callee", "480"));
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn extension_that_rings_out_is_cancelled_and_the_caller_told() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    shard.due(29_000);
    assert_eq!(shard.call(call).state_name(), "dialing");
    shard.due(1_000);
    assert_eq!(record(&shard), ("no_answer", "callee", "480"));
    assert_eq!(state(&shard, call, 1), &State::Cancelling { sent: true });
    assert!(shard.leader.gateways.values().all(|gateway| gateway.free_ports.len() == 40));
    shard.answer(&invite, 487);
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn ring_out_of_an_offer_that_is_over_changes_nothing() {
    let (mut shard, call) = dialing();
    let offer = leg(&shard, call, 1).offer().unwrap();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    let (reply, effects) = shard.apply(Command::Due(Deadline::RingOut { call, offer }));
    assert!(is_not_found(&reply), "{reply:?}");
    assert!(effects.is_empty());
    assert_eq!(shard.call(call).state_name(), "connected");
}

#[test]
fn cancel_goes_once_after_the_first_provisional_answer() {
    let (mut shard, call, invite) = cancelling();
    let (_, effects) = shard.answer(&invite, 100);
    assert_eq!(words(&effects), ["CANCEL"]);
    let Body::Send { request, .. } = &effects[0].body else { panic!("a CANCEL") };
    assert_eq!(request.headers.branch(), invite.headers.branch());
    assert_eq!(request.headers.cseq.number, invite.headers.cseq.number);
    assert!(shard.answer(&invite, 180).1.is_empty());
    assert_eq!(state(&shard, call, 1), &State::Cancelling { sent: true });
}

#[test]
fn cancelled_leg_is_over_with_any_failure_a_timeout_or_its_deadline() {
    for status in [487, 486, 500] {
        let (mut shard, _, invite) = cancelling();
        shard.answer(&invite, status);
        assert!(shard.leader.calls.is_empty(), "{status}");
    }
    let (mut shard, _, invite) = cancelling();
    times_out(&mut shard, invite.headers.branch());
    assert!(shard.leader.calls.is_empty());
    let (mut shard, _, _) = cancelling();
    shard.due(crate::limits::RELEASE_MS_MAX);
    assert!(shard.leader.calls.is_empty());
}

#[test]
fn answer_to_a_cancel_says_nothing_about_its_invite() {
    let (mut shard, call, invite) = cancelling();
    shard.answer(&invite, 180);
    let mut ok = response(&invite, 200);
    ok.headers.cseq.method = Method::Cancel;
    let (reply, effects) = shard.event(GatewayEvent::Response {
        branch: invite.headers.branch().to_owned(),
        response: Box::new(ok),
        answer: None,
    });
    assert_eq!(reply, crate::world::Reply::Done);
    assert!(effects.is_empty());
    assert_eq!(state(&shard, call, 1), &State::Cancelling { sent: true });
}

#[test]
fn second_branch_of_a_fork_is_taken_down_and_the_first_kept() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    let mut fork = invite.respond(200, None, Some("other-phone"));
    fork.headers.contact = vec!["<sip:1001@127.0.0.1:8999>".parse().unwrap()];
    let (_, effects) = shard.event(GatewayEvent::Response {
        branch: invite.headers.branch().to_owned(),
        response: Box::new(fork),
        answer: None,
    });
    assert_eq!(words(&effects), ["ACK", "BYE"]);
    let Body::Send { request, .. } = &effects[1].body else { panic!("a BYE") };
    assert_eq!(request.headers.to_tag(), Some("other-phone"));
    assert_eq!(shard.call(call).state_name(), "connected");
    // A 200 that comes again comes this far only where a new life of the gateway has no ACK of it.
    assert_eq!(words(&shard.answer(&invite, 200).1), ["ACK"]);
}

#[test]
fn failure_after_the_answer_is_illegal() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    for status in [180, 486] {
        let (reply, effects) = shard.answer(&invite, status);
        assert!(is_illegal(&reply, "active"), "{reply:?}");
        assert!(effects.is_empty());
    }
    let (reply, _) = times_out(&mut shard, invite.headers.branch());
    assert!(is_illegal(&reply, "active"), "{reply:?}");
    assert_eq!(shard.call(call).state_name(), "connected");
}

#[test]
fn response_and_timeout_of_an_unknown_request_are_refused() {
    let mut shard = with_agent();
    let stray = crate::tests::shard::request(Method::Invite, "stray", "", "");
    let (reply, _) = shard.answer(&stray, 200);
    assert!(is_not_found(&reply), "{reply:?}");
    let (reply, _) = times_out(&mut shard, "z9hG4bKstray");
    assert!(is_not_found(&reply), "{reply:?}");
}
