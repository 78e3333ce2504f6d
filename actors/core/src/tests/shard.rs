//! A shard under test: a leader and a follower fed the same log, its invariants checked after each
//! entry, and peers that the test plays.

use std::net::SocketAddr;

use tandem_sip::sdp::{Audio, Beside, Codec, Direction, Payload};
use tandem_sip::{Carrier, Message, Method, Millis, Request, Response, parse};

use crate::agent::state::Agent;
use crate::call::state::Call;
use crate::command::{
    Command, Envelope, GatewayEvent, Inbound, Keyed, Login, OperatorCommand, Origin, Register,
    RequestedState, TransactionKey,
};
use crate::config::{Config, Trunk, TrunkTls};
use crate::deadline::Deadline;
use crate::demo::demo_config;
use crate::effect::{Body, Effect, EffectId, MediaPlan, Source};
use crate::ids::{AgentId, CallId, GatewayId};
use crate::invariants;
use crate::rows::RowChange;
use crate::trunk::outward::{Outward, Route};
use crate::world::{Meta, Reply, World};

pub const GATEWAY: &str = "gateway-a";

/// A leader and a follower of one shard, fed the same log; peers are played by the test.
pub struct Shard {
    pub leader: World,
    pub follower: World,
    /// What storage would hold.
    pub rows: std::collections::BTreeMap<(&'static str, Vec<u8>), Vec<u8>>,
    pub cdrs: Vec<crate::cdr::Cdr>,
    pub now: u64,
    pub incarnation: u64,
    pub sequence: u64,
    /// What gateways have done: it rides on the next entry.
    pub done: Vec<EffectId>,
    /// Sums over all entries.
    pub survival: crate::survival::Survival,
}

impl Shard {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The demo tenant, changed.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut shard = Self {
            leader: World::new(0),
            follower: World::new(0),
            rows: Default::default(),
            cdrs: Vec::new(),
            now: 1_000_000,
            incarnation: 0,
            sequence: 0,
            done: Vec::new(),
            survival: Default::default(),
        };
        let mut config = demo_config();
        change(&mut config);
        shard.apply(Command::Configure(Box::new(config)));
        shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect());
        shard
    }

    /// The gateway starts anew, with these ports.
    pub fn log_in(&mut self, ports: Vec<u16>) -> Vec<Effect> {
        (self.incarnation, self.sequence) = (self.incarnation + 1, 0);
        let vip = "127.0.0.10:5060".parse().unwrap();
        self.event(GatewayEvent::Login(Login { vip, ports })).1
    }

    pub fn apply(&mut self, command: Command) -> (Reply, Vec<Effect>) {
        self.apply_from(None, command)
    }

    pub fn event(&mut self, event: GatewayEvent) -> (Reply, Vec<Effect>) {
        self.sequence += 1;
        let origin = Origin {
            gateway: GatewayId(GATEWAY.into()),
            incarnation: self.incarnation,
            sequence: self.sequence,
        };
        self.apply_from(Some(origin), Command::Gateway(event))
    }

    pub fn apply_from(&mut self, origin: Option<Origin>, command: Command) -> (Reply, Vec<Effect>) {
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
            done: std::mem::take(&mut self.done),
            command,
        };
        // What the follower gets has been through the encoding.
        let carried = crate::wire::decode_envelope(&crate::wire::encode_envelope(&envelope));
        let carried = carried.expect("own encoding");
        let applied = self.leader.apply(&meta, &envelope);
        let mirrored = self.follower.apply(&meta, &carried);
        assert_eq!(applied, mirrored, "replicas differ at index {index}");
        assert_eq!(applied.alarm, None);
        self.survival.at_risk += applied.survival.at_risk;
        self.survival.lost += applied.survival.lost;
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
        assert!(self.restored() == self.leader, "rows hold another world at index {index}");
        invariants::check(&self.leader).unwrap_or_else(|v| panic!("{v} after {envelope:?}"));
        for effect in &applied.effects {
            let bytes = crate::wire::encode_effect(effect);
            assert_eq!(crate::wire::decode_effect(&bytes).as_ref(), Ok(effect));
        }
        (applied.reply, applied.effects)
    }

    /// Those that are stored, but the history.
    pub fn live_rows(&self) -> std::collections::BTreeMap<(&'static str, Vec<u8>), Vec<u8>> {
        let live =
            self.rows.iter().filter(|((family, _), _)| !crate::rows::HISTORY.contains(family));
        live.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub fn restored(&self) -> World {
        let mut world = World::new(0);
        for ((family, _), value) in &self.rows {
            world.restore(family, value).expect("own row");
        }
        world.restored().expect("whole rows");
        world
    }

    pub fn due(&mut self, after_ms: u64) -> Vec<Deadline> {
        self.now += after_ms;
        let due = self.leader.due(Millis(self.now));
        for deadline in &due {
            self.apply(Command::Due(deadline.clone()));
        }
        due
    }

    // --- what peers do ---

    pub fn register(&mut self, agent: u16) {
        self.register_for(agent, None);
    }

    pub fn register_over(&mut self, agent: u16, carrier: Carrier) {
        self.register_with(agent, None, carrier);
    }

    /// With a contact of the test's.
    pub fn register_at(&mut self, agent: u16, contact: &str, carrier: Carrier) {
        let request = request(Method::Register, &format!("reg{agent}"), "", contact);
        self.event(GatewayEvent::Register(Register {
            transaction: key(&request),
            source: phone(agent),
            carrier,
            request: request.into(),
            agent: AgentId::from(agent.to_string()),
        }));
    }

    /// `expires_s` of 0 takes the phone away.
    pub fn register_for(&mut self, agent: u16, expires_s: Option<u32>) -> (Reply, Vec<Effect>) {
        self.register_with(agent, expires_s, Carrier::Udp)
    }

    fn register_with(
        &mut self,
        agent: u16,
        expires_s: Option<u32>,
        carrier: Carrier,
    ) -> (Reply, Vec<Effect>) {
        let mut request = request(
            Method::Register,
            &format!("reg{agent}-{}", self.sequence),
            "",
            &format!("<sip:{agent}@127.0.0.1:{}>", 7_000 + agent),
        );
        request.headers.expires = expires_s;
        self.event(GatewayEvent::Register(Register {
            transaction: key(&request),
            source: phone(agent),
            carrier,
            request: request.into(),
            agent: AgentId::from(agent.to_string()),
        }))
    }

    /// A SUBSCRIBE outside of dialogs, of that agent's phone.
    pub fn subscribe(
        &mut self,
        agent: u16,
        call_id: &str,
        to: &str,
        event: &str,
        expires_s: Option<u32>,
    ) -> Vec<Effect> {
        let contact = format!("<sip:{agent}@{}>", phone(agent));
        let mut request = request(Method::Subscribe, call_id, "", &contact);
        request.uri.user = Some(to.to_owned());
        request.headers.to.uri.user = Some(to.to_owned());
        request.headers.expires = expires_s;
        request.headers.push_other("Event", event);
        self.subscribe_with(agent, request, phone(agent), Carrier::Udp)
    }

    pub fn subscribe_with(
        &mut self,
        agent: u16,
        request: Request,
        source: SocketAddr,
        carrier: Carrier,
    ) -> Vec<Effect> {
        let (_, effects) = self.event(GatewayEvent::Subscribe(Register {
            transaction: key(&request),
            source,
            carrier,
            request: request.into(),
            agent: AgentId::from(agent.to_string()),
        }));
        effects
    }

    pub fn invite(&mut self, call_id: &str, number: &str) -> (Option<CallId>, Vec<Effect>) {
        self.invite_from(call_id, number, "127.0.0.1:6000".parse().unwrap())
    }

    pub fn invite_from(
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
            carrier: Carrier::Udp,
            request: request.into(),
            offer: Some(audio(4_000)),
            names: Vec::new(),
        }));
        let found =
            self.leader.calls.values().find(|call| {
                call.caller().is_some_and(|leg| leg.invite.headers.call_id == call_id)
            });
        (found.map(|call| call.id), effects)
    }

    /// An INVITE that shall take the place of a dialog; its answer.
    pub fn invite_replacing(
        &mut self,
        call_id: &str,
        replaces: &str,
        source: SocketAddr,
    ) -> (u16, Vec<Effect>) {
        self.invite_with(call_id, &[("Replaces", replaces)], source)
    }

    pub fn invite_with(
        &mut self,
        call_id: &str,
        headers: &[(&str, &str)],
        source: SocketAddr,
    ) -> (u16, Vec<Effect>) {
        let request = request(Method::Invite, call_id, "", "<sip:c@127.0.0.1:6000>");
        self.invite_by(request, headers, source)
    }

    /// A carrier's INVITE to the number.
    pub fn invite_with_number(
        &mut self,
        call_id: &str,
        number: &str,
        headers: &[(&str, &str)],
    ) -> (u16, Vec<Effect>) {
        let mut request = request(Method::Invite, call_id, "", "<sip:c@127.0.0.1:6000>");
        request.uri.user = Some(number.to_owned());
        self.invite_by(request, headers, "127.0.0.1:6000".parse().unwrap())
    }

    fn invite_by(
        &mut self,
        mut request: Request,
        headers: &[(&str, &str)],
        source: SocketAddr,
    ) -> (u16, Vec<Effect>) {
        for (name, value) in headers {
            request.headers.push_other(name, value);
        }
        let transaction = key(&request);
        let (_, effects) = self.event(GatewayEvent::Invite(Inbound {
            transaction: transaction.clone(),
            source,
            carrier: Carrier::Udp,
            request: request.into(),
            offer: Some(audio(6_000)),
            names: Vec::new(),
        }));
        let status = effects.iter().rev().find_map(|effect| match &effect.body {
            Body::Respond { transaction: of, response } if *of == transaction => {
                Some(response.status)
            }
            Body::Respond { .. } | Body::Send { .. } | Body::Notify { .. } | Body::Media(_) => None,
        });
        (status.expect("an answer"), effects)
    }

    /// The INVITE that rings an agent for the call.
    pub fn ringing(&self, call: CallId) -> Option<Request> {
        let call = self.leader.calls.get(&call)?;
        call.legs.iter().find(|leg| leg.is_ringing()).map(|leg| (*leg.invite).clone())
    }

    pub fn answer(&mut self, invite: &Request, status: u16) -> (Reply, Vec<Effect>) {
        let response = response(invite, status);
        self.event(GatewayEvent::Response {
            branch: invite.headers.branch().to_owned(),
            response: Box::new(response),
            answer: (status == 200).then(|| audio(5_000)),
        })
    }

    pub fn ack(&mut self, call: CallId) {
        let Some(leg) = self.leader.calls.get(&call).and_then(|call| call.caller()) else { return };
        let (call_id, local_tag) = (leg.invite.headers.call_id.clone(), leg.local_tag.clone());
        self.event(GatewayEvent::Ack { call_id, local_tag, cseq: 1, answer: None });
    }

    pub fn bye(&mut self, call: CallId, cseq: u32) -> Vec<Effect> {
        let Some(leg) = self.leader.calls.get(&call).and_then(|call| call.caller()) else {
            return Vec::new();
        };
        let call_id = leg.invite.headers.call_id.clone();
        let tag = leg.local_tag.clone();
        let mut bye = request(Method::Bye, &call_id, &tag, "");
        bye.headers.cseq.number = cseq;
        self.in_dialog(bye, None)
    }

    pub fn in_dialog(&mut self, request: Request, offer: Option<Audio>) -> Vec<Effect> {
        self.in_dialog_over(request, offer, Carrier::Udp)
    }

    pub fn in_dialog_over(
        &mut self,
        request: Request,
        offer: Option<Audio>,
        carrier: Carrier,
    ) -> Vec<Effect> {
        self.event(GatewayEvent::Request(Inbound {
            transaction: key(&request),
            source: "127.0.0.1:6000".parse().unwrap(),
            carrier,
            request: request.into(),
            offer,
            names: Vec::new(),
        }))
        .1
    }

    /// Every BYE, NOTIFY and CANCEL among the effects is answered by its peer, and what comes of it.
    pub fn peers_answer(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let mut more = Vec::new();
        for effect in effects {
            if let Body::Send { request, .. } = &effect.body {
                let status = match request.method {
                    Method::Bye | Method::Notify => 200,
                    // The INVITE that was cancelled.
                    Method::Cancel => 487,
                    _ => continue,
                };
                let mut response = response(request, status);
                if request.method == Method::Cancel {
                    response.headers.cseq.method = Method::Invite;
                }
                let (_, effects) = self.event(GatewayEvent::Response {
                    branch: request.headers.branch().to_owned(),
                    response: Box::new(response),
                    answer: None,
                });
                more.extend(effects);
            }
        }
        more
    }

    pub fn agent(&self, id: u16) -> &Agent {
        &self.leader.agents[&AgentId::from(id.to_string())]
    }

    pub fn call(&self, id: CallId) -> &Call {
        &self.leader.calls[&id]
    }

    pub fn ask(&mut self, agent: u16, state: RequestedState) -> Reply {
        let agent = AgentId::from(agent.to_string());
        self.apply(Command::Operator(OperatorCommand::SetAgentState { agent, state })).0
    }

    /// A request of the peer of the call's leg at that place, within its dialog.
    pub fn of_peer(&self, call: CallId, leg: usize, method: Method, cseq: u32) -> Request {
        let leg = &self.call(call).legs[leg];
        let call_id = &leg.invite.headers.call_id;
        let mut request = request(method, call_id, &leg.local_tag, "<sip:c@127.0.0.1:6000>");
        if leg.transaction.is_none() {
            request.headers.from.set_tag("phone");
        }
        request.headers.cseq.number = cseq;
        request
    }

    /// The call's agent hangs up.
    pub fn agent_bye(&mut self, call: CallId) -> Vec<Effect> {
        let bye = self.of_peer(call, 1, Method::Bye, 1);
        self.in_dialog(bye, None)
    }

    /// The phone of the leg at that place holds the call, or retrieves it.
    pub fn hold(&mut self, call: CallId, leg: usize, cseq: u32, hold: bool) -> Vec<Effect> {
        let direction = if hold { Direction::SendOnly } else { Direction::SendRecv };
        let reinvite = self.of_peer(call, leg, Method::Invite, cseq);
        self.in_dialog(reinvite, Some(Audio { direction, ..audio(4_000) }))
    }

    /// Queued and ringing, the caller's leg up.
    pub fn offered(&mut self, call_id: &str) -> CallId {
        let call = self.invite(call_id, "4001").0.expect("a call");
        self.ack(call);
        call
    }

    pub fn operate(&mut self, key: &str, command: OperatorCommand) -> (Reply, Vec<Effect>) {
        self.apply(Command::Keyed(Keyed { key: key.into(), keep_ms: 60_000, command }))
    }

    /// An operator has the extension call the number; the call, where it is placed.
    pub fn originate(&mut self, from: u16, to: &str) -> (Reply, Option<CallId>, Vec<Effect>) {
        let before: Vec<CallId> = self.leader.calls.keys().copied().collect();
        let from = AgentId::from(from.to_string());
        let key = format!("key{}", self.leader.index);
        let (reply, effects) =
            self.operate(&key, OperatorCommand::Originate { from, to: to.into() });
        let new = self.leader.calls.keys().find(|id| !before.contains(id)).copied();
        (reply, new, effects)
    }

    /// The phone of the leg at that place sends the caller on.
    pub fn refer(&mut self, call: CallId, leg: usize, cseq: u32, to: &str) -> Vec<Effect> {
        let mut refer = self.of_peer(call, leg, Method::Refer, cseq);
        refer.headers.push_other("Refer-To", &format!("<sip:{to}@127.0.0.10>"));
        self.in_dialog(refer, None)
    }

    pub fn agent_state(&self, id: u16) -> &'static str {
        self.leader.agents[&AgentId::from(id.to_string())].state_name()
    }

    pub fn talk(&mut self, call_id: &str) -> CallId {
        let call = self.offered(call_id);
        let invite = self.ringing(call).expect("an agent rings");
        self.answer(&invite, 180);
        self.answer(&invite, 200);
        call
    }
}

/// A number that goes out.
pub const OUT: &str = "0049301";

/// Two carriers for numbers that begin with 00: the first has two peers, two channels and takes two
/// calls in a second, the other has one of each and no limit.
pub fn with_carriers(config: &mut Config) {
    let carrier = |name: &str, channels, peers: &[&str], priority, calls_per_second| Trunk {
        id: name.into(),
        channels,
        guard_ms: 0,
        sources: vec!["192.0.2.99".parse().unwrap()],
        tls: TrunkTls::default(),
        out: Some(Outward {
            peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
            priority,
            weight: 10,
            calls_per_second,
            reply_ms: 4_000,
            no_answer_ms: 60_000,
            caller_id: None,
            hide_caller: false,
            called: Vec::new(),
            calling: Vec::new(),
            credentials: None,
            options_s: 0,
            register: None,
        }),
        incoming: Default::default(),
        codecs: Vec::new(),
        shared: false,
    };
    config.trunks.push(carrier("north", 2, &["192.0.2.1:5060", "192.0.2.2:5060"], 1, 2));
    config.trunks.push(carrier("south", 1, &["192.0.2.3:5060"], 2, 0));
    config.routes =
        vec![Route { prefix: "00".into(), trunks: vec!["north".into(), "south".into()] }];
}

pub fn phone(agent: u16) -> SocketAddr {
    format!("127.0.0.1:{}", 7_000 + agent).parse().unwrap()
}

pub fn key(request: &Request) -> TransactionKey {
    TransactionKey {
        gateway: GatewayId(GATEWAY.into()),
        branch: request.headers.branch().into(),
        sent_by: "127.0.0.1:6000".into(),
        method: request.method.as_str().into(),
    }
}

pub fn request(method: Method, call_id: &str, to_tag: &str, contact: &str) -> Request {
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

pub fn response(request: &Request, status: u16) -> Response {
    let mut response = request.respond(status, None, Some("phone"));
    response.headers.contact = vec!["<sip:1001@127.0.0.1:8001>".parse().unwrap()];
    response
}

pub fn audio(port: u16) -> Audio {
    Audio {
        address: "127.0.0.1".parse().unwrap(),
        port,
        payloads: vec![Payload::new(8, Codec::Pcma)],
        telephone_event: Some(101),
        telephone_event_wide: None,
        direction: Direction::SendRecv,
        ptime_ms: Some(20),
        session_id: 1,
        session_version: 1,
        crypto: Vec::new(),
        secure: false,
        beside: Beside::default(),
    }
}

/// A short word for each effect, in order.
pub fn words(effects: &[Effect]) -> Vec<String> {
    let word = |effect: &Effect| match &effect.body {
        Body::Respond { response, .. } => response.status.to_string(),
        Body::Send { request, .. } | Body::Notify { request, .. } => request.method.to_string(),
        Body::Media(plan) => format!("media {}", sources(plan)),
    };
    effects.iter().map(word).collect()
}

pub fn sources(plan: &MediaPlan) -> String {
    fn source(source: &Source) -> &str {
        match source {
            Source::Silence => "silence",
            Source::Music(None) => "music",
            Source::Music(Some(list)) => &list.0,
            Source::Ringback(_) => "ringback",
            Source::Echo => "echo",
            Source::Leg(_) => "leg",
            Source::Mix(_) => "mix",
            Source::Prompt(prompt) => &prompt.prompt.0,
        }
    }
    let list: Vec<_> = plan.legs.iter().map(|leg| source(&leg.source)).collect();
    let recording = if plan.recording.is_some() { " recorded" } else { "" };
    format!("[{}]{recording}", list.join(" "))
}
