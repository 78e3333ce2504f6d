//! The world under scenarios and random commands, its invariants checked after each.

use std::net::SocketAddr;

use proptest::prelude::*;
use tandem_sip::sdp::{Audio, Codec, Direction, Payload};
use tandem_sip::{Message, Method, Millis, Request, Response, parse};

use crate::command::{
    Command, Envelope, GatewayEvent, Inbound, Login, OperatorCommand, Origin, Recorded, Register,
    RequestedState, TransactionKey,
};
use crate::deadline::Deadline;
use crate::demo::demo_config;
use crate::effect::{Body, Effect, MediaPlan, Source};
use crate::ids::{AgentId, CallId, EntityId, GatewayId, QueueId};
use crate::rows::RowChange;
use crate::world::{Meta, Rejection, Reply, World};
use crate::{invariants, query};

const GATEWAY: &str = "gateway-a";

/// A leader and a follower of one shard, fed the same log; peers are played by the test.
struct Shard {
    leader: World,
    follower: World,
    /// What storage would hold.
    rows: std::collections::BTreeMap<(&'static str, Vec<u8>), Vec<u8>>,
    cdrs: Vec<crate::cdr::Cdr>,
    now: u64,
    sequence: u64,
}

impl Shard {
    fn new() -> Self {
        let mut shard = Self {
            leader: World::new(0),
            follower: World::new(0),
            rows: Default::default(),
            cdrs: Vec::new(),
            now: 1_000_000,
            sequence: 0,
        };
        shard.apply(Command::Configure(Box::new(demo_config())));
        shard.event(GatewayEvent::Login(Login {
            vip: "127.0.0.10:5060".parse().unwrap(),
            ports: (0..40).map(|n| 20_000 + 2 * n).collect(),
        }));
        shard
    }

    fn apply(&mut self, command: Command) -> (Reply, Vec<Effect>) {
        self.apply_from(None, command)
    }

    fn event(&mut self, event: GatewayEvent) -> (Reply, Vec<Effect>) {
        self.sequence += 1;
        let origin =
            Origin { gateway: GatewayId(GATEWAY.into()), incarnation: 1, sequence: self.sequence };
        self.apply_from(Some(origin), Command::Gateway(event))
    }

    fn apply_from(&mut self, origin: Option<Origin>, command: Command) -> (Reply, Vec<Effect>) {
        self.now += 1;
        let index = self.leader.index + 1;
        let meta = Meta {
            at: Millis(self.now),
            seed: index.wrapping_mul(0x5851_f42d_4c95_7f2d),
            version: 1,
            shard: 0,
            index,
            term: 1,
        };
        let envelope = Envelope {
            at: meta.at,
            seed: meta.seed,
            version: 1,
            origin,
            done: Vec::new(),
            command,
        };
        // What the follower gets has been through the encoding.
        let carried = crate::wire::decode_envelope(&crate::wire::encode_envelope(&envelope));
        let carried = carried.expect("own encoding");
        let applied = self.leader.apply(&meta, &envelope);
        let mirrored = self.follower.apply(&meta, &carried);
        assert_eq!(applied, mirrored, "replicas differ at index {index}");
        assert_eq!(applied.alarm, None);
        for RowChange { family, key, value } in &applied.rows {
            if *family == crate::rows::CDRS {
                let value = value.as_ref().expect("history is never deleted");
                self.cdrs.push(crate::rows::decode_cdr(value).expect("own row"));
            }
            match value {
                Some(value) => self.rows.insert((family, key.clone()), value.clone()),
                None => self.rows.remove(&(*family, key.clone())),
            };
        }
        invariants::check(&self.leader).unwrap_or_else(|v| panic!("{v} after {envelope:?}"));
        for effect in &applied.effects {
            let bytes = crate::wire::encode_effect(effect);
            assert_eq!(crate::wire::decode_effect(&bytes).as_ref(), Ok(effect));
        }
        (applied.reply, applied.effects)
    }

    fn restored(&self) -> World {
        let mut world = World::new(0);
        for ((family, _), value) in &self.rows {
            world.restore(family, value).expect("own row");
        }
        world.restored();
        world
    }

    fn due(&mut self, after_ms: u64) -> Vec<Deadline> {
        self.now += after_ms;
        let due = self.leader.due(Millis(self.now));
        for deadline in &due {
            self.apply(Command::Due(deadline.clone()));
        }
        due
    }

    // --- what peers do ---

    fn register(&mut self, agent: u16) {
        let request = request(
            Method::Register,
            &format!("reg{agent}-{}", self.sequence),
            "",
            &format!("<sip:{agent}@127.0.0.1:{}>", 7_000 + agent),
        );
        self.event(GatewayEvent::Register(Register {
            transaction: key(&request),
            source: phone(agent),
            request: Box::new(request),
            agent: AgentId(agent.to_string()),
        }));
    }

    fn invite(&mut self, call_id: &str, number: &str) -> (Option<CallId>, Vec<Effect>) {
        self.invite_from(call_id, number, "127.0.0.1:6000".parse().unwrap())
    }

    fn invite_from(
        &mut self,
        call_id: &str,
        number: &str,
        source: SocketAddr,
    ) -> (Option<CallId>, Vec<Effect>) {
        let mut request = request(Method::Invite, call_id, "", "<sip:c@127.0.0.1:6000>");
        request.uri.user = Some(number.to_owned());
        let (_, effects) = self.event(GatewayEvent::Invite(Inbound {
            transaction: key(&request),
            source,
            request: Box::new(request),
            offer: Some(audio(4_000)),
        }));
        let found =
            self.leader.calls.values().find(|call| {
                call.caller().is_some_and(|leg| leg.invite.headers.call_id == call_id)
            });
        (found.map(|call| call.id), effects)
    }

    /// The INVITE that rings an agent for the call.
    fn ringing(&self, call: CallId) -> Option<Request> {
        let call = self.leader.calls.get(&call)?;
        call.legs.iter().find(|leg| leg.is_ringing()).map(|leg| leg.invite.clone())
    }

    fn answer(&mut self, invite: &Request, status: u16) -> (Reply, Vec<Effect>) {
        let response = response(invite, status);
        self.event(GatewayEvent::Response {
            branch: invite.headers.branch().to_owned(),
            response: Box::new(response),
            answer: (status == 200).then(|| audio(5_000)),
        })
    }

    fn ack(&mut self, call: CallId) {
        let Some(leg) = self.leader.calls.get(&call).and_then(|call| call.caller()) else { return };
        let (call_id, local_tag) = (leg.invite.headers.call_id.clone(), leg.local_tag.clone());
        self.event(GatewayEvent::Ack { call_id, local_tag, cseq: 1, answer: None });
    }

    fn bye(&mut self, call: CallId, cseq: u32) -> Vec<Effect> {
        let Some(leg) = self.leader.calls.get(&call).and_then(|call| call.caller()) else {
            return Vec::new();
        };
        let call_id = leg.invite.headers.call_id.clone();
        let tag = leg.local_tag.clone();
        let mut bye = request(Method::Bye, &call_id, &tag, "");
        bye.headers.cseq.number = cseq;
        self.in_dialog(bye, None)
    }

    fn in_dialog(&mut self, request: Request, offer: Option<Audio>) -> Vec<Effect> {
        self.event(GatewayEvent::Request(Inbound {
            transaction: key(&request),
            source: "127.0.0.1:6000".parse().unwrap(),
            request: Box::new(request),
            offer,
        }))
        .1
    }

    /// Every BYE and CANCEL among the effects is answered by its peer.
    fn peers_answer(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Body::Send { request, .. } = &effect.body {
                let status = match request.method {
                    Method::Bye => 200,
                    // The INVITE that was cancelled.
                    Method::Cancel => 487,
                    _ => continue,
                };
                let mut response = response(request, status);
                if request.method == Method::Cancel {
                    response.headers.cseq.method = Method::Invite;
                }
                self.event(GatewayEvent::Response {
                    branch: request.headers.branch().to_owned(),
                    response: Box::new(response),
                    answer: None,
                });
            }
        }
    }

    fn agent_state(&self, id: u16) -> &'static str {
        self.leader.agents[&AgentId(id.to_string())].state_name()
    }

    fn talk(&mut self, call_id: &str) -> CallId {
        let call = self.invite(call_id, "4001").0.expect("a call");
        self.ack(call);
        let invite = self.ringing(call).expect("an agent rings");
        self.answer(&invite, 180);
        self.answer(&invite, 200);
        call
    }
}

fn phone(agent: u16) -> SocketAddr {
    format!("127.0.0.1:{}", 7_000 + agent).parse().unwrap()
}

fn key(request: &Request) -> TransactionKey {
    TransactionKey {
        gateway: GatewayId(GATEWAY.into()),
        branch: request.headers.branch().to_owned(),
        sent_by: "127.0.0.1:6000".into(),
        method: request.method.to_string(),
    }
}

fn request(method: Method, call_id: &str, to_tag: &str, contact: &str) -> Request {
    let tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    let contact =
        if contact.is_empty() { String::new() } else { format!("Contact: {contact}\r\n") };
    let text = format!(
        "{method} sip:4003@127.0.0.10 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{method}{call_id}\r\n\
         From: <sip:138@x>;tag=peer\r\nTo: <sip:4003@127.0.0.10>{tag}\r\nCall-ID: {call_id}\r\n\
         CSeq: 1 {method}\r\n{contact}Max-Forwards: 70\r\n\r\n"
    );
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{text}: {other:?}"),
    }
}

fn response(request: &Request, status: u16) -> Response {
    let mut response = request.respond(status, None, Some("phone"));
    response.headers.contact = vec!["<sip:1001@127.0.0.1:8001>".parse().unwrap()];
    response
}

fn audio(port: u16) -> Audio {
    Audio {
        address: "127.0.0.1".parse().unwrap(),
        port,
        payloads: vec![Payload { number: 8, codec: Codec::Pcma }],
        telephone_event: Some(101),
        direction: Direction::SendRecv,
        ptime_ms: Some(20),
        session_id: 1,
        session_version: 1,
    }
}

/// A short word for each effect, in order.
fn words(effects: &[Effect]) -> Vec<String> {
    let word = |effect: &Effect| match &effect.body {
        Body::Respond { response, .. } => response.status.to_string(),
        Body::Send { request, .. } => request.method.to_string(),
        Body::Media(plan) => format!("media {}", sources(plan)),
    };
    effects.iter().map(word).collect()
}

fn sources(plan: &MediaPlan) -> String {
    let source = |source: Source| match source {
        Source::Silence => "silence",
        Source::Music => "music",
        Source::Ringback => "ringback",
        Source::Echo => "echo",
        Source::Leg(_) => "leg",
    };
    let list: Vec<_> = plan.legs.iter().map(|leg| source(leg.source)).collect();
    let recording = if plan.recording.is_some() { " recorded" } else { "" };
    format!("[{}]{recording}", list.join(" "))
}

#[test]
fn echo_is_answered_in_one_entry_and_hung_up_by_the_caller() {
    let mut shard = Shard::new();
    let (call, effects) = shard.invite("c1", "4003");
    assert_eq!(words(&effects), ["100", "200", "media [echo]"]);
    let call = call.unwrap();
    assert_eq!(query::calls(&shard.leader)[0].state, "in_flow");
    shard.ack(call);
    let effects = shard.bye(call, 2);
    assert_eq!(words(&effects), ["200", "media []"]);
    assert!(shard.leader.calls.is_empty() && shard.leader.channels.is_empty());
    assert_eq!(shard.cdrs.len(), 1);
    assert_eq!(query::show_cdr(&shard.cdrs[0]).hung_up_by, "caller");
    assert_eq!(shard.leader.gateways[&GatewayId(GATEWAY.into())].free_ports.len(), 40);
}

#[test]
fn queued_call_rings_the_longest_idle_agent_and_is_recorded() {
    let mut shard = Shard::new();
    shard.register(1002);
    shard.register(1001);
    let (call, effects) = shard.invite("c1", "4001");
    assert_eq!(words(&effects), ["100", "200", "media [music]", "INVITE"]);
    let call = call.unwrap();
    assert_eq!(shard.agent_state(1002), "reserved");
    shard.ack(call);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "media [leg leg] recorded"]);
    assert_eq!(shard.agent_state(1002), "talking");
    let effects = shard.bye(call, 2);
    assert_eq!(words(&effects), ["200", "media []", "BYE"]);
    assert_eq!(shard.agent_state(1002), "acw");
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
    shard.due(1_000);
    assert_eq!(shard.agent_state(1002), "ready");
    assert_eq!(query::show_cdr(&shard.cdrs[0]).disposition, "answered");
}

#[test]
fn ring_out_keeps_the_place_and_offers_the_next_agent() {
    let mut shard = Shard::new();
    shard.register(1001);
    shard.register(1002);
    let call = shard.invite("c1", "4001").0.unwrap();
    shard.ack(call);
    let since = shard.leader.calls[&call].queued_at;
    let first = shard.ringing(call).unwrap();
    shard.answer(&first, 180);
    shard.due(20_000);
    assert_eq!(shard.agent_state(1001), "not_ready");
    assert_eq!(shard.agent_state(1002), "reserved");
    let queue = &shard.leader.queues[&QueueId("support".into())];
    assert_eq!(Some(queue.entries[0].enqueued_at), since);
    assert_ne!(shard.ringing(call).unwrap().headers.call_id, first.headers.call_id);
}

#[test]
fn answer_that_crosses_its_cancel_is_acknowledged_and_taken_down() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "4001").0.unwrap();
    shard.ack(call);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 180);
    let effects = shard.bye(call, 2);
    assert_eq!(words(&effects), ["200", "media []", "CANCEL"]);
    assert_eq!(shard.agent_state(1001), "ready");
    let (_, effects) = shard.answer(&invite, 200);
    assert_eq!(words(&effects), ["ACK", "BYE"]);
    shard.peers_answer(&effects);
    assert!(shard.leader.calls.is_empty());
    assert_eq!(query::show_cdr(&shard.cdrs[0]).disposition, "abandoned");
}

#[test]
fn cancel_waits_for_a_provisional_answer() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "4001").0.unwrap();
    shard.ack(call);
    let invite = shard.ringing(call).unwrap();
    assert_eq!(words(&shard.bye(call, 2)), ["200", "media []"]);
    let (_, effects) = shard.answer(&invite, 180);
    assert_eq!(words(&effects), ["CANCEL"]);
}

#[test]
fn extension_is_answered_only_when_its_phone_is() {
    let mut shard = Shard::new();
    assert_eq!(words(&shard.invite("c0", "1001").1), ["480"]);
    shard.register(1001);
    let (call, effects) = shard.invite("c1", "1001");
    assert_eq!(words(&effects), ["100", "INVITE"]);
    let call = call.unwrap();
    assert_eq!(words(&shard.invite("c2", "1001").1), ["486"]);
    let invite = shard.ringing(call).unwrap();
    assert_eq!(words(&shard.answer(&invite, 180).1), ["180"]);
    assert_eq!(words(&shard.answer(&invite, 200).1), ["ACK", "200", "media [leg leg]"]);
}

#[test]
fn refusal_of_the_extension_is_the_callers() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "1001").0.unwrap();
    let invite = shard.ringing(call).unwrap();
    let (_, effects) = shard.answer(&invite, 486);
    assert_eq!(words(&effects), ["486", "media []"]);
    assert_eq!(shard.agent_state(1001), "ready");
    assert_eq!(query::show_cdr(&shard.cdrs[0]).disposition, "busy");
}

#[test]
fn unknown_number_no_channel_and_no_codec_are_refused_with_one_record_each() {
    let mut shard = Shard::new();
    assert_eq!(words(&shard.invite("c1", "4999").1), ["404"]);
    let mut config = demo_config();
    config.trunks[0].channels = 1;
    shard.apply(Command::Configure(Box::new(config)));
    shard.invite("c2", "4003");
    let (call, effects) = shard.invite("c3", "4003");
    assert_eq!((call, words(&effects)), (None, vec!["503".to_owned()]));
    let Body::Respond { response, .. } = &effects[0].body else { panic!("a response") };
    assert_eq!(response.headers.other("Retry-After"), Some("5"));
    assert_eq!(shard.cdrs.len(), 2);
}

#[test]
fn event_counts_once_and_an_earlier_life_counts_not_at_all() {
    let mut shard = Shard::new();
    shard.invite("c1", "4003");
    let rows = shard.rows.clone();
    shard.sequence -= 1;
    let (reply, effects) = shard.event(GatewayEvent::ClientTimeout { branch: "x".into() });
    assert_eq!(reply, Reply::Rejected(Rejection::Repeated));
    assert!(effects.is_empty());
    let stale = Origin { gateway: GatewayId(GATEWAY.into()), incarnation: 0, sequence: 99 };
    let event = GatewayEvent::ClientTimeout { branch: "x".into() };
    let (reply, _) = shard.apply_from(Some(stale), Command::Gateway(event));
    assert_eq!(reply, Reply::Rejected(Rejection::Stale));
    let world = |rows: &std::collections::BTreeMap<_, Vec<u8>>| {
        rows.iter()
            .filter(|((family, _), _): &(&(&str, Vec<u8>), _)| *family != crate::rows::WORLD)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(world(&rows), world(&shard.rows));
}

#[test]
fn new_leader_finds_in_the_outbox_only_what_matters() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.invite("c1", "4001").0.unwrap();
    let outbox: Vec<Effect> = shard.leader.effects_of(&EntityId::Call(call)).cloned().collect();
    assert_eq!(words(&outbox), ["200", "media [music]", "INVITE"]);
    let invite = shard.ringing(call).unwrap();
    shard.answer(&invite, 100);
    let outbox: Vec<Effect> = shard.leader.effects_of(&EntityId::Call(call)).cloned().collect();
    assert_eq!(words(&outbox), ["200", "media [music]"]);
    shard.apply(Command::Elected { node: "node-b".into() });
    assert_eq!(shard.leader.calls[&call].takeovers, 1);
}

#[test]
fn hold_plays_music_and_bye_of_an_unknown_dialog_is_481() {
    let mut shard = Shard::new();
    shard.register(1001);
    let call = shard.talk("c1");
    let tag = shard.leader.calls[&call].caller().unwrap().local_tag.clone();
    let mut hold = request(Method::Invite, "c1", &tag, "<sip:c@127.0.0.1:6000>");
    hold.headers.cseq.number = 2;
    let offer = Audio { direction: Direction::SendOnly, ..audio(4_000) };
    let effects = shard.in_dialog(hold, Some(offer));
    assert_eq!(words(&effects), ["200", "media [leg music] recorded"]);
    assert!(query::calls(&shard.leader)[0].held);
    let stray = request(Method::Bye, "unknown", "tag", "");
    assert_eq!(words(&shard.in_dialog(stray, None)), ["481"]);
}

#[test]
fn unacknowledged_answer_is_hung_up_after_its_ack_only() {
    let mut shard = Shard::new();
    let call = shard.invite("c1", "4003").0.unwrap();
    let (_, effects) = shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call }));
    assert_eq!(words(&effects), ["media []"]);
    shard.sequence += 1;
    let leg = shard.leader.calls[&call].caller().unwrap().clone();
    let (_, effects) = shard.event(GatewayEvent::Ack {
        call_id: "c1".into(),
        local_tag: leg.local_tag,
        cseq: 1,
        answer: None,
    });
    assert_eq!(words(&effects), ["BYE"]);
}

#[test]
fn agents_own_call_takes_no_channel() {
    let mut shard = Shard::new();
    shard.register(1001);
    let (call, effects) = shard.invite_from("c1", "4003", phone(1001));
    assert_eq!(words(&effects), ["100", "200", "media [echo]"]);
    assert_eq!(shard.leader.calls[&call.unwrap()].channel, None);
    assert_eq!(shard.agent_state(1001), "talking");
}

#[test]
fn registration_that_expires_makes_the_agent_not_ready() {
    let mut shard = Shard::new();
    shard.register(1001);
    assert_eq!(shard.agent_state(1001), "ready");
    shard.due(3_600_001);
    let agent = query::agent(&shard.leader, &AgentId("1001".into())).unwrap();
    assert_eq!(
        (agent.state.as_str(), agent.reason.as_deref()),
        ("not_ready", Some("station_lost"))
    );
    shard.register(1001);
    assert_eq!(shard.agent_state(1001), "ready");
}

/// What a random day brings.
#[derive(Clone, Debug)]
enum Act {
    Register(u16),
    Call(&'static str),
    AgentCalls(u16, &'static str),
    Ack(usize),
    Answer(usize, u16),
    Bye(usize),
    Cancel(usize),
    Timeout(usize),
    Again,
    Wait(u64),
    Elected,
    Ask(u16, u8),
    Release(usize),
    Recorded(usize),
    PeersAnswer,
}

fn act() -> impl Strategy<Value = Act> {
    let number = prop::sample::select(vec!["4001", "4001", "4002", "4003", "1001", "1005", "9"]);
    let status = prop::sample::select(vec![100, 180, 180, 200, 200, 200, 486, 603, 480, 500]);
    let wait = prop::sample::select(vec![10, 1_000, 20_000, 40_000, 4_000_000]);
    prop_oneof![
        4 => (1001_u16..=1008).prop_map(Act::Register),
        6 => number.clone().prop_map(Act::Call),
        1 => ((1001_u16..=1008), number).prop_map(|(agent, to)| Act::AgentCalls(agent, to)),
        4 => any::<usize>().prop_map(Act::Ack),
        8 => (any::<usize>(), status).prop_map(|(at, status)| Act::Answer(at, status)),
        3 => any::<usize>().prop_map(Act::Bye),
        1 => any::<usize>().prop_map(Act::Cancel),
        1 => any::<usize>().prop_map(Act::Timeout),
        1 => Just(Act::Again),
        3 => wait.prop_map(Act::Wait),
        1 => Just(Act::Elected),
        2 => ((1001_u16..=1008), 0..3_u8).prop_map(|(agent, what)| Act::Ask(agent, what)),
        1 => any::<usize>().prop_map(Act::Release),
        1 => any::<usize>().prop_map(Act::Recorded),
        3 => Just(Act::PeersAnswer),
    ]
}

fn play(acts: &[Act]) -> Shard {
    let mut shard = Shard::new();
    let mut pending: Vec<Effect> = Vec::new();
    let mut invited = 0;
    for (turn, act) in acts.iter().enumerate() {
        let calls: Vec<CallId> = shard.leader.calls.keys().copied().collect();
        let pick = |at: usize| calls.get(at % calls.len().max(1)).copied();
        let effects = match act {
            Act::Register(agent) => {
                shard.register(*agent);
                Vec::new()
            }
            Act::Call(number) => {
                invited += 1;
                shard.invite(&format!("c{turn}"), number).1
            }
            Act::AgentCalls(agent, number) => {
                invited += 1;
                shard.invite_from(&format!("c{turn}"), number, phone(*agent)).1
            }
            Act::Ack(at) => {
                if let Some(call) = pick(*at) {
                    shard.ack(call);
                }
                Vec::new()
            }
            Act::Answer(at, status) => match pick(*at).and_then(|call| {
                let call = &shard.leader.calls[&call];
                call.legs.iter().rfind(|leg| leg.transaction.is_none()).cloned()
            }) {
                Some(leg) => shard.answer(&leg.invite, *status).1,
                None => Vec::new(),
            },
            Act::Bye(at) => match pick(*at) {
                Some(call) => shard.bye(call, 2 + turn as u32),
                None => Vec::new(),
            },
            Act::Cancel(at) => {
                let leg = pick(*at).and_then(|call| shard.leader.calls[&call].caller().cloned());
                match leg.and_then(|leg| leg.transaction) {
                    Some(transaction) => shard.event(GatewayEvent::Cancel { transaction }).1,
                    None => Vec::new(),
                }
            }
            Act::Timeout(at) => {
                let leg = pick(*at).and_then(|call| shard.leader.calls[&call].legs.last().cloned());
                match leg {
                    Some(leg) if leg.transaction.is_none() => {
                        let branch = leg.invite_branch().to_owned();
                        shard.event(GatewayEvent::ClientTimeout { branch }).1
                    }
                    Some(leg) => {
                        let transaction = leg.transaction.expect("an inbound leg");
                        shard.event(GatewayEvent::AckTimeout { transaction }).1
                    }
                    None => Vec::new(),
                }
            }
            Act::Again => {
                shard.sequence -= 1;
                shard.event(GatewayEvent::ClientTimeout { branch: "again".into() }).1
            }
            Act::Wait(ms) => {
                shard.due(*ms);
                Vec::new()
            }
            Act::Elected => shard.apply(Command::Elected { node: "n".into() }).1,
            Act::Ask(agent, what) => {
                let state = match what {
                    0 => RequestedState::Ready,
                    1 => RequestedState::NotReady { reason: "lunch".into() },
                    _ => RequestedState::LoggedOut,
                };
                let agent = AgentId(agent.to_string());
                shard.apply(Command::Operator(OperatorCommand::SetAgentState { agent, state })).1
            }
            Act::Release(at) => match pick(*at) {
                Some(call) => {
                    shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call })).1
                }
                None => Vec::new(),
            },
            Act::Recorded(at) => {
                let recorded = pick(*at).and_then(|call| {
                    let recording = shard.leader.calls[&call].recording?;
                    Some(Recorded {
                        call,
                        recording,
                        duration_ms: 5,
                        chunks: 1,
                        gaps: Vec::new(),
                        hash: "00".into(),
                        bytes: 44,
                    })
                });
                match recorded {
                    Some(recorded) => shard.event(GatewayEvent::Recorded(recorded)).1,
                    None => Vec::new(),
                }
            }
            Act::PeersAnswer => {
                let pending = std::mem::take(&mut pending);
                shard.peers_answer(&pending);
                Vec::new()
            }
        };
        pending.extend(effects);
        assert!(shard.cdrs.len() <= invited, "more records than calls");
    }
    // Everybody hangs up and time passes: nothing is left.
    for call in shard.leader.calls.keys().copied().collect::<Vec<_>>() {
        shard.apply(Command::Operator(OperatorCommand::ReleaseCall { call }));
    }
    for _ in 0..4 {
        shard.due(100_000);
    }
    assert_eq!(shard.leader.calls.len(), 0, "{:?}", shard.leader.calls);
    assert_eq!(shard.leader.channels.len(), 0);
    assert_eq!(shard.leader.gateways[&GatewayId(GATEWAY.into())].free_ports.len(), 40);
    assert_eq!(shard.cdrs.len(), invited, "one record a call");
    let mut calls: Vec<_> = shard.cdrs.iter().map(|cdr| cdr.call).collect();
    calls.sort();
    calls.dedup();
    assert_eq!(calls.len(), invited, "no call twice");
    shard
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn world_keeps_its_invariants_under_random_commands(
        acts in prop::collection::vec(act(), 1..120)
    ) {
        let shard = play(&acts);
        prop_assert_eq!(shard.restored(), shard.leader);
    }
}
