//! What a carrier says of who calls.

use tandem_sip::{Carrier, Method};

use crate::call::identity::{self, Identity};
use crate::command::{GatewayEvent, Inbound, Register};
use crate::ids::{AgentId, CallId};
use crate::query;
use crate::tests::shard::{Shard, audio, key, phone, request};

const PAI: &str = "P-Asserted-Identity";

fn read(from: &str, headers: &[(&str, &str)]) -> Identity {
    let mut invite = request(Method::Invite, "c1", "", "<sip:c@127.0.0.1:6000>");
    invite.headers.from = from.parse().expect("a From");
    for (name, value) in headers {
        invite.headers.push_other(name, value);
    }
    identity::of(&invite.headers, true)
}

fn said(shown: &str, asserted: Option<&str>) -> Identity {
    Identity { shown: shown.into(), asserted: asserted.map(Into::into), diverted_from: None }
}

#[test]
fn asserted_number_is_shown_where_the_caller_gives_none() {
    let hidden = "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=a";
    let pai = (PAI, "\"A, B\" <sip:4930138@carrier>");
    assert_eq!(read(hidden, &[pai]), said("4930138", Some("4930138")));
    assert_eq!(read(hidden, &[(PAI, "<tel:+49138;x=y>")]), said("+49138", Some("+49138")));
    assert_eq!(read(hidden, &[]), said("anonymous", None));
    assert_eq!(read("<sip:200@x>;tag=a", &[pai]), said("200", Some("4930138")));
    assert_eq!(read("<sip:200@x>;tag=a", &[]), said("200", None));
    // What is no number is none.
    assert_eq!(read(hidden, &[(PAI, "<mailto:a@b>, nonsense")]), said("anonymous", None));
    let long = format!("<sip:{}@x>", "1".repeat(65));
    assert_eq!(read(hidden, &[(PAI, &long)]), said("anonymous", None));
}

#[test]
fn caller_who_wants_it_so_is_not_shown() {
    let pai = (PAI, "<sip:4930138@carrier>");
    for privacy in ["id", "critical;ID", "user, header"] {
        let read = read("<sip:200@x>;tag=a", &[pai, ("Privacy", privacy)]);
        assert_eq!(read, said("anonymous", Some("4930138")), "{privacy}");
    }
    let read = read("<sip:200@x>;tag=a", &[pai, ("Privacy", "none")]);
    assert_eq!(read, said("200", Some("4930138")));
}

#[test]
fn last_diversion_is_who_sent_the_call_on() {
    let diverted = |headers: &[(&str, &str)]| read("<sip:1@x>;tag=a", headers).diverted_from;
    let two = "<sip:300@x>;reason=no-answer;counter=1, <sip:400@x>;reason=user-busy";
    assert_eq!(diverted(&[("Diversion", two)]).as_deref(), Some("300"));
    let history = "<sip:300@x>;index=1, <sip:400@x?Reason=SIP%3Bcause%3D302>;index=1.1, \
                   <sip:4001@y>;index=1.1.1";
    assert_eq!(diverted(&[("History-Info", history)]).as_deref(), Some("400"));
    assert_eq!(diverted(&[("History-Info", "<sip:4001@y>;index=1")]), None);
    assert_eq!(diverted(&[("Diversion", two), ("History-Info", history)]).as_deref(), Some("300"));
    assert_eq!(diverted(&[]), None);
}

fn call(shard: &mut Shard, number: &str, from: std::net::SocketAddr) -> Option<CallId> {
    let mut invite = request(Method::Invite, "c1", "", "<sip:c@127.0.0.1:6000>");
    invite.uri.user = Some(number.into());
    invite.headers.push_other(PAI, "<sip:4930138@carrier>");
    invite.headers.push_other("Privacy", "id");
    invite.headers.push_other("Diversion", "<sip:300@x>;reason=no-answer");
    shard.event(GatewayEvent::Invite(Inbound {
        transaction: key(&invite),
        source: from,
        carrier: Carrier::Udp,
        request: invite.into(),
        offer: Some(audio(4_000)),
        names: Vec::new(),
    }));
    shard.leader.calls.keys().next().copied()
}

#[test]
fn private_number_goes_to_the_record_and_to_no_agent() {
    let mut shard = Shard::new();
    shard.register(1001);
    let id = call(&mut shard, "4001", "127.0.0.1:6000".parse().unwrap()).expect("a call");
    let invite = shard.ringing(id).expect("it rings");
    let text = String::from_utf8(invite.to_bytes()).expect("text");
    assert!(!text.contains("4930138") && text.contains("anonymous"), "{text}");
    let shown = query::call(&shard.leader, id).expect("live");
    assert_eq!((shown.from.as_str(), shown.diverted_from.as_deref()), ("anonymous", Some("300")));
    shard.ack(id);
    shard.bye(id, 2);
    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((cdr.from.as_str(), cdr.asserted_from.as_deref()), ("anonymous", Some("4930138")));
    assert_eq!(cdr.diverted_from.as_deref(), Some("300"));
}

#[test]
fn refused_call_is_recorded_with_who_it_was_of() {
    let mut shard = Shard::new();
    assert_eq!(call(&mut shard, "4999", "127.0.0.1:6000".parse().unwrap()), None);
    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((cdr.from.as_str(), cdr.asserted_from.as_deref()), ("anonymous", Some("4930138")));
}

#[test]
fn agents_phone_is_believed_nothing_of_others() {
    let mut shard = Shard::new();
    shard.register(1001);
    let id = call(&mut shard, "4003", phone(1001)).expect("a call");
    let call = shard.call(id);
    assert_eq!((call.from.as_str(), &call.asserted, &call.diverted_from), ("138", &None, &None));
}

/// A branch's PBX: agents register through it, and it sends calls of its own from there.
#[test]
fn call_from_where_several_agents_are_is_the_named_agents_or_the_trunks() {
    let mut shard = Shard::new();
    let pbx = "127.0.0.1:6500".parse().unwrap();
    for agent in ["1001", "1002"] {
        let request = request(Method::Register, agent, "", &format!("<sip:{agent}@{pbx}>"));
        shard.event(GatewayEvent::Register(Register {
            transaction: key(&request),
            source: pbx,
            carrier: Carrier::Udp,
            request: request.into(),
            agent: AgentId::from(agent),
        }));
    }
    let mut calls = |from: &str| {
        let mut invite = request(Method::Invite, from, "", "<sip:c@127.0.0.1:6000>");
        invite.headers.from = format!("<sip:{from}@x>;tag=peer").parse().expect("a From");
        shard.event(GatewayEvent::Invite(Inbound {
            transaction: key(&invite),
            source: pbx,
            carrier: Carrier::Udp,
            request: invite.into(),
            offer: Some(audio(4_000)),
            names: Vec::new(),
        }));
        let call = shard.leader.calls.values().find(|call| call.from == from).expect("a call");
        (call.calling_agent.clone(), call.channel.is_some())
    };
    assert_eq!(calls("1001"), (Some(AgentId::from("1001")), false));
    assert_eq!(calls("138"), (None, true));
    assert_eq!(calls("1002"), (Some(AgentId::from("1002")), false));
}
