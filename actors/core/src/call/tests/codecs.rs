//! Which codec each leg gets: nothing is transcoded that need not be.

use tandem_sip::sdp::{Audio, Codec, Payload};
use tandem_sip::{Carrier, Method};

use super::{leg, plan, with_agent};
use crate::command::{GatewayEvent, Inbound, OperatorCommand};
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::tests::shard::{Shard, audio, key, request, response};
use crate::world::{Rejection, Reply};

fn of(port: u16, codecs: &[Codec]) -> Audio {
    let payload = |codec: &Codec| Payload::new(codec.static_payload(), *codec);
    Audio { payloads: codecs.iter().map(payload).collect(), ..audio(port) }
}

/// A caller with these codecs waits, and an agent's phone rings.
fn offered(shard: &mut Shard, codecs: &[Codec]) -> CallId {
    calls(shard, "4001", of(4_000, codecs));
    *shard.leader.calls.keys().next().unwrap()
}

fn calls(shard: &mut Shard, to: &str, offer: Audio) -> Vec<Effect> {
    invites(shard, to, Some(offer))
}

fn invites(shard: &mut Shard, to: &str, offer: Option<Audio>) -> Vec<Effect> {
    let mut request = request(Method::Invite, "c1", "", "<sip:c@127.0.0.1:6000>");
    request.uri.user = Some(to.to_owned());
    request.headers.content_type = Some("application/sdp".to_owned());
    let event = GatewayEvent::Invite(Inbound {
        names: Vec::new(),
        transaction: key(&request),
        source: "127.0.0.1:6000".parse().unwrap(),
        carrier: Carrier::Udp,
        request: request.into(),
        offer,
    });
    shard.event(event).1
}

/// Of the wide kind, with what a phone says of it.
fn wide(port: u16, codecs: &[Codec]) -> Audio {
    let said = |payload: Payload| match payload.codec {
        Codec::Opus => Payload { number: 96, fmtp: Some(format!("x={port}")), ..payload },
        Codec::G729 => Payload { fmtp: Some("annexb=no".to_owned()), ..payload },
        Codec::Pcmu | Codec::Pcma | Codec::G722 => payload,
    };
    let offer = of(port, codecs);
    let payloads = offer.payloads.into_iter().map(said).collect();
    Audio { payloads, telephone_event_wide: Some(102), ..offer }
}

fn answer(shard: &mut Shard, call: CallId, codecs: &[Codec]) -> Vec<Effect> {
    answer_with(shard, call, of(5_000, codecs))
}

fn answer_with(shard: &mut Shard, call: CallId, audio: Audio) -> Vec<Effect> {
    let invite = shard.ringing(call).unwrap();
    let event = GatewayEvent::Response {
        branch: invite.headers.branch().to_owned(),
        response: Box::new(response(&invite, 200)),
        answer: Some(audio),
    };
    shard.event(event).1
}

fn codecs(effects: &[Effect]) -> Vec<(Codec, u8)> {
    plan(effects).legs.iter().map(|leg| (leg.codec, leg.payload)).collect()
}

#[test]
fn agent_is_offered_the_callers_codec_first() {
    for (callers, expected) in [
        (&[Codec::G722][..], [Codec::G722, Codec::Pcmu, Codec::Pcma]),
        // What the caller would like best, not what is narrower.
        (&[Codec::G722, Codec::Pcma], [Codec::G722, Codec::Pcmu, Codec::Pcma]),
        (&[Codec::Pcma, Codec::G722], [Codec::Pcma, Codec::Pcmu, Codec::G722]),
        (&[Codec::Pcma], [Codec::Pcma, Codec::Pcmu, Codec::G722]),
        (&[Codec::Pcmu, Codec::G722], [Codec::Pcmu, Codec::Pcma, Codec::G722]),
    ] {
        let mut shard = with_agent();
        let call = offered(&mut shard, callers);
        assert_eq!(offer_of(&shard, call).payloads, of(0, &expected).payloads);
    }
}

fn offer_of(shard: &Shard, call: CallId) -> Audio {
    Audio::parse(&shard.ringing(call).unwrap().body).unwrap()
}

/// Our final answer to the caller.
fn told(effects: &[Effect]) -> Audio {
    let mut bodies = effects.iter().filter_map(|effect| match &effect.body {
        Body::Respond { response, .. } if response.status == 200 => Some(&response.body),
        Body::Respond { .. } | Body::Send { .. } | Body::Notify { .. } | Body::Media(_) => None,
    });
    Audio::parse(bodies.next_back().expect("a 200")).expect("SDP")
}

fn refused(effects: &[Effect]) -> Option<u16> {
    effects.iter().find_map(|effect| match &effect.body {
        Body::Respond { response, .. } => Some(response.status),
        Body::Send { .. } | Body::Notify { .. } | Body::Media(_) => None,
    })
}

#[test]
fn opus_is_offered_to_an_agent_where_the_caller_has_it_with_what_the_caller_says_of_it() {
    let mut shard = with_agent();
    let effects = calls(&mut shard, "4001", wide(4_000, &[Codec::Opus, Codec::Pcma]));
    let answered = told(&effects);
    assert_eq!(answered.payloads, [Payload::new(96, Codec::Opus)], "nobody talks yet");
    assert_eq!((answered.telephone_event, answered.telephone_event_wide), (None, Some(102)));
    let call = *shard.leader.calls.keys().next().unwrap();
    let offer = offer_of(&shard, call);
    let opus = Payload { number: 111, codec: Codec::Opus, fmtp: Some("x=4000".to_owned()) };
    assert_eq!(offer.payloads[0], opus);
    assert_eq!((offer.telephone_event, offer.telephone_event_wide), (Some(101), Some(110)));
    let effects = answer_with(&mut shard, call, wide(5_000, &[Codec::Opus]));
    assert_eq!(codecs(&effects), [(Codec::Opus, 96), (Codec::Opus, 96)]);
    let events: Vec<_> = plan(&effects).legs.iter().map(|leg| leg.events_wide).collect();
    assert_eq!(events, [true, true]);
    // An agent whom the caller's codec says nothing is not asked for it.
    let mut shard = with_agent();
    let call = offered(&mut shard, &[Codec::Pcma]);
    assert_eq!(offer_of(&shard, call).telephone_event_wide, None);
    let effects = answer(&mut shard, call, &[Codec::Opus, Codec::Pcma]);
    assert_eq!(codecs(&effects), [(Codec::Pcma, 8), (Codec::Pcma, 8)]);
}

#[test]
fn caller_of_an_extension_speaks_what_its_phone_chooses_of_the_callers_offer() {
    for (chosen, expected) in
        [(Codec::G729, Codec::G729), (Codec::Pcma, Codec::Pcma), (Codec::G722, Codec::Opus)]
    {
        let mut shard = with_agent();
        let callers = [Codec::Opus, Codec::G729, Codec::Pcma];
        calls(&mut shard, "1001", wide(4_000, &callers));
        let call = *shard.leader.calls.keys().next().unwrap();
        let offer = offer_of(&shard, call);
        let order: Vec<_> = offer.payloads.iter().map(|payload| payload.codec).collect();
        let ours = [Codec::Pcmu, Codec::G722];
        assert_eq!(order, [callers.as_slice(), &ours].concat());
        assert_eq!(offer.payloads[1].fmtp.as_deref(), Some("annexb=no"), "as it was said");
        let effects = answer_with(&mut shard, call, wide(5_000, &[chosen]));
        let answered = told(&effects);
        assert_eq!(answered.payloads[0].codec, expected);
        let said = (chosen == Codec::G729).then_some("annexb=no");
        assert_eq!(answered.payloads[0].fmtp.as_deref(), said, "what the phone says");
        let plan = plan(&effects);
        assert_eq!((plan.legs[0].codec, plan.legs[1].codec), (expected, chosen));
        assert_eq!(leg(&shard, call, 0).media.open, None, "it has been answered");
    }
}

#[test]
fn opus_of_the_called_phone_is_described_to_the_caller_as_it_was_said() {
    let mut shard = with_agent();
    calls(&mut shard, "1001", wide(4_000, &[Codec::Opus]));
    let call = *shard.leader.calls.keys().next().unwrap();
    let effects = answer_with(&mut shard, call, wide(5_000, &[Codec::Opus]));
    let said = Some("x=5000".to_owned());
    assert_eq!(told(&effects).payloads, [Payload { number: 96, codec: Codec::Opus, fmtp: said }]);
}

#[test]
fn caller_with_g_729_alone_reaches_phones_and_nothing_that_we_had_to_speak() {
    for number in ["4001", "4003"] {
        let mut shard = with_agent();
        let effects = calls(&mut shard, number, wide(4_000, &[Codec::G729]));
        assert_eq!(refused(&effects), Some(488), "{number}");
        assert_eq!(shard.leader.calls.len(), 0);
    }
    let mut shard = with_agent();
    calls(&mut shard, "1001", wide(4_000, &[Codec::G729]));
    let call = *shard.leader.calls.keys().next().unwrap();
    assert_eq!(offer_of(&shard, call).payloads.len(), 1, "nothing else can be passed on");
    let effects = answer_with(&mut shard, call, wide(5_000, &[Codec::G729]));
    assert_eq!(codecs(&effects), [(Codec::G729, 18), (Codec::G729, 18)]);
    shard.ack(call);
    // Nor can one of both leave it, or the caller be sent where we speak.
    let reinvite = shard.of_peer(call, 0, Method::Invite, 2);
    let effects = shard.in_dialog(reinvite, Some(of(4_444, &[Codec::Pcma])));
    assert_eq!(refused(&effects), Some(488));
    let command = OperatorCommand::TransferCall { call, to: "4001".into() };
    let (reply, _) = shard.operate("k", command);
    assert!(matches!(reply, Reply::Rejected(Rejection::Refused(_))), "{reply:?}");
    let effects = shard.in_dialog(
        shard.of_peer(call, 0, Method::Invite, 3),
        Some(wide(4_445, &[Codec::Pcma, Codec::G729])),
    );
    assert_eq!(codecs(&effects), [(Codec::G729, 18), (Codec::G729, 18)]);
}

#[test]
fn answer_that_a_180_has_told_is_not_changed_by_the_called_phone() {
    let mut shard = with_agent();
    let mut request = request(Method::Invite, "c1", "", "<sip:c@127.0.0.1:6000>");
    request.uri.user = Some("1001".to_owned());
    request.headers.push_other("Require", "100rel");
    shard.event(GatewayEvent::Invite(Inbound {
        names: Vec::new(),
        transaction: key(&request),
        source: "127.0.0.1:6000".parse().unwrap(),
        carrier: Carrier::Udp,
        request: request.into(),
        offer: Some(of(4_000, &[Codec::G722, Codec::Pcma])),
    }));
    let call = *shard.leader.calls.keys().next().unwrap();
    assert_eq!(leg(&shard, call, 0).media.open, None);
    assert_eq!(leg(&shard, call, 0).media.codec, Codec::G722);
}

#[test]
fn of_an_answer_with_several_codecs_the_callers_is_taken() {
    let mut shard = with_agent();
    let call = offered(&mut shard, &[Codec::G722]);
    let effects = answer(&mut shard, call, &[Codec::Pcma, Codec::G722]);
    assert_eq!(codecs(&effects), [(Codec::G722, 9), (Codec::G722, 9)]);
}

#[test]
fn agent_without_the_callers_codec_gets_its_own() {
    let mut shard = with_agent();
    let call = offered(&mut shard, &[Codec::G722]);
    let effects = answer(&mut shard, call, &[Codec::Pcmu]);
    assert_eq!(codecs(&effects), [(Codec::G722, 9), (Codec::Pcmu, 0)]);
}

#[test]
fn moved_media_keep_the_codec_of_the_other_leg_where_it_is_offered() {
    let mut shard = with_agent();
    let call = offered(&mut shard, &[Codec::Pcma]);
    answer(&mut shard, call, &[Codec::Pcma]);
    shard.ack(call);
    let reinvite = shard.of_peer(call, 0, Method::Invite, 2);
    let effects = shard.in_dialog(reinvite, Some(of(4_444, &[Codec::G722, Codec::Pcma])));
    assert_eq!(codecs(&effects), [(Codec::Pcma, 8), (Codec::Pcma, 8)]);
    let reinvite = shard.of_peer(call, 0, Method::Invite, 3);
    let effects = shard.in_dialog(reinvite, Some(of(4_444, &[Codec::G722, Codec::Pcmu])));
    assert_eq!(codecs(&effects), [(Codec::G722, 9), (Codec::Pcma, 8)], "as it is offered");
    assert_eq!(leg(&shard, call, 0).media.payload, 9);
}

// --- a trunk's policy --------------------------------------------------------------------------

/// Who calls comes in by a trunk with these codecs.
fn by_trunk_with(allowed: &[Codec]) -> Shard {
    let mut shard = Shard::with(|config| config.trunks[0].codecs = allowed.to_vec());
    shard.register(1001);
    shard
}

#[test]
fn caller_of_a_trunk_speaks_what_its_policy_likes_best_or_is_refused() {
    let all = [Codec::Pcmu, Codec::G722, Codec::Pcma];
    for (allowed, offered, expected) in [
        (&[][..], &all[..], Some(Codec::Pcmu)),
        (&[Codec::Pcma, Codec::Pcmu], &all, Some(Codec::Pcma)),
        (&[Codec::Opus, Codec::G722], &all, Some(Codec::G722)),
        (&[Codec::Pcma], &[Codec::Pcmu, Codec::Opus], None),
        (&[Codec::G729], &all, None),
    ] {
        let mut shard = by_trunk_with(allowed);
        let effects = calls(&mut shard, "4001", wide(4_000, offered));
        match expected {
            Some(codec) => assert_eq!(told(&effects).payloads[0].codec, codec, "{allowed:?}"),
            None => assert_eq!(refused(&effects), Some(488), "{allowed:?}"),
        }
    }
}

#[test]
fn policy_of_a_trunk_holds_for_an_extension_a_caller_without_an_offer_and_a_reinvite() {
    let mut shard = by_trunk_with(&[Codec::Pcma]);
    calls(&mut shard, "1001", of(4_000, &[Codec::Pcmu, Codec::Pcma]));
    let call = *shard.leader.calls.keys().next().unwrap();
    // The agent's phone would rather speak the other; the caller must not.
    let effects = answer(&mut shard, call, &[Codec::Pcmu]);
    assert_eq!(told(&effects).payloads[0].codec, Codec::Pcma);
    assert_eq!(codecs(&effects), [(Codec::Pcma, 8), (Codec::Pcmu, 0)], "the laws are mapped");

    let mut shard = by_trunk_with(&[Codec::G722, Codec::Pcma]);
    let effects = invites(&mut shard, "4001", None);
    assert_eq!(told(&effects).payloads[0].codec, Codec::G722);
    let mut shard = by_trunk_with(&[Codec::G729]);
    let effects = invites(&mut shard, "4001", None);
    assert_eq!(refused(&effects), Some(488));

    let mut shard = by_trunk_with(&[Codec::Pcma]);
    let call = offered(&mut shard, &[Codec::Pcma]);
    answer(&mut shard, call, &[Codec::Pcma]);
    let reinvite = shard.of_peer(call, 0, Method::Invite, 7);
    let effects = shard.in_dialog(reinvite, Some(of(4_000, &[Codec::Pcmu])));
    assert_eq!(refused(&effects), Some(488), "and the call goes on as it was");
    assert_eq!(leg(&shard, call, 0).media.codec, Codec::Pcma);
}
