//! Values that show every field and every variant of the encodings. Their golden files hold what
//! these came to once: a value is only ever added to.

use std::collections::BTreeSet;
use std::sync::Arc;

use tandem_sip::dialog::Dialog;
use tandem_sip::reason::Q850;
use tandem_sip::sdp::{Audio, Beside, Codec, Direction, Payload, Section};
use tandem_sip::srtp::{Crypto, Key, Suite};
use tandem_sip::{Carrier, ConnectionId, Message, Millis, NameAddr, Request, Response, parse};

use crate::agent::binding::{Outbound, Q_DEFAULT, Registration, id_at};
use crate::agent::state::{Agent, Rest, State as AgentState};
use crate::answered::{self, Answered};
use crate::call::early::Early;
use crate::call::early_media::EarlyMedia;
use crate::call::leg::{Leg, Media, Party, Proof, Refer, Role, State as LegState};
use crate::call::protection::Protection;
use crate::call::refused::Refused;
use crate::call::reliable::{Prack, Reliable};
use crate::call::session_timer::{Refresh, Refresher, SessionTimer};
use crate::call::state::{
    Call, Consult, Consulted, Hop, Outcome, Outward as Outgoing, State as CallState, Transfer,
    Unreached,
};
use crate::cdr::{Cdr, Disposition, LegQuality, Manifest, Outward as WentOut, Side};
use crate::channel::state::{Channel, State as ChannelState};
use crate::command::{
    Command, Envelope, Gap, GatewayEvent, Inbound, Keyed, Login, OperatorCommand, Origin, Quality,
    Recorded, Register, RequestedState, TransactionKey,
};
use crate::config::{
    self, Config, Country, Number, OfferSrtp, Secret, Srtp, Strategy, Target, Trunk, TrunkTls,
};
use crate::deadline::Deadline;
use crate::effect::{
    Body, Effect, EffectId, MediaKeys, MediaLeg, MediaPlan, Prompt, RecordingPlan, Rollover, Source,
};
use crate::gateway::{Counts, Gateway};
use crate::ids::{
    AgentId, CallId, ChannelId, EntityId, GatewayId, LegId, OfferId, RecordingId, SubscriptionId,
};
use crate::ivr::flow::{Action, Choice, Flow, Gather, Step, StepId};
use crate::ivr::keys::{Digit, Keys, Way};
use crate::ivr::state::{Run, State as RunState};
use crate::leases::Leases;
use crate::message::state::Relayed;
use crate::queue::state::{Entry, Queue, State as EntryState};
use crate::subscription;
use crate::subscription::lamp::{Line, LineState};
use crate::subscription::state::{Package, Subscription, Watched};
use crate::trunk;
use crate::trunk::numbers::{Incoming, Rewrite};
use crate::trunk::outward::{Credentials, Outward, Peer, Route};
use crate::trunk::state::{Health, PeerChange, RegistrationChange};
use crate::world::World;

pub type Cases<T> = Vec<(&'static str, T)>;

const CALL: CallId = CallId(0xca11_0000_0000_0001);
const LEG: LegId = LegId(0x1e90_0000_0000_0001);
const OTHER_LEG: LegId = LegId(0x1e90_0000_0000_0002);
const OFFER: OfferId = OfferId(0x0ffe_0000_0000_0001);
const RECORDING: RecordingId = RecordingId(0x4ec0_0000_0000_0001);
const AT: Millis = Millis(1_795_521_600_000);

fn agent_id() -> AgentId {
    AgentId("1001".into())
}

fn gateway_id() -> GatewayId {
    GatewayId("gateway-a".into())
}

fn channel_id() -> ChannelId {
    ChannelId { trunk: "carrier".into(), number: 120 }
}

pub fn request() -> Request {
    let text = "INVITE sip:4001@127.0.0.10 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKa;rport\r\n\
        From: \"A\" <sip:138@x>;tag=1\r\nTo: <sip:4001@127.0.0.10>\r\nCall-ID: c@x\r\n\
        CSeq: 7 INVITE\r\nContact: <sip:a@127.0.0.1:6000>\r\nX-Custom: kept\r\n\
        Content-Length: 4\r\n\r\nbody";
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("not a request: {other:?}"),
    }
}

pub fn response() -> Response {
    let mut response = request().respond(200, None, Some("t"));
    response.headers.contact = vec!["<sip:4001@127.0.0.10:5060>".parse().expect("a Contact")];
    response
}

pub fn audio() -> Audio {
    Audio {
        address: "127.0.0.1".parse().expect("an address"),
        port: 4000,
        payloads: vec![Payload::new(8, Codec::Pcma), Payload::new(0, Codec::Pcmu)],
        telephone_event: Some(101),
        telephone_event_wide: None,
        direction: Direction::SendOnly,
        ptime_ms: Some(20),
        session_id: 5,
        session_version: 6,
        crypto: Vec::new(),
        secure: false,
        beside: Beside::default(),
    }
}

/// With codecs of which more is said.
fn wide_audio() -> Audio {
    let said = |number, codec, fmtp: &str| Payload { number, codec, fmtp: Some(fmtp.into()) };
    Audio {
        payloads: vec![
            said(96, Codec::Opus, "useinbandfec=1"),
            said(18, Codec::G729, "annexb=no"),
            Payload::new(9, Codec::G722),
        ],
        telephone_event_wide: Some(102),
        ..audio()
    }
}

/// With keys, and with sections that nobody takes.
fn protected_audio() -> Audio {
    let line = |tag, suite| Crypto { tag, suite, key: key(suite) };
    let suites = [Suite::AesCm256HmacSha1_80, Suite::AesCm128HmacSha1_32];
    Audio {
        crypto: suites.into_iter().zip(1..).map(|(suite, tag)| line(tag, suite)).collect(),
        secure: true,
        beside: beside(),
        ..audio()
    }
}

fn key(suite: Suite) -> Key {
    Key::derive(b"secret", suite, b"leg")
}

fn beside() -> Beside {
    let section = |media: &str, protocol: &str, format: &str| Section {
        media: media.into(),
        protocol: protocol.into(),
        format: format.into(),
    };
    let video = section("video", "RTP/AVP", "31");
    Beside { before: vec![video], after: vec![section("image", "udptl", "t38")] }
}

pub fn transaction() -> TransactionKey {
    TransactionKey {
        gateway: gateway_id(),
        branch: "z9hG4bKa".into(),
        sent_by: "127.0.0.1:6000".into(),
        method: "INVITE".into(),
    }
}

fn rewrites(rules: &[(&str, &str)]) -> Vec<Rewrite> {
    let rule = |(from, to): &(&str, &str)| Rewrite { from: (*from).into(), to: (*to).into() };
    rules.iter().map(rule).collect()
}

pub fn configs() -> Cases<Config> {
    let config = Config {
        version: 3,
        tenant: "demo".into(),
        realm: "demo.tandem".into(),
        trunks: vec![Trunk {
            id: "carrier".into(),
            channels: 120,
            guard_ms: 250,
            sources: ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().expect("an address")).into(),
            tls: TrunkTls::default(),
            out: None,
            incoming: Incoming::default(),
            codecs: Vec::new(),
            shared: true,
        }],
        queues: vec![config::Queue {
            id: "support".into(),
            strategy: Strategy::LongestIdle,
            agents: vec!["1001".into(), "1002".into()],
            ring_ms_max: 20_000,
            record: true,
            waiting_max: 1_000,
            music: Some("brand".into()),
        }],
        agents: vec![config::Agent { id: agent_id(), ha1: "0123abcd".into() }],
        numbers: vec![
            Number { digits: "4001".into(), target: Target::Queue("support".into()) },
            Number { digits: "4003".into(), target: Target::Echo },
            Number { digits: "4000".into(), target: Target::Flow("main".into()) },
        ],
        routes: Vec::new(),
        acw_ms: 1_000,
        no_answer_ms: 30_000,
        call_ms_max: 14_400_000,
        session_expires_s: 1_800,
        tls_unverified: false,
        srtp: Default::default(),
        country: Country::Cn,
        flows: vec![flow().into()],
        retired: vec![Flow { version: 2, ..flow() }.into()],
    };
    let mut tls = Config { tls_unverified: true, ..config.clone() };
    tls.trunks[0].tls = TrunkTls { client_name: Some("sbc.example.net".into()), unverified: true };
    let mut out = config.clone();
    out.trunks[0].out = Some(Outward {
        peers: vec![peer(), "[2001:db8::1]:5061;transport=tls".parse().expect("a peer")],
        priority: 1,
        weight: 10,
        calls_per_second: 20,
        reply_ms: 4_000,
        no_answer_ms: 60_000,
        caller_id: Some("4930100".into()),
        hide_caller: true,
        called: rewrites(&[("00", "+"), ("0", "+49")]),
        calling: rewrites(&[("1", "+49301")]),
        credentials: Some(Credentials::new("tandem", "carrier.example", "secret")),
        options_s: 30,
        register: Some(trunk::outward::Registration {
            user: "4930100".into(),
            domain: "carrier.example".into(),
            registrar: peer(),
            expires_s: 600,
        }),
    });
    out.trunks[0].incoming =
        Incoming { called: rewrites(&[("+4930", "")]), calling: rewrites(&[("", "0")]) };
    out.trunks[0].codecs = vec![Codec::Pcma, Codec::Opus];
    out.routes = vec![Route { prefix: "00".into(), trunks: vec!["carrier".into()] }];
    let abroad = Config { country: Country::Gb, ..config.clone() };
    let srtp = |offer| Srtp { offer, secret: Secret::new(vec![7; 32]) };
    let welcome = Config { srtp: srtp(OfferSrtp::Welcome), ..config.clone() };
    let required = Config { srtp: srtp(OfferSrtp::Required), ..config.clone() };
    vec![
        ("config", config),
        ("config_tls", tls),
        ("config_out", out),
        ("config_country", abroad),
        ("config_srtp_welcome", welcome),
        ("config_srtp_required", required),
    ]
}

/// A step of each kind.
fn flow() -> Flow {
    let step = |name: &str, action| Step { name: name.into(), action };
    let choices = vec![Choice { digits: "1".into(), step: StepId(3) }];
    let gather = Gather {
        prompt: Some("menu".into()),
        barge_in: true,
        digits_max: 4,
        terminator: Digit::new('#'),
        first_digit_ms: 5_000,
        inter_digit_ms: 3_000,
        tries_max: 3,
        no_input: StepId(5),
        no_match: StepId(6),
    };
    let bare = Gather { prompt: None, terminator: None, ..gather.clone() };
    let (choice, hang_up) = (choices.clone(), StepId(6));
    let steps = vec![
        step("play", Action::Play { prompt: "notice".into(), next: StepId(1) }),
        step("menu", Action::Menu { gather, choices }),
        step("collect", Action::Collect { gather: bare, digits_min: 2, next: StepId(3) }),
        step("branch", Action::Branch { cases: choice, otherwise: StepId(4) }),
        step("queue", Action::Queue { queue: "support".into(), full: hang_up }),
        step("extension", Action::Extension { agent: agent_id(), failed: hang_up }),
        step("hang_up", Action::HangUp),
    ];
    Flow { name: "main".into(), version: 3, steps }
}

fn config() -> Config {
    configs().remove(0).1
}

fn originate() -> OperatorCommand {
    OperatorCommand::Originate { from: agent_id(), to: "4001".into() }
}

fn pause() -> OperatorCommand {
    OperatorCommand::PauseRecording { call: CALL, paused: true }
}

fn transfer() -> OperatorCommand {
    OperatorCommand::TransferCall { call: CALL, to: "1002".into() }
}

fn consult() -> OperatorCommand {
    OperatorCommand::Consult { call: CALL, to: "1002".into() }
}

pub fn answered() -> Cases<Answered> {
    let answered = |command, outcome| Answered { key: "k".into(), until: AT, command, outcome };
    let json = br#"{"id":"1"}"#.to_vec();
    let release = OperatorCommand::ReleaseCall { call: CALL };
    let ready = OperatorCommand::SetAgentState { agent: agent_id(), state: RequestedState::Ready };
    vec![
        ("done", answered(originate(), answered::Outcome::Done { json })),
        ("transfer", answered(transfer(), answered::Outcome::Done { json: Vec::new() })),
        ("paused", answered(pause(), answered::Outcome::Done { json: Vec::new() })),
        ("consult", answered(consult(), answered::Outcome::Done { json: Vec::new() })),
        (
            "complete",
            answered(
                OperatorCommand::CompleteConsult { call: CALL },
                answered::Outcome::Done { json: Vec::new() },
            ),
        ),
        (
            "conference",
            answered(
                OperatorCommand::Conference { call: CALL },
                answered::Outcome::Done { json: Vec::new() },
            ),
        ),
        (
            "cancel",
            answered(
                OperatorCommand::CancelConsult { call: CALL },
                answered::Outcome::Done { json: Vec::new() },
            ),
        ),
        ("not_found", answered(release, answered::Outcome::NotFound { what: "call 1".into() })),
        ("refused", answered(ready, answered::Outcome::Refused { sentence: "no phone".into() })),
    ]
}

pub fn envelopes() -> Cases<Envelope> {
    let due = |deadline| Command::Due(deadline);
    let ask =
        |state| Command::Operator(OperatorCommand::SetAgentState { agent: agent_id(), state });
    let quarantine = |entity| Command::Quarantine { entity, reason: "crash_loop".into() };
    let since_index = 41;
    let commands = vec![
        ("configure", Command::Configure(Box::new(config()))),
        ("elected", Command::Elected { node: "node-b".into(), dark: false }),
        ("elected_dark", Command::Elected { node: "node-b".into(), dark: true }),
        ("gateway", Command::Gateway(GatewayEvent::ClientTimeout { branch: "z9hG4bKb".into() })),
        ("ring_out", due(Deadline::RingOut { call: CALL, offer: OFFER })),
        ("acw_over", due(Deadline::AcwOver { agent: agent_id(), since_index })),
        (
            "registration_expired",
            due(Deadline::RegistrationExpired { agent: agent_id(), since_index }),
        ),
        (
            "subscription_due",
            due(Deadline::SubscriptionDue { agent: agent_id(), subscription: SubscriptionId(41) }),
        ),
        ("guard_over", due(Deadline::GuardOver { channel: channel_id() })),
        ("release_over", due(Deadline::ReleaseOver { call: CALL, leg: LEG })),
        ("too_long", due(Deadline::TooLong { call: CALL })),
        ("session_timer", due(Deadline::SessionTimer { call: CALL, leg: LEG })),
        ("flow_wait", due(Deadline::FlowWait { call: CALL, turn: 5 })),
        ("set_ready", ask(RequestedState::Ready)),
        ("set_not_ready", ask(RequestedState::NotReady { reason: "lunch".into() })),
        ("set_logged_out", ask(RequestedState::LoggedOut)),
        ("release_call", Command::Operator(OperatorCommand::ReleaseCall { call: CALL })),
        ("quarantine_channel", quarantine(EntityId::Channel(channel_id()))),
        ("quarantine_call", quarantine(EntityId::Call(CALL))),
        ("quarantine_agent", quarantine(EntityId::Agent(agent_id()))),
        ("quarantine_queue", quarantine(EntityId::Queue("support".into()))),
        ("quarantine_gateway", quarantine(EntityId::Gateway(gateway_id()))),
        ("trim", Command::Trim),
        ("originate", Command::Operator(originate())),
        ("transfer_call", Command::Operator(transfer())),
        ("pause_recording", Command::Operator(pause())),
        ("consult_call", Command::Operator(consult())),
        ("conference", Command::Operator(OperatorCommand::Conference { call: CALL })),
        ("complete_consult", Command::Operator(OperatorCommand::CompleteConsult { call: CALL })),
        ("cancel_consult", Command::Operator(OperatorCommand::CancelConsult { call: CALL })),
        ("lease", Command::Lease(leases())),
        ("keyed", Command::Keyed(Keyed { key: "k".into(), keep_ms: 60_000, command: originate() })),
    ];
    let envelope = |(name, command)| {
        let origin = Origin { gateway: gateway_id(), incarnation: 2, sequence: 17 };
        let done = EffectId { shard: 3, index: 40, ordinal: 1 };
        let envelope = Envelope {
            at: AT,
            seed: 0x5eed,
            version: 1,
            origin: matches!(command, Command::Gateway(_)).then_some(origin),
            done: if command == Command::Trim { vec![done] } else { Vec::new() },
            command,
        };
        (name, envelope)
    };
    commands.into_iter().map(envelope).collect()
}

fn connection() -> Carrier {
    Carrier::Tcp { connection: Some(ConnectionId(0x1_2345_6789)) }
}

pub fn events() -> Cases<GatewayEvent> {
    let inbound = || Inbound {
        transaction: transaction(),
        source: "127.0.0.1:6000".parse().expect("an address"),
        carrier: Carrier::Udp,
        request: request().into(),
        offer: Some(audio()),
        names: Vec::new(),
    };
    let proven = |carrier| Register {
        transaction: transaction(),
        source: "127.0.0.1:7000".parse().expect("an address"),
        carrier,
        request: request().into(),
        agent: agent_id(),
    };
    let register = |carrier| GatewayEvent::Register(proven(carrier));
    let vip = "[2001:db8::10]:5060".parse().expect("an address");
    vec![
        ("login", GatewayEvent::Login(Login { vip, ports: vec![20_000, 20_002] })),
        ("invite", GatewayEvent::Invite(inbound())),
        ("invite_tcp", GatewayEvent::Invite(Inbound { carrier: connection(), ..inbound() })),
        (
            "invite_tls",
            GatewayEvent::Invite(Inbound {
                carrier: Carrier::Tls { connection: Some(ConnectionId(0x1_2345_6789)) },
                names: vec!["sbc.example.net".into()],
                ..inbound()
            }),
        ),
        (
            "invite_protected",
            GatewayEvent::Invite(Inbound { offer: Some(protected_audio()), ..inbound() }),
        ),
        ("invite_wide", GatewayEvent::Invite(Inbound { offer: Some(wide_audio()), ..inbound() })),
        ("register", register(Carrier::Udp)),
        ("register_tcp", register(connection())),
        ("subscribe", GatewayEvent::Subscribe(proven(connection()))),
        ("message", GatewayEvent::Message(proven(Carrier::Udp))),
        (
            "subscription_gone",
            GatewayEvent::SubscriptionGone { call_id: "c@x".into(), local_tag: "t".into() },
        ),
        ("request", GatewayEvent::Request(Inbound { offer: None, ..inbound() })),
        ("cancel", GatewayEvent::Cancel { transaction: transaction(), q850: None }),
        ("cancel_reason", GatewayEvent::Cancel { transaction: transaction(), q850: Q850::new(16) }),
        (
            "ack",
            GatewayEvent::Ack {
                call_id: "c@x".into(),
                local_tag: "t".into(),
                cseq: 7,
                answer: Some(audio()),
            },
        ),
        (
            "response",
            GatewayEvent::Response {
                branch: "z9hG4bKb".into(),
                response: Box::new(response()),
                answer: Some(audio()),
            },
        ),
        ("client_timeout", GatewayEvent::ClientTimeout { branch: "z9hG4bKb".into() }),
        ("ack_timeout", GatewayEvent::AckTimeout { transaction: transaction() }),
        ("rtp_silence", GatewayEvent::RtpSilence { call: CALL, leg: LEG, since_ms: 30_000 }),
        (
            "rollover",
            GatewayEvent::Rollover {
                call: CALL,
                leg: LEG,
                rollover: Rollover { sent: 5, received: 6 },
            },
        ),
        (
            "flow_gone",
            GatewayEvent::FlowGone {
                source: "192.0.2.7:49152".parse().expect("an address"),
                connection: ConnectionId(77),
            },
        ),
        (
            "recorded",
            GatewayEvent::Recorded(Recorded {
                call: CALL,
                recording: RECORDING,
                duration_ms: 9_000,
                chunks: 9,
                gaps: vec![Gap { at_ms: 4_000, len_ms: 60 }],
                hash: "b1a2e3".into(),
                bytes: 288_044,
                pauses: Vec::new(),
                began_at: None,
                holder: "".into(),
            }),
        ),
        (
            "recorded_with_pauses",
            GatewayEvent::Recorded(Recorded {
                call: CALL,
                recording: RECORDING,
                duration_ms: 9_000,
                chunks: 9,
                gaps: Vec::new(),
                hash: "b1a2e3".into(),
                bytes: 288_044,
                pauses: vec![Gap { at_ms: 2_000, len_ms: 1_500 }],
                began_at: Some(AT),
                holder: "".into(),
            }),
        ),
        (
            "recorded_by_another_process",
            GatewayEvent::Recorded(Recorded {
                call: CALL,
                recording: RECORDING,
                duration_ms: 9_000,
                chunks: 9,
                gaps: vec![Gap { at_ms: 4_000, len_ms: 60 }],
                hash: "b1a2e3".into(),
                bytes: 288_044,
                pauses: Vec::new(),
                began_at: Some(AT),
                holder: "gateway-b".into(),
            }),
        ),
        ("peer_change", GatewayEvent::PeerChange(peer_change())),
        ("registration_change", GatewayEvent::RegistrationChange(registration_change())),
        ("holdings", GatewayEvent::Holdings(manifests().into_iter().map(|(_, m)| m).collect())),
        ("quality", GatewayEvent::Quality(quality())),
        ("quality_bare", GatewayEvent::Quality(bare_quality())),
        (
            "digit",
            GatewayEvent::Digit {
                call: CALL,
                leg: LEG,
                number: 3,
                digit: Digit::new('#').expect("a key"),
                duration_ms: 100,
            },
        ),
        (
            "prompt_ended",
            GatewayEvent::PromptEnded { call: CALL, leg: LEG, play: 5, missing: true },
        ),
        (
            "info",
            GatewayEvent::Info {
                inbound: Inbound { offer: None, ..inbound() },
                digit: Digit::new('7').expect("a key"),
            },
        ),
    ]
}

fn quality() -> Quality {
    Quality {
        call: CALL,
        leg: LEG,
        role: Some(Side::Agent),
        codec: Codec::Pcma,
        packets_sent: 450,
        packets_received: 440,
        packets_lost: 9,
        packets_late: 2,
        packets_duplicate: 1,
        jitter_us: 1_875,
        round_trip_us: Some(42_000),
        mos_x100: Some(376),
    }
}

/// Of a peer that sent nothing.
fn bare_quality() -> Quality {
    Quality {
        role: None,
        codec: Codec::Pcmu,
        packets_received: 0,
        packets_lost: 0,
        packets_late: 0,
        packets_duplicate: 0,
        jitter_us: 0,
        round_trip_us: None,
        mos_x100: None,
        ..quality()
    }
}

pub fn qualities() -> Cases<LegQuality> {
    let of = |quality| LegQuality { gateway: gateway_id(), incarnation: 3, quality };
    vec![("quality", of(quality())), ("bare", of(bare_quality()))]
}

pub fn effects() -> Cases<Effect> {
    let leg = |n: u64, source| MediaLeg {
        leg: LegId(n),
        port: 20_000,
        remote: Some("127.0.0.1:4000".parse().expect("an address")),
        codec: Codec::Pcma,
        payload: 8,
        telephone_event: Some(101),
        events_wide: false,
        ssrc: 0x5512_c0de,
        source,
        role: None,
        keys: None,
    };
    let mut silent = leg(1, Source::Silence);
    (silent.remote, silent.telephone_event) = (None, None);
    let prompt = Prompt { prompt: "menu".into(), play: 5, offset_ms: 1_200, barge_in: true };
    let plan = MediaPlan {
        call: CALL,
        version: 4,
        legs: vec![
            silent,
            leg(2, Source::Music(None)),
            leg(9, Source::Music(Some("brand".into()))),
            leg(3, Source::Ringback(Country::Cn)),
            leg(4, Source::Echo),
            leg(5, Source::Leg(LegId(4))),
            leg(6, Source::Prompt(prompt)),
        ],
        recording: Some(RecordingPlan {
            id: RECORDING,
            left: LEG,
            right: OTHER_LEG,
            mixed: false,
            paused: false,
        }),
    };
    let told = |n, role| MediaLeg { role: Some(role), ..leg(n, Source::Silence) };
    let roles = MediaPlan {
        legs: vec![told(1, Side::Caller), told(2, Side::Agent), told(3, Side::Callee)],
        recording: None,
        ..plan.clone()
    };
    let suite = Suite::AesCm128HmacSha1_80;
    let theirs = Key::derive(b"other", suite, b"leg");
    let rollover = Rollover::default();
    let keys = MediaKeys { suite, ours: key(suite), theirs, rollover };
    let plan_with = |keys| MediaPlan {
        legs: vec![MediaLeg { keys: Some(keys), ..told(1, Side::Caller) }],
        ..roles.clone()
    };
    let rollover = Rollover { sent: 5, received: 6 };
    let rolled_over = plan_with(MediaKeys { rollover, ..keys.clone() });
    let protected = plan_with(keys);
    let wide = MediaLeg {
        codec: Codec::Opus,
        payload: 96,
        telephone_event: Some(102),
        events_wide: true,
        ..told(1, Side::Caller)
    };
    let abroad = told(2, Side::Agent);
    let abroad = MediaLeg { source: Source::Ringback(Country::Jp), ..abroad };
    let wide = MediaPlan { legs: vec![wide, abroad], ..roles.clone() };
    let paused =
        RecordingPlan { id: RECORDING, left: LEG, right: OTHER_LEG, mixed: false, paused: true };
    let conference = MediaPlan {
        legs: vec![
            leg(1, Source::Mix(vec![LegId(2), LegId(300)])),
            leg(2, Source::Mix(Vec::new())),
        ],
        recording: Some(RecordingPlan { mixed: true, paused: false, ..paused }),
        ..plan.clone()
    };
    let paused = MediaPlan { legs: Vec::new(), recording: Some(paused), ..plan.clone() };
    let destination = "127.0.0.1:7000".parse().expect("an address");
    let send = |carrier| Body::Send { request: request().into(), destination, carrier };
    let bodies = vec![
        ("respond", Body::Respond { transaction: transaction(), response: response().into() }),
        ("send", send(Carrier::Udp)),
        ("send_tcp", send(Carrier::TCP)),
        ("send_connection", send(connection())),
        ("notify", Body::Notify { request: request().into(), destination, carrier: connection() }),
        ("media", Body::Media(plan)),
        ("media_of_roles", Body::Media(roles)),
        ("media_with_keys", Body::Media(protected)),
        ("media_rolled_over", Body::Media(rolled_over)),
        ("media_paused", Body::Media(paused)),
        ("media_wide", Body::Media(wide)),
        ("media_conference", Body::Media(conference)),
    ];
    let effect = |(name, body)| {
        let id = EffectId { shard: 3, index: 42, ordinal: 2 };
        (name, Effect { id, entity: EntityId::Call(CALL), gateway: gateway_id(), body })
    };
    bodies.into_iter().map(effect).collect()
}

fn leases() -> Leases {
    Leases {
        ports: [("gateway-a", [312, 313]), ("gateway-b", [312, 400])]
            .map(|(gateway, blocks)| (gateway.into(), blocks.into()))
            .into(),
        channels: [("carrier".into(), [0, 3].into())].into(),
    }
}

pub fn worlds() -> Cases<World> {
    let mut world = World::new(3);
    (world.at, world.index, world.config) = (AT, 42, Some(config()));
    let leased = |leases| {
        let mut world = World::new(3);
        world.leases = Some(leases);
        world
    };
    vec![
        ("world", world),
        ("leased", leased(leases())),
        ("nothing_leased", leased(Leases::default())),
    ]
}

/// An inbound leg; those that we call differ in what [`outbound`] changes.
fn inbound(id: LegId, state: LegState) -> Leg {
    Leg {
        id,
        role: Role::Caller,
        state,
        gateway: gateway_id(),
        peer: "127.0.0.1:6000".parse().expect("an address"),
        carrier: Carrier::Udp,
        invite: request().into(),
        transaction: Some(transaction()),
        local_tag: "t".into(),
        dialog: Some(Dialog::as_uas(&request(), "t").expect("a dialog").into()),
        bye_branch: None,
        refer: None,
        media: Media {
            port: 20_000,
            ssrc: 0x5512_c0de,
            remote: Some("127.0.0.1:4000".parse().expect("an address")),
            codec: Codec::Pcma,
            payload: 8,
            fmtp: None,
            said: None,
            telephone_event: Some(101),
            events_wide: false,
            open: None,
            session_id: 5,
            session_version: 6,
            allowed: Vec::new(),
            protection: None,
            beside: Beside::default(),
        },
        held: false,
        release_at: None,
        timer: None,
        offer_until: None,
        redirected: false,
        early: Vec::new(),
        rang: Vec::new(),
        proofs: Vec::new(),
        tried: Vec::new(),
        reliable: None,
        early_media: None,
        previewed: false,
    }
}

fn outbound(id: LegId, state: LegState) -> Leg {
    let ring_until = AT.after(20_000);
    let mut leg = inbound(id, state);
    leg.role = Role::Agent { agent: agent_id(), offer: OFFER, ring_until };
    (leg.transaction, leg.dialog) = (None, None);
    (leg.media.remote, leg.media.telephone_event) = (None, None);
    leg
}

fn transfers() -> Vec<Transfer> {
    [
        Outcome::WentOver,
        Outcome::CameBack { status: 486 },
        Outcome::Ended,
        Outcome::Pending { leg: None },
        Outcome::Pending { leg: Some(OTHER_LEG) },
    ]
    .map(|outcome| {
        let attended = outcome == Outcome::WentOver;
        Transfer { at: AT, agent: agent_id(), to: "1002".into(), attended, outcome }
    })
    .into()
}

pub fn calls() -> Cases<Call> {
    let agent = agent_id();
    let call = |state, legs| Call {
        id: CALL,
        state,
        gateway: gateway_id(),
        from: "138".into(),
        to: "4001".into(),
        channel: Some(channel_id()),
        calling_agent: None,
        legs,
        started_at: AT,
        answered_at: None,
        queued_at: None,
        connected_at: None,
        queue: None,
        agent: None,
        takeovers: 0,
        media_version: 1,
        recording: None,
        recording_paused: false,
        flow: None,
        transfers: Vec::new(),
        q850: None,
        asserted: None,
        diverted_from: None,
        consult: None,
        outward: None,
        unreached: None,
    };
    let mut echo = call(CallState::InFlow, vec![inbound(LEG, LegState::Answered)]);
    (echo.channel, echo.calling_agent) = (None, Some(agent.clone()));
    let queued = call(
        CallState::Queued { queue: "support".into() },
        vec![inbound(LEG, LegState::Active), outbound(OTHER_LEG, LegState::Alerting)],
    );
    let mut callee = outbound(OTHER_LEG, LegState::Calling);
    callee.role = Role::Callee { agent: agent.clone(), offer: OFFER, ring_until: AT };
    let dialing = call(
        CallState::Dialing { agent: Some(agent.clone()), leg: OTHER_LEG },
        vec![inbound(LEG, LegState::Trying), callee, outbound(LegId(3), LegState::Proceeding)],
    );
    let mut wide = dialing.clone();
    let media = &mut wide.legs[0].media;
    (media.codec, media.payload) = (Codec::Opus, 96);
    (media.telephone_event, media.events_wide) = (Some(102), true);
    (media.fmtp, media.said) = (Some("useinbandfec=1".into()), Some("stereo=0".into()));
    media.open = Some(Box::new(wide_audio()));
    let mut originator = outbound(OTHER_LEG, LegState::Alerting);
    originator.role = Role::Originator { agent: agent.clone(), offer: OFFER, ring_until: AT };
    let mut routing = call(CallState::Routing, vec![originator]);
    (routing.channel, routing.calling_agent) = (None, Some(agent.clone()));
    let mut up = outbound(OTHER_LEG, LegState::Active);
    up.dialog = Some(Dialog::as_uac(&request(), &response()).expect("a dialog").into());
    (up.held, up.carrier) = (true, connection());
    let connected = Call {
        answered_at: Some(AT.after(1)),
        queued_at: Some(AT.after(2)),
        connected_at: Some(AT.after(3)),
        queue: Some("support".into()),
        agent: Some(agent.clone()),
        takeovers: 2,
        media_version: 5,
        recording: Some(RECORDING),
        ..call(
            CallState::Connected { leg: OTHER_LEG },
            vec![inbound(LEG, LegState::Active), up.clone()],
        )
    };
    let asked = |outcome| Some(Consult { at: AT, agent: agent_id(), to: "1002".into(), outcome });
    let mut colleague = target_of(&up);
    colleague.id = LegId(7);
    let consulting = Call {
        state: CallState::Consulting { leg: OTHER_LEG, consulted: LegId(7) },
        legs: vec![inbound(LEG, LegState::Active), up.clone(), colleague],
        consult: asked(Consulted::Pending),
        ..connected.clone()
    };
    let conferenced = Call {
        state: CallState::Conferenced { leg: OTHER_LEG, joined: LegId(7) },
        consult: asked(Consulted::Joined),
        ..consulting.clone()
    };
    let consulted = |outcome| Call { consult: asked(outcome), ..connected.clone() };
    let consulted = [
        ("completed", consulted(Consulted::Completed)),
        ("cancelled", consulted(Consulted::Cancelled)),
        ("failed", consulted(Consulted::Failed { status: 486 })),
        ("hung_up", consulted(Consulted::HungUp)),
        ("ended", consulted(Consulted::Ended)),
    ];
    let mut releasing = inbound(LEG, LegState::Releasing);
    (releasing.bye_branch, releasing.release_at) = (Some("z9hG4bKc".into()), Some(AT));
    releasing.media.port = 0;
    let mut transferor = up.clone();
    transferor.refer = Some(Refer { id: 7, branch: None, last: false, next: None });
    let mut let_go = up.clone();
    (let_go.id, let_go.state, let_go.media.port) = (LegId(5), LegState::Releasing, 0);
    let_go.release_at = Some(AT);
    let_go.refer =
        Some(Refer { id: 7, branch: Some("z9hG4bKn".into()), last: true, next: Some(200) });
    let mut target = outbound(LegId(6), LegState::Alerting);
    target.role = Role::Callee { agent: agent.clone(), offer: OFFER, ring_until: AT };
    let transferred = Call {
        transfers: transfers(),
        agent: Some(agent.clone()),
        ..call(
            CallState::Dialing { agent: Some(agent.clone()), leg: LegId(6) },
            vec![inbound(LEG, LegState::Active), transferor, let_go, target],
        )
    };
    let suite = Suite::AesCm128HmacSha1_80;
    let keys = |theirs, required| {
        let (ours, rollover) = (key(suite), Rollover::default());
        Some(Protection { tag: 4, suite, ours, theirs, required, rollover })
    };
    let mut protected = inbound(LEG, LegState::Active);
    protected.media.beside = beside();
    protected.media.protection = keys(Some(Key::derive(b"other", suite, b"leg")), false);
    let mut offered = outbound(OTHER_LEG, LegState::Alerting);
    offered.media.protection = keys(None, true);
    offered.media.allowed = vec![Codec::G729, Codec::Pcma];
    let queue = CallState::Queued { queue: "support".into() };
    let protected = call(queue, vec![protected, offered]);
    let mut rolled_over = inbound(LEG, LegState::Active);
    rolled_over.media.protection = keys(Some(Key::derive(b"other", suite, b"leg")), false);
    if let Some(protection) = &mut rolled_over.media.protection {
        protection.rollover = Rollover { sent: 5, received: 6 };
    }
    let rolled_over = call(CallState::InFlow, vec![rolled_over]);
    let paused = Call {
        recording: Some(RECORDING),
        recording_paused: true,
        ..call(CallState::Connected { leg: LEG }, vec![inbound(LEG, LegState::Active)])
    };
    let mut ending = call(
        CallState::Ending,
        vec![
            releasing,
            outbound(OTHER_LEG, LegState::Cancelling { sent: false }),
            outbound(LegId(3), LegState::Cancelling { sent: true }),
            outbound(LegId(4), LegState::Released),
        ],
    );
    ending.q850 = Q850::new(17);
    let run = |state| Run {
        version: 3,
        step: StepId(4),
        state,
        turn: 5,
        digits: "12".into(),
        no_input: 1,
        no_match: 2,
        path: vec![StepId(0), StepId(4)],
        keys: Keys {
            way: Some(Way::Rtp),
            life: 2,
            counted: 7,
            early: vec![(9, Digit::new('#').expect("a key"))],
        },
        ..Run::new("main".into(), 3)
    };
    let led = |state| Call { flow: Some(run(state)), ..echo.clone() };
    let (prompt, since, until) = (|| "menu".into(), AT, AT.after(5_000));
    let by_info = Call {
        flow: Some(Run {
            keys: Keys { way: Some(Way::Info), ..Keys::default() },
            ..run(RunState::Collecting { until })
        }),
        ..echo.clone()
    };
    let refresh = Refresh { branch: "z9hG4bKr".into(), invite: true, cseq: 3, answered: true };
    let ours = SessionTimer {
        interval_s: 1_800,
        refresher: Refresher::We,
        expires_at: AT.after(1_800_000),
        refresh_at: Some(AT.after(900_000)),
        refresh: Some(refresh),
        update: true,
    };
    let theirs = SessionTimer {
        refresher: Refresher::Peer,
        refresh_at: None,
        refresh: None,
        update: false,
        ..ours.clone()
    };
    let mut timed = connected.clone();
    (timed.asserted, timed.diverted_from) = (Some("4930138".into()), Some("4930200".into()));
    timed.legs[1].redirected = true;
    timed.legs[0].timer = Some(theirs);
    timed.legs[0].offer_until = Some(AT.after(32_000));
    timed.legs[1].timer = Some(ours);
    let mut outside = outbound(LegId(9), LegState::Calling);
    outside.role = Role::Trunk { channel: channel_id(), offer: OFFER, ring_until: AT };
    let out = Call {
        channel: None,
        outward: Some(Outgoing {
            number: "0049301".into(),
            left: vec![Hop { trunk: "carrier".into(), peer: peer() }],
            channel: Some(channel_id()),
            peer: Some(peer().address),
        }),
        ..call(
            CallState::Dialing { agent: None, leg: LegId(9) },
            vec![inbound(LEG, LegState::Trying), outside],
        )
    };
    let unreached = Unreached { status: 486, how: Disposition::Busy, by: Side::Callee };
    let told =
        Call { unreached: Some(unreached), ..led(RunState::Playing { prompt: prompt(), since }) };
    let mut early = dialing.clone();
    early.legs[1].rang = vec!["ph1".into(), "ph2".into()];
    early.legs[1].proofs = vec![
        Proof { proxy: true, value: "Digest nonce=\"n2\"".into(), cseq: 3 },
        Proof { proxy: false, value: "Digest nonce=\"n3\"".into(), cseq: 4 },
    ];
    early.legs[0].reliable = Some(Reliable { rseq: 7, state: Prack::Holds });
    let dialog = connected.legs[1].dialog.as_deref().expect("a leg that is up").clone();
    let media = Some(connected.legs[1].media.clone());
    let prack_branch = Some("z9hG4bKprack".into());
    early.legs[1].early = vec![Early { dialog, rseq: 9, prack_branch, media }];
    let mut again = dialing.clone();
    again.legs[1].tried = vec![request().uri, "sip:1001@192.0.2.9".parse().expect("a URI")];
    let mut heard = out.clone();
    let media = inbound(LEG, LegState::Active).media;
    heard.legs[1].early_media = Some(Box::new(EarlyMedia { tag: "switch".into(), media }));
    heard.legs[0].previewed = true;
    let sent_on = |who| {
        let mut called = outbound(LEG, LegState::Active);
        called.role = Role::Transferee { who, known_as: "c1".into() };
        call(CallState::Dialing { agent: None, leg: OTHER_LEG }, vec![called])
    };
    let outside = Party::Outside { number: "0049301".into(), channel: channel_id() };
    let mut cases = vec![
        ("second_phone", again),
        ("early", early),
        ("timed", timed),
        ("in_flow", echo.clone()),
        ("queued", queued.clone()),
        ("dialing", dialing.clone()),
        ("connected", connected),
        ("ending", ending),
        ("playing", led(RunState::Playing { prompt: prompt(), since })),
        ("prompting", led(RunState::Prompting { prompt: prompt(), since, barge_in: true })),
        ("awaiting", led(RunState::Awaiting { until })),
        ("collecting", by_info),
        ("transferring", Call { flow: Some(run(RunState::Transferring)), ..dialing }),
        ("led", Call { flow: Some(Run::new("main".into(), 1)), ..queued }),
        ("routing", routing),
        ("transferred", transferred),
        ("conferenced", conferenced),
        ("protected", protected),
        ("rolled_over", rolled_over),
        ("paused", paused),
        ("consulting", consulting),
        ("out", out),
        ("wide", wide),
        ("unreached", told),
        ("early_media", heard),
        ("colleague_sent_on", sent_on(Party::Colleague(agent_id()))),
        ("outside_sent_on", sent_on(outside)),
    ];
    cases.extend(consulted);
    cases
}

/// The leg of an extension that was dialled.
fn target_of(up: &Leg) -> Leg {
    let role = Role::Callee { agent: agent_id(), offer: OFFER, ring_until: AT };
    Leg { role, ..up.clone() }
}

pub fn agents() -> Cases<Agent> {
    let (call, back_since) = (CALL, Millis(AT.0 - 5_000));
    let lunch = || Rest::NotReady { reason: "lunch".into() };
    let states = vec![
        ("logged_out", AgentState::LoggedOut, None),
        ("not_ready", AgentState::NotReady { reason: "missed".into() }, None),
        ("ready", AgentState::Ready, None),
        (
            "reserved",
            AgentState::Reserved { call, offer: OFFER, back: Rest::Ready, back_since },
            Some(lunch()),
        ),
        ("talking", AgentState::Talking { call, back: Rest::LoggedOut }, Some(Rest::LoggedOut)),
        ("held", AgentState::Held { call, back: lunch() }, Some(Rest::Ready)),
        ("consulting", AgentState::Consulting { call, second: CallId(2), back: Rest::Ready }, None),
        ("acw", AgentState::Acw { until: AT.after(1_000), next: lunch() }, None),
    ];
    let agent = |(name, state, pending)| {
        let registration = Registration {
            id: id_at(12, 0),
            contact: "sip:1001@127.0.0.1:7000;ob".parse().expect("a URI"),
            source: "127.0.0.1:7000".parse().expect("an address"),
            carrier: if state == AgentState::Ready { connection() } else { Carrier::Udp },
            gateway: gateway_id(),
            expires_at: AT.after(3_600_000),
            since_index: 12,
            call_id: String::new(),
            cseq: 0,
            q: Q_DEFAULT,
            outbound: None,
            path: Vec::new(),
        };
        let registered = state != AgentState::LoggedOut;
        let bindings = registered.then_some(registration).into_iter().collect();
        let id = agent_id();
        (name, Agent { id, state, since: AT, since_index: 41, bindings, pending })
    };
    let mut cases: Cases<Agent> = states.into_iter().map(agent).collect();
    let (_, mut many) = cases[2].clone();
    let mut other = many.bindings[0].clone();
    (other.call_id, other.cseq) = ("register@phone".into(), 7);
    (other.id, other.q) = (id_at(11, 1), 500);
    other.outbound = Some(Outbound { instance: "\"<urn:uuid:1>\"".into(), reg_id: 2 });
    other.path = vec![hop()];
    many.bindings.push(other);
    cases.push(("many_phones", many));
    cases
}

pub fn hop() -> NameAddr {
    "<sip:edge.example;lr;ob>".parse().expect("an address")
}

pub fn queues() -> Cases<Queue> {
    let offered = EntryState::Offered { agent: agent_id(), offer: OFFER };
    let entries = vec![
        Entry { call: CALL, enqueued_at: AT, state: offered },
        Entry { call: CallId(2), enqueued_at: AT.after(1), state: EntryState::Waiting },
    ];
    vec![("queue", Queue { id: "support".into(), entries })]
}

pub fn channels() -> Cases<Channel> {
    let channel = |state| Channel { id: channel_id(), state, since: AT };
    vec![
        ("seized_in", channel(ChannelState::SeizedIn { call: CALL })),
        ("seized_out", channel(ChannelState::SeizedOut { call: CALL })),
        ("active", channel(ChannelState::Active { call: CALL })),
        ("guard", channel(ChannelState::Guard { until: AT.after(250) })),
    ]
}

/// Where a carrier takes our calls.
pub fn peer() -> Peer {
    "192.0.2.7:5060".parse().expect("a peer")
}

pub fn peer_change() -> PeerChange {
    let (trunk, peer) = ("carrier".into(), peer().address);
    PeerChange { trunk, peer, number: 3, up: true, status: 404 }
}

fn registration_change() -> RegistrationChange {
    RegistrationChange { trunk: "carrier".into(), number: 2, up: true, status: 200 }
}

pub fn trunks() -> Cases<trunk::state::Trunk> {
    let mut paced = trunk::state::Trunk::new("carrier".into());
    paced.full_at_us = 1_700_000_000_000_000;
    let mut held = paced.clone();
    held.hold(peer().address, 503, AT, 5_000);
    let mut asked = held.clone();
    let gone = Health { number: 3, up: false, status: 408, since: AT };
    asked.health.insert((peer().address, gateway_id()), gone);
    let there = Health { number: 4, up: true, status: 200, since: AT };
    asked.health.insert((peer().address, "gateway-b".into()), there);
    let mut registered = paced.clone();
    registered.registrations.insert(gateway_id(), there);
    registered.registrations.insert("gateway-b".into(), gone);
    vec![("paced", paced), ("held", held), ("asked", asked), ("registered", registered)]
}

pub fn subscriptions() -> Cases<Subscription> {
    let dialog = Dialog::as_uas(&request(), "t").expect("a dialog");
    let line = |leg, state, initiator| Line { leg: LegId(leg), state, initiator };
    let told = vec![
        line(1, LineState::Trying, true),
        line(2, LineState::Early, false),
        line(3, LineState::Confirmed, false),
    ];
    let watched = |told| Watched { agent: "1002".into(), version: 7, told };
    let lamp = Subscription {
        id: SubscriptionId(41),
        subscriber: agent_id(),
        package: Package::Dialog(watched(told)),
        event_id: Some("9".into()),
        gateway: gateway_id(),
        peer: "127.0.0.1:7000".parse().expect("an address"),
        carrier: connection(),
        dialog: dialog.into(),
        state: subscription::state::State::Active { expires_at: AT },
    };
    let over = subscription::state::State::Over { until: AT };
    let idle = Package::Dialog(watched(Vec::new()));
    let taken_back = Subscription { package: idle, state: over, ..lamp.clone() };
    let mailbox = Subscription {
        package: Package::MessageSummary,
        event_id: None,
        carrier: Carrier::Udp,
        ..lamp.clone()
    };
    vec![("lamp", lamp), ("over", taken_back), ("mailbox", mailbox)]
}

pub fn messages() -> Cases<Relayed> {
    let relayed = Relayed {
        branch: "z9hG4bKb".into(),
        to: agent_id(),
        transaction: transaction(),
        request: request().into(),
        until: AT,
    };
    vec![("relayed", relayed)]
}

pub fn gateways() -> Cases<Gateway> {
    let gateway = Gateway {
        id: gateway_id(),
        incarnation: 2,
        vip: "127.0.0.10:5060".parse().expect("an address"),
        granted: BTreeSet::from([20_000, 65_534]),
        free_ports: BTreeSet::from([20_000, 65_534]),
        counts: Counts::default(),
    };
    vec![("gateway", gateway)]
}

pub fn refused() -> Cases<Refused> {
    let refused = Refused {
        transaction: transaction(),
        call: CallId(0xfeed),
        until: Millis(1_795_000_032_000),
    };
    vec![("refused", refused)]
}

pub fn counts() -> Cases<(GatewayId, Counts)> {
    let counts = |counted, ahead: &[u64], dark| {
        (gateway_id(), Counts { counted, ahead: ahead.iter().copied().collect(), dark })
    };
    vec![
        ("in_order", counts(17, &[], false)),
        ("ahead", counts(17, &[19, 23, 24, 25], false)),
        ("dark", counts(17, &[], true)),
    ]
}

pub fn invites() -> Cases<(LegId, Arc<Request>)> {
    let leg = &calls()[0].1.legs[0];
    vec![("invite", (leg.id, Arc::clone(&leg.invite)))]
}

pub fn cdrs() -> Cases<Cdr> {
    let bare = |disposition, hung_up_by| Cdr {
        call: CALL,
        sip_call_id: "c@x".into(),
        from: "138".into(),
        to: "4001".into(),
        channel: None,
        started_at: AT,
        answered_at: None,
        queued_at: None,
        connected_at: None,
        ended_at: AT.after(4),
        queue: None,
        agent: None,
        disposition,
        hung_up_by,
        cause: "normal_clearing".into(),
        takeovers: 0,
        recording: None,
        flow: None,
        flow_path: Vec::new(),
        transfers: Vec::new(),
        q850: None,
        asserted: None,
        diverted_from: None,
        outward: None,
        joined: None,
    };
    let answered = Cdr {
        channel: Some(channel_id()),
        answered_at: Some(AT.after(1)),
        queued_at: Some(AT.after(2)),
        connected_at: Some(AT.after(3)),
        queue: Some("support".into()),
        agent: Some(agent_id()),
        takeovers: 2,
        recording: Some(RECORDING),
        transfers: transfers()[..3].to_vec(),
        q850: Q850::new(16),
        asserted: Some("4930138".into()),
        diverted_from: Some("4930200".into()),
        ..bare(Disposition::Answered, Side::Agent)
    };
    let led = Cdr {
        flow: Some("main".into()),
        flow_path: vec!["menu".into(), "support".into()],
        ..answered.clone()
    };
    let out = Cdr {
        channel: None,
        outward: Some(WentOut {
            number: "0049301".into(),
            channel: Some(channel_id()),
            peer: Some(peer().address),
        }),
        ..answered.clone()
    };
    let joined = Cdr {
        cause: "transferred".into(),
        joined: Some(CallId(2)),
        ..bare(Disposition::Answered, Side::Caller)
    };
    vec![
        ("answered", answered),
        ("out", out),
        ("joined", joined),
        ("led", led),
        ("abandoned", bare(Disposition::Abandoned, Side::Caller)),
        ("no_answer", bare(Disposition::NoAnswer, Side::Callee)),
        ("busy", bare(Disposition::Busy, Side::Callee)),
        ("rejected", bare(Disposition::Rejected, Side::Operator)),
        ("failed", bare(Disposition::Failed, Side::System)),
    ]
}

pub fn manifests() -> Cases<Manifest> {
    let begun = Manifest { began_at: None, ..Manifest::new(RECORDING, CALL, gateway_id(), AT) };
    let sealed = Manifest {
        duration_ms: 9_000,
        chunks: 9,
        gaps: vec![Gap { at_ms: 4_000, len_ms: 60 }, Gap { at_ms: 8_000, len_ms: 20 }],
        sealed: true,
        hash: "b1a2e3".into(),
        ..begun.clone()
    };
    let cut = Manifest {
        duration_ms: 4_000,
        chunks: 4,
        hash: "b1a2e3".into(),
        pauses: vec![Gap { at_ms: 1_000, len_ms: 500 }],
        cut: true,
        ..Manifest::new(RECORDING, CALL, gateway_id(), AT)
    };
    vec![("begun", begun), ("sealed", sealed), ("cut", cut)]
}
