//! What a carrier says of who calls.

use std::net::SocketAddr;

use tandem_sip::{Carrier, Method};

use crate::call::identity::{self, Identity};
use crate::command::{GatewayEvent, Inbound, Register};
use crate::ids::{AgentId, CallId, TrunkId};
use crate::query;
use crate::tests::shard::{Shard, audio, key, phone, request, with_carriers};

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

fn call(shard: &mut Shard, number: &str, from: SocketAddr) -> Option<CallId> {
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

/// A branch's PBX: these agents register through it.
fn branch(shard: &mut Shard, pbx: SocketAddr, agents: &[&str]) {
    for agent in agents {
        let request = request(Method::Register, agent, "", &format!("<sip:{agent}@{pbx}>"));
        shard.event(GatewayEvent::Register(Register {
            transaction: key(&request),
            source: pbx,
            carrier: Carrier::Udp,
            request: request.into(),
            agent: AgentId::from(*agent),
        }));
    }
}

/// It sends a call from there: the agent whose it is, or the trunk.
fn caller(shard: &mut Shard, pbx: SocketAddr, from: &str) -> (Option<AgentId>, Option<TrunkId>) {
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
    (call.calling_agent.clone(), call.channel.as_ref().map(|channel| channel.trunk.clone()))
}

fn of_agent(id: &str) -> (Option<AgentId>, Option<TrunkId>) {
    (Some(AgentId::from(id)), None)
}

#[test]
fn call_from_where_several_agents_are_is_the_named_agents_or_the_trunks() {
    let mut shard = Shard::new();
    let pbx = "127.0.0.1:6500".parse().unwrap();
    branch(&mut shard, pbx, &["1001", "1002"]);
    assert_eq!(caller(&mut shard, pbx, "1001"), of_agent("1001"));
    assert_eq!(caller(&mut shard, pbx, "138"), (None, Some("carrier".into())));
    assert_eq!(caller(&mut shard, pbx, "1002"), of_agent("1002"));
}

#[test]
fn call_from_where_one_agent_is_is_a_trunks_that_names_the_address_or_the_agents() {
    let mut shard = Shard::with(with_carriers);
    let elsewhere = "127.0.0.1:6500".parse().unwrap();
    branch(&mut shard, elsewhere, &["1003"]);
    assert_eq!(caller(&mut shard, elsewhere, "137"), of_agent("1003"));

    let pbx = "192.0.2.99:6500".parse().unwrap();
    branch(&mut shard, pbx, &["1001"]);
    assert_eq!(caller(&mut shard, pbx, "138"), (None, Some("north".into())));
    assert_eq!(caller(&mut shard, pbx, "1001"), of_agent("1001"));
}
