//! Random commands: the invariants hold after each, and in the end nothing is left.

use proptest::prelude::*;
use tandem_sip::Method;

use super::shard::{GATEWAY, OUT, Shard, phone, with_carriers};
use crate::command::{Command, GatewayEvent, Inbound, OperatorCommand, Recorded, RequestedState};
use crate::config::Config;
use crate::demo::demo_config;
use crate::effect::Effect;
use crate::ids::{AgentId, CallId, EntityId, GatewayId};
use crate::ivr::keys::Digit;
use crate::leases::{Leases, Pool};

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
    Elected {
        dark: bool,
    },
    Ask(u16, u8),
    Release(usize),
    Recorded(usize),
    PeersAnswer,
    Unregister(u16),
    PeerBye(usize, usize),
    Hold(usize, usize, bool),
    InviteAgain(usize),
    Silence(usize, usize),
    Quarantine(u16),
    Configure(u64),
    GatewayAnew,
    /// The two blocks in which the ports of the gateway are: which of them are leased.
    Lease([bool; 2]),
    /// A key of the call's caller, so many behind the next.
    Press(usize, char, u64),
    PromptEnded(usize),
    Originate(u16, &'static str),
    Refer(usize, usize, &'static str),
    Transfer(usize, &'static str),
    Pause(usize, bool),
    Consult(usize, u16),
    Complete(usize),
    CancelConsult(usize),
    /// Another agent's phone takes the place of the one that rings or talks.
    PickUp(usize, u16),
    /// The agent's phone watches another agent.
    Watch(u16, u16),
    /// The agent's phone has its two calls joined.
    Join(usize),
    /// The phone of the call's agent holds it and calls another.
    Second(usize, u16),
}

fn lease(blocks: [bool; 2]) -> Command {
    let leased = [312, 313].into_iter().zip(blocks).filter(|(_, leased)| *leased);
    let mut leases = Leases::default();
    let pool = Pool::Ports(GatewayId(GATEWAY.into()));
    leases.put(pool, leased.map(|(block, _)| block).collect());
    Command::Lease(leases)
}

fn act() -> impl Strategy<Value = Act> {
    let number = prop::sample::select(vec![
        "4000", "4000", "4000", "4001", "4001", "4002", "4003", "4004", "1001", "1005", "9", OUT,
        OUT,
    ]);
    let status =
        prop::sample::select(vec![100, 180, 180, 200, 200, 200, 486, 603, 480, 500, 503, 503]);
    let key = prop::sample::select(vec!['0', '0', '1', '2', '3', '9', '#']);
    let wait = prop::sample::select(vec![10, 1_000, 5_000, 20_000, 40_000, 4_000_000]);
    prop_oneof![
        4 => (1001_u16..=1008).prop_map(Act::Register),
        6 => number.clone().prop_map(Act::Call),
        1 => ((1001_u16..=1008), number.clone())
            .prop_map(|(agent, to)| Act::AgentCalls(agent, to)),
        2 => ((1001_u16..=1008), number.clone())
            .prop_map(|(agent, to)| Act::Originate(agent, to)),
        3 => (any::<usize>(), any::<usize>(), number.clone())
            .prop_map(|(at, leg, to)| Act::Refer(at, leg, to)),
        2 => (any::<usize>(), number).prop_map(|(at, to)| Act::Transfer(at, to)),
        3 => (any::<usize>(), 1001_u16..=1008).prop_map(|(at, to)| Act::Consult(at, to)),
        2 => any::<usize>().prop_map(Act::Complete),
        1 => any::<usize>().prop_map(Act::CancelConsult),
        3 => any::<usize>().prop_map(Act::Join),
        3 => ((1001_u16..=1008), 1001_u16..=1008).prop_map(|(by, of)| Act::Watch(by, of)),
        4 => (any::<usize>(), 1001_u16..=1008).prop_map(|(at, by)| Act::PickUp(at, by)),
        3 => (any::<usize>(), 1001_u16..=1008).prop_map(|(at, to)| Act::Second(at, to)),
        4 => any::<usize>().prop_map(Act::Ack),
        8 => (any::<usize>(), status).prop_map(|(at, status)| Act::Answer(at, status)),
        3 => any::<usize>().prop_map(Act::Bye),
        1 => any::<usize>().prop_map(Act::Cancel),
        1 => any::<usize>().prop_map(Act::Timeout),
        1 => Just(Act::Again),
        3 => wait.prop_map(Act::Wait),
        1 => any::<bool>().prop_map(|dark| Act::Elected { dark }),
        2 => ((1001_u16..=1008), 0..3_u8).prop_map(|(agent, what)| Act::Ask(agent, what)),
        1 => any::<usize>().prop_map(Act::Release),
        1 => any::<usize>().prop_map(Act::Recorded),
        3 => Just(Act::PeersAnswer),
        1 => (1001_u16..=1008).prop_map(Act::Unregister),
        3 => any::<(usize, usize)>().prop_map(|(at, leg)| Act::PeerBye(at, leg)),
        2 => any::<(usize, usize, bool)>().prop_map(|(at, leg, on)| Act::Hold(at, leg, on)),
        1 => any::<usize>().prop_map(Act::InviteAgain),
        1 => any::<(usize, usize)>().prop_map(|(at, leg)| Act::Silence(at, leg)),
        1 => (1001_u16..=1008).prop_map(Act::Quarantine),
        1 => prop::sample::select(vec![5_000, 4 * 3_600_000]).prop_map(Act::Configure),
        1 => Just(Act::GatewayAnew),
        1 => any::<[bool; 2]>().prop_map(Act::Lease),
        6 => (any::<usize>(), key, 0..3_u64).prop_map(|(at, key, by)| Act::Press(at, key, by)),
        4 => any::<usize>().prop_map(Act::PromptEnded),
        2 => any::<(usize, bool)>().prop_map(|(at, paused)| Act::Pause(at, paused)),
    ]
}

fn play(acts: &[Act]) -> Shard {
    let mut shard = Shard::with(with_carriers);
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
                    Some(transaction) => {
                        shard.event(GatewayEvent::Cancel { transaction, q850: None }).1
                    }
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
            Act::Elected { dark } => {
                shard.apply(Command::Elected { node: "n".into(), dark: *dark }).1
            }
            Act::Ask(agent, what) => {
                let state = match what {
                    0 => RequestedState::Ready,
                    1 => RequestedState::NotReady { reason: "lunch".into() },
                    _ => RequestedState::LoggedOut,
                };
                let agent = AgentId::from(agent.to_string());
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
                        pauses: Vec::new(),
                        began_at: None,
                        holder: "".into(),
                    })
                });
                match recorded {
                    Some(recorded) => shard.event(GatewayEvent::Recorded(recorded)).1,
                    None => Vec::new(),
                }
            }
            Act::Unregister(agent) => shard.register_for(*agent, Some(0)).1,
            Act::PeerBye(at, leg) => match pick(*at) {
                Some(call) => {
                    let leg = leg % shard.call(call).legs.len();
                    let bye = shard.of_peer(call, leg, Method::Bye, 2 + turn as u32);
                    shard.in_dialog(bye, None)
                }
                None => Vec::new(),
            },
            Act::Hold(at, leg, on) => match pick(*at) {
                Some(call) => {
                    let leg = leg % shard.call(call).legs.len();
                    shard.hold(call, leg, 2 + turn as u32, *on)
                }
                None => Vec::new(),
            },
            Act::InviteAgain(at) => {
                let leg = pick(*at).and_then(|call| shard.call(call).caller().cloned());
                match leg {
                    Some(leg) if leg.transaction.is_some() => {
                        shard
                            .event(GatewayEvent::Invite(Inbound {
                                transaction: leg.transaction.expect("an inbound leg"),
                                source: leg.peer,
                                carrier: leg.carrier,
                                request: leg.invite,
                                offer: None,
                                names: Vec::new(),
                            }))
                            .1
                    }
                    Some(_) | None => Vec::new(),
                }
            }
            Act::Silence(at, leg) => match pick(*at) {
                Some(call) => {
                    let legs = &shard.call(call).legs;
                    let leg = legs[leg % legs.len()].id;
                    shard.event(GatewayEvent::RtpSilence { call, leg, since_ms: 30_000 }).1
                }
                None => Vec::new(),
            },
            Act::Quarantine(agent) => {
                let entity = EntityId::Agent(AgentId::from(agent.to_string()));
                shard.apply(Command::Quarantine { entity, reason: "crash_loop".into() }).1
            }
            Act::Configure(call_ms_max) => {
                let config = Config {
                    call_ms_max: *call_ms_max,
                    ..shard.leader.config.clone().unwrap_or_else(demo_config)
                };
                shard.apply(Command::Configure(Box::new(config))).1
            }
            Act::Lease(blocks) => shard.apply(lease(*blocks)).1,
            Act::GatewayAnew => {
                shard.log_in((0..40).map(|n| 20_000 + 2 * n).collect());
                Vec::new()
            }
            Act::Press(at, key, by) => match pick(*at) {
                Some(call) => {
                    let of = shard.call(call);
                    let counted = of.flow.as_ref().map_or(0, |run| run.keys.counted);
                    let (leg, number) = (of.legs[0].id, counted + 1 + by);
                    let digit = Digit::new(*key).expect("a key");
                    let duration_ms = 100;
                    shard.event(GatewayEvent::Digit { call, leg, number, digit, duration_ms }).1
                }
                None => Vec::new(),
            },
            Act::PromptEnded(at) => match pick(*at) {
                Some(call) => {
                    let of = shard.call(call);
                    let play = of.flow.as_ref().map_or(0, |run| run.turn);
                    let (leg, missing) = (of.legs[0].id, false);
                    shard.event(GatewayEvent::PromptEnded { call, leg, play, missing }).1
                }
                None => Vec::new(),
            },
            Act::Originate(from, to) => {
                let (_, call, effects) = shard.originate(*from, to);
                invited += usize::from(call.is_some());
                effects
            }
            Act::Refer(at, leg, to) => match pick(*at) {
                Some(call) => {
                    let leg = leg % shard.call(call).legs.len();
                    shard.refer(call, leg, 2 + turn as u32, to)
                }
                None => Vec::new(),
            },
            Act::Transfer(at, to) => match pick(*at) {
                Some(call) => {
                    let to = (*to).to_owned();
                    let command = OperatorCommand::TransferCall { call, to };
                    shard.operate(&format!("t{turn}"), command).1
                }
                None => Vec::new(),
            },
            Act::Pause(at, paused) => match pick(*at) {
                Some(call) => {
                    let command = OperatorCommand::PauseRecording { call, paused: *paused };
                    shard.operate(&format!("p{turn}"), command).1
                }
                None => Vec::new(),
            },
            Act::Watch(by, of) => {
                shard.subscribe(*by, &format!("s{turn}"), &of.to_string(), "dialog", Some(60))
            }
            Act::Consult(at, to) => match pick(*at) {
                Some(call) => {
                    let command = OperatorCommand::Consult { call, to: to.to_string() };
                    shard.operate(&format!("t{turn}"), command).1
                }
                None => Vec::new(),
            },
            Act::Complete(at) => match pick(*at) {
                Some(call) => {
                    let command = OperatorCommand::CompleteConsult { call };
                    shard.operate(&format!("t{turn}"), command).1
                }
                None => Vec::new(),
            },
            Act::CancelConsult(at) => match pick(*at) {
                Some(call) => {
                    let command = OperatorCommand::CancelConsult { call };
                    shard.operate(&format!("t{turn}"), command).1
                }
                None => Vec::new(),
            },
            Act::Second(at, to) => {
                let held = pick(*at).and_then(|id| {
                    let call = shard.call(id);
                    let agent = call.agent.clone()?;
                    let leg = call.legs.iter().position(|leg| leg.agent() == Some(&agent))?;
                    Some((id, leg, agent.0.parse::<u16>().ok()?))
                });
                match held {
                    Some((call, leg, agent)) => {
                        shard.hold(call, leg, 2 + turn as u32, true);
                        invited += 1;
                        shard.invite_from(&format!("c{turn}"), &to.to_string(), phone(agent)).1
                    }
                    None => Vec::new(),
                }
            }
            Act::PickUp(at, by) => {
                let dialog = pick(*at).and_then(|id| {
                    let leg = shard.call(id).legs.iter().rfind(|leg| leg.agent().is_some())?;
                    let peer = leg.dialog.as_ref().map(|dialog| &dialog.remote_tag);
                    let peer = leg.rang.first().or(peer)?;
                    let call_id = &leg.invite.headers.call_id;
                    Some(format!("{call_id};to-tag={};from-tag={peer}", leg.local_tag))
                });
                match dialog {
                    Some(dialog) => {
                        let call_id = format!("c{turn}");
                        let (status, effects) =
                            shard.invite_replacing(&call_id, &dialog, phone(*by));
                        // One that is taken makes no call.
                        invited += usize::from(status >= 300);
                        effects
                    }
                    None => Vec::new(),
                }
            }
            Act::Join(at) => {
                let second = pick(*at).and_then(|id| {
                    let call = shard.call(id);
                    let agent = shard.leader.agents.get(call.agent.as_ref()?)?;
                    let second = shard.call(agent.second()?).caller()?;
                    let leg = call.legs.iter().position(|leg| leg.agent() == Some(&agent.id))?;
                    let (of, tag) = (&second.invite.headers.call_id, &second.local_tag);
                    let replaces = format!("{of}%3Bto-tag%3D{tag}%3Bfrom-tag%3Dpeer");
                    Some((id, leg, format!("1002@x?Replaces={replaces}")))
                });
                match second {
                    Some((call, leg, to)) => {
                        let mut refer = shard.of_peer(call, leg, Method::Refer, 2 + turn as u32);
                        refer.headers.push_other("Refer-To", &format!("<sip:{to}>"));
                        shard.in_dialog(refer, None)
                    }
                    None => Vec::new(),
                }
            }
            Act::PeersAnswer => {
                let pending = std::mem::take(&mut pending);
                shard.peers_answer(&pending)
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
    assert_eq!(shard.leader.subscriptions.len(), 0, "nobody has refreshed one");
    shard.apply(lease([true; 2]));
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
        prop_assert_eq!(shard.restored(), shard.leader.clone());
        let live = shard.leader.live_rows().into_iter();
        let mut live: std::collections::BTreeMap<_, _> =
            live.filter_map(|row| Some(((row.family, row.key), row.value?))).collect();
        let mut stored = shard.live_rows();
        let config = (crate::rows::WORLD, b"config".to_vec());
        prop_assert_eq!(live.remove(&config).is_some(), stored.remove(&config).is_some());
        prop_assert_eq!(live, stored);
    }
}
