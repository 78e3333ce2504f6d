//! Which codec each leg gets: nothing is transcoded that need not be.

use tandem_sip::sdp::{Audio, Codec, Payload};
use tandem_sip::{Carrier, Method};

use super::{leg, plan, with_agent};
use crate::command::{GatewayEvent, Inbound};
use crate::effect::Effect;
use crate::ids::CallId;
use crate::tests::shard::{Shard, audio, key, request, response};

fn of(port: u16, codecs: &[Codec]) -> Audio {
    let payload = |codec: &Codec| Payload { number: codec.static_payload(), codec: *codec };
    Audio { payloads: codecs.iter().map(payload).collect(), ..audio(port) }
}

/// A caller with these codecs waits, and an agent's phone rings.
fn offered(shard: &mut Shard, codecs: &[Codec]) -> CallId {
    let mut request = request(Method::Invite, "c1", "", "<sip:c@127.0.0.1:6000>");
    request.uri.user = Some("4001".to_owned());
    shard.event(GatewayEvent::Invite(Inbound {
        names: Vec::new(),
        transaction: key(&request),
        source: "127.0.0.1:6000".parse().unwrap(),
        carrier: Carrier::Udp,
        request: request.into(),
        offer: Some(of(4_000, codecs)),
    }));
    *shard.leader.calls.keys().next().unwrap()
}

fn answer(shard: &mut Shard, call: CallId, codecs: &[Codec]) -> Vec<Effect> {
    let invite = shard.ringing(call).unwrap();
    let event = GatewayEvent::Response {
        branch: invite.headers.branch().to_owned(),
        response: Box::new(response(&invite, 200)),
        answer: Some(of(5_000, codecs)),
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
        // G.711 goes before what is wider, whatever the caller would like best.
        (&[Codec::G722, Codec::Pcma], [Codec::Pcma, Codec::Pcmu, Codec::G722]),
        (&[Codec::Pcma], [Codec::Pcma, Codec::Pcmu, Codec::G722]),
        (&[Codec::Pcmu, Codec::G722], [Codec::Pcmu, Codec::Pcma, Codec::G722]),
    ] {
        let mut shard = with_agent();
        let call = offered(&mut shard, callers);
        let offer = Audio::parse(&shard.ringing(call).unwrap().body).unwrap();
        assert_eq!(offer.payloads, of(0, &expected).payloads);
    }
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
    assert_eq!(codecs(&effects), [(Codec::Pcmu, 0), (Codec::Pcma, 8)], "G.711 first");
    assert_eq!(leg(&shard, call, 0).media.payload, 0);
}
