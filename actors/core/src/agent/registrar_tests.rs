//! Several phones of one agent: which are bound, which one rings.

use std::net::SocketAddr;

use tandem_sip::{Carrier, ConnectionId, Method, Request, Response};

use super::state::State;
use crate::command::{GatewayEvent, Register};
use crate::deadline::Deadline;
use crate::effect::{Body, Effect};
use crate::ids::AgentId;
use crate::limits;
use crate::tests::shard::{Shard, key, request, words};

const DESK: &str = "127.0.0.1:8101";
const HOME: &str = "192.0.2.9:5060";
const WS: Carrier = Carrier::Ws { connection: Some(ConnectionId(7)) };

/// A REGISTER of agent 1001's phone.
struct Phone {
    call_id: &'static str,
    cseq: u32,
    source: &'static str,
    carrier: Carrier,
}

const fn phone(call_id: &'static str, source: &'static str) -> Phone {
    Phone { call_id, cseq: 1, source, carrier: Carrier::Udp }
}

fn over(carrier: Carrier, call_id: &'static str, source: &'static str) -> Phone {
    Phone { carrier, ..phone(call_id, source) }
}

impl Phone {
    /// Contacts and other headers; the answer.
    fn says(&self, shard: &mut Shard, contacts: &[&str], more: &[(&str, &str)]) -> Response {
        let mut request = request(Method::Register, self.call_id, "", "");
        request.headers.contact = contacts.iter().map(|text| text.parse().unwrap()).collect();
        request.headers.cseq.number = self.cseq;
        for (name, value) in more {
            match *name {
                "Expires" => request.headers.expires = value.parse().ok(),
                _ => request.headers.push_other(name, value),
            }
        }
        let mut transaction = key(&request);
        transaction.branch = format!("{}-{}", transaction.branch, shard.sequence).into();
        let (_, effects) = shard.event(GatewayEvent::Register(Register {
            transaction,
            source: self.source.parse().unwrap(),
            carrier: self.carrier,
            request: Box::new(request),
            agent: AgentId("1001".into()),
        }));
        let Some(Effect { body: Body::Respond { response, .. }, .. }) = effects.first() else {
            panic!("{effects:?}")
        };
        Response::clone(response)
    }
}

fn contacts(response: &Response) -> Vec<String> {
    response.headers.contact.iter().map(ToString::to_string).collect()
}

/// Whom an INVITE is for, and where it goes.
fn invited(effects: &[Effect]) -> Option<(Request, SocketAddr, Carrier)> {
    effects.iter().find_map(|effect| match &effect.body {
        Body::Send { request, destination, carrier } if request.method == Method::Invite => {
            Some((Request::clone(request), *destination, *carrier))
        }
        Body::Send { .. } | Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => None,
    })
}

/// A phone at the desk, and one at home that came later.
fn with_two() -> Shard {
    let mut shard = Shard::new();
    phone("desk", DESK).says(&mut shard, &["<sip:1001@127.0.0.1:8101>"], &[]);
    phone("home", HOME).says(&mut shard, &["<sip:1001@192.0.2.9>"], &[]);
    shard
}

fn gone(shard: &mut Shard, source: &str, connection: u64) -> Vec<Effect> {
    let (source, connection) = (source.parse().unwrap(), ConnectionId(connection));
    shard.event(GatewayEvent::FlowGone { source, connection }).1
}

#[test]
fn answer_lists_all_phones_each_with_its_own_time() {
    let mut shard = with_two();
    let three = ["<sip:a@127.0.0.1:1>;expires=60", "<sip:b@127.0.0.1:2>;q=0.25"];
    let response = phone("pair", DESK).says(&mut shard, &three, &[("Expires", "120")]);
    assert_eq!(
        contacts(&response),
        [
            "<sip:a@127.0.0.1:1>;expires=60",
            "<sip:1001@192.0.2.9>;expires=3599",
            "<sip:1001@127.0.0.1:8101>;expires=3599",
            "<sip:b@127.0.0.1:2>;expires=120;q=0.250",
        ]
    );
    // One of them signs off, and another's time runs out.
    let off = phone("pair", DESK).says(&mut shard, &["<sip:b@127.0.0.1:2>;expires=0"], &[]);
    assert_eq!(off.headers.contact.len(), 3);
    let due = shard.due(60_000);
    assert!(matches!(due[..], [Deadline::RegistrationExpired { .. }]), "{due:?}");
    assert_eq!(shard.agent(1001).bindings.len(), 2);
    assert_eq!(shard.agent(1001).state, State::Ready);
    let all = phone("desk", DESK).says(&mut shard, &[], &[("Contact", "*"), ("Expires", "0")]);
    assert_eq!((all.status, contacts(&all)), (200, Vec::new()));
    assert_eq!(shard.agent_state(1001), "not_ready");
}

#[test]
fn refresh_moves_no_phone_before_another_and_a_greater_q_does() {
    let mut shard = with_two();
    let first = |shard: &Shard| shard.agent(1001).registration().unwrap().contact.to_string();
    assert_eq!(first(&shard), "sip:1001@192.0.2.9");
    Phone { cseq: 2, ..phone("desk", DESK) }.says(&mut shard, &["<sip:1001@127.0.0.1:8101>"], &[]);
    assert_eq!(first(&shard), "sip:1001@192.0.2.9", "it was only switched on");
    Phone { cseq: 2, ..phone("home", HOME) }.says(&mut shard, &["<sip:1001@192.0.2.9>;q=0.9"], &[]);
    assert_eq!(first(&shard), "sip:1001@127.0.0.1:8101");
}

/// RFC 3261 §10.3, step 7.
#[test]
fn register_that_was_overtaken_changes_nothing() {
    let mut shard = with_two();
    let late = Phone { cseq: 3, ..phone("desk", DESK) };
    late.says(&mut shard, &["<sip:1001@127.0.0.1:8101>"], &[]);
    let before = shard.agent(1001).clone();
    let overtaken = phone("desk", DESK);
    let off = overtaken.says(&mut shard, &["<sip:1001@127.0.0.1:8101>;expires=0"], &[]);
    assert_eq!((off.status, contacts(&off)), (500, Vec::new()));
    let all = overtaken.says(&mut shard, &[], &[("Contact", "*"), ("Expires", "0")]);
    assert_eq!(all.status, 500);
    // Not even the other contact of it.
    let both = ["<sip:new@127.0.0.1:9>", "<sip:1001@127.0.0.1:8101>"];
    assert_eq!(overtaken.says(&mut shard, &both, &[]).status, 500);
    assert_eq!(*shard.agent(1001), before);
    // Once more the same: a gateway died between its answer and the phone.
    assert_eq!(late.says(&mut shard, &["<sip:1001@127.0.0.1:8101>"], &[]).status, 200);
    // Another phone counts for itself.
    let other = phone("other", DESK);
    assert_eq!(other.says(&mut shard, &["<sip:new@127.0.0.1:9>"], &[]).status, 200);
}

#[test]
fn phone_beyond_the_limit_is_refused_and_the_others_stay() {
    let mut shard = Shard::new();
    for port in 0..limits::CONTACTS_MAX {
        let contact = format!("<sip:1001@127.0.0.1:{}>", 9_000 + port);
        assert_eq!(phone("many", DESK).says(&mut shard, &[&contact], &[]).status, 200);
    }
    let before = shard.agent(1001).clone();
    let response = phone("more", DESK).says(&mut shard, &["<sip:1001@127.0.0.1:1>"], &[]);
    assert_eq!(response.status, 403);
    assert_eq!(response.reason, "Forbidden (too many contacts)");
    let crowd: Vec<String> = (0..=limits::CONTACTS_MAX).map(|n| format!("<sip:{n}@h>")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    assert_eq!(phone("crowd", DESK).says(&mut Shard::new(), &crowd, &[]).status, 403);
    assert_eq!(*shard.agent(1001), before);
    assert_eq!(shard.restored().agents, shard.leader.agents);
}

#[test]
fn next_phone_rings_where_one_can_not_be_reached_and_none_where_one_says_no() {
    let mut shard = with_two();
    let (call, effects) = shard.invite("c1", "4001");
    let call = call.unwrap();
    let (first, to, _) = invited(&effects).unwrap();
    assert_eq!((first.uri.to_string(), to), ("sip:1001@192.0.2.9".into(), HOME.parse().unwrap()));
    let since = shard.agent(1001).since;
    let (_, effects) = shard.answer(&first, 480);
    let (second, to, _) = invited(&effects).unwrap();
    assert_eq!(second.uri.to_string(), "sip:1001@127.0.0.1:8101");
    assert_eq!(to, DESK.parse().unwrap());
    assert_eq!((second.headers.cseq.number, first.headers.cseq.number), (2, 1));
    assert_ne!(second.headers.branch(), first.headers.branch());
    assert_eq!(shard.agent(1001).since, since, "the same offer");
    // What comes late of the first says nothing of the second.
    let (_, effects) = shard.answer(&second, 180);
    assert_eq!(words(&effects), Vec::<String>::new());
    let (_, effects) = shard.answer(&second, 200);
    assert_eq!(words(&effects)[0], "ACK");
    assert_eq!(shard.agent_state(1001), "talking");
    shard.bye(call, 2);

    let mut shard = with_two();
    let (_, effects) = shard.invite("c1", "4001");
    let (first, ..) = invited(&effects).unwrap();
    let (_, effects) = shard.answer(&first, 486);
    assert!(invited(&effects).is_none());
    assert_eq!(shard.agent(1001).state, State::NotReady { reason: "rejected".into() });
}

#[test]
fn agent_whose_phones_are_all_tried_is_lost_and_the_caller_waits_on() {
    let mut shard = with_two();
    let (call, effects) = shard.invite("c1", "4001");
    let (first, ..) = invited(&effects).unwrap();
    let (_, effects) =
        shard.event(GatewayEvent::ClientTimeout { branch: first.headers.branch().to_owned() });
    let (second, ..) = invited(&effects).unwrap();
    let (_, effects) = shard.answer(&second, 503);
    assert!(invited(&effects).is_none());
    assert_eq!(shard.agent(1001).state, State::NotReady { reason: "station_lost".into() });
    assert!(shard.call(call.unwrap()).is_live());
    assert_eq!(shard.agent(1001).bindings.len(), 2, "datagrams may get there again");
}

#[test]
fn whoever_calls_from_any_of_the_phones_is_the_agent() {
    for source in [DESK, HOME] {
        let mut shard = with_two();
        let call = shard.invite_from("c1", "4003", source.parse().unwrap()).0.unwrap();
        assert_eq!(shard.call(call).calling_agent, Some(AgentId("1001".into())), "{source}");
    }
    let mut shard = with_two();
    phone("desk", DESK).says(&mut shard, &["<sip:1001@127.0.0.1:8101>;expires=0"], &[]);
    let call = shard.invite_from("c1", "4003", DESK.parse().unwrap()).0.unwrap();
    assert_eq!(shard.call(call).calling_agent, None);
}

/// RFC 5626 §6.
#[test]
fn flow_of_a_phone_takes_the_place_of_its_last_one() {
    let mut shard = Shard::new();
    let flow = |host: &str, reg_id: u32| {
        format!(
            "<sip:1001@{host}.invalid;transport=ws>;reg-id={reg_id};+sip.instance=\"<urn:uuid:1>\""
        )
    };
    let knows = [("Supported", "path, outbound")];
    let first = over(WS, "a", DESK).says(&mut shard, &[&flow("a", 1)], &knows);
    assert_eq!(first.headers.other("Require"), Some("outbound"));
    assert_eq!(first.headers.other("Flow-Timer"), Some("120"));
    let listed = contacts(&first);
    assert!(listed[0].ends_with(";+sip.instance=\"<urn:uuid:1>\";reg-id=1"), "{listed:?}");
    let again = Carrier::Ws { connection: Some(ConnectionId(8)) };
    let second = over(again, "b", HOME).says(&mut shard, &[&flow("b", 1)], &knows);
    assert_eq!(second.headers.contact.len(), 1);
    let binding = shard.agent(1001).registration().unwrap().clone();
    assert_eq!((binding.carrier, binding.source), (again, HOME.parse().unwrap()));
    // The end of the flow before says nothing of the new one.
    gone(&mut shard, DESK, 7);
    assert_eq!(shard.agent(1001).bindings, [binding]);
    // Another flow of the same phone is another binding.
    let third = over(Carrier::Udp, "c", DESK).says(&mut shard, &[&flow("c", 2)], &knows);
    assert_eq!((third.headers.contact.len(), third.headers.other("Flow-Timer")), (2, Some("25")));
    // Who does not know of flows gets none.
    let plain = over(WS, "d", DESK).says(&mut Shard::new(), &[&flow("d", 1)], &[]);
    assert_eq!((plain.headers.other("Require"), plain.headers.other("Flow-Timer")), (None, None));
}

#[test]
fn phone_whose_flow_breaks_is_gone_at_once_and_the_next_rings() {
    let mut shard = Shard::new();
    phone("desk", DESK).says(&mut shard, &["<sip:1001@127.0.0.1:8101>"], &[]);
    over(WS, "ws", HOME).says(&mut shard, &["<sip:1001@a.invalid;transport=ws>"], &[]);
    let (_, effects) = shard.invite("c1", "4001");
    let (first, _, carrier) = invited(&effects).unwrap();
    assert_eq!(carrier, WS);
    shard.answer(&first, 180);
    let effects = gone(&mut shard, HOME, 7);
    let (second, to, carrier) = invited(&effects).unwrap();
    assert_eq!((to, carrier), (DESK.parse().unwrap(), Carrier::Udp));
    assert_eq!(shard.agent(1001).bindings.len(), 1);
    // The time-out of the lost transaction says nothing of the new one.
    shard.event(GatewayEvent::ClientTimeout { branch: first.headers.branch().to_owned() });
    assert_eq!(shard.agent_state(1001), "reserved");
    shard.answer(&second, 200);
    assert_eq!(shard.agent_state(1001), "talking");
}

#[test]
fn agent_whose_only_flow_breaks_is_not_ready_and_an_unknown_one_says_nothing() {
    let mut shard = Shard::new();
    over(WS, "ws", HOME).says(&mut shard, &["<sip:1001@a.invalid;transport=ws>"], &[]);
    gone(&mut shard, HOME, 6);
    gone(&mut shard, DESK, 7);
    assert_eq!(shard.agent_state(1001), "ready");
    let (call, effects) = shard.invite("c1", "4001");
    let (first, ..) = invited(&effects).unwrap();
    shard.answer(&first, 180);
    let effects = gone(&mut shard, HOME, 7);
    assert_eq!(words(&effects)[0], "CANCEL");
    assert_eq!(shard.agent(1001).state, State::NotReady { reason: "station_lost".into() });
    assert!(shard.call(call.unwrap()).is_live(), "the caller keeps the place");
    over(WS, "ws", HOME).says(&mut shard, &["<sip:1001@b.invalid;transport=ws>"], &[]);
    assert_eq!(shard.agent_state(1001), "reserved", "the phone is back, and rings");
}

/// A connection that a phone listens beside can be opened anew (RFC 3261 §18.2.2).
#[test]
fn phone_over_tcp_without_outbound_outlives_its_connection_and_its_gateway() {
    let tcp = Carrier::Tcp { connection: Some(ConnectionId(7)) };
    let mut shard = Shard::new();
    over(tcp, "tcp", HOME).says(&mut shard, &["<sip:1001@192.0.2.9;transport=tcp>"], &[]);
    over(WS, "ws", DESK).says(&mut shard, &["<sip:1001@a.invalid;transport=ws>"], &[]);
    gone(&mut shard, HOME, 7);
    assert_eq!(shard.agent(1001).bindings.len(), 2);
    shard.log_in(vec![40_000, 40_002]);
    let left = &shard.agent(1001).bindings;
    assert_eq!((left.len(), left[0].carrier), (1, tcp), "the last life's WebSockets are gone");
}

/// RFC 3327 §5.
#[test]
fn way_that_a_register_has_taken_is_told_and_taken() {
    let mut shard = Shard::new();
    let path = "<sip:10.0.0.1;lr>, <sip:edge,1@10.0.0.2;lr;ob>";
    let more = [("Supported", "path"), ("Path", path)];
    let response = phone("p", HOME).says(&mut shard, &["<sip:1001@172.16.0.9>"], &more);
    let told: Vec<String> = response.headers.addresses("Path").map(|hop| hop.to_string()).collect();
    assert_eq!(told, ["<sip:10.0.0.1;lr>", "<sip:edge,1@10.0.0.2;lr;ob>"]);
    let (_, effects) = shard.invite("c1", "4001");
    let (invite, to, _) = invited(&effects).unwrap();
    assert_eq!(to, HOME.parse().unwrap(), "the proxy that has sent it");
    assert_eq!(invite.uri.to_string(), "sip:1001@172.16.0.9");
    let route: Vec<String> = invite.headers.route.iter().map(ToString::to_string).collect();
    assert_eq!(route, told);
}

/// It has said no, and is not asked again for having come back.
#[test]
fn phone_that_registers_anew_while_the_next_rings_is_not_called_twice() {
    let mut shard = with_two();
    let (_, effects) = shard.invite("c1", "4001");
    let (first, ..) = invited(&effects).unwrap();
    let (_, effects) = shard.answer(&first, 480);
    let (second, ..) = invited(&effects).unwrap();
    phone("home", HOME).says(&mut shard, &["<sip:1001@192.0.2.9>;expires=0"], &[]);
    phone("home again", HOME).says(&mut shard, &["<sip:1001@192.0.2.9>"], &[]);
    let (_, effects) = shard.answer(&second, 480);
    assert!(invited(&effects).is_none());
    assert_eq!(shard.restored().calls, shard.leader.calls);
}

#[test]
fn phone_that_has_moved_is_the_same_phone_and_is_not_called_twice() {
    let mut shard = with_two();
    let moved = Phone { cseq: 2, source: "192.0.2.9:5099", ..phone("home", HOME) };
    let response = moved.says(&mut shard, &["<sip:1001@192.0.2.9:5099>"], &[]);
    assert_eq!(
        contacts(&response),
        ["<sip:1001@192.0.2.9:5099>;expires=3600", "<sip:1001@127.0.0.1:8101>;expires=3599"]
    );
    // While it rings, it moves once more.
    let (_, effects) = shard.invite("c1", "4001");
    let (first, ..) = invited(&effects).unwrap();
    let moved = Phone { cseq: 3, source: "192.0.2.9:5100", ..phone("home", HOME) };
    moved.says(&mut shard, &["<sip:1001@192.0.2.9:5100>"], &[]);
    let (_, effects) = shard.answer(&first, 480);
    let (second, to, _) = invited(&effects).unwrap();
    assert_eq!(to, DESK.parse().unwrap());
    let (_, effects) = shard.answer(&second, 480);
    assert!(invited(&effects).is_none());
}

/// RFC 7118 §5: a browser keeps its name over its connections.
#[test]
fn calls_go_on_over_the_connection_that_their_phone_has_come_back_by() {
    let over_ws = |number| Carrier::Ws { connection: Some(ConnectionId(number)) };
    let leg = |shard: &Shard, call| {
        let leg = &shard.call(call).legs[1];
        (leg.peer, leg.carrier)
    };
    let (contact, other) = ("<sip:1001@a.invalid>", "<sip:1001@b.invalid>");
    let mut shard = Shard::new();
    over(WS, "page", DESK).says(&mut shard, &[contact], &[]);
    let (call, effects) = shard.invite("c1", "1001");
    let call = call.expect("a call");
    assert_eq!(invited(&effects).expect("an INVITE").2, WS);
    // Another phone of the agent, and the same by another transport, take nothing.
    over(over_ws(8), "other", HOME).says(&mut shard, &[other], &[]);
    let in_the_clear = Carrier::Tcp { connection: Some(ConnectionId(8)) };
    over(in_the_clear, "tcp", HOME).says(&mut shard, &[contact], &[]);
    assert_eq!(leg(&shard, call), (DESK.parse().unwrap(), WS));
    let back = "127.0.0.1:8102";
    over(over_ws(9), "page", back).says(&mut shard, &[contact], &[]);
    assert_eq!(leg(&shard, call), (back.parse().unwrap(), over_ws(9)));
    // It is cancelled over that.
    let invite = shard.ringing(call).expect("it rings");
    shard.answer(&invite, 180);
    let caller = shard.call(call).caller().and_then(|leg| leg.transaction.clone());
    let cancel = GatewayEvent::Cancel { transaction: caller.expect("an INVITE"), q850: None };
    let (_, effects) = shard.event(cancel);
    let cancel = effects.iter().find_map(|effect| match &effect.body {
        Body::Send { request, carrier, .. } if request.method == Method::Cancel => Some(*carrier),
        Body::Send { .. } | Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => None,
    });
    assert_eq!(cancel, Some(over_ws(9)));
}

#[test]
fn call_goes_on_over_the_next_connection_of_a_phone_whose_contact_changes_with_it() {
    let over_tls = |number| Carrier::Tls { connection: Some(ConnectionId(number)) };
    let mut shard = Shard::new();
    over(over_tls(7), "desk", DESK).says(&mut shard, &["<sip:1001@127.0.0.1:8101>"], &[]);
    let call = shard.talk("c1");
    // What the phone has said of itself in its 200 is another address still.
    over(over_tls(8), "desk", HOME).says(&mut shard, &["<sip:1001@192.0.2.9>"], &[]);
    let leg = &shard.call(call).legs[1];
    assert_eq!((leg.peer, leg.carrier), (HOME.parse().unwrap(), over_tls(8)));
}
