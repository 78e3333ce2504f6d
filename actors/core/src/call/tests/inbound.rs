//! A new INVITE: where it leads, or why it is refused.

use tandem_sip::sdp::Audio;
use tandem_sip::{Carrier, ConnectionId, Method};

use super::{is_illegal, leg, plan, record, state, transaction, with_agent};
use crate::call::leg::State;
use crate::call::state::State as CallState;
use crate::command::{GatewayEvent, Inbound};
use crate::config::{Trunk, TrunkTls};
use crate::effect::{Body, Effect, Source};
use crate::ids::CallId;
use crate::limits;
use crate::tests::shard::{GATEWAY, Shard, audio, key, request, words};

fn invite(shard: &mut Shard, call_id: &str, number: &str, offer: Option<Audio>) -> Vec<Effect> {
    let mut request = request(Method::Invite, call_id, "", "<sip:c@127.0.0.1:6000>");
    request.uri.user = Some(number.to_owned());
    let inbound = Inbound {
        transaction: key(&request),
        source: "127.0.0.1:6000".parse().unwrap(),
        carrier: Carrier::Udp,
        request: request.into(),
        offer,
        names: Vec::new(),
    };
    shard.event(GatewayEvent::Invite(inbound)).1
}

fn only_call(shard: &Shard) -> CallId {
    *shard.leader.calls.keys().next().expect("a call")
}

#[test]
fn each_number_leads_where_the_tenant_says() {
    let mut shard = with_agent();
    let echo = shard.invite("c1", "4003").0.unwrap();
    assert_eq!(shard.call(echo).state, CallState::InFlow);
    let extension = shard.invite("c2", "1001").0.unwrap();
    assert!(matches!(&shard.call(extension).state, CallState::Dialing { .. }));
    let queued = shard.invite("c3", "4001").0.unwrap();
    assert_eq!(shard.call(queued).state, CallState::Queued { queue: "support".into() });
}

#[test]
fn number_that_leads_nowhere_is_refused_with_its_record() {
    for number in ["4999", "", &"4".repeat(limits::DIGITS_MAX + 1)] {
        let mut shard = Shard::new();
        assert_eq!(words(&invite(&mut shard, "c1", number, Some(audio(4_000)))), ["404"]);
        assert_eq!(record(&shard), ("rejected", "system", "404"));
        assert!(shard.leader.calls.is_empty());
    }
}

#[test]
fn call_is_the_trunks_that_wants_a_name_only_where_its_connection_has_proven_it() {
    let wants = |name: &str| TrunkTls { client_name: Some(name.into()), unverified: false };
    let mut shard = Shard::with(|config| {
        let any = config.trunks[0].clone();
        config.trunks = vec![Trunk { id: "secure".into(), tls: wants("sbc.example.net"), ..any }];
    });
    let mut call = |call_id: &str, names: &[&str]| {
        let mut request = request(Method::Invite, call_id, "", "<sip:c@127.0.0.1:6000>");
        request.uri.user = Some("4003".into());
        let inbound = Inbound {
            transaction: key(&request),
            source: "127.0.0.1:6000".parse().unwrap(),
            carrier: Carrier::Tls { connection: Some(ConnectionId(7)) },
            request: request.into(),
            offer: Some(audio(4_000)),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        words(&shard.event(GatewayEvent::Invite(inbound)).1)
    };
    assert_eq!(call("c1", &[]), ["403"]);
    assert_eq!(call("c2", &["example.net", "sbc.example.net.evil.org"]), ["403"]);
    assert_eq!(call("c3", &["other", "SBC.example.net"]), ["100", "200", "media [echo]"]);
}

#[test]
fn invite_before_any_configuration_is_refused() {
    let mut shard = Shard::with(|config| config.trunks.clear());
    assert_eq!(words(&shard.invite("c1", "4003").1), ["403"]);
    assert_eq!(record(&shard), ("rejected", "system", "403"));
}

#[test]
fn offer_without_a_codec_of_ours_is_refused_and_seizes_nothing() {
    let mut shard = Shard::new();
    let offer = Audio { payloads: Vec::new(), ..audio(4_000) };
    assert_eq!(words(&invite(&mut shard, "c1", "4003", Some(offer))), ["488"]);
    assert_eq!(record(&shard), ("rejected", "system", "488"));
    assert!(shard.leader.channels.is_empty());
}

#[test]
fn invite_without_a_free_port_is_refused_and_told_when_to_come_back() {
    let mut shard = Shard::new();
    shard.log_in(Vec::new());
    let effects = invite(&mut shard, "c1", "4003", Some(audio(4_000)));
    assert_eq!(words(&effects), ["503"]);
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    assert_eq!(response.headers.other("Retry-After"), Some("5"));
}

#[test]
fn extension_without_a_port_for_its_phone_is_refused_and_gives_all_back() {
    let mut shard = with_agent();
    shard.log_in(vec![20_000]);
    assert_eq!(words(&shard.invite("c1", "1001").1), ["100", "503", "media []"]);
    assert_eq!(shard.agent_state(1001), "ready");
    assert_eq!(shard.leader.gateways[&GATEWAY.into()].free_ports.len(), 1);
    assert_eq!(record(&shard), ("rejected", "system", "503"));
}

#[test]
fn extension_that_is_not_there_is_unavailable_and_one_that_talks_is_busy() {
    let mut shard = Shard::new();
    assert_eq!(words(&shard.invite("c1", "1001").1), ["480"]);
    assert_eq!(record(&shard), ("no_answer", "system", "480"));
    shard.register(1001);
    shard.talk("c2");
    assert_eq!(words(&shard.invite("c3", "1001").1), ["486"]);
}

#[test]
fn answer_describes_our_port_and_the_callers_codec() {
    let mut shard = Shard::new();
    let (call, effects) = shard.invite("c1", "4003");
    let call = call.unwrap();
    assert_eq!(state(&shard, call, 0), &State::Answered);
    let Body::Respond { response, .. } = &effects[1].body else { panic!("a response") };
    let answer = Audio::parse(&response.body).unwrap();
    let media = &leg(&shard, call, 0).media;
    assert_eq!((answer.port, answer.payloads[0].number), (media.port, 8));
    assert_eq!(answer.address, "127.0.0.10".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(response.headers.to_tag(), Some(leg(&shard, call, 0).local_tag.as_str()));
    let heard = &plan(&effects).legs[0];
    assert_eq!((heard.source.clone(), heard.remote), (Source::Echo, audio(4_000).remote()));
}

#[test]
fn caller_without_an_offer_gets_ours_and_answers_it_in_the_ack() {
    let mut shard = Shard::new();
    let effects = invite(&mut shard, "c1", "4003", None);
    assert_eq!(words(&effects), ["100", "200", "media [echo]"]);
    assert_eq!(plan(&effects).legs[0].remote, None);
    let call = only_call(&shard);
    let (_, effects) = shard.event(GatewayEvent::Ack {
        call_id: "c1".into(),
        local_tag: leg(&shard, call, 0).local_tag.clone(),
        cseq: 1,
        answer: Some(audio(4_000)),
    });
    assert_eq!(words(&effects), ["media [echo]"]);
    let heard = &plan(&effects).legs[0];
    assert_eq!((heard.remote, heard.payload), (audio(4_000).remote(), 8));
    assert_eq!(state(&shard, call, 0), &State::Active);
}

#[test]
fn ack_that_answers_nothing_makes_the_leg_active_and_nothing_else() {
    let mut shard = Shard::new();
    let call = shard.invite("c1", "4003").0.unwrap();
    let local_tag = leg(&shard, call, 0).local_tag.clone();
    let ack = || GatewayEvent::Ack {
        call_id: "c1".into(),
        local_tag: local_tag.clone(),
        cseq: 1,
        answer: None,
    };
    assert!(shard.event(ack()).1.is_empty());
    assert_eq!(state(&shard, call, 0), &State::Active);
    assert!(shard.event(ack()).1.is_empty());
}

#[test]
fn ack_of_an_invite_that_is_not_answered_is_illegal() {
    let mut shard = with_agent();
    let call = shard.invite("c1", "1001").0.unwrap();
    let local_tag = leg(&shard, call, 0).local_tag.clone();
    let ack = GatewayEvent::Ack { call_id: "c1".into(), local_tag, cseq: 1, answer: None };
    let (reply, effects) = shard.event(ack);
    assert!(is_illegal(&reply, "trying"), "{reply:?}");
    assert!(effects.is_empty());
    assert_eq!(state(&shard, call, 0), &State::Trying);
}

#[test]
fn repeated_invite_that_a_new_life_of_the_gateway_sees_makes_no_second_call() {
    let ports: Vec<u16> = (0..40).map(|n| 20_000 + 2 * n).collect();
    let mut shard = with_agent();
    let (call, first) = shard.invite("c1", "4003");
    let call = call.unwrap();
    shard.log_in(ports.clone());
    let again = shard.invite("c1", "4003").1;
    assert_eq!(shard.leader.calls.len(), 1);
    assert_eq!(words(&again), ["200"]);
    assert_eq!(again[0].body, first[1].body);
    assert_eq!(shard.call(call).answered_at, Some(shard.call(call).started_at));
    shard.ack(call);
    assert!(shard.invite("c1", "4003").1.is_empty());
    shard.bye(call, 2);

    let call = shard.invite("c2", "1001").0.unwrap();
    shard.log_in(ports);
    assert_eq!(words(&shard.invite("c2", "1001").1), ["100"]);
    let ringing = shard.ringing(call).unwrap();
    shard.answer(&ringing, 180);
    assert_eq!(words(&shard.invite("c2", "1001").1), ["180"]);
    let transaction = transaction(&shard, call);
    shard.event(GatewayEvent::Cancel { transaction, q850: None });
    assert!(shard.cdrs.len() == 2 && shard.leader.channels.is_empty());
}
