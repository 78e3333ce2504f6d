//! UPDATE before the answer (RFC 3311 §5.2).

use tandem_sip::sdp::{Audio, Codec, Payload};
use tandem_sip::{Method, Request, Response, reliable};

use super::{dial_outside, leg, plan};
use crate::command::GatewayEvent;
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::tests::shard::{Shard, audio, response, with_carriers, words};

/// The phone of 1001 has dialled the number outside, and takes what is said reliably alone where
/// `requires`.
fn dialing(requires: bool, offer: Option<Audio>) -> (Shard, CallId, Request) {
    let mut shard = Shard::with(with_carriers);
    shard.register(1001);
    let more = [("Require", "100rel")];
    let call = dial_outside(&mut shard, if requires { &more } else { &[] }, offer);
    let invite = shard.ringing(call).expect("it goes out");
    (shard, call, invite)
}

/// The carrier says 183, reliably where it has a number.
fn announces(
    shard: &mut Shard,
    invite: &Request,
    rseq: Option<u32>,
    answer: Option<Audio>,
) -> Vec<Effect> {
    let mut rings = response(invite, 183);
    if let Some(rseq) = rseq {
        reliable::number_response(&mut rings, rseq);
    }
    let branch = invite.headers.branch().to_owned();
    shard.event(GatewayEvent::Response { branch, response: Box::new(rings), answer }).1
}

/// An UPDATE of the peer of the leg at that place.
fn update(
    shard: &mut Shard,
    call: CallId,
    at: usize,
    cseq: u32,
    offer: Option<Audio>,
) -> Vec<Effect> {
    let request = shard.of_peer(call, at, Method::Update, cseq);
    shard.in_dialog(request, offer)
}

fn said(effects: &[Effect]) -> &Response {
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    response
}

fn ways(effects: &[Effect]) -> Vec<Option<u16>> {
    plan(effects).legs.iter().map(|leg| leg.remote.map(|remote| remote.port())).collect()
}

fn prack(shard: &mut Shard, call: CallId, rings: &[Effect], answer: Option<Audio>) -> Vec<Effect> {
    let rseq = reliable::rseq(said(rings)).expect("a reliable response");
    let mut prack = shard.of_peer(call, 0, Method::Prack, 2);
    prack.headers.push_other("RAck", &format!("{rseq} 1 INVITE"));
    shard.in_dialog(prack, answer)
}

#[test]
fn caller_moves_its_audio_before_the_answer_once_both_have_agreed() {
    let (mut shard, call, invite) = dialing(true, Some(audio(4_000)));
    let rings = announces(&mut shard, &invite, None, Some(audio(5_000)));
    // Its PRACK is not here: it is told to wait.
    let early = update(&mut shard, call, 0, 2, Some(audio(4_100)));
    assert_eq!(words(&early), ["500"]);
    assert!(said(&early).headers.other("Retry-After").is_some());
    let rings_rseq = reliable::rseq(said(&rings)).unwrap();
    let mut acknowledges = shard.of_peer(call, 0, Method::Prack, 3);
    acknowledges.headers.push_other("RAck", &format!("{rings_rseq} 1 INVITE"));
    assert_eq!(words(&shard.in_dialog(acknowledges, None)), ["200"]);
    let effects = update(&mut shard, call, 0, 4, Some(audio(4_200)));
    assert_eq!(words(&effects), ["200", "media [leg leg]"]);
    let answer = Audio::parse(&said(&effects).body).expect("SDP");
    let described = Audio::parse(&said(&rings).body).expect("SDP");
    assert!(answer.session_version > described.session_version);
    assert_eq!(ways(&effects), [Some(4_200), Some(5_000)]);
    // The 200 of the INVITE says no more of it.
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
    assert_eq!(ways(&effects), [Some(4_200), Some(5_000)]);
    let described =
        effects.iter().any(|effect| matches!(&effect.body, Body::Respond { response, .. } if !response.body.is_empty()));
    assert!(!described);
}

#[test]
fn caller_who_was_told_unreliably_has_to_wait() {
    let (mut shard, call, invite) = dialing(false, Some(audio(4_000)));
    announces(&mut shard, &invite, None, Some(audio(5_000)));
    let effects = update(&mut shard, call, 0, 2, Some(audio(4_100)));
    assert_eq!(words(&effects), ["500"]);
    assert_eq!(leg(&shard, call, 0).media.remote.map(|it| it.port()), Some(4_000));
    // One that offers nothing changes nothing.
    assert_eq!(words(&update(&mut shard, call, 0, 3, None)), ["200"]);
}

#[test]
fn offer_that_meets_ours_in_a_180_is_491() {
    let (mut shard, call, invite) = dialing(true, None);
    let rings = announces(&mut shard, &invite, None, None);
    assert_eq!(words(&rings)[0], "180");
    assert_eq!(words(&update(&mut shard, call, 0, 2, Some(audio(4_100)))), ["491"]);
    let mut acknowledges = shard.of_peer(call, 0, Method::Prack, 3);
    let rseq = reliable::rseq(said(&rings)).unwrap();
    acknowledges.headers.push_other("RAck", &format!("{rseq} 1 INVITE"));
    shard.in_dialog(acknowledges, Some(audio(4_000)));
    let effects = update(&mut shard, call, 0, 4, Some(audio(4_200)));
    assert_eq!(words(&effects)[0], "200");
    assert_eq!(leg(&shard, call, 0).media.remote.map(|it| it.port()), Some(4_200));
}

#[test]
fn reinvite_before_the_answer_has_to_wait_in_any_case() {
    let (mut shard, call, invite) = dialing(true, Some(audio(4_000)));
    let rings = announces(&mut shard, &invite, None, Some(audio(5_000)));
    prack(&mut shard, call, &rings, None);
    let request = shard.of_peer(call, 0, Method::Invite, 3);
    assert_eq!(words(&shard.in_dialog(request, Some(audio(4_100)))), ["500"]);
}

#[test]
fn carrier_moves_its_audio_before_it_answers() {
    let (mut shard, call, invite) = dialing(false, Some(audio(4_000)));
    let effects = announces(&mut shard, &invite, Some(7), Some(audio(5_000)));
    assert_eq!(words(&effects), ["PRACK", "183", "media [leg leg]"]);
    let effects = update(&mut shard, call, 1, 1, Some(audio(5_100)));
    assert_eq!(words(&effects), ["200", "media [leg leg]"]);
    assert_eq!(ways(&effects), [Some(4_000), Some(5_100)]);
    let answer = Audio::parse(&said(&effects).body).expect("SDP");
    assert_eq!(answer.payloads[0].codec, Codec::Pcma);
    // What is over is refused, what changes nothing is taken.
    assert_eq!(words(&update(&mut shard, call, 1, 1, Some(audio(5_200)))), ["500"]);
    assert_eq!(words(&update(&mut shard, call, 1, 2, None)), ["200"]);
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(ways(&effects), [Some(4_000), Some(5_100)]);
    // The peer's requests are counted on.
    let late = shard.of_peer(call, 1, Method::Info, 2);
    assert_eq!(words(&shard.in_dialog(late, None)), ["500"]);
}

#[test]
fn carrier_that_has_not_answered_our_offer_owes_that_first() {
    // Reliably, but it has described nothing; and what it describes unreliably is no answer.
    for (rseq, answer) in [(Some(7), None), (None, Some(audio(5_000)))] {
        let (mut shard, call, invite) = dialing(false, Some(audio(4_000)));
        announces(&mut shard, &invite, rseq, answer);
        assert_eq!(words(&update(&mut shard, call, 1, 1, Some(audio(5_100)))), ["491"]);
    }
    // Of a branch that nobody knows.
    let (mut shard, call, _) = dialing(false, Some(audio(4_000)));
    assert_eq!(words(&update(&mut shard, call, 1, 1, Some(audio(5_100)))), ["481"]);
}

#[test]
fn offer_of_no_use_changes_nothing() {
    let (mut shard, call, invite) = dialing(false, Some(audio(4_000)));
    announces(&mut shard, &invite, Some(7), Some(audio(5_000)));
    let foreign = Audio { payloads: vec![Payload::new(18, Codec::G729)], ..audio(5_100) };
    assert_eq!(words(&update(&mut shard, call, 1, 1, Some(foreign))), ["488"]);
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(ways(&effects), [Some(4_000), Some(5_000)]);
}

/// A phone that rings reliably, for a caller of the queue.
#[test]
fn agents_phone_moves_its_audio_while_it_rings() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.offered("c1");
    let invite = shard.ringing(call).expect("it rings");
    announces(&mut shard, &invite, Some(7), Some(audio(5_000)));
    let effects = update(&mut shard, call, 1, 1, Some(audio(5_100)));
    assert_eq!(words(&effects), ["200"]);
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(ways(&effects), [Some(4_000), Some(5_100)]);
}
