//! Requests within a dialog.

use tandem_sip::sdp::{Audio, Codec, Direction, Payload};
use tandem_sip::{Carrier, ConnectionId, Method};

use super::{connected, leg, plan, state, with_agent};
use crate::call::leg::State;
use crate::command::GatewayEvent;
use crate::effect::{Body, Effect, Source};
use crate::ids::{CallId, EntityId};
use crate::tests::shard::{Shard, audio, request, words};

/// The body of the first response.
fn described(effects: &[Effect]) -> Audio {
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    Audio::parse(&response.body).expect("SDP")
}

fn ack(shard: &mut Shard, call: CallId, cseq: u32, answer: Option<Audio>) -> Vec<Effect> {
    let caller = leg(shard, call, 0);
    let (call_id, local_tag) = (caller.invite.headers.call_id.clone(), caller.local_tag.clone());
    shard.event(GatewayEvent::Ack { call_id, local_tag, cseq, answer }).1
}

#[test]
fn party_who_is_held_hears_music_and_the_holder_is_sent_nothing() {
    let (mut shard, call) = connected();
    let effects = shard.hold(call, 1, 1, true);
    assert_eq!(words(&effects), ["200", "media [music leg] recorded"]);
    assert_eq!(described(&effects).direction, Direction::RecvOnly);
    assert_eq!(plan(&effects).legs[1].remote, None);
    assert!(shard.call(call).is_held());
    let effects = shard.hold(call, 1, 2, false);
    assert_eq!(words(&effects), ["200", "media [leg leg] recorded"]);
    assert_eq!(plan(&effects).legs[1].remote, audio(4_000).remote());
    assert!(!shard.call(call).is_held());
}

#[test]
fn both_parties_may_hold_at_once() {
    let (mut shard, call) = connected();
    shard.hold(call, 0, 2, true);
    let effects = shard.hold(call, 1, 1, true);
    assert_eq!(words(&effects), ["200", "media [music music] recorded"]);
    shard.hold(call, 0, 3, false);
    assert!(shard.call(call).is_held());
    shard.hold(call, 1, 2, false);
    assert!(!shard.call(call).is_held());
}

#[test]
fn reinvite_over_another_connection_moves_what_the_leg_is_reached_over() {
    let (mut shard, call) = connected();
    let over = |number| Carrier::Tcp { connection: Some(ConnectionId(number)) };
    let reinvite = shard.of_peer(call, 0, Method::Invite, 2);
    shard.in_dialog_over(reinvite, Some(audio(4_000)), over(8));
    // A request that was only too long for a datagram moves nothing.
    assert_eq!(leg(&shard, call, 0).carrier, Carrier::Udp);

    let mut shard = Shard::new();
    shard.register_over(1001, over(7));
    let call = shard.talk("c1");
    let reinvite = shard.of_peer(call, 1, Method::Invite, 2);
    shard.in_dialog_over(reinvite, Some(audio(4_000)), over(8));
    assert_eq!(leg(&shard, call, 1).carrier, over(8));

    // Nobody talks a leg out of TLS.
    let secure = |number| Carrier::Tls { connection: Some(ConnectionId(number)) };
    let mut shard = Shard::new();
    shard.register_over(1001, secure(7));
    let call = shard.talk("c1");
    for (cseq, from, to) in [(2, over(8), secure(7)), (3, secure(9), secure(9))] {
        let reinvite = shard.of_peer(call, 1, Method::Invite, cseq);
        shard.in_dialog_over(reinvite, Some(audio(4_000)), from);
        assert_eq!(leg(&shard, call, 1).carrier, to, "{from:?}");
    }
}

/// Whatever it asks: a phone that has come back may have nothing to offer.
#[test]
fn request_over_another_connection_moves_what_the_leg_is_reached_over() {
    let over = |number| Carrier::Ws { connection: Some(ConnectionId(number)) };
    let mut shard = Shard::new();
    shard.register_over(1001, over(7));
    let call = shard.talk("c1");
    for (cseq, method) in [(2, Method::Options), (3, Method::Update), (4, Method::Info)] {
        let request = shard.of_peer(call, 1, method, cseq);
        shard.in_dialog_over(request, None, over(u64::from(cseq)));
        assert_eq!(leg(&shard, call, 1).carrier, over(u64::from(cseq)));
    }
    // One that comes too late is no proof of where the phone is.
    let late = shard.of_peer(call, 1, Method::Options, 3);
    shard.in_dialog_over(late, None, over(9));
    assert_eq!(leg(&shard, call, 1).carrier, over(4));
}

#[test]
fn moved_media_go_where_the_new_offer_says() {
    let (mut shard, call) = connected();
    let reinvite = shard.of_peer(call, 0, Method::Invite, 2);
    let pcmu = vec![Payload::new(0, Codec::Pcmu)];
    let before = leg(&shard, call, 0).media.session_version;
    let effects = shard.in_dialog(reinvite, Some(Audio { payloads: pcmu, ..audio(4_444) }));
    let moved = &plan(&effects).legs[0];
    assert_eq!((moved.remote, moved.codec), (audio(4_444).remote(), Codec::Pcmu));
    assert_eq!(described(&effects).session_version, before + 1);
}

#[test]
fn update_without_an_offer_refreshes_and_describes_nothing() {
    let (mut shard, call) = connected();
    let update = shard.of_peer(call, 0, Method::Update, 2);
    let effects = shard.in_dialog(update, None);
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert_eq!(shard.call(call).state_name(), "connected");
}

#[test]
fn reinvite_without_an_offer_gets_ours_and_its_ack_the_answer() {
    let (mut shard, call) = connected();
    shard.hold(call, 0, 2, true);
    ack(&mut shard, call, 2, None);
    let reinvite = shard.of_peer(call, 0, Method::Invite, 3);
    let effects = shard.in_dialog(reinvite, None);
    assert_eq!(described(&effects).direction, Direction::SendRecv);
    assert!(shard.call(call).is_held());
    let effects = ack(&mut shard, call, 3, Some(audio(4_444)));
    assert!(!shard.call(call).is_held());
    assert_eq!(words(&effects), ["media [leg leg] recorded"]);
    assert_eq!(plan(&effects).legs[0].remote, audio(4_444).remote());
}

#[test]
fn offer_without_a_codec_of_ours_leaves_the_media_as_they_are() {
    let (mut shard, call) = connected();
    let before = leg(&shard, call, 0).media.clone();
    let reinvite = shard.of_peer(call, 0, Method::Invite, 2);
    let effects = shard.in_dialog(reinvite, Some(Audio { payloads: Vec::new(), ..audio(4_444) }));
    assert_eq!(words(&effects), ["488"]);
    assert_eq!(leg(&shard, call, 0).media, before);
    assert_eq!(shard.call(call).state_name(), "connected");
}

#[test]
fn options_and_info_are_answered_and_change_nothing() {
    let (mut shard, call) = connected();
    for (cseq, method) in [(2, Method::Options), (3, Method::Info)] {
        let request = shard.of_peer(call, 0, method, cseq);
        let effects = shard.in_dialog(request, None);
        assert_eq!(words(&effects), ["200"]);
    }
    assert_eq!(shard.call(call).state_name(), "connected");
}

#[test]
fn method_that_we_do_not_take_is_refused_with_those_that_we_do() {
    let (mut shard, call) = connected();
    let methods = [Method::Publish, Method::Message, Method::Other("PUSH".into())];
    for (cseq, method) in (2..).zip(methods) {
        let request = shard.of_peer(call, 0, method, cseq);
        let effects = shard.in_dialog(request, None);
        assert_eq!(words(&effects), ["405"]);
        let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
        assert!(response.headers.other("Allow").is_some_and(|allow| allow.contains("BYE")));
    }
}

/// RFC 6665 §4.5.2.
#[test]
fn subscription_within_a_call_is_refused_and_the_call_goes_on() {
    let (mut shard, call) = connected();
    let mut request = shard.of_peer(call, 0, Method::Subscribe, 2);
    request.headers.push_other("Event", "dialog");
    assert_eq!(words(&shard.in_dialog(request, None)), ["403"]);
    assert_eq!(shard.call(call).state_name(), "connected");
}

#[test]
fn request_that_comes_late_is_refused_and_changes_nothing() {
    let (mut shard, call) = connected();
    assert_eq!(words(&shard.bye(call, 1)), ["500"]);
    assert_eq!(shard.call(call).state_name(), "connected");
    shard.hold(call, 0, 5, true);
    assert_eq!(words(&shard.hold(call, 0, 5, false)), ["500"]);
    assert!(shard.call(call).is_held());
}

#[test]
fn request_of_somebody_else_knows_no_dialog() {
    let (mut shard, call) = connected();
    let mut bye = shard.of_peer(call, 0, Method::Bye, 2);
    bye.headers.from.set_tag("stranger");
    let effects = shard.in_dialog(bye, None);
    assert_eq!(words(&effects), ["481"]);
    assert!(matches!(effects[0].entity, EntityId::Gateway(_)));
    let mut bye = shard.of_peer(call, 0, Method::Bye, 2);
    bye.headers.to.set_tag("wrong");
    assert_eq!(words(&shard.in_dialog(bye, None)), ["481"]);
    assert_eq!(words(&shard.in_dialog(request(Method::Info, "no", "tag", ""), None)), ["481"]);
    assert_eq!(shard.call(call).state_name(), "connected");
}

#[test]
fn leg_that_is_being_released_takes_no_offer() {
    let (mut shard, call) = connected();
    shard.bye(call, 2);
    assert_eq!(state(&shard, call, 1), &State::Releasing);
    assert_eq!(words(&shard.hold(call, 1, 1, true)), ["481"]);
}

#[test]
fn echo_that_is_moved_stays_an_echo() {
    let mut shard = with_agent();
    let call = shard.invite("c1", "4003").0.unwrap();
    shard.ack(call);
    let effects = shard.hold(call, 0, 2, false);
    assert_eq!(plan(&effects).legs[0].source, Source::Echo);
}
