//! RFC 3262, to the caller: what is said reliably, what its PRACK brings, and what waits for it.

use tandem_sip::sdp::Audio;
use tandem_sip::{Carrier, Method, Response, reliable};

use super::{leg, record, state, transaction, with_agent};
use crate::call::leg::State;
use crate::command::{GatewayEvent, Inbound};
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::tests::shard::{Shard, audio, key, request, words};

/// The extension 1001 is dialled by a caller who takes only reliable answers.
fn dialed(offer: bool) -> (Shard, CallId) {
    let mut shard = with_agent();
    let mut invite = request(Method::Invite, "c1", "", "<sip:c@127.0.0.1:6000>");
    invite.uri.user = Some("1001".into());
    invite.headers.push_other("Require", "100rel");
    invite.headers.content_type = offer.then(|| "application/sdp".into());
    shard.event(GatewayEvent::Invite(Inbound {
        transaction: key(&invite),
        source: "127.0.0.1:6000".parse().unwrap(),
        carrier: Carrier::Udp,
        request: invite.into(),
        offer: offer.then(|| audio(4_000)),
        names: Vec::new(),
    }));
    let call = *shard.leader.calls.keys().next().expect("a call");
    (shard, call)
}

/// It rings: our reliable 180.
fn ringing(offer: bool) -> (Shard, CallId, Response) {
    let (mut shard, call) = dialed(offer);
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 180);
    assert_eq!(words(&effects), ["180", "media [ringback silence]"]);
    let response = told(&effects);
    (shard, call, response)
}

fn told(effects: &[Effect]) -> Response {
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    (**response).clone()
}

fn prack(
    shard: &mut Shard,
    call: CallId,
    (cseq, rseq): (u32, u32),
    sdp: Option<Audio>,
) -> Vec<Effect> {
    let mut prack = shard.of_peer(call, 0, Method::Prack, cseq);
    prack.headers.push_other("RAck", &format!("{rseq} 1 INVITE"));
    shard.in_dialog(prack, sdp)
}

fn is_owed(shard: &Shard, call: CallId) -> bool {
    let transaction = transaction(shard, call);
    let is_180 = |effect: &Effect| match &effect.body {
        Body::Respond { transaction: of, response } => *of == transaction && response.status == 180,
        Body::Send { .. } | Body::Notify { .. } | Body::Media(_) => false,
    };
    shard.leader.outbox.values().any(is_180)
}

fn does_all(shard: &mut Shard) {
    shard.done = shard.leader.outbox.keys().copied().collect();
    shard.apply(crate::command::Command::Trim);
}

#[test]
fn ringing_is_said_reliably_with_the_answer_and_the_200_without() {
    let (mut shard, call, said) = ringing(true);
    let rseq = reliable::rseq(&said).expect("a reliable 180");
    assert_eq!(said.headers.content_type.as_deref(), Some("application/sdp"));
    // A gateway that has said it, and dies, says it again in its next life.
    does_all(&mut shard);
    assert!(is_owed(&shard, call));
    assert_eq!(words(&prack(&mut shard, call, (2, rseq), None)), ["200"]);
    assert!(!is_owed(&shard, call));
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
    let Body::Respond { response, .. } = &effects[1].body else { panic!("the 200") };
    assert_eq!((response.headers.content_type.as_deref(), response.body.len()), (None, 0));
}

#[test]
fn answer_waits_for_the_prack() {
    let (mut shard, call, said) = ringing(true);
    let rseq = reliable::rseq(&said).unwrap();
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "media [leg leg]"]);
    assert_eq!(state(&shard, call, 0), &State::Trying);
    does_all(&mut shard);
    assert!(is_owed(&shard, call));
    assert_eq!(words(&prack(&mut shard, call, (2, rseq), None)), ["200", "200"]);
    assert_eq!(state(&shard, call, 0), &State::Answered);
    shard.ack(call);
    assert_eq!(state(&shard, call, 0), &State::Active);
    assert!(shard.call(call).answered_at.is_some());
}

#[test]
fn caller_may_hang_up_while_the_answer_waits() {
    let (mut shard, call, _) = ringing(true);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 200);
    let transaction = transaction(&shard, call);
    let (_, effects) = shard.event(GatewayEvent::Cancel { transaction, q850: None });
    assert_eq!(words(&effects), ["487", "media []", "BYE"]);
}

#[test]
fn prack_of_another_response_is_refused_and_changes_nothing() {
    let (mut shard, call, said) = ringing(true);
    let rseq = reliable::rseq(&said).unwrap();
    assert_eq!(words(&prack(&mut shard, call, (2, rseq + 1), None)), ["481"]);
    let mut other = shard.of_peer(call, 0, Method::Prack, 3);
    other.headers.push_other("RAck", &format!("{rseq} 2 INVITE"));
    assert_eq!(words(&shard.in_dialog(other, None)), ["481"]);
    assert!(is_owed(&shard, call));
    assert_eq!(words(&prack(&mut shard, call, (4, rseq), None)), ["200"]);
    assert_eq!(words(&prack(&mut shard, call, (5, rseq), None)), ["481"]);
}

/// RFC 3262 §5, RFC 6337 §3: INVITE and 180 have agreed, the PRACK brings the next offer.
#[test]
fn offer_in_a_prack_is_answered_in_its_200() {
    let (mut shard, call, said) = ringing(true);
    let rseq = reliable::rseq(&said).unwrap();
    let effects = prack(&mut shard, call, (2, rseq), Some(audio(4_400)));
    assert_eq!(words(&effects), ["200", "media [ringback silence]"]);
    assert_eq!(told(&effects).headers.content_type.as_deref(), Some("application/sdp"));
    let remote = leg(&shard, call, 0).media.remote.expect("an address");
    assert_eq!(remote.port(), 4_400);
}

#[test]
fn offer_in_a_prack_that_can_not_be_taken_changes_nothing() {
    let (mut shard, call, said) = ringing(true);
    let rseq = reliable::rseq(&said).unwrap();
    let none = Audio { payloads: Vec::new(), ..audio(4_400) };
    assert_eq!(words(&prack(&mut shard, call, (2, rseq), Some(none))), ["488"]);
    assert_eq!(leg(&shard, call, 0).media.remote.map(|remote| remote.port()), Some(4_000));
    assert!(!is_owed(&shard, call));
}

#[test]
fn without_an_offer_the_180_offers_and_the_prack_answers() {
    let (mut shard, call, said) = ringing(false);
    let rseq = reliable::rseq(&said).unwrap();
    assert_eq!(said.headers.content_type.as_deref(), Some("application/sdp"));
    let effects = prack(&mut shard, call, (2, rseq), Some(audio(4_400)));
    assert_eq!(words(&effects), ["200", "media [ringback silence]"]);
    assert_eq!(leg(&shard, call, 0).media.remote.map(|remote| remote.port()), Some(4_400));
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 200);
    let Body::Respond { response, .. } = &effects[1].body else { panic!("the 200") };
    assert_eq!(response.headers.content_type, None);
    assert_eq!(leg(&shard, call, 0).offer_until, None);
}

#[test]
fn prack_that_owes_an_answer_and_has_none_ends_the_call() {
    let (mut shard, call, said) = ringing(false);
    let rseq = reliable::rseq(&said).unwrap();
    let effects = prack(&mut shard, call, (2, rseq), None);
    assert_eq!(words(&effects)[..2], ["488", "488"]);
    assert_eq!(record(&shard), ("rejected", "system", "488"));
}

/// RFC 3262 §3: 64·T1 without a PRACK.
#[test]
fn caller_who_never_acknowledges_is_refused() {
    let (mut shard, call, _) = ringing(true);
    let transaction = transaction(&shard, call);
    let (_, effects) = shard.event(GatewayEvent::AckTimeout { transaction });
    assert_eq!(words(&effects)[..1], ["504"]);
    assert_eq!(record(&shard), ("failed", "system", "504"));
}

#[test]
fn who_only_supports_it_is_told_plainly() {
    let mut shard = with_agent();
    let call = shard.invite("c1", "1001").0.unwrap();
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 180);
    assert_eq!(words(&effects), ["180"]);
    assert_eq!(reliable::rseq(&told(&effects)), None);
}

#[test]
fn repeated_invite_gets_the_same_180_while_its_prack_is_awaited() {
    let (mut shard, call, said) = ringing(true);
    let again = |shard: &mut Shard| {
        let invite = leg(shard, call, 0).invite.clone();
        let (_, effects) = shard.event(GatewayEvent::Invite(Inbound {
            transaction: key(&invite),
            source: "127.0.0.1:6000".parse().unwrap(),
            carrier: Carrier::Udp,
            request: invite,
            offer: Some(audio(4_000)),
            names: Vec::new(),
        }));
        told(&effects)
    };
    assert_eq!(again(&mut shard), said);
    prack(&mut shard, call, (2, reliable::rseq(&said).unwrap()), None);
    assert_eq!(again(&mut shard).status, 100);
}
