//! What a carrier lets be heard before anybody answers.

use tandem_sip::sdp::{Audio, Codec, Direction, Payload};
use tandem_sip::srtp::{Crypto, Key, Suite};
use tandem_sip::{Carrier, Method, Request, Response, reliable};

use super::{connected, dial_outside, is_illegal, leg, plan, record, state, transaction};
use crate::call::leg::State;
use crate::command::{Command, GatewayEvent, Inbound, OperatorCommand};
use crate::config::{OfferSrtp, Secret, Srtp};
use crate::effect::{Body, Effect, MediaLeg};
use crate::ids::CallId;
use crate::query;
use crate::tests::shard::{OUT, Shard, audio, key, phone, response, with_carriers, words};
use crate::trunk::outward::{Credentials, Transport};

fn with_phone() -> Shard {
    let mut shard = Shard::with(with_carriers);
    shard.register(1001);
    shard
}

/// Codecs under their static numbers.
fn of(port: u16, codecs: &[Codec]) -> Audio {
    let payload = |codec: &Codec| Payload::new(codec.static_payload(), *codec);
    Audio { payloads: codecs.iter().map(payload).collect(), ..audio(port) }
}

fn dialed() -> (Shard, CallId, Request) {
    let mut shard = with_phone();
    let call = dial_outside(&mut shard, &[], Some(audio(4_000)));
    let invite = shard.ringing(call).expect("it goes out");
    (shard, call, invite)
}

/// A branch of the carrier's, by its tag.
fn says_as(
    shard: &mut Shard,
    invite: &Request,
    (status, tag): (u16, &str),
    answer: Option<Audio>,
) -> Vec<Effect> {
    let mut response = invite.respond(status, None, Some(tag));
    response.headers.contact = vec!["<sip:gw@192.0.2.1>".parse().unwrap()];
    said(shard, invite, response, answer)
}

fn said(
    shard: &mut Shard,
    invite: &Request,
    response: Response,
    answer: Option<Audio>,
) -> Vec<Effect> {
    let branch = invite.headers.branch().to_owned();
    shard.event(GatewayEvent::Response { branch, response: Box::new(response), answer }).1
}

fn told(effects: &[Effect]) -> (u16, Option<Audio>) {
    let response = effects.iter().find_map(|effect| match &effect.body {
        Body::Respond { response, .. } => Some(response),
        Body::Send { .. } | Body::Notify { .. } | Body::Media(_) => None,
    });
    let response = response.expect("a response");
    (response.status, Audio::parse(&response.body).ok())
}

/// Port of the peer, and the codec spoken with it.
fn ways(effects: &[Effect]) -> Vec<(Option<u16>, Codec)> {
    let way = |leg: &MediaLeg| (leg.remote.map(|remote| remote.port()), leg.codec);
    plan(effects).legs.iter().map(way).collect()
}

#[test]
fn carriers_audio_is_heard_at_once_and_is_no_answer() {
    let (mut shard, call, invite) = dialed();
    let effects = says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    assert_eq!(words(&effects), ["183", "media [leg leg]"]);
    let (_, described) = told(&effects);
    let described = described.expect("an answer to the caller's offer");
    assert_eq!(described.payloads, [Payload::new(8, Codec::Pcma)]);
    assert_eq!(described.telephone_event, Some(101));
    assert_eq!(ways(&effects), [(Some(4_000), Codec::Pcma), (Some(5_000), Codec::Pcma)]);
    assert!(plan(&effects).recording.is_none());
    let shown = query::call(&shard.leader, call).unwrap();
    assert_eq!((shown.state.as_str(), shown.answered_at), ("dialing", None));
    // The same 183 again, and a 180 without SDP, say nothing new.
    assert_eq!(words(&says_as(&mut shard, &invite, (183, "a"), Some(audio(5_002)))), [""; 0]);
    assert_eq!(words(&says_as(&mut shard, &invite, (180, "a"), None)), [""; 0]);
    let effects = says_as(&mut shard, &invite, (200, "a"), Some(audio(5_000)));
    assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
    assert_eq!(told(&effects).1.as_ref(), Some(&described), "RFC 3261 §13.2.1: the same again");
    shard.ack(call);
    assert!(shard.call(call).answered_at.is_some());
    assert_eq!(shard.call(call).legs[1].early_media, None);
}

#[test]
fn ringing_comes_first_and_then_the_announcement() {
    let (mut shard, _, invite) = dialed();
    assert_eq!(words(&says_as(&mut shard, &invite, (180, "a"), None)), ["180"]);
    let effects = says_as(&mut shard, &invite, (180, "a"), Some(audio(5_000)));
    assert_eq!(words(&effects), ["183", "media [leg leg]"]);
}

#[test]
fn newest_branch_that_has_audio_is_heard_and_the_one_that_answers_in_the_end() {
    let (mut shard, call, invite) = dialed();
    says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    let effects = says_as(&mut shard, &invite, (183, "b"), Some(audio(5_100)));
    assert_eq!(words(&effects), ["media [leg leg]"]);
    assert_eq!(ways(&effects)[1], (Some(5_100), Codec::Pcma));
    assert_eq!(words(&says_as(&mut shard, &invite, (180, "c"), None)), [""; 0]);
    let effects = says_as(&mut shard, &invite, (200, "a"), Some(audio(5_000)));
    assert_eq!(ways(&effects)[1], (Some(5_000), Codec::Pcma));
    let dialog = leg(&shard, call, 1).dialog.clone().expect("a dialog");
    assert_eq!(dialog.remote_tag, "a");
}

#[test]
fn caller_speaks_what_the_carrier_has_chosen_of_its_offer() {
    let both = [Codec::Pcma, Codec::G729];
    let mut shard = with_phone();
    let call = dial_outside(&mut shard, &[], Some(of(4_000, &both)));
    let invite = shard.ringing(call).unwrap();
    let effects = says_as(&mut shard, &invite, (183, "a"), Some(of(5_000, &[Codec::G729])));
    assert_eq!(told(&effects).1.unwrap().payloads[0].codec, Codec::G729);
    assert_eq!(ways(&effects), [(Some(4_000), Codec::G729), (Some(5_000), Codec::G729)]);
    // The 200 has both: what the caller was told is kept.
    let effects = says_as(&mut shard, &invite, (200, "a"), Some(of(5_000, &both)));
    assert_eq!(told(&effects).1.unwrap().payloads[0].codec, Codec::G729);
    assert_eq!(ways(&effects), [(Some(4_000), Codec::G729), (Some(5_000), Codec::G729)]);
    assert_eq!(leg(&shard, call, 0).media.open, None);
}

#[test]
fn answer_that_can_not_be_talked_as_the_preview_had_it_changes_it() {
    let mut shard = with_phone();
    let call = dial_outside(&mut shard, &[], Some(of(4_000, &[Codec::Pcma, Codec::G729])));
    let invite = shard.ringing(call).unwrap();
    let effects = says_as(&mut shard, &invite, (183, "a"), Some(of(5_000, &[Codec::G729])));
    let before = told(&effects).1.unwrap();
    let effects = says_as(&mut shard, &invite, (200, "b"), Some(of(5_100, &[Codec::Pcma])));
    assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
    let after = told(&effects).1.unwrap();
    assert_eq!(after.payloads[0].codec, Codec::Pcma);
    assert!(after.session_version > before.session_version);
    assert_eq!(ways(&effects), [(Some(4_000), Codec::Pcma), (Some(5_100), Codec::Pcma)]);
}

#[test]
fn preview_is_transcoded_rather_than_told_otherwise() {
    let mut shard = with_phone();
    let call = dial_outside(&mut shard, &[], Some(of(4_000, &[Codec::Pcma, Codec::Pcmu])));
    let invite = shard.ringing(call).unwrap();
    says_as(&mut shard, &invite, (183, "a"), Some(of(5_000, &[Codec::Pcma])));
    let effects = says_as(&mut shard, &invite, (200, "a"), Some(of(5_000, &[Codec::Pcmu])));
    assert_eq!(told(&effects).1.unwrap().payloads[0].codec, Codec::Pcma);
    assert_eq!(ways(&effects), [(Some(4_000), Codec::Pcma), (Some(5_000), Codec::Pcmu)]);
}

#[test]
fn early_answer_that_is_of_no_use_is_ignored_and_the_call_rings_on() {
    let none = || Audio { payloads: Vec::new(), ..audio(5_000) };
    let deaf = || Audio { direction: Direction::Inactive, ..audio(5_000) };
    let nowhere = || Audio { address: "0.0.0.0".parse().unwrap(), ..audio(5_000) };
    let foreign = || of(5_000, &[Codec::G729]);
    for (n, useless) in [none(), deaf(), nowhere(), foreign()].into_iter().enumerate() {
        let (mut shard, call, invite) = dialed();
        let effects = says_as(&mut shard, &invite, (183, "a"), Some(useless));
        assert_eq!(words(&effects), ["180"], "{n}");
        assert_eq!(state(&shard, call, 1), &State::Alerting);
        let effects = says_as(&mut shard, &invite, (200, "a"), Some(audio(5_000)));
        assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"], "{n}");
    }
}

#[test]
fn caller_who_has_offered_nothing_hears_that_it_rings() {
    let mut shard = with_phone();
    let call = dial_outside(&mut shard, &[], None);
    let invite = shard.ringing(call).unwrap();
    let effects = says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    assert_eq!(words(&effects), ["180"]);
    let effects = says_as(&mut shard, &invite, (200, "a"), Some(audio(5_000)));
    assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
}

#[test]
fn who_requires_100rel_is_told_so_and_the_200_says_no_more() {
    for offer in [Some(audio(4_000)), None] {
        let mut shard = with_phone();
        let call = dial_outside(&mut shard, &[("Require", "100rel")], offer.clone());
        let invite = shard.ringing(call).unwrap();
        let effects = says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
        assert_eq!(words(&effects), ["183", "media [leg leg]"]);
        let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
        let rseq = reliable::rseq(response).expect("a reliable 183");
        let mut prack = shard.of_peer(call, 0, Method::Prack, 2);
        prack.headers.push_other("RAck", &format!("{rseq} 1 INVITE"));
        let answer = offer.is_none().then(|| audio(4_000));
        let effects = shard.in_dialog(prack, answer);
        assert_eq!(words(&effects)[0], "200");
        assert_eq!(shard.call(call).legs[0].media.remote.map(|it| it.port()), Some(4_000));
        let effects = says_as(&mut shard, &invite, (200, "a"), Some(audio(5_000)));
        assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
        assert_eq!(told(&effects), (200, None));
    }
}

/// What was said reliably stands (RFC 3262 §5); the audio comes through what it has described.
#[test]
fn who_was_told_reliably_that_it_rings_hears_the_announcement_without_a_word() {
    let mut shard = with_phone();
    let call = dial_outside(&mut shard, &[("Require", "100rel")], Some(audio(4_000)));
    let invite = shard.ringing(call).unwrap();
    let effects = says_as(&mut shard, &invite, (180, "a"), None);
    assert_eq!(words(&effects), ["180", "media [ringback silence]"]);
    let effects = says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    assert_eq!(words(&effects), ["media [leg leg]"]);
}

#[test]
fn reliable_preview_of_a_carrier_is_acknowledged_and_is_its_answer() {
    let (mut shard, call, invite) = dialed();
    let mut rings = response(&invite, 183);
    reliable::number_response(&mut rings, 7);
    let effects = said(&mut shard, &invite, rings, Some(audio(5_000)));
    assert_eq!(words(&effects), ["PRACK", "183", "media [leg leg]"]);
    // Its 200 says nothing, and what it said before counts.
    let effects = said(&mut shard, &invite, response(&invite, 200), None);
    assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
    assert_eq!(leg(&shard, call, 1).media.remote.map(|it| it.port()), Some(5_000));
}

#[test]
fn carrier_that_says_no_more_in_its_200_is_understood() {
    let (mut shard, _, invite) = dialed();
    says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    let effects = says_as(&mut shard, &invite, (200, "a"), None);
    assert_eq!(words(&effects), ["ACK", "200", "media [leg leg]"]);
    assert_eq!(ways(&effects)[1], (Some(5_000), Codec::Pcma));
    // Another branch has described nothing.
    let (mut shard, _, invite) = dialed();
    says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    let effects = says_as(&mut shard, &invite, (200, "b"), None);
    assert_eq!(words(&effects)[..3], ["ACK", "BYE", "488"]);
}

#[test]
fn failure_after_an_announcement_is_the_carriers_own_with_its_reason() {
    let (mut shard, _, invite) = dialed();
    says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    let mut gone = response(&invite, 404);
    gone.headers.push_other("Reason", "Q.850;cause=1;text=\"unallocated\"");
    let effects = said(&mut shard, &invite, gone, None);
    assert_eq!(words(&effects), ["404", "media []"]);
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    assert!(response.headers.other("Reason").is_some_and(|it| it.starts_with("Q.850;cause=1")));
    assert_eq!(record(&shard), ("rejected", "callee", "404"));
    assert_eq!((shard.cdrs[0].answered_at, shard.cdrs[0].recording), (None, None));
    assert!(shard.leader.channels.is_empty() && shard.leader.calls.is_empty());
}

#[test]
fn caller_hangs_up_in_the_middle_of_an_announcement() {
    let (mut shard, call, invite) = dialed();
    says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    let transaction = transaction(&shard, call);
    let (_, effects) = shard.event(GatewayEvent::Cancel { transaction, q850: None });
    assert_eq!(words(&effects), ["487", "media []", "CANCEL"]);
    // What is said meanwhile is heard by nobody.
    assert_eq!(words(&says_as(&mut shard, &invite, (183, "b"), Some(audio(5_100)))), [""; 0]);
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty() && shard.leader.channels.is_empty());
}

#[test]
fn repeated_invite_gets_the_same_183() {
    let (mut shard, call, invite) = dialed();
    let effects = says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    let first = told(&effects);
    let invite = leg(&shard, call, 0).invite.clone();
    let (_, effects) = shard.event(GatewayEvent::Invite(Inbound {
        transaction: key(&invite),
        source: phone(1001),
        carrier: Carrier::Udp,
        request: invite,
        offer: Some(audio(4_000)),
        names: Vec::new(),
    }));
    assert_eq!(told(&effects), first);
}

#[test]
fn click_to_dial_hears_the_carrier_instead_of_our_tone() {
    let mut shard = with_phone();
    let (_, call, _) = shard.originate(1001, OUT);
    let call = call.unwrap();
    let own = shard.ringing(call).unwrap();
    let effects = shard.answer(&own, 200).1;
    assert_eq!(words(&effects), ["ACK", "INVITE", "media [ringback silence]"]);
    let invite = shard.ringing(call).unwrap();
    let effects = says_as(&mut shard, &invite, (183, "a"), Some(audio(5_100)));
    assert_eq!(words(&effects), ["media [leg leg]"]);
    assert_eq!(ways(&effects), [(Some(5_000), Codec::Pcma), (Some(5_100), Codec::Pcma)]);
    assert_eq!(query::call(&shard.leader, call).unwrap().state, "dialing");
    // The carrier's audio is over: why it is, we say.
    let effects = says_as(&mut shard, &invite, (486, "a"), None);
    assert_eq!(words(&effects), ["media [tone-busy-cn]"]);
}

#[test]
fn customer_who_is_sent_outside_hears_the_carrier_and_nothing_of_it_is_recorded() {
    let (mut shard, call) = connected();
    let mut config = shard.leader.config.clone().unwrap();
    with_carriers(&mut config);
    shard.apply(Command::Configure(Box::new(config)));
    shard.operate("k", OperatorCommand::TransferCall { call, to: OUT.into() });
    let invite = shard.ringing(call).unwrap();
    let effects = says_as(&mut shard, &invite, (183, "a"), Some(audio(5_100)));
    assert_eq!(words(&effects), ["media [leg silence leg] recorded"]);
    let plan = plan(&effects);
    let recording = plan.recording.expect("it goes on");
    assert_ne!(recording.right, plan.legs[2].leg, "the carrier is in no recording yet");
    // Nobody takes it: the agent is there again.
    let effects = says_as(&mut shard, &invite, (486, "a"), None);
    assert_eq!(words(&effects), ["media [leg leg] recorded"]);
}

/// A challenge takes the early dialog with it: what comes is another INVITE's.
#[test]
fn challenge_after_an_announcement_ends_it() {
    let mut shard = Shard::with(|config| {
        with_carriers(config);
        for out in config.trunks.iter_mut().filter_map(|trunk| trunk.out.as_mut()) {
            out.credentials = Some(Credentials::new("tandem", "x", "hush"));
        }
    });
    shard.register(1001);
    let call = dial_outside(&mut shard, &[], Some(audio(4_000)));
    let invite = shard.ringing(call).unwrap();
    says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    let mut wants = response(&invite, 407);
    wants.headers.push_other("Proxy-Authenticate", "Digest realm=\"x\", nonce=\"n\"");
    let effects = said(&mut shard, &invite, wants, None);
    assert_eq!(words(&effects), ["INVITE", "media [ringback silence]"]);
    assert_eq!(leg(&shard, call, 1).early_media, None);
}

#[test]
fn keys_of_both_legs_are_agreed_on_before_the_answer() {
    let suite = Suite::AesCm128HmacSha1_80;
    let key = |of: &[u8]| Crypto { tag: 1, suite, key: Key::derive(b"peer", suite, of) };
    let secured = |port, of: &[u8]| Audio { crypto: vec![key(of)], secure: true, ..audio(port) };
    let mut shard = Shard::with(|config| {
        with_carriers(config);
        config.srtp = Srtp { offer: OfferSrtp::Required, secret: Secret::new(vec![7; 32]) };
        for out in config.trunks.iter_mut().filter_map(|trunk| trunk.out.as_mut()) {
            out.peers.iter_mut().for_each(|peer| peer.transport = Transport::Tls);
        }
    });
    shard.register(1001);
    let call = dial_outside(&mut shard, &[], Some(secured(4_000, b"caller")));
    let invite = shard.ringing(call).unwrap();
    // In the clear it is not heard.
    let effects = says_as(&mut shard, &invite, (183, "clear"), Some(audio(5_000)));
    assert_eq!(words(&effects), ["180"]);
    let effects = says_as(&mut shard, &invite, (183, "a"), Some(secured(5_000, b"a")));
    assert_eq!(words(&effects), ["183", "media [leg leg]"]);
    let theirs = |effects: &[Effect]| -> Vec<_> {
        plan(effects).legs.iter().map(|leg| leg.keys.clone().map(|keys| keys.theirs)).collect()
    };
    let (caller, first) = (key(b"caller").key, key(b"a").key);
    assert_eq!(theirs(&effects), [Some(caller.clone()), Some(first)]);
    assert_eq!(told(&effects).1.unwrap().crypto.len(), 1);
    // A branch has keys of its own, and so has the answer.
    let effects = says_as(&mut shard, &invite, (183, "b"), Some(secured(5_100, b"b")));
    assert_eq!(theirs(&effects)[1], Some(key(b"b").key));
    let effects = says_as(&mut shard, &invite, (200, "c"), Some(secured(5_200, b"c")));
    assert_eq!(theirs(&effects), [Some(caller), Some(key(b"c").key)]);
}

#[test]
fn silence_before_the_answer_ends_nothing() {
    let (mut shard, call, invite) = dialed();
    says_as(&mut shard, &invite, (183, "a"), Some(audio(5_000)));
    let leg = leg(&shard, call, 1).id;
    let (reply, _) = shard.event(GatewayEvent::RtpSilence { call, leg, since_ms: 60_000 });
    assert!(is_illegal(&reply, "alerting"), "{reply:?}");
}
