//! Commands, events and effects of every shape.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use tandem_sip::reason::Q850;
use tandem_sip::sdp::{Audio, Beside, Codec, Direction, Payload, Section};
use tandem_sip::srtp::{Crypto, Key, Suite};
use tandem_sip::{Carrier, ConnectionId, Millis, Request, Response};

use super::row_generators::manifest;
use super::values;
use crate::call::leg::Media;
use crate::call::protection::Protection;
use crate::cdr::Side;
use crate::command::{
    Command, Envelope, Gap, GatewayEvent, Inbound, Keyed, Login, OperatorCommand, Origin, Quality,
    Recorded, Register, RequestedState, TransactionKey,
};
use crate::config::{self, Config, Country, Number, OfferSrtp, Secret, Srtp, Target, Trunk};
use crate::deadline::Deadline;
use crate::effect::{
    Body, Effect, EffectId, MediaKeys, MediaLeg, MediaPlan, Prompt, RecordingPlan, Rollover, Source,
};
use crate::ids::{
    AgentId, CallId, ChannelId, EntityId, FlowId, GatewayId, LegId, OfferId, PromptId, QueueId,
    RecordingId, SubscriptionId, TrunkId,
};
use crate::ivr::flow::{Action, Choice, Flow, Gather, Step, StepId};
use crate::ivr::keys::Digit;
use crate::leases::Leases;
use crate::trunk::numbers::{Incoming, Rewrite};
use crate::trunk::outward::{Credentials, Outward, Registration, Route};
use crate::trunk::state::{PeerChange, RegistrationChange};

pub fn text() -> impl Strategy<Value = String> {
    "[ -~é]{0,8}"
}

pub fn millis() -> impl Strategy<Value = Millis> {
    any::<u64>().prop_map(Millis)
}

pub fn call_id() -> impl Strategy<Value = CallId> {
    any::<u64>().prop_map(CallId)
}

pub fn leg_id() -> impl Strategy<Value = LegId> {
    any::<u64>().prop_map(LegId)
}

pub fn offer_id() -> impl Strategy<Value = OfferId> {
    any::<u64>().prop_map(OfferId)
}

pub fn recording_id() -> impl Strategy<Value = RecordingId> {
    any::<u64>().prop_map(RecordingId)
}

pub fn agent_id() -> impl Strategy<Value = AgentId> {
    text().prop_map(AgentId::from)
}

pub fn queue_id() -> impl Strategy<Value = QueueId> {
    text().prop_map(QueueId::from)
}

pub fn gateway_id() -> impl Strategy<Value = GatewayId> {
    text().prop_map(GatewayId::from)
}

pub fn channel_id() -> impl Strategy<Value = ChannelId> {
    (text(), any::<u16>()).prop_map(|(trunk, number)| ChannelId { trunk: trunk.into(), number })
}

pub fn entity() -> impl Strategy<Value = EntityId> {
    prop_oneof![
        channel_id().prop_map(EntityId::Channel),
        call_id().prop_map(EntityId::Call),
        agent_id().prop_map(EntityId::Agent),
        queue_id().prop_map(EntityId::Queue),
        gateway_id().prop_map(EntityId::Gateway),
    ]
}

pub fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

pub fn carrier() -> impl Strategy<Value = Carrier> {
    let connection = option::of((1..=u64::MAX).prop_map(ConnectionId));
    prop_oneof![
        Just(Carrier::Udp),
        connection.clone().prop_map(|connection| Carrier::Tcp { connection }),
        connection.clone().prop_map(|connection| Carrier::Tls { connection }),
        connection.clone().prop_map(|connection| Carrier::Ws { connection }),
        connection.prop_map(|connection| Carrier::Wss { connection }),
    ]
}

pub fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(vec![Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus, Codec::G729])
}

/// Every shape of SIP value is the concern of that crate's tests.
pub fn request() -> impl Strategy<Value = Request> {
    (text(), 0_u32..1 << 31, vec(any::<u8>(), 0..8)).prop_map(|(call_id, number, body)| {
        let mut request = values::request();
        request.headers.call_id = call_id;
        request.headers.cseq.number = number;
        request.body = body;
        request
    })
}

pub fn response() -> impl Strategy<Value = Response> {
    (request(), 100_u16..700).prop_map(|(request, status)| request.respond(status, None, Some("t")))
}

pub fn audio() -> impl Strategy<Value = Audio> {
    let directions = prop::sample::select(vec![
        Direction::SendRecv,
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ]);
    let payload = (0_u8..128, codec(), option::of(text()));
    let payload = payload.prop_map(|(number, codec, fmtp)| Payload { number, codec, fmtp });
    let events = (option::of(96_u8..128), option::of(96_u8..128));
    let media = (address(), vec(payload, 0..3), events, option::of(any::<u16>()));
    let session = (any::<u64>(), any::<u64>());
    let crypto =
        (any::<u32>(), suite_and_key()).prop_map(|(tag, (suite, key))| Crypto { tag, suite, key });
    (media, directions, session, vec(crypto, 0..3), any::<bool>(), beside()).prop_map(
        |(media, direction, (session_id, session_version), crypto, secure, beside)| {
            let (at, payloads, (telephone_event, telephone_event_wide), ptime_ms) = media;
            Audio {
                address: at.ip(),
                port: at.port(),
                payloads,
                telephone_event,
                telephone_event_wide,
                direction,
                ptime_ms,
                session_id,
                session_version,
                crypto,
                secure,
                beside,
            }
        },
    )
}

fn suite_and_key() -> impl Strategy<Value = (Suite, Key)> {
    let suite = prop::sample::select(Suite::ALL.to_vec());
    (suite, any::<u64>())
        .prop_map(|(suite, name)| (suite, Key::derive(b"secret", suite, &name.to_be_bytes())))
}

fn beside() -> impl Strategy<Value = Beside> {
    let section = || {
        (text(), text(), text()).prop_map(|(media, protocol, format)| Section {
            media,
            protocol,
            format,
        })
    };
    (vec(section(), 0..2), vec(section(), 0..2))
        .prop_map(|(before, after)| Beside { before, after })
}

pub fn transaction() -> impl Strategy<Value = TransactionKey> {
    (gateway_id(), text(), text(), text()).prop_map(|(gateway, branch, sent_by, method)| {
        TransactionKey {
            gateway,
            branch: branch.into(),
            sent_by: sent_by.into(),
            method: method.into(),
        }
    })
}

pub fn effect_id() -> impl Strategy<Value = EffectId> {
    (any::<u16>(), any::<u64>(), any::<u16>()).prop_map(|(shard, index, ordinal)| EffectId {
        shard,
        index,
        ordinal,
    })
}

pub fn gaps() -> impl Strategy<Value = Vec<Gap>> {
    vec((any::<u64>(), any::<u64>()).prop_map(|(at_ms, len_ms)| Gap { at_ms, len_ms }), 0..3)
}

fn rewrites() -> impl Strategy<Value = Vec<Rewrite>> {
    vec((text(), text()).prop_map(|(from, to)| Rewrite { from, to }), 0..3)
}

fn outward() -> impl Strategy<Value = Outward> {
    let numbers = any::<(u16, u16, u16, u64, u64)>();
    let credentials =
        (text(), text(), text(), text()).prop_map(|(user, realm, ha1_md5, ha1_sha256)| {
            Credentials { user, realm, ha1_md5, ha1_sha256 }
        });
    let register = (text(), text(), any::<u32>()).prop_map(|(user, domain, expires_s)| {
        Registration { user, domain, registrar: values::peer(), expires_s }
    });
    let more = (option::of(credentials), any::<u16>(), option::of(register));
    let shown = (option::of(text()), any::<bool>(), rewrites(), rewrites(), more);
    (0..3_usize, numbers, shown).prop_map(|(peers, numbers, shown)| {
        let (priority, weight, calls_per_second, reply_ms, no_answer_ms) = numbers;
        let (caller_id, hide_caller, called, calling, (credentials, options_s, register)) = shown;
        Outward {
            peers: vec![values::peer(); peers],
            priority,
            weight,
            calls_per_second,
            reply_ms,
            no_answer_ms,
            caller_id,
            hide_caller,
            called,
            calling,
            credentials,
            options_s,
            register,
        }
    })
}

fn registration_change() -> impl Strategy<Value = RegistrationChange> {
    (text(), any::<(u64, bool, u16)>()).prop_map(|(trunk, (number, up, status))| {
        RegistrationChange { trunk: trunk.into(), number, up, status }
    })
}

fn peer_change() -> impl Strategy<Value = PeerChange> {
    let numbers = any::<(u64, bool, u16)>();
    (text(), address(), numbers).prop_map(|(trunk, peer, (number, up, status))| PeerChange {
        trunk: trunk.into(),
        peer,
        number,
        up,
        status,
    })
}

pub fn config() -> impl Strategy<Value = Config> {
    let tls = (option::of(text()), any::<bool>())
        .prop_map(|(client_name, unverified)| config::TrunkTls { client_name, unverified });
    let trunk = (text(), any::<u16>(), any::<u64>(), vec(any::<IpAddr>(), 0..3), tls).prop_map(
        |(id, channels, guard_ms, sources, tls)| Trunk {
            id: id.into(),
            channels,
            guard_ms,
            sources,
            tls,
            out: None,
            incoming: Incoming::default(),
            codecs: Vec::new(),
            shared: false,
        },
    );
    let incoming =
        (rewrites(), rewrites()).prop_map(|(called, calling)| Incoming { called, calling });
    let trunk = (trunk, option::of(outward()), incoming, vec(codec(), 0..3), any::<bool>())
        .prop_map(|(trunk, out, incoming, codecs, shared)| Trunk {
            out,
            incoming,
            codecs,
            shared,
            ..trunk
        });
    let music = option::of(text());
    let queue =
        (queue_id(), vec(agent_id(), 0..3), any::<u64>(), any::<bool>(), any::<u32>(), music)
            .prop_map(|(id, agents, ring_ms_max, record, waiting_max, music)| config::Queue {
                id,
                strategy: config::Strategy::LongestIdle,
                agents,
                ring_ms_max,
                record,
                waiting_max,
                music: music.map(Into::into),
            });
    let agent = (agent_id(), text()).prop_map(|(id, ha1)| config::Agent { id, ha1 });
    let target = prop_oneof![
        queue_id().prop_map(Target::Queue),
        Just(Target::Echo),
        flow_id().prop_map(Target::Flow),
    ];
    let number = (text(), target).prop_map(|(digits, target)| Number { digits, target });
    let route = (text(), vec(text(), 0..3)).prop_map(|(prefix, trunks)| Route {
        prefix,
        trunks: trunks.into_iter().map(Into::into).collect(),
    });
    let flows = (vec(flow(), 0..3), vec(flow(), 0..2), vec(route, 0..3));
    let lists = (vec(trunk, 0..3), vec(queue, 0..3), vec(agent, 0..3), vec(number, 0..3), flows);
    let bounds = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let offers = vec![OfferSrtp::Never, OfferSrtp::Welcome, OfferSrtp::Required];
    let srtp = (prop::sample::select(offers), vec(any::<u8>(), 0..4))
        .prop_map(|(offer, secret)| Srtp { offer, secret: Secret::new(secret) });
    let rest = (lists, text(), text(), bounds, any::<(bool, u32)>(), (srtp, country()));
    rest.prop_map(|(lists, tenant, realm, bounds, (tls_unverified, session_expires_s), said)| {
        let (srtp, country) = said;
        let (trunks, queues, agents, numbers, (flows, retired, routes)) = lists;
        let (version, acw_ms, no_answer_ms, call_ms_max) = bounds;
        Config {
            version,
            tenant,
            realm,
            trunks,
            queues,
            agents,
            numbers,
            routes,
            acw_ms,
            no_answer_ms,
            call_ms_max,
            session_expires_s,
            tls_unverified,
            srtp,
            country,
            flows,
            retired,
        }
    })
}

fn country() -> impl Strategy<Value = Country> {
    prop::sample::select(Country::ALL.to_vec())
}

pub fn flow_id() -> impl Strategy<Value = FlowId> {
    text().prop_map(FlowId::from)
}

pub fn step_id() -> impl Strategy<Value = StepId> {
    any::<u16>().prop_map(StepId)
}

pub fn prompt_id() -> impl Strategy<Value = PromptId> {
    text().prop_map(PromptId::from)
}

pub fn digit() -> impl Strategy<Value = Digit> {
    prop::sample::select("0123456789*#ABCD".chars().collect::<Vec<_>>())
        .prop_map(|key| Digit::new(key).expect("a key"))
}

fn gather() -> impl Strategy<Value = Gather> {
    let names = (option::of(prompt_id()), option::of(digit()), step_id(), step_id());
    let numbers = any::<(bool, u8, u64, u64, u8)>();
    (names, numbers).prop_map(|((prompt, terminator, no_input, no_match), numbers)| {
        let (barge_in, digits_max, first_digit_ms, inter_digit_ms, tries_max) = numbers;
        Gather {
            prompt,
            barge_in,
            digits_max,
            terminator,
            first_digit_ms,
            inter_digit_ms,
            tries_max,
            no_input,
            no_match,
        }
    })
}

pub fn flow() -> impl Strategy<Value = Arc<Flow>> {
    let choices =
        || vec((text(), step_id()).prop_map(|(digits, step)| Choice { digits, step }), 0..3);
    let action = prop_oneof![
        (prompt_id(), step_id()).prop_map(|(prompt, next)| Action::Play { prompt, next }),
        (gather(), choices()).prop_map(|(gather, choices)| Action::Menu { gather, choices }),
        (gather(), any::<u8>(), step_id()).prop_map(|(gather, digits_min, next)| Action::Collect {
            gather,
            digits_min,
            next
        }),
        (choices(), step_id()).prop_map(|(cases, otherwise)| Action::Branch { cases, otherwise }),
        (queue_id(), step_id()).prop_map(|(queue, full)| Action::Queue { queue, full }),
        (agent_id(), step_id()).prop_map(|(agent, failed)| Action::Extension { agent, failed }),
        Just(Action::HangUp),
    ];
    let step = (text(), action).prop_map(|(name, action)| Step { name: name.into(), action });
    (flow_id(), any::<u64>(), vec(step, 0..4))
        .prop_map(|(name, version, steps)| Arc::new(Flow { name, version, steps }))
}

pub fn deadline() -> impl Strategy<Value = Deadline> {
    let since = || (agent_id(), any::<u64>());
    prop_oneof![
        (call_id(), offer_id()).prop_map(|(call, offer)| Deadline::RingOut { call, offer }),
        since().prop_map(|(agent, since_index)| Deadline::AcwOver { agent, since_index }),
        since()
            .prop_map(|(agent, since_index)| Deadline::RegistrationExpired { agent, since_index }),
        since().prop_map(|(agent, id)| Deadline::SubscriptionDue {
            agent,
            subscription: SubscriptionId(id),
        }),
        channel_id().prop_map(|channel| Deadline::GuardOver { channel }),
        (call_id(), leg_id()).prop_map(|(call, leg)| Deadline::ReleaseOver { call, leg }),
        (call_id(), leg_id()).prop_map(|(call, leg)| Deadline::SessionTimer { call, leg }),
        call_id().prop_map(|call| Deadline::TooLong { call }),
        (call_id(), any::<u64>()).prop_map(|(call, turn)| Deadline::FlowWait { call, turn }),
    ]
}

pub fn inbound() -> impl Strategy<Value = Inbound> {
    let names = vec(text(), 0..3);
    (transaction(), address(), carrier(), request(), option::of(audio()), names).prop_map(
        |(transaction, source, carrier, request, offer, names)| Inbound {
            transaction,
            source,
            carrier,
            request: request.into(),
            offer,
            names,
        },
    )
}

pub fn event() -> impl Strategy<Value = GatewayEvent> {
    let register = (transaction(), address(), carrier(), request(), agent_id()).prop_map(
        |(transaction, source, carrier, request, agent)| {
            let request = Box::new(request);
            Register { transaction, source, carrier, request, agent }
        },
    );
    let proven = (0..3_u8, register).prop_map(|(kind, register)| match kind {
        0 => GatewayEvent::Register(register),
        1 => GatewayEvent::Subscribe(register),
        _ => GatewayEvent::Message(register),
    });
    let ack = (text(), text(), any::<u32>(), option::of(audio())).prop_map(
        |(call_id, local_tag, cseq, answer)| GatewayEvent::Ack { call_id, local_tag, cseq, answer },
    );
    let response =
        (text(), response(), option::of(audio())).prop_map(|(branch, response, answer)| {
            let response = Box::new(response);
            GatewayEvent::Response { branch, response, answer }
        });
    let spans = (gaps(), gaps(), option::of(millis()));
    let named = (text(), gateway_id());
    let recorded = (call_id(), recording_id(), spans, named, any::<(u64, u32, u64)>()).prop_map(
        |(
            call,
            recording,
            (gaps, pauses, began_at),
            (hash, holder),
            (duration_ms, chunks, bytes),
        )| {
            GatewayEvent::Recorded(Recorded {
                call,
                recording,
                duration_ms,
                chunks,
                gaps,
                hash,
                bytes,
                pauses,
                began_at,
                holder,
            })
        },
    );
    prop_oneof![
        (address(), vec(any::<u16>(), 0..4))
            .prop_map(|(vip, ports)| GatewayEvent::Login(Login { vip, ports })),
        inbound().prop_map(GatewayEvent::Invite),
        proven,
        (text(), text())
            .prop_map(|(call_id, local_tag)| GatewayEvent::SubscriptionGone { call_id, local_tag }),
        inbound().prop_map(GatewayEvent::Request),
        (transaction(), q850())
            .prop_map(|(transaction, q850)| GatewayEvent::Cancel { transaction, q850 }),
        ack,
        response,
        text().prop_map(|branch| GatewayEvent::ClientTimeout { branch }),
        transaction().prop_map(|transaction| GatewayEvent::AckTimeout { transaction }),
        (call_id(), leg_id(), any::<u64>())
            .prop_map(|(call, leg, since_ms)| GatewayEvent::RtpSilence { call, leg, since_ms }),
        (call_id(), leg_id(), rollover())
            .prop_map(|(call, leg, rollover)| GatewayEvent::Rollover { call, leg, rollover }),
        recorded,
        (address(), any::<u64>()).prop_map(|(source, connection)| GatewayEvent::FlowGone {
            source,
            connection: ConnectionId(connection),
        }),
        quality().prop_map(GatewayEvent::Quality),
        vec(manifest(), 0..3).prop_map(GatewayEvent::Holdings),
        peer_change().prop_map(GatewayEvent::PeerChange),
        registration_change().prop_map(GatewayEvent::RegistrationChange),
        (call_id(), leg_id(), any::<u64>(), digit(), any::<u32>()).prop_map(
            |(call, leg, number, digit, duration_ms)| {
                GatewayEvent::Digit { call, leg, number, digit, duration_ms }
            },
        ),
        (call_id(), leg_id(), any::<u64>(), any::<bool>()).prop_map(
            |(call, leg, play, missing)| { GatewayEvent::PromptEnded { call, leg, play, missing } }
        ),
        (inbound(), digit()).prop_map(|(inbound, digit)| GatewayEvent::Info { inbound, digit }),
    ]
}

fn rollover() -> impl Strategy<Value = Rollover> {
    any::<(u32, u32)>().prop_map(|(sent, received)| Rollover { sent, received })
}

fn role() -> impl Strategy<Value = Option<Side>> {
    option::of(prop::sample::select(vec![Side::Caller, Side::Agent, Side::Callee]))
}

pub fn quality() -> impl Strategy<Value = Quality> {
    let measured = (any::<u32>(), option::of(any::<u32>()), option::of(any::<u16>()));
    (call_id(), leg_id(), role(), codec(), any::<[u64; 5]>(), measured).prop_map(
        |(call, leg, role, codec, counts, (jitter_us, round_trip_us, mos_x100))| {
            let [sent, received, lost, late, duplicate] = counts;
            Quality {
                call,
                leg,
                role,
                codec,
                packets_sent: sent,
                packets_received: received,
                packets_lost: lost,
                packets_late: late,
                packets_duplicate: duplicate,
                jitter_us,
                round_trip_us,
                mos_x100,
            }
        },
    )
}

pub fn operator() -> impl Strategy<Value = OperatorCommand> {
    let state = prop_oneof![
        Just(RequestedState::Ready),
        text().prop_map(|reason| RequestedState::NotReady { reason }),
        Just(RequestedState::LoggedOut),
    ];
    prop_oneof![
        (agent_id(), state)
            .prop_map(|(agent, state)| OperatorCommand::SetAgentState { agent, state }),
        call_id().prop_map(|call| OperatorCommand::ReleaseCall { call }),
        (agent_id(), text()).prop_map(|(from, to)| OperatorCommand::Originate { from, to }),
        (call_id(), text()).prop_map(|(call, to)| OperatorCommand::TransferCall { call, to }),
        (call_id(), any::<bool>())
            .prop_map(|(call, paused)| OperatorCommand::PauseRecording { call, paused }),
        (call_id(), text()).prop_map(|(call, to)| OperatorCommand::Consult { call, to }),
        call_id().prop_map(|call| OperatorCommand::CompleteConsult { call }),
        call_id().prop_map(|call| OperatorCommand::Conference { call }),
        call_id().prop_map(|call| OperatorCommand::CancelConsult { call }),
    ]
}

fn leases() -> impl Strategy<Value = Leases> {
    let blocks = || btree_set(any::<u16>(), 0..4);
    let ports = btree_map(gateway_id(), blocks(), 0..3);
    let channels = btree_map(text().prop_map(TrunkId::from), blocks(), 0..3);
    (ports, channels).prop_map(|(ports, channels)| Leases { ports, channels })
}

pub fn command() -> impl Strategy<Value = Command> {
    let keyed = (text(), any::<u64>(), operator())
        .prop_map(|(key, keep_ms, command)| Command::Keyed(Keyed { key, keep_ms, command }));
    prop_oneof![
        1 => config().prop_map(|config| Command::Configure(Box::new(config))),
        1 => (text(), any::<bool>()).prop_map(|(node, dark)| Command::Elected { node, dark }),
        4 => event().prop_map(Command::Gateway),
        2 => deadline().prop_map(Command::Due),
        2 => operator().prop_map(Command::Operator),
        1 => keyed,
        1 => (entity(), text()).prop_map(|(entity, reason)| Command::Quarantine { entity, reason }),
        1 => leases().prop_map(Command::Lease),
        1 => Just(Command::Trim),
    ]
}

pub fn envelope() -> impl Strategy<Value = Envelope> {
    let origin = (gateway_id(), any::<u64>(), any::<u64>())
        .prop_map(|(gateway, incarnation, sequence)| Origin { gateway, incarnation, sequence });
    let head = (millis(), any::<u64>(), any::<u32>());
    (head, option::of(origin), vec(effect_id(), 0..3), command()).prop_map(
        |((at, seed, version), origin, done, command)| Envelope {
            at,
            seed,
            version,
            origin,
            done,
            command,
        },
    )
}

pub fn effect() -> impl Strategy<Value = Effect> {
    let source = prop_oneof![
        Just(Source::Silence),
        option::of(text()).prop_map(|list| Source::Music(list.map(Into::into))),
        country().prop_map(Source::Ringback),
        Just(Source::Echo),
        leg_id().prop_map(Source::Leg),
        vec(leg_id(), 0..4).prop_map(Source::Mix),
        (prompt_id(), any::<(u64, u64, bool)>()).prop_map(
            |(prompt, (play, offset_ms, barge_in))| {
                Source::Prompt(Prompt { prompt, play, offset_ms, barge_in })
            },
        ),
    ];
    let keys = (suite_and_key(), any::<u64>(), rollover());
    let keys = keys.prop_map(|((suite, ours), name, rollover)| MediaKeys {
        suite,
        ours,
        theirs: Key::derive(b"other", suite, &name.to_be_bytes()),
        rollover,
    });
    let leg = (leg_id(), media(), source, role(), option::of(keys));
    let leg = leg.prop_map(|(leg, media, source, role, keys)| MediaLeg {
        leg,
        port: media.port,
        remote: media.remote,
        codec: media.codec,
        payload: media.payload,
        telephone_event: media.telephone_event,
        events_wide: media.events_wide,
        ssrc: media.ssrc,
        source,
        role,
        keys,
    });
    let recording = (recording_id(), leg_id(), leg_id(), any::<bool>(), any::<bool>()).prop_map(
        |(id, left, right, mixed, paused)| RecordingPlan { id, left, right, mixed, paused },
    );
    let plan = (call_id(), any::<u64>(), vec(leg, 0..3), option::of(recording))
        .prop_map(|(call, version, legs, recording)| MediaPlan { call, version, legs, recording });
    let body = prop_oneof![
        (transaction(), response()).prop_map(|(transaction, response)| {
            Body::Respond { transaction, response: response.into() }
        }),
        (request(), address(), carrier(), any::<bool>()).prop_map(
            |(request, destination, carrier, notifies)| {
                let request = request.into();
                if notifies {
                    Body::Notify { request, destination, carrier }
                } else {
                    Body::Send { request, destination, carrier }
                }
            }
        ),
        plan.prop_map(Body::Media),
    ];
    (effect_id(), entity(), gateway_id(), body).prop_map(|(id, entity, gateway, body)| Effect {
        id,
        entity,
        gateway,
        body,
    })
}

pub fn media() -> impl Strategy<Value = Media> {
    let numbers = any::<(u16, u32, u8, u64, u64)>();
    let flags = any::<(bool, bool)>();
    let protection = (any::<u32>(), suite_and_key(), flags, rollover()).prop_map(
        |(tag, (suite, ours), (answered, required), rollover)| Protection {
            rollover,
            tag,
            suite,
            theirs: answered.then(|| Key::derive(b"other", suite, ours.bytes())),
            ours,
            required,
        },
    );
    let open = (option::of(audio()), vec(codec(), 0..3));
    let said = (option::of(text()), option::of(text()), any::<bool>(), open);
    let description = (codec(), option::of(any::<u8>()), option::of(protection), beside(), said);
    (numbers, option::of(address()), description).prop_map(
        |((port, ssrc, payload, session_id, session_version), remote, description)| {
            let (codec, telephone_event, protection, beside, said) = description;
            let (fmtp, said, events_wide, (open, allowed)) = said;
            Media {
                port,
                ssrc,
                remote,
                codec,
                payload,
                fmtp,
                said,
                telephone_event,
                events_wide,
                open: open.map(Box::new),
                session_id,
                session_version,
                allowed,
                protection,
                beside,
            }
        },
    )
}

pub fn q850() -> impl Strategy<Value = Option<Q850>> {
    any::<u8>().prop_map(Q850::new)
}
