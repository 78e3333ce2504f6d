//! Offers that meet others (RFC 3261 §14.2, RFC 3311 §5.2).

use tandem_sip::Method;
use tandem_sip::sdp::Audio;

use super::{connected, dialing, leg};
use crate::command::{Command, GatewayEvent};
use crate::deadline::Deadline;
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::tests::shard::{Shard, audio, response, words};

/// The agent's phone takes no UPDATE, and our re-INVITE waits for its answer.
fn refreshing() -> (Shard, CallId) {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.offered("c1");
    let invite = shard.ringing(call).expect("it rings");
    let mut accepted = response(&invite, 200);
    accepted.headers.push_other("Session-Expires", "90;refresher=uac");
    let branch = invite.headers.branch().to_owned();
    let answer = Some(audio(5_000));
    shard.event(GatewayEvent::Response { branch, response: accepted.into(), answer });
    let due = shard.due(45_000);
    assert!(matches!(due.as_slice(), [Deadline::SessionTimer { .. }]), "{due:?}");
    (shard, call)
}

fn ask(
    shard: &mut Shard,
    call: CallId,
    at: usize,
    method: Method,
    cseq: u32,
    offer: Option<Audio>,
) -> Vec<Effect> {
    let request = shard.of_peer(call, at, method, cseq);
    shard.in_dialog(request, offer)
}

fn retry_after(effects: &[Effect]) -> Option<u64> {
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    response.headers.other("Retry-After")?.parse().ok()
}

#[test]
fn offer_that_meets_our_reinvite_is_491_and_ours_goes_on() {
    let (mut shard, call) = refreshing();
    assert_eq!(words(&ask(&mut shard, call, 1, Method::Invite, 1, Some(audio(4_000)))), ["491"]);
    assert_eq!(words(&ask(&mut shard, call, 1, Method::Invite, 2, None)), ["491"]);
    assert_eq!(words(&ask(&mut shard, call, 1, Method::Update, 3, Some(audio(4_000)))), ["491"]);
    // One that offers nothing meets nothing.
    assert_eq!(words(&ask(&mut shard, call, 1, Method::Update, 4, None))[0], "200");
    // The other leg is another dialog.
    assert_eq!(words(&ask(&mut shard, call, 0, Method::Invite, 2, Some(audio(4_000))))[0], "200");
    let refresh = leg(&shard, call, 1).timer.clone().and_then(|timer| timer.refresh);
    assert!(refresh.is_none_or(|refresh| !refresh.answered));
}

#[test]
fn offer_that_meets_ours_in_a_200_waits_for_the_ack() {
    let (mut shard, call) = connected();
    assert_eq!(words(&ask(&mut shard, call, 0, Method::Invite, 2, None))[0], "200");
    assert_eq!(words(&ask(&mut shard, call, 0, Method::Update, 3, Some(audio(4_000)))), ["491"]);
    assert_eq!(words(&ask(&mut shard, call, 0, Method::Update, 4, None))[0], "200");
    let caller = leg(&shard, call, 0);
    let (call_id, local_tag) = (caller.invite.headers.call_id.clone(), caller.local_tag.clone());
    let answer = Some(audio(4_444));
    shard.event(GatewayEvent::Ack { call_id, local_tag, cseq: 2, answer });
    assert_eq!(words(&ask(&mut shard, call, 0, Method::Update, 5, Some(audio(4_000))))[0], "200");
}

#[test]
fn ack_that_never_comes_does_not_shut_the_peer_out_for_ever() {
    let (mut shard, call) = connected();
    ask(&mut shard, call, 0, Method::Invite, 2, None);
    shard.now += 32_000;
    assert_eq!(words(&ask(&mut shard, call, 0, Method::Update, 3, Some(audio(4_000))))[0], "200");
}

#[test]
fn offer_before_our_answer_is_500_and_may_come_again() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).expect("it rings");
    shard.answer(&invite, 180);
    for (cseq, method) in [(2, Method::Update), (3, Method::Invite)] {
        let effects = ask(&mut shard, call, 0, method, cseq, Some(audio(4_000)));
        assert_eq!(words(&effects), ["500"]);
        assert!(retry_after(&effects).is_some_and(|wait_s| wait_s <= 10));
    }
    assert_eq!(words(&ask(&mut shard, call, 0, Method::Update, 4, None)), ["200"]);
    shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    assert_eq!(shard.call(call).state_name(), "dialing");
}
