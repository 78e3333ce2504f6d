//! Calls that go out by a trunk.

use tandem_sip::sdp::{Audio, Codec};
use tandem_sip::{Method, Request, Response};

use super::{connected, record};
use crate::command::{Command, GatewayEvent, OperatorCommand};
use crate::deadline::Deadline;
use crate::effect::{Body, Effect};
use crate::ids::CallId;
use crate::query;
use crate::tests::shard::{OUT, Shard, phone, response, with_carriers, words};
use crate::trunk::numbers::{Incoming, Rewrite};
use crate::trunk::outward::{Outward, Registration};
use crate::trunk::state::{PeerChange, RegistrationChange};
use crate::view;
use crate::world::Reply;

fn with_phone() -> Shard {
    let mut shard = Shard::with(with_carriers);
    shard.register(1001);
    shard
}

/// The phone of 1001 has dialled the number outside.
fn dialing() -> (Shard, CallId) {
    let mut shard = with_phone();
    let (call, effects) = shard.invite_from("c1", OUT, phone(1001));
    assert_eq!(words(&effects), ["100", "INVITE"]);
    (shard, call.expect("a call"))
}

fn peer(shard: &Shard, call: CallId) -> String {
    let call = shard.call(call);
    let leg = call.legs.iter().find(|leg| leg.is_ringing()).expect("a leg rings");
    let channel = leg.channel().expect("a trunk's");
    format!("{} by {channel}", leg.peer)
}

fn says(shard: &mut Shard, invite: &Request, response: Response) -> Vec<Effect> {
    let branch = invite.headers.branch().to_owned();
    let response = Box::new(response);
    shard.event(GatewayEvent::Response { branch, response, answer: None }).1
}

fn busy_until(seconds: u32, invite: &Request) -> Response {
    let mut response = response(invite, 503);
    response.headers.push_other("Retry-After", &seconds.to_string());
    response
}

fn refusal(effects: &[Effect]) -> Option<&Response> {
    effects.iter().find_map(|effect| match &effect.body {
        Body::Respond { response, .. } if response.status >= 300 => Some(&**response),
        Body::Respond { .. } | Body::Send { .. } | Body::Notify { .. } | Body::Media(_) => None,
    })
}

fn trunk(shard: &Shard, name: &str) -> view::Trunk {
    query::trunks(&shard.leader).into_iter().find(|trunk| trunk.name == name).expect("a trunk")
}

#[test]
fn agents_phone_calls_out_by_the_highest_channel_and_both_talk() {
    let (mut shard, call) = dialing();
    assert_eq!(peer(&shard, call), "192.0.2.1:5060 by north/2");
    let invite = shard.ringing(call).unwrap();
    assert_eq!(invite.uri.to_string(), "sip:0049301@192.0.2.1:5060");
    assert_eq!(invite.headers.from.uri.user.as_deref(), Some("138"));
    assert_eq!(query::channels(&shard.leader, &"north".into()).unwrap()[1].state, "seized_out");
    assert!(shard.answer(&invite, 100).1.is_empty());
    assert_eq!(words(&shard.answer(&invite, 183).1), ["180"]);
    assert_eq!(words(&shard.answer(&invite, 200).1), ["ACK", "200", "media [leg leg]"]);
    shard.ack(call);
    let shown = query::call(&shard.leader, call).unwrap();
    assert_eq!((shown.state.as_str(), shown.direction.as_str()), ("connected", "out"));
    assert_eq!((shown.trunk.as_deref(), shown.channel), (Some("north"), Some(2)));
    assert_eq!(shown.outward.and_then(|out| out.peer).as_deref(), Some("192.0.2.1:5060"));
    assert_eq!(shard.agent_state(1001), "talking");
    assert_eq!(query::channels(&shard.leader, &"north".into()).unwrap()[1].state, "active");
    let bye = shard.of_peer(call, 1, Method::Bye, 1);
    let effects = shard.in_dialog(bye, None);
    assert_eq!(words(&effects), ["200", "media []", "BYE"]);
    shard.peers_answer(&effects);
    assert_eq!(record(&shard), ("answered", "callee", "normal_clearing"));
    let record = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((record.direction.as_str(), record.channel), ("out", Some(2)));
    let out = record.outward.expect("how it went out");
    assert_eq!((out.number.as_str(), out.peer.as_deref()), (OUT, Some("192.0.2.1:5060")));
    assert!(shard.leader.channels.is_empty() && shard.leader.calls.is_empty());
}

#[test]
fn caller_of_a_trunk_dials_nothing_outside() {
    let mut shard = with_phone();
    let (_, effects) = shard.invite("c1", OUT);
    assert_eq!(words(&effects), ["404"]);
    assert_eq!(record(&shard), ("rejected", "system", "404"));
}

#[test]
fn phone_can_not_send_a_call_outside_by_redirection() {
    let mut shard = with_phone();
    let call = shard.invite("c1", "1001").0.expect("a call");
    let invite = shard.ringing(call).unwrap();
    let mut moved = response(&invite, 302);
    moved.headers.contact = vec![format!("<sip:{OUT}@127.0.0.1>").parse().unwrap()];
    let effects = says(&mut shard, &invite, moved);
    assert!(refusal(&effects).is_some() && shard.ringing(call).is_none());
}

#[test]
fn click_to_dial_rings_the_phone_and_then_the_number() {
    let mut shard = with_phone();
    let (reply, call, _) = shard.originate(1001, OUT);
    assert_eq!(reply, Reply::Done);
    let call = call.unwrap();
    let invite = shard.ringing(call).unwrap();
    let effects = shard.answer(&invite, 200).1;
    assert_eq!(words(&effects), ["ACK", "INVITE", "media [ringback silence]"]);
    assert_eq!(peer(&shard, call), "192.0.2.1:5060 by north/2");
    let invite = shard.ringing(call).unwrap();
    assert_eq!(words(&shard.answer(&invite, 200).1), ["ACK", "media [leg leg]"]);
    let (reply, ..) = shard.originate(1001, "0149");
    assert!(matches!(reply, Reply::Rejected(_)));
}

#[test]
fn agent_sends_a_customer_outside() {
    for by_phone in [true, false] {
        let (mut shard, call) = connected();
        let mut config = shard.leader.config.clone().unwrap();
        with_carriers(&mut config);
        shard.apply(Command::Configure(Box::new(config)));
        let effects = if by_phone {
            shard.refer(call, 1, 1, OUT)
        } else {
            let to = OUT.into();
            shard.operate("k", OperatorCommand::TransferCall { call, to }).1
        };
        shard.peers_answer(&effects);
        let invite = shard.ringing(call).expect("the number rings");
        // Who the carrier is not told is who of us has sent the call on.
        assert_eq!(invite.headers.other("Referred-By"), None);
        let mut effects = shard.answer(&invite, 200).1;
        while !effects.is_empty() {
            effects = shard.peers_answer(&effects);
        }
        assert_eq!(shard.agent_state(1001), "acw");
        let shown = query::call(&shard.leader, call).unwrap();
        assert_eq!((shown.state.as_str(), shown.direction.as_str()), ("connected", "in"));
        assert_eq!((shown.trunk.as_deref(), shown.agent), (Some("carrier"), None));
        assert_eq!(shown.outward.unwrap().trunk.as_deref(), Some("north"));
        let mut effects = shard.bye(call, 9);
        while !effects.is_empty() {
            effects = shard.peers_answer(&effects);
        }
        assert!(shard.leader.channels.is_empty() && shard.leader.calls.is_empty());
    }
}

#[test]
fn transfer_outside_that_nobody_takes_comes_back() {
    let (mut shard, call) = connected();
    let mut config = shard.leader.config.clone().unwrap();
    with_carriers(&mut config);
    shard.apply(Command::Configure(Box::new(config)));
    shard.operate("k", OperatorCommand::TransferCall { call, to: OUT.into() });
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    shard.answer(&invite, 486);
    let shown = query::call(&shard.leader, call).unwrap();
    assert_eq!((shown.state.as_str(), shown.agent.as_deref()), ("connected", Some("1001")));
    assert_eq!(shard.leader.channels.len(), 1);
}

#[test]
fn peer_that_is_busy_is_left_alone_for_as_long_as_it_says() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    let busy = busy_until(7, &invite);
    assert_eq!(words(&says(&mut shard, &invite, busy)), ["INVITE"]);
    assert_eq!(peer(&shard, call), "192.0.2.2:5060 by north/2");
    let [first, second] = trunk(&shard, "north").peers.try_into().expect("two peers");
    assert_eq!((first.state.as_str(), first.status), ("held", Some(503)));
    assert_eq!(second.state, "up");
    // The second has no time to name: only this call goes on.
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 500);
    assert_eq!(peer(&shard, call), "192.0.2.3:5060 by south/1");
    assert_eq!(trunk(&shard, "north").idle, 2);
    let effects = shard.answer(&shard.ringing(call).unwrap(), 503).1;
    assert_eq!(refusal(&effects).map(|it| it.status), Some(503));
    assert_eq!(record(&shard), ("failed", "system", "503"));
    shard.due(7_000);
    let call = shard.invite_from("c2", OUT, phone(1001)).0.unwrap();
    assert_eq!(peer(&shard, call), "192.0.2.1:5060 by north/2");
}

/// The first peer was silent for too long, and the call is at the second by then (simulator, seed
/// 2360).
#[test]
fn peer_that_is_late_to_say_that_it_is_busy_is_left_alone_too() {
    let (mut shard, call) = dialing();
    let first = shard.ringing(call).unwrap();
    shard.due(4_100);
    assert_eq!(peer(&shard, call), "192.0.2.2:5060 by north/1");
    says(&mut shard, &first, busy_until(600, &first));
    assert_eq!(trunk(&shard, "north").peers[0].status, Some(503));
    assert_eq!(peer(&shard, call), "192.0.2.2:5060 by north/1");
}

#[test]
fn retry_after_is_bounded() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    let busy = busy_until(u32::MAX, &invite);
    says(&mut shard, &invite, busy);
    let held = shard.leader.trunks[&"north".into()].held.values().next().unwrap().until;
    assert!(held.0 <= shard.now + crate::limits::PEER_RETRY_S_MAX * 1_000);
}

#[test]
fn called_partys_own_word_is_final_and_rings_nobody_else() {
    let cases = [(486, 486), (600, 486), (603, 603), (404, 404), (403, 403), (302, 480)];
    for (said, told) in cases {
        let (mut shard, call) = dialing();
        let effects = shard.answer(&shard.ringing(call).unwrap(), said).1;
        assert_eq!(refusal(&effects).map(|it| it.status), Some(told), "{said}");
        assert!(!words(&effects).contains(&"INVITE".into()), "{said}");
        assert!(shard.leader.channels.is_empty());
    }
}

#[test]
fn failure_after_it_rang_rings_nobody_else() {
    let (mut shard, call) = dialing();
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let effects = shard.answer(&invite, 503).1;
    assert_eq!(refusal(&effects).map(|it| it.status), Some(480));
}

#[test]
fn silent_peer_is_cancelled_before_the_next_is_asked() {
    let (mut shard, call) = dialing();
    let first = shard.ringing(call).unwrap();
    assert!(shard.due(3_900).is_empty());
    let due = shard.due(200);
    assert!(matches!(due[..], [Deadline::RingOut { .. }]));
    assert_eq!(peer(&shard, call), "192.0.2.2:5060 by north/1");
    assert_eq!(trunk(&shard, "north").peers[0].status, Some(408));
    // It wakes up: what it would ring is taken back.
    assert_eq!(words(&shard.answer(&first, 180).1), ["CANCEL"]);
    let effects = shard.answer(&first, 200).1;
    assert_eq!(words(&effects), ["ACK", "BYE"]);
    shard.peers_answer(&effects);
    assert_eq!(trunk(&shard, "north").idle, 1);
    let second = shard.ringing(call).unwrap();
    assert_eq!(words(&shard.answer(&second, 200).1), ["ACK", "200", "media [leg leg]"]);
}

#[test]
fn peer_that_was_heard_has_time_to_ring_and_no_longer() {
    let (mut shard, call) = dialing();
    shard.answer(&shard.ringing(call).unwrap(), 100);
    assert!(shard.due(5_000).is_empty());
    assert!(!shard.due(60_000).is_empty());
    assert_eq!(record(&shard), ("no_answer", "callee", "480"));
}

/// The deadline was on its way into the log when the peer spoke (simulator's seed 56).
#[test]
fn deadline_that_a_provisional_answer_has_overtaken_is_void() {
    let (mut shard, call) = dialing();
    let first = shard.ringing(call).unwrap();
    shard.now += 4_100;
    let due = shard.leader.due(tandem_sip::Millis(shard.now));
    shard.answer(&first, 180);
    for deadline in due {
        let (reply, effects) = shard.apply(Command::Due(deadline));
        assert!(matches!(reply, Reply::Rejected(_)) && effects.is_empty(), "{reply:?}");
    }
    assert_eq!(peer(&shard, call), "192.0.2.1:5060 by north/2");
}

#[test]
fn unreachable_peer_is_followed_by_the_next_at_once() {
    let (mut shard, call) = dialing();
    let branch = shard.ringing(call).unwrap().headers.branch().to_owned();
    shard.event(GatewayEvent::ClientTimeout { branch });
    assert_eq!(peer(&shard, call), "192.0.2.2:5060 by north/2");
}

#[test]
fn trunk_over_its_pace_or_full_leaves_calls_to_the_next_and_then_there_is_no_circuit() {
    let mut shard = Shard::with(with_carriers);
    let mut peers = Vec::new();
    for agent in 1001..=1004 {
        shard.register(agent);
        let (call, effects) = shard.invite_from(&format!("c{agent}"), OUT, phone(agent));
        match call.filter(|call| shard.ringing(*call).is_some()) {
            Some(call) => peers.push(peer(&shard, call)),
            None => {
                let refusal = refusal(&effects).expect("a refusal");
                assert_eq!(refusal.status, 503);
                assert!(refusal.headers.other("Retry-After").is_some());
                let reason = refusal.headers.other("Reason").expect("a reason");
                assert!(reason.contains("cause=34"), "{reason}");
            }
        }
    }
    let by = |at: &str, channel: &str| format!("{at}:5060 by {channel}");
    let (north, south) = ("192.0.2.1", "192.0.2.3");
    assert_eq!(peers, [by(north, "north/2"), by(north, "north/1"), by(south, "south/1")]);
    assert_eq!(shard.cdrs[0].q850.map(|it| it.get()), Some(34));
}

#[test]
fn pace_is_kept_while_channels_are_free() {
    let mut shard = with_phone();
    let mut trunks = Vec::new();
    for agent in 1001..=1003 {
        shard.register(agent);
        let call = shard.invite_from(&format!("c{agent}"), OUT, phone(agent)).0.unwrap();
        trunks.push(peer(&shard, call));
        shard.answer(&shard.ringing(call).unwrap(), 486);
    }
    assert!(trunks[1].ends_with("north/2"), "{trunks:?}");
    assert!(trunks[2].ends_with("south/1"), "{trunks:?}");
}

#[test]
fn agent_who_hangs_up_while_it_rings_cancels() {
    let (mut shard, call) = dialing();
    shard.answer(&shard.ringing(call).unwrap(), 180);
    let transaction = super::transaction(&shard, call);
    let (_, effects) = shard.event(GatewayEvent::Cancel { transaction, q850: None });
    assert_eq!(words(&effects), ["487", "media []", "CANCEL"]);
    assert_eq!(trunk(&shard, "north").busy, 1);
    shard.peers_answer(&effects);
    assert_eq!(trunk(&shard, "north").busy, 0);
    assert!(shard.leader.calls.is_empty());
}

fn rules(rules: &[(&str, &str)]) -> Vec<Rewrite> {
    let rule = |(from, to): &(&str, &str)| Rewrite { from: (*from).into(), to: (*to).into() };
    rules.iter().map(rule).collect()
}

/// A phone calls out by the first carrier, whose part outward is changed before.
fn dialling_by(change: impl FnOnce(&mut Outward)) -> Request {
    let mut shard = Shard::with(|config| {
        with_carriers(config);
        let north = config.trunks.iter_mut().find(|trunk| *trunk.id.0 == *"north");
        change(north.and_then(|trunk| trunk.out.as_mut()).expect("a carrier"));
    });
    shard.register(1001);
    let call = shard.invite_from("c1", OUT, phone(1001)).0.expect("a call");
    shard.ringing(call).expect("an INVITE")
}

#[test]
fn numbers_are_rewritten_as_the_carrier_wants_them() {
    let invite = dialling_by(|out| {
        out.called = rules(&[("00", "+")]);
        out.calling = rules(&[("1", "+49301")]);
    });
    assert_eq!(invite.uri.to_string(), "sip:+49301@192.0.2.1:5060");
    assert_eq!(invite.headers.to.uri.user.as_deref(), Some("+49301"));
    assert_eq!(invite.headers.from.uri.user.as_deref(), Some("+4930138"));
    assert_eq!((invite.headers.other("Privacy"), invite.headers.other("Diversion")), (None, None));
}

#[test]
fn hidden_caller_is_known_to_the_carrier_alone() {
    let invite = dialling_by(|out| {
        out.hide_caller = true;
        out.caller_id = Some("4930100".into());
    });
    let from = &invite.headers.from.uri;
    assert_eq!(
        (from.user.as_deref(), from.host.as_str()),
        (Some("anonymous"), "anonymous.invalid")
    );
    assert_eq!(invite.headers.other("Privacy"), Some("id"));
    let asserted = invite.headers.addresses("P-Asserted-Identity").next().expect("who calls");
    assert_eq!(asserted.uri.user.as_deref(), Some("4930100"));
}

#[test]
fn customer_who_is_sent_on_outside_is_shown_with_the_number_that_was_called() {
    let mut shard = with_phone();
    let call = shard.talk("c1");
    shard.refer(call, 1, 1, OUT);
    let invite = shard.ringing(call).expect("an INVITE");
    assert_eq!(invite.headers.from.uri.user.as_deref(), Some("138"));
    let diverted = invite.headers.addresses("Diversion").next().expect("whose call it was");
    assert_eq!(diverted.uri.user.as_deref(), Some("4001"));
}

#[test]
fn numbers_of_who_comes_in_are_made_ours() {
    let mut shard = Shard::with(|config| {
        config.trunks[0].incoming =
            Incoming { called: rules(&[("4930", "")]), calling: rules(&[("", "00")]) };
    });
    let call = shard.invite("c1", "49304003").0.expect("a call");
    let shown = query::call(&shard.leader, call).expect("live");
    assert_eq!((shown.from.as_str(), shown.to.as_str()), ("00138", "4003"));
}

fn finds(shard: &mut Shard, peer: &str, number: u64, up: bool) {
    let trunk = if peer.ends_with('3') { "south" } else { "north" }.into();
    let peer = format!("{peer}:5060").parse().unwrap();
    let status = if up { 200 } else { 408 };
    let change = PeerChange { trunk, peer, number, up, status };
    shard.event(GatewayEvent::PeerChange(change));
}

fn asked() -> Shard {
    let mut shard = Shard::with(|config| {
        with_carriers(config);
        for out in config.trunks.iter_mut().filter_map(|trunk| trunk.out.as_mut()) {
            out.options_s = 10;
        }
    });
    shard.register(1001);
    shard.register(1002);
    shard
}

/// Who is asked first, and who after a 500 of each.
fn asked_in_turn(shard: &mut Shard, agent: u16) -> Vec<String> {
    let (call, _) = shard.invite_from(&format!("c{agent}"), OUT, phone(agent));
    let call = call.expect("a call");
    let mut peers = Vec::new();
    while let Some(invite) = shard.ringing(call) {
        peers.push(invite.uri.host.clone());
        shard.answer(&invite, 500);
    }
    shard.now += 2_000;
    peers
}

#[test]
fn peer_that_is_down_is_passed_over_until_it_is_up_again() {
    let mut shard = asked();
    finds(&mut shard, "192.0.2.1", 1, false);
    let shown = trunk(&shard, "north").peers[0].clone();
    assert_eq!((shown.state.as_str(), shown.status), ("down", Some(408)));
    assert!(shown.since.is_some() && shown.options[0].gateway == "gateway-a");
    assert_eq!(asked_in_turn(&mut shard, 1001), ["192.0.2.2", "192.0.2.3"]);
    finds(&mut shard, "192.0.2.1", 2, true);
    assert_eq!(trunk(&shard, "north").peers[0].state, "up");
    assert_eq!(asked_in_turn(&mut shard, 1002), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    // What was overtaken on the way to the log is old.
    finds(&mut shard, "192.0.2.1", 1, false);
    assert_eq!(trunk(&shard, "north").peers[0].state, "up");
}

#[test]
fn peers_that_are_all_down_are_asked_all_the_same() {
    let mut shard = asked();
    for peer in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        finds(&mut shard, peer, 1, false);
    }
    assert_eq!(asked_in_turn(&mut shard, 1001), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
}

#[test]
fn peer_that_goes_down_while_another_is_asked_is_the_last() {
    let mut shard = asked();
    let call = shard.invite_from("c1", OUT, phone(1001)).0.expect("a call");
    finds(&mut shard, "192.0.2.2", 1, false);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 500);
    assert_eq!(peer(&shard, call), "192.0.2.3:5060 by south/1");
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 500);
    assert_eq!(peer(&shard, call), "192.0.2.2:5060 by north/2");
}

#[test]
fn next_life_of_a_gateway_and_a_trunk_that_is_asked_no_more_leave_nobody_down() {
    let mut shard = asked();
    finds(&mut shard, "192.0.2.1", 3, false);
    shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect());
    assert_eq!(trunk(&shard, "north").peers[0].state, "up");
    finds(&mut shard, "192.0.2.1", 1, false);
    assert_eq!(trunk(&shard, "north").peers[0].state, "down");
    let mut config = shard.leader.config.clone().unwrap();
    for out in config.trunks.iter_mut().filter_map(|trunk| trunk.out.as_mut()) {
        out.options_s = 0;
    }
    shard.apply(Command::Configure(Box::new(config)));
    assert_eq!(trunk(&shard, "north").peers[0].state, "up");
    finds(&mut shard, "192.0.2.1", 2, false);
    assert_eq!(trunk(&shard, "north").peers[0].state, "up", "nobody asks it");
}

#[test]
fn trunk_that_wants_a_registration_is_passed_over_until_the_gateway_has_it() {
    let mut shard = Shard::with(|config| {
        with_carriers(config);
        let north = config.trunks.iter_mut().find(|trunk| *trunk.id.0 == *"north").unwrap();
        let out = north.out.as_mut().unwrap();
        out.register = Some(Registration {
            user: "4930100".into(),
            domain: "carrier.example".into(),
            registrar: out.peers[0],
            expires_s: 600,
        });
    });
    shard.register(1001);
    shard.register(1002);
    let says = |shard: &mut Shard, number, up| {
        let change = RegistrationChange { trunk: "north".into(), number, up, status: 200 };
        shard.event(GatewayEvent::RegistrationChange(change));
    };
    assert_eq!(asked_in_turn(&mut shard, 1001), ["192.0.2.3"]);
    says(&mut shard, 2, true);
    assert_eq!(trunk(&shard, "north").registrations[0].state, "registered");
    assert_eq!(asked_in_turn(&mut shard, 1002), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    says(&mut shard, 1, false);
    assert_eq!(trunk(&shard, "north").registrations[0].state, "registered", "it is old");
    shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect());
    assert!(trunk(&shard, "north").registrations.is_empty());
}

#[test]
fn carrier_is_offered_what_its_trunk_allows_and_the_next_one_asked_where_that_is_nothing() {
    let by = |codecs: &[Codec]| {
        let mut shard = Shard::with(|config| {
            with_carriers(config);
            for trunk in config.trunks.iter_mut().filter(|trunk| *trunk.id.0 == *"north") {
                trunk.codecs = codecs.to_vec();
            }
        });
        shard.register(1001);
        let call = shard.invite_from("c1", OUT, phone(1001)).0.expect("a call");
        let offer = Audio::parse(&shard.ringing(call).expect("an INVITE").body).expect("SDP");
        let codecs: Vec<_> = offer.payloads.iter().map(|payload| payload.codec).collect();
        (peer(&shard, call), codecs)
    };
    let (peer, codecs) = by(&[Codec::G722, Codec::Pcma]);
    assert!(peer.contains("north"), "{peer}");
    assert_eq!(codecs, [Codec::G722, Codec::Pcma]);
    // The phone has no G.729, and we don't speak it.
    let (peer, codecs) = by(&[Codec::G729]);
    assert!(!peer.contains("north"), "{peer}");
    assert_eq!(codecs, [Codec::Pcma, Codec::Pcmu, Codec::G722]);
}

#[test]
fn call_that_no_carrier_can_talk_in_is_refused_as_such() {
    let mut shard = Shard::with(|config| {
        with_carriers(config);
        config.trunks.iter_mut().for_each(|trunk| trunk.codecs = vec![Codec::G729]);
    });
    shard.register(1001);
    let (_, effects) = shard.invite_from("c1", OUT, phone(1001));
    assert_eq!(refusal(&effects).map(|response| response.status), Some(488));
    assert!(shard.leader.channels.is_empty());
}
