//! Rows of every shape.

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::generators::{
    address, agent_id, call_id, carrier, channel_id, digit, flow_id, gaps, gateway_id, leg_id,
    media, millis, offer_id, prompt_id, q850, queue_id, recording_id, request, step_id, text,
    transaction,
};
use super::values;
use crate::agent::binding::{Outbound, Q_DEFAULT, Registration};
use crate::agent::state::{Agent, Rest, State as AgentState};
use crate::call::early::Early;
use crate::call::early_media::EarlyMedia;
use crate::call::leg::{Leg, Party, Proof, Refer, Role, State as LegState};
use crate::call::reliable::{Prack, Reliable};
use crate::call::session_timer::{Refresh, Refresher, SessionTimer};
use crate::call::state::{
    Call, Consult, Consulted, Hop, Outcome, Outward, State as CallState, Transfer, Unreached,
};
use crate::cdr::{self, Cdr, Disposition, Manifest, Side};
use crate::channel::state::{Channel, State as ChannelState};
use crate::gateway::{Counts, Gateway, Runs};
use crate::ids::SubscriptionId;
use crate::ivr::keys::{Keys, Way};
use crate::ivr::state::{Run, State as RunState};
use crate::queue::state::{Entry, Queue, State as EntryState};
use crate::subscription::lamp::{Line, LineState};
use crate::subscription::state::{Package, State as Subscribed, Subscription, Watched};
use crate::trunk::state::{Health, Hold, Trunk};

pub fn leg() -> impl Strategy<Value = Leg> {
    let ring = || (agent_id(), offer_id(), millis());
    let role = prop_oneof![
        Just(Role::Caller),
        ring().prop_map(|(agent, offer, ring_until)| Role::Originator { agent, offer, ring_until }),
        ring().prop_map(|(agent, offer, ring_until)| Role::Agent { agent, offer, ring_until }),
        ring().prop_map(|(agent, offer, ring_until)| Role::Callee { agent, offer, ring_until }),
        (channel_id(), offer_id(), millis()).prop_map(|(channel, offer, ring_until)| Role::Trunk {
            channel,
            offer,
            ring_until
        }),
        (agent_id(), text()).prop_map(|(agent, known_as)| Role::Transferee {
            who: Party::Colleague(agent),
            known_as
        }),
        (channel_id(), text(), text()).prop_map(|(channel, number, known_as)| Role::Transferee {
            who: Party::Outside { number, channel },
            known_as
        }),
    ];
    let state = prop::sample::select(vec![
        LegState::Trying,
        LegState::Answered,
        LegState::Active,
        LegState::Calling,
        LegState::Proceeding,
        LegState::Alerting,
        LegState::Cancelling { sent: false },
        LegState::Cancelling { sent: true },
        LegState::Releasing,
        LegState::Released,
    ]);
    let names = (leg_id(), gateway_id(), text(), option::of(text()));
    let sip = (address(), carrier(), request(), option::of(transaction()), any::<bool>());
    let refer = (any::<u32>(), option::of(text()), any::<bool>(), option::of(any::<u16>()));
    let refer = refer.prop_map(|(id, branch, last, next)| Refer { id, branch, last, next });
    let proof = (any::<bool>(), text(), any::<u32>()).prop_map(|(proxy, value, cseq)| Proof {
        proxy,
        value,
        cseq,
    });
    let proofs = vec(proof, 0..3);
    let early_media = (text(), media()).prop_map(|(tag, media)| EarlyMedia { tag, media });
    let early = (early(), option::of(early_media));
    let provisional =
        (any::<bool>(), early, vec(text(), 0..2), option::of(reliable()), proofs, 0..3_usize);
    let timer = (option::of(timer()), option::of(millis()), provisional);
    let rest = (media(), any::<bool>(), option::of(millis()), option::of(refer), timer);
    (role, state, names, sip, rest).prop_map(|(role, state, names, sip, rest)| {
        let (id, gateway, local_tag, bye_branch) = names;
        let (peer, carrier, invite, transaction, with_dialog) = sip;
        let (media, held, release_at, refer, (timer, offer_until, provisional)) = rest;
        let (redirected, (early, early_media), rang, reliable, proofs, tried) = provisional;
        let dialog = tandem_sip::dialog::Dialog::as_uas(&invite, &local_tag);
        Leg {
            id,
            role,
            state,
            gateway,
            peer,
            carrier,
            transaction,
            dialog: dialog.ok().filter(|_| with_dialog).map(Into::into),
            invite: invite.into(),
            local_tag,
            bye_branch,
            refer,
            media,
            held,
            release_at,
            timer,
            offer_until,
            redirected,
            early,
            rang,
            proofs,
            tried: std::iter::repeat_n(values::request().uri, tried).collect(),
            reliable,
            early_media: early_media.map(Box::new),
            previewed: redirected,
        }
    })
}

fn early() -> impl Strategy<Value = Vec<Early>> {
    let one = (request(), any::<u32>(), option::of(text()), option::of(media()));
    let one = one.prop_filter_map("makes no dialog", |(invite, rseq, prack_branch, media)| {
        let dialog = tandem_sip::dialog::Dialog::as_uas(&invite, "t").ok()?;
        Some(Early { dialog, rseq, prack_branch, media })
    });
    vec(one, 0..2)
}

pub fn subscription() -> impl Strategy<Value = Subscription> {
    let line = (leg_id(), prop::sample::select(LineState::ALL.to_vec()), any::<bool>());
    let line = line.prop_map(|(leg, state, initiator)| Line { leg, state, initiator });
    let watched = (agent_id(), any::<u32>(), vec(line, 0..3));
    let watched = watched.prop_map(|(agent, version, told)| Watched { agent, version, told });
    let package = option::of(watched).prop_map(|watched| match watched {
        Some(watched) => Package::Dialog(watched),
        None => Package::MessageSummary,
    });
    let state = (any::<bool>(), millis()).prop_map(|(over, at)| match over {
        true => Subscribed::Over { until: at },
        false => Subscribed::Active { expires_at: at },
    });
    let place = (gateway_id(), address(), carrier(), request());
    let names = (any::<u64>(), agent_id(), option::of(text()));
    let made = (names, package, place, state);
    made.prop_filter_map(
        "makes no dialog",
        |((id, subscriber, event_id), package, place, state)| {
            let (gateway, peer, carrier, request) = place;
            let dialog = tandem_sip::dialog::Dialog::as_uas(&request, "t").ok()?.into();
            let id = SubscriptionId(id);
            Some(Subscription {
                id,
                subscriber,
                package,
                event_id,
                gateway,
                peer,
                carrier,
                dialog,
                state,
            })
        },
    )
}

fn reliable() -> impl Strategy<Value = Reliable> {
    let state = prop::sample::select(vec![Prack::Awaited, Prack::Holds, Prack::Came]);
    (any::<u32>(), state).prop_map(|(rseq, state)| Reliable { rseq, state })
}

fn timer() -> impl Strategy<Value = SessionTimer> {
    let refresher = prop::sample::select(vec![Refresher::We, Refresher::Peer]);
    let refresh = (text(), any::<(bool, u32, bool)>())
        .prop_map(|(branch, (invite, cseq, answered))| Refresh { branch, invite, cseq, answered });
    let moments = (millis(), option::of(millis()));
    (any::<(u32, bool)>(), refresher, moments, option::of(refresh)).prop_map(
        |((interval_s, update), refresher, (expires_at, refresh_at), refresh)| SessionTimer {
            interval_s,
            refresher,
            expires_at,
            refresh_at,
            refresh,
            update,
        },
    )
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let outcome = prop_oneof![
        option::of(leg_id()).prop_map(|leg| Outcome::Pending { leg }),
        Just(Outcome::WentOver),
        any::<u16>().prop_map(|status| Outcome::CameBack { status }),
        Just(Outcome::Ended),
    ];
    (millis(), agent_id(), text(), any::<bool>(), outcome).prop_map(
        |(at, agent, to, attended, outcome)| Transfer { at, agent, to, attended, outcome },
    )
}

fn consult() -> impl Strategy<Value = Consult> {
    let outcome = prop_oneof![
        Just(Consulted::Pending),
        Just(Consulted::Completed),
        Just(Consulted::Cancelled),
        any::<u16>().prop_map(|status| Consulted::Failed { status }),
        Just(Consulted::HungUp),
        Just(Consulted::Ended),
    ];
    (millis(), agent_id(), agent_id(), outcome).prop_map(|(at, agent, to, outcome)| Consult {
        at,
        agent,
        to,
        outcome,
    })
}

pub fn call() -> impl Strategy<Value = Call> {
    let state = prop_oneof![
        Just(CallState::Routing),
        Just(CallState::InFlow),
        queue_id().prop_map(|queue| CallState::Queued { queue }),
        (agent_id(), leg_id()).prop_map(|(agent, leg)| {
            CallState::Dialing { agent: Some(agent).filter(|agent| !agent.0.is_empty()), leg }
        }),
        leg_id().prop_map(|leg| CallState::Connected { leg }),
        (leg_id(), leg_id()).prop_map(|(leg, consulted)| CallState::Consulting { leg, consulted }),
        (leg_id(), leg_id()).prop_map(|(leg, joined)| CallState::Conferenced { leg, joined }),
        Just(CallState::Ending),
    ];
    let names = (call_id(), gateway_id(), text(), text());
    let parties = (
        option::of(channel_id()),
        option::of(agent_id()),
        option::of(queue_id()),
        option::of(agent_id()),
    );
    let moment = || option::of(millis());
    let moments = (millis(), moment(), moment(), moment());
    let unreached = (400..700_u16).prop_map(|status| Unreached {
        status,
        how: Disposition::Busy,
        by: Side::Callee,
    });
    let outward = (option::of(outward()), option::of(unreached));
    let said = (option::of(text()), option::of(text()), outward);
    let moves = (option::of(run()), vec(transfer(), 0..3), option::of(consult()), q850(), said);
    let recording = (option::of(recording_id()), any::<bool>());
    let rest = (any::<u32>(), any::<u64>(), recording, moves);
    (state, vec(leg(), 0..3), names, parties, moments, rest).prop_map(
        |(state, legs, names, parties, moments, rest)| {
            let (id, gateway, from, to) = names;
            let (channel, calling_agent, queue, agent) = parties;
            let (started_at, answered_at, queued_at, connected_at) = moments;
            let (takeovers, media_version, (recording, recording_paused), moves) = rest;
            let (flow, transfers, consult, q850, (asserted, diverted_from, outward)) = moves;
            let (outward, unreached) = outward;
            Call {
                id,
                state,
                gateway,
                from,
                to,
                channel,
                calling_agent,
                legs,
                started_at,
                answered_at,
                queued_at,
                connected_at,
                queue,
                agent,
                takeovers,
                media_version,
                recording,
                recording_paused,
                flow,
                transfers,
                q850,
                asserted,
                diverted_from,
                consult,
                outward,
                unreached,
            }
        },
    )
}

fn outward() -> impl Strategy<Value = Outward> {
    let hop = text().prop_map(|trunk| Hop { trunk: trunk.into(), peer: values::peer() });
    (text(), vec(hop, 0..3), option::of(channel_id()), option::of(address()))
        .prop_map(|(number, left, channel, peer)| Outward { number, left, channel, peer })
}

pub fn trunk() -> impl Strategy<Value = Trunk> {
    let hold = (address(), millis(), any::<u16>());
    let health = || {
        let said = any::<(u64, bool, u16)>();
        let health = (address(), text(), said, millis()).prop_map(|(peer, of, said, since)| {
            let (number, up, status) = said;
            ((peer, of.into()), Health { number, up, status, since })
        });
        vec(health, 0..3)
    };
    (text(), any::<u64>(), vec(hold, 0..3), health(), health()).prop_map(
        |(id, full_at_us, held, health, registrations)| {
            let held = held.into_iter().map(|(peer, until, status)| (peer, Hold { until, status }));
            let registrations = registrations.into_iter().map(|((_, of), it)| (of, it));
            Trunk {
                id: id.into(),
                full_at_us,
                held: held.collect(),
                health: health.into_iter().collect(),
                registrations: registrations.collect(),
            }
        },
    )
}

pub fn run() -> impl Strategy<Value = Run> {
    let state = prop_oneof![
        (prompt_id(), millis()).prop_map(|(prompt, since)| RunState::Playing { prompt, since }),
        (prompt_id(), millis(), any::<bool>()).prop_map(|(prompt, since, barge_in)| {
            RunState::Prompting { prompt, since, barge_in }
        }),
        millis().prop_map(|until| RunState::Awaiting { until }),
        millis().prop_map(|until| RunState::Collecting { until }),
        Just(RunState::Transferring),
        Just(RunState::Over),
    ];
    let way = prop::sample::select(vec![None, Some(Way::Rtp), Some(Way::Info)]);
    let early = vec((any::<u64>(), digit()), 0..3);
    let keys = (way, any::<u64>(), any::<u64>(), early)
        .prop_map(|(way, life, counted, early)| Keys { way, life, counted, early });
    let names = (flow_id(), any::<u64>(), step_id(), text(), vec(step_id(), 0..4));
    (names, state, keys, any::<(u64, u8, u8)>()).prop_map(
        |((flow, version, step, digits, path), state, keys, (turn, no_input, no_match))| Run {
            flow,
            version,
            step,
            state,
            turn,
            digits,
            no_input,
            no_match,
            path,
            keys,
        },
    )
}

pub fn rest() -> impl Strategy<Value = Rest> {
    prop_oneof![
        Just(Rest::LoggedOut),
        text().prop_map(|reason| Rest::NotReady { reason }),
        Just(Rest::Ready),
    ]
}

pub fn agent() -> impl Strategy<Value = Agent> {
    let reserved =
        (call_id(), offer_id(), rest(), millis()).prop_map(|(call, offer, back, back_since)| {
            AgentState::Reserved { call, offer, back, back_since }
        });
    let state = prop_oneof![
        rest().prop_map(AgentState::from),
        reserved,
        (call_id(), rest()).prop_map(|(call, back)| AgentState::Talking { call, back }),
        (call_id(), rest()).prop_map(|(call, back)| AgentState::Held { call, back }),
        (call_id(), call_id(), rest())
            .prop_map(|(call, second, back)| { AgentState::Consulting { call, second, back } }),
        (millis(), rest()).prop_map(|(until, next)| AgentState::Acw { until, next }),
    ];
    let outbound =
        (text(), 1..=u32::MAX).prop_map(|(instance, reg_id)| Outbound { instance, reg_id });
    let said = (text(), any::<u32>(), 0..=Q_DEFAULT, option::of(outbound), 0..3_usize);
    let index = (1..u64::MAX / 32, any::<u64>().prop_map(|id| id | 1));
    let registration = (address(), carrier(), gateway_id(), millis(), index, said).prop_map(
        |(source, carrier, gateway, expires_at, (since_index, id), said)| {
            let (call_id, cseq, q, outbound, hops) = said;
            Registration {
                id,
                contact: values::request().uri,
                source,
                carrier,
                gateway,
                expires_at,
                since_index,
                call_id,
                cseq,
                q,
                outbound,
                path: std::iter::repeat_n(values::hop(), hops).collect(),
            }
        },
    );
    let since = (millis(), any::<u64>());
    (agent_id(), state, since, vec(registration, 0..3), option::of(rest())).prop_map(
        |(id, state, (since, since_index), bindings, pending)| Agent {
            id,
            state,
            since,
            since_index,
            bindings,
            pending,
        },
    )
}

pub fn queue() -> impl Strategy<Value = Queue> {
    let state = prop_oneof![
        Just(EntryState::Waiting),
        (agent_id(), offer_id()).prop_map(|(agent, offer)| EntryState::Offered { agent, offer }),
    ];
    let entry = (call_id(), millis(), state).prop_map(|(call, enqueued_at, state)| Entry {
        call,
        enqueued_at,
        state,
    });
    (queue_id(), vec(entry, 0..4)).prop_map(|(id, entries)| Queue { id, entries })
}

pub fn channel() -> impl Strategy<Value = Channel> {
    let state = prop_oneof![
        call_id().prop_map(|call| ChannelState::SeizedIn { call }),
        call_id().prop_map(|call| ChannelState::SeizedOut { call }),
        call_id().prop_map(|call| ChannelState::Active { call }),
        millis().prop_map(|until| ChannelState::Guard { until }),
    ];
    (channel_id(), state, millis()).prop_map(|(id, state, since)| Channel { id, state, since })
}

pub fn gateway() -> impl Strategy<Value = Gateway> {
    let ports = btree_set(any::<u16>(), 0..4);
    (gateway_id(), address(), ports, any::<u64>()).prop_map(|(id, vip, granted, incarnation)| {
        Gateway {
            id,
            incarnation,
            vip,
            free_ports: granted.clone(),
            granted,
            counts: Counts::default(),
        }
    })
}

pub fn counts() -> impl Strategy<Value = Counts> {
    let ahead = prop_oneof![
        btree_set(any::<u64>(), 0..4),
        btree_set(0..30_u64, 0..20),
        btree_set(u64::MAX - 9..=u64::MAX, 0..9),
    ];
    (any::<u64>(), ahead, any::<bool>()).prop_map(|(counted, ahead, dark)| {
        let runs: Runs = ahead.iter().copied().collect();
        assert_eq!(runs.len(), ahead.len() as u64);
        Counts { counted, ahead: runs, dark }
    })
}

pub fn cdr() -> impl Strategy<Value = Cdr> {
    let disposition = prop::sample::select(vec![
        Disposition::Answered,
        Disposition::Abandoned,
        Disposition::NoAnswer,
        Disposition::Busy,
        Disposition::Rejected,
        Disposition::Failed,
    ]);
    let side = prop::sample::select(vec![
        Side::Caller,
        Side::Agent,
        Side::Callee,
        Side::System,
        Side::Operator,
    ]);
    (call(), text(), text(), millis(), disposition, side).prop_map(
        |(call, sip_call_id, cause, ended_at, disposition, hung_up_by)| Cdr {
            call: call.id,
            sip_call_id,
            from: call.from,
            to: call.to,
            channel: call.channel,
            started_at: call.started_at,
            answered_at: call.answered_at,
            queued_at: call.queued_at,
            connected_at: call.connected_at,
            ended_at,
            queue: call.queue,
            agent: call.agent,
            disposition,
            hung_up_by,
            cause,
            takeovers: call.takeovers,
            recording: call.recording,
            flow_path: call.flow.iter().map(|run| run.digits.as_str().into()).collect(),
            flow: call.flow.map(|run| run.flow),
            transfers: call.transfers,
            q850: call.q850,
            asserted: call.asserted,
            diverted_from: call.diverted_from,
            outward: call.outward.map(|out| cdr::Outward {
                number: out.number,
                channel: out.channel,
                peer: out.peer,
            }),
            joined: (call.takeovers % 2 == 0).then_some(call.id),
        },
    )
}

pub fn manifest() -> impl Strategy<Value = Manifest> {
    let numbers = any::<(u64, u32, bool, bool)>();
    let spans = (gaps(), gaps(), option::of(millis()));
    (recording_id(), call_id(), gateway_id(), spans, text(), numbers).prop_map(
        |(recording, call, gateway, spans, hash, numbers)| {
            let ((gaps, pauses, began_at), (duration_ms, chunks, sealed, cut)) = (spans, numbers);
            Manifest {
                recording,
                call,
                gateway,
                duration_ms,
                chunks,
                gaps,
                sealed,
                hash,
                pauses,
                cut,
                began_at,
            }
        },
    )
}
