//! SRTP whose keys stand in SDP, and sections that nobody takes.

use tandem_sip::sdp::{Audio, Beside, Section};
use tandem_sip::srtp::{Crypto, Key, Suite};
use tandem_sip::{Carrier, ConnectionId, Method};

use super::{leg, plan};
use crate::command::{GatewayEvent, Inbound};
use crate::config::{OfferSrtp, Secret, Srtp};
use crate::effect::{Body, Effect, MediaKeys, Rollover};
use crate::ids::CallId;
use crate::tests::shard::{Shard, audio, key, request, response, words};

const SUITE: Suite = Suite::AesCm128HmacSha1_80;
const TLS: Carrier = Carrier::Tls { connection: Some(ConnectionId(7)) };

fn shard(offer: OfferSrtp) -> Shard {
    let mut shard =
        Shard::with(|config| config.srtp = Srtp { offer, secret: Secret::new(vec![7; 32]) });
    shard.register_over(1001, TLS);
    shard
}

fn peers(tag: u32, name: &str) -> Crypto {
    Crypto { tag, suite: SUITE, key: Key::derive(b"peer", SUITE, name.as_bytes()) }
}

fn keyed(port: u16, secure: bool, name: &str) -> Audio {
    Audio { crypto: vec![peers(3, name)], secure, ..audio(port) }
}

fn invite(shard: &mut Shard, number: &str, offer: Option<Audio>, carrier: Carrier) -> Vec<Effect> {
    let mut request = request(Method::Invite, "c1", "", "<sip:c@127.0.0.1:6000>");
    request.uri.user = Some(number.to_owned());
    let source = "127.0.0.1:6000".parse().unwrap();
    let (transaction, request) = (key(&request), request.into());
    let invite = Inbound { names: Vec::new(), transaction, source, carrier, request, offer };
    shard.event(GatewayEvent::Invite(invite)).1
}

fn call_of(shard: &Shard) -> CallId {
    *shard.leader.calls.keys().next().unwrap()
}

/// The description in the last message with one.
fn described(effects: &[Effect]) -> Audio {
    let body = |effect: &Effect| match &effect.body {
        Body::Respond { response, .. } => Audio::parse(&response.body).ok(),
        Body::Send { request, .. } => Audio::parse(&request.body).ok(),
        Body::Notify { .. } | Body::Media(_) => None,
    };
    effects.iter().rev().find_map(body).expect("SDP")
}

fn keys(effects: &[Effect], at: usize) -> Option<MediaKeys> {
    plan(effects).legs[at].keys.clone()
}

fn answer(shard: &mut Shard, answer: Audio) -> Vec<Effect> {
    let invite = shard.ringing(call_of(shard)).unwrap();
    let event = GatewayEvent::Response {
        branch: invite.headers.branch().to_owned(),
        response: Box::new(response(&invite, 200)),
        answer: Some(answer),
    };
    shard.event(event).1
}

#[test]
fn caller_gets_the_protection_that_it_asks_for() {
    for secure in [true, false] {
        let mut shard = shard(OfferSrtp::Never);
        let effects = invite(&mut shard, "4003", Some(keyed(4_000, secure, "a")), Carrier::Udp);
        let answer = described(&effects);
        assert_eq!(answer.secure, secure, "the protocol of the answer is the offer's");
        assert_eq!((answer.crypto.len(), answer.crypto[0].tag), (1, 3));
        assert_ne!(answer.crypto[0].key, peers(3, "a").key);
        let keys = keys(&effects, 0).unwrap();
        assert_eq!((keys.suite, keys.theirs), (SUITE, peers(3, "a").key));
        assert_eq!(keys.ours, answer.crypto[0].key);
    }
}

#[test]
fn no_two_legs_share_a_key() {
    let mut shard = shard(OfferSrtp::Required);
    invite(&mut shard, "4001", Some(keyed(4_000, true, "a")), Carrier::Udp);
    let effects =
        answer(&mut shard, Audio { crypto: vec![peers(1, "b")], ..keyed(5_000, true, "") });
    let [caller, agent] = [0, 1].map(|at| keys(&effects, at).unwrap());
    assert_ne!(caller.ours, agent.ours);
    assert_eq!((caller.theirs, agent.theirs), (peers(0, "a").key, peers(0, "b").key));
}

#[test]
fn without_a_secret_of_the_tenant_nothing_is_protected() {
    let mut shard = Shard::new();
    let effects = invite(&mut shard, "4003", Some(keyed(4_000, true, "a")), Carrier::Udp);
    assert_eq!(words(&effects), ["488"]);
    let effects = invite(&mut shard, "4003", Some(keyed(4_000, false, "a")), Carrier::Udp);
    assert_eq!(words(&effects), ["488"], "the refusal of the same transaction is repeated");
    let mut shard = Shard::new();
    let effects = invite(&mut shard, "4003", Some(keyed(4_000, false, "a")), Carrier::Udp);
    assert_eq!(described(&effects).crypto, []);
}

#[test]
fn what_is_offered_to_a_phone_is_as_configured_and_goes_by_tls_alone() {
    for (offer, carrier, expected) in [
        (OfferSrtp::Never, TLS, (0, false)),
        (OfferSrtp::Welcome, TLS, (1, false)),
        (OfferSrtp::Required, TLS, (1, true)),
        (OfferSrtp::Required, Carrier::Udp, (0, false)),
    ] {
        let mut shard = shard(offer);
        shard.register_over(1001, carrier);
        let effects = invite(&mut shard, "4001", Some(audio(4_000)), Carrier::Udp);
        let offered = described(&effects);
        assert_eq!((offered.crypto.len(), offered.secure), expected, "{offer:?} {carrier:?}");
    }
}

#[test]
fn phone_without_a_key_talks_in_the_clear_only_where_that_is_welcome() {
    let mut welcome = shard(OfferSrtp::Welcome);
    invite(&mut welcome, "4001", Some(audio(4_000)), Carrier::Udp);
    let effects = answer(&mut welcome, audio(5_000));
    assert_eq!(keys(&effects, 1), None);
    assert!(plan(&effects).legs[1].remote.is_some());

    for unfit in
        [audio(5_000), Audio { secure: false, ..keyed(5_000, true, "b") }, keyed(5_000, true, "b")]
    {
        let mut required = shard(OfferSrtp::Required);
        invite(&mut required, "4001", Some(audio(4_000)), Carrier::Udp);
        let call = call_of(&required);
        answer(&mut required, unfit.clone());
        assert_eq!(required.agent_state(1001), "not_ready", "{unfit:?}");
        assert_eq!(required.call(call).state_name(), "queued");
    }
}

#[test]
fn leg_that_began_protected_is_not_taken_into_the_clear() {
    let mut shard = shard(OfferSrtp::Never);
    invite(&mut shard, "4003", Some(keyed(4_000, true, "a")), Carrier::Udp);
    let call = call_of(&shard);
    shard.ack(call);
    let before = leg(&shard, call, 0).media.clone();
    let reinvite = shard.of_peer(call, 0, Method::Invite, 2);
    assert_eq!(words(&shard.in_dialog(reinvite, Some(audio(4_444)))), ["488"]);
    assert_eq!(leg(&shard, call, 0).media, before);

    // A new key of the peer's; ours stays, so that our stream does, too.
    let reinvite = shard.of_peer(call, 0, Method::Invite, 3);
    let effects = shard.in_dialog(reinvite, Some(keyed(4_444, true, "b")));
    let keys = keys(&effects, 0).unwrap();
    assert_eq!(keys.theirs, peers(3, "b").key);
    assert_eq!(Some(keys.ours), before.protection.map(|keys| keys.ours));
}

/// Another life of the gateway, with what it is told.
fn begin_again(shard: &mut Shard) -> Vec<Effect> {
    shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect())
}

#[test]
fn packets_go_on_behind_those_of_the_gateways_last_life() {
    let mut shard = shard(OfferSrtp::Never);
    invite(&mut shard, "4003", Some(keyed(4_000, true, "a")), Carrier::Udp);
    let call = call_of(&shard);
    shard.ack(call);
    let from = |effects: &[Effect]| keys(effects, 0).unwrap().rollover;
    let tell = |shard: &mut Shard, sent, received| {
        let (leg, rollover) = (leg(shard, call, 0).id, Rollover { sent, received });
        shard.event(GatewayEvent::Rollover { call, leg, rollover });
    };
    let begun = begin_again(&mut shard);
    assert_eq!(from(&begun), Rollover { sent: 1, received: 0 });
    tell(&mut shard, 5, 4);
    // What was told before comes late.
    tell(&mut shard, 3, 2);
    let begun = begin_again(&mut shard);
    assert_eq!(from(&begun), Rollover { sent: 6, received: 4 });

    // The peer begins anew with another key, and we go on.
    let reinvite = shard.of_peer(call, 0, Method::Invite, 2);
    let effects = shard.in_dialog(reinvite, Some(keyed(4_444, true, "b")));
    assert_eq!(from(&effects), Rollover { sent: 6, received: 0 });
}

#[test]
fn section_that_nobody_takes_is_refused_in_each_answer() {
    let mut shard = shard(OfferSrtp::Never);
    let video = Section { media: "video".into(), protocol: "RTP/AVP".into(), format: "31".into() };
    let beside = Beside { before: Vec::new(), after: vec![video.clone()] };
    let offer = || Some(Audio { beside: beside.clone(), ..audio(4_000) });
    let effects = invite(&mut shard, "4003", offer(), Carrier::Udp);
    assert_eq!(described(&effects).beside, beside);
    let call = call_of(&shard);
    shard.ack(call);
    // A description of ours that answers nothing has them, too (RFC 3264 §8).
    let reinvite = shard.of_peer(call, 0, Method::Invite, 2);
    assert_eq!(described(&shard.in_dialog(reinvite, None)).beside, beside);
}
