//! The core's decision, or a planted bug around it. A command that shall panic panics here.

use std::sync::Arc;

use tandem_core::agent::state::{Agent, State as AgentState};
use tandem_core::call::leg::{Leg, State as LegState};
use tandem_core::call::reliable::Prack;
use tandem_core::call::state::{Call, Outcome, State as CallState};
use tandem_core::cdr::{Cdr, Disposition, Side};
use tandem_core::command::{Command, Envelope, GatewayEvent};
use tandem_core::deadline::Deadline;
use tandem_core::draft::Writes;
use tandem_core::effect::{Body, Effect, EffectId, Source};
use tandem_core::ids::{CallId, EntityId};
use tandem_core::ivr::state::State as RunState;
use tandem_core::{Meta, Rejection, World};
use tandem_sip::{Method, Millis};

use crate::plant::Plant;

/// How early the leader proposes, and the core believes, with `DeadlineEarly`.
pub const DEADLINE_EARLY_MS: u64 = 500;

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub plant: Option<Plant>,
    /// The command panics, on every replica alike.
    pub panics: bool,
    pub node: usize,
}

/// # Errors
/// Why the command is refused.
pub fn decide(
    case: Case,
    world: &World,
    meta: &Meta,
    envelope: &Envelope,
) -> Result<Writes, Rejection> {
    if case.panics {
        // What is refused is refused before anything can break.
        let decided = world.handle(meta, envelope);
        if decided.is_err() || case.plant == Some(Plant::ApplyDroppedWrites) && case.node == 1 {
            return decided;
        }
        // Without the hook that prints: thousands of these are wanted.
        std::panic::resume_unwind(Box::new("as planned".to_owned()));
    }
    match case.plant {
        Some(Plant::LosePlace) => {
            let mut writes = world.handle(meta, envelope)?;
            if let Command::Due(Deadline::RingOut { call, .. }) = &envelope.command {
                lose_place(&mut writes, *call, world.at.max(meta.at));
            }
            Ok(writes)
        }
        Some(Plant::CdrTwice) => {
            let mut writes = world.handle(meta, envelope)?;
            write_again(&mut writes, world, world.at.max(meta.at));
            Ok(writes)
        }
        Some(Plant::ResendAfterProvisional) => {
            let mut writes = world.handle(meta, envelope)?;
            if let Command::Gateway(GatewayEvent::Response { branch, response, .. }) =
                &envelope.command
                && response.is_provisional()
            {
                send_again(&mut writes, meta, branch);
            }
            Ok(writes)
        }
        Some(Plant::FreePortTwice) => {
            let mut writes = world.handle(meta, envelope)?;
            keep_ports(&mut writes, world);
            Ok(writes)
        }
        Some(Plant::ForgetRefused) => {
            let mut writes = world.handle(meta, envelope)?;
            writes.refused.clear();
            Ok(writes)
        }
        Some(Plant::CountKeyTwice) => match world.handle(meta, envelope) {
            Err(Rejection::Repeated) => with_key_forgotten(world, envelope).handle(meta, envelope),
            decided => decided,
        },
        Some(Plant::PromptAgain) => {
            let mut writes = world.handle(meta, envelope)?;
            if let Command::Gateway(GatewayEvent::Login(_)) = &envelope.command {
                play_from_the_beginning(&mut writes);
            }
            Ok(writes)
        }
        Some(Plant::ForgetInterDigit) => {
            let mut writes = world.handle(meta, envelope)?;
            for run in writes.calls.values_mut().flatten().filter_map(|call| call.flow.as_mut()) {
                if let RunState::Collecting { until } = &mut run.state {
                    *until = Millis(u64::MAX);
                }
            }
            Ok(writes)
        }
        Some(Plant::ForgetKey) if world.calls.values().any(|call| call.takeovers > 0) => {
            let mut forgetful = world.clone();
            forgetful.answered.clear();
            forgetful.handle(meta, envelope)
        }
        Some(Plant::KeepTransferor) => {
            let mut writes = world.handle(meta, envelope)?;
            keep_transferor(&mut writes, world);
            Ok(writes)
        }
        Some(Plant::OverhearConsult) => {
            let mut writes = world.handle(meta, envelope)?;
            overhear(&mut writes);
            Ok(writes)
        }
        Some(Plant::HearYourself) => {
            let mut writes = world.handle(meta, envelope)?;
            hear_oneself(&mut writes);
            Ok(writes)
        }
        Some(Plant::KeepColleague) => {
            let mut writes = world.handle(meta, envelope)?;
            keep_colleague(&mut writes, world);
            Ok(writes)
        }
        Some(Plant::ForgetJoined) => {
            let mut writes = world.handle(meta, envelope)?;
            forget_joined(&mut writes);
            Ok(writes)
        }
        Some(Plant::KeepRinging) => {
            let mut writes = world.handle(meta, envelope)?;
            keep_ringing(&mut writes, world);
            Ok(writes)
        }
        Some(Plant::ForgetPrack) if matches!(envelope.command, Command::Elected { .. }) => {
            let mut writes = world.handle(meta, envelope)?;
            forget_pracks(&mut writes);
            Ok(writes)
        }
        Some(Plant::AnswerByAnnouncement) => {
            let mut writes = world.handle(meta, envelope)?;
            let heard = |call: &&mut Call| call.legs.iter().any(|leg| leg.early_media.is_some());
            for call in writes.calls.values_mut().flatten().filter(heard) {
                call.answered_at.get_or_insert(world.at.max(meta.at));
            }
            Ok(writes)
        }
        Some(Plant::ForgetLamp) => {
            let mut writes = world.handle(meta, envelope)?;
            if !is_subscribe(&envelope.command) {
                writes.effects.retain(|effect| !matches!(effect.body, Body::Notify { .. }));
            }
            Ok(writes)
        }
        Some(Plant::OfferToNotReady) => with_everybody_ready(world).handle(meta, envelope),
        Some(Plant::IgnoreLateCancel) if is_late_answer(world, envelope) => {
            Err(Rejection::Refused("planted".into()))
        }
        Some(Plant::TrustLocalClock) => {
            let mut young = world.clone();
            young.at = Millis(0);
            young.handle(meta, envelope)
        }
        // Who looks sees a clock that has passed it.
        Some(Plant::DeadlineEarly) if matches!(envelope.command, Command::Due(_)) => {
            let meta = Meta { at: meta.at.after(DEADLINE_EARLY_MS), ..meta.clone() };
            world.handle(&meta, envelope)
        }
        Some(Plant::ForgetHold) => {
            let mut writes = world.handle(meta, envelope)?;
            writes.trunks.values_mut().flatten().for_each(|trunk| trunk.held.clear());
            Ok(writes)
        }
        Some(Plant::IgnorePace) => with_no_pace(world).handle(meta, envelope),
        Some(Plant::BreakOrder) => {
            let mut reversed = world.clone();
            reversed.queues.values_mut().for_each(|queue| queue.entries.reverse());
            let mut writes = reversed.handle(meta, envelope)?;
            for queue in writes.queues.values_mut().flatten() {
                queue.entries.sort_by_key(|entry| (entry.enqueued_at, entry.call));
            }
            Ok(writes)
        }
        Some(_) | None => world.handle(meta, envelope),
    }
}

fn is_subscribe(command: &Command) -> bool {
    let Command::Gateway(event) = command else { return false };
    let refreshes = |method: &Method| *method == Method::Subscribe;
    matches!(event, GatewayEvent::Subscribe(_))
        || matches!(event, GatewayEvent::Request(inbound) if refreshes(&inbound.request.method))
}

fn send_again(writes: &mut Writes, meta: &Meta, branch: &str) {
    let ordinal = u16::try_from(writes.effects.len()).unwrap_or(u16::MAX);
    let id = EffectId { shard: meta.shard, index: meta.index, ordinal };
    let again = writes.calls.iter().find_map(|(call, written)| {
        let leg = written.as_ref()?.legs.iter().find(|leg| leg.invite_branch() == branch)?;
        let request = Arc::clone(&leg.invite);
        let body = Body::Send { request, destination: leg.peer, carrier: leg.carrier };
        Some(Effect { id, entity: EntityId::Call(*call), gateway: leg.gateway.clone(), body })
    });
    writes.effects.extend(again);
}

fn lose_place(writes: &mut Writes, id: CallId, now: Millis) {
    let Some(Some(call)) = writes.calls.get_mut(&id) else { return };
    let CallState::Queued { queue } = &call.state else { return };
    let Some(Some(queue)) = writes.queues.get_mut(queue) else { return };
    let Some(mut entry) = queue.entry(id).cloned() else { return };
    queue.leave(id);
    queue.join(id, now);
    entry.enqueued_at = now;
    call.queued_at = Some(now);
    if let Some(joined) = queue.entry_mut(id) {
        *joined = entry;
    }
}

fn write_again(writes: &mut Writes, world: &World, now: Millis) {
    let gone: Vec<CallId> =
        writes.calls.iter().filter(|(_, call)| call.is_none()).map(|(id, _)| *id).collect();
    for id in gone {
        let written = writes.cdrs.iter().any(|cdr| cdr.call == id);
        if let (false, Some(call)) = (written, world.calls.get(&id)) {
            writes.cdrs.push(record_of(call, now));
        }
    }
}

fn record_of(call: &Call, now: Millis) -> Cdr {
    let caller = call.caller().map(|leg| leg.invite.headers.call_id.clone());
    Cdr {
        call: call.id,
        sip_call_id: caller.unwrap_or_default(),
        from: call.from.clone(),
        to: call.to.clone(),
        channel: call.channel.clone(),
        started_at: call.started_at,
        answered_at: call.answered_at,
        queued_at: call.queued_at,
        connected_at: call.connected_at,
        ended_at: now,
        queue: call.queue.clone(),
        agent: call.agent.clone(),
        disposition: Disposition::Answered,
        hung_up_by: Side::System,
        cause: "normal_clearing".into(),
        takeovers: call.takeovers,
        recording: call.recording,
        flow: None,
        flow_path: Vec::new(),
        transfers: call.transfers.clone(),
        q850: call.q850,
        asserted: call.asserted.clone(),
        diverted_from: call.diverted_from.clone(),
        outward: None,
        joined: None,
    }
}

/// The port is free and still the leg's.
fn keep_ports(writes: &mut Writes, world: &World) {
    for (id, call) in writes.calls.iter_mut() {
        let (Some(call), Some(before)) = (call, world.calls.get(id)) else { continue };
        for leg in &mut call.legs {
            let port = before.leg(leg.id).map_or(0, |leg| leg.media.port);
            if leg.media.port == 0 {
                leg.media.port = port;
            }
        }
    }
}

/// As if no caller had acknowledged that it rings.
fn forget_pracks(writes: &mut Writes) {
    for call in writes.calls.values_mut().flatten() {
        let waiting = call.legs.iter_mut().filter(|leg| leg.state == LegState::Trying);
        for reliable in waiting.filter_map(|leg| leg.reliable.as_mut()) {
            reliable.state = Prack::Awaited;
        }
    }
}

/// As if neither the event nor its key had counted.
fn with_key_forgotten(world: &World, envelope: &Envelope) -> World {
    let mut world = world.clone();
    if let (Command::Gateway(GatewayEvent::Digit { call, number, .. }), Some(origin)) =
        (&envelope.command, &envelope.origin)
    {
        if let Some(gateway) = world.gateways.get_mut(&origin.gateway) {
            gateway.counts.counted = origin.sequence - 1;
        }
        if let Some(run) = world.calls.get_mut(call).and_then(|call| call.flow.as_mut()) {
            run.keys.counted = number - 1;
        }
    }
    world
}

fn play_from_the_beginning(writes: &mut Writes) {
    for effect in &mut writes.effects {
        let Body::Media(plan) = &mut effect.body else { continue };
        for leg in &mut plan.legs {
            if let Source::Prompt(prompt) = &mut leg.source {
                prompt.offset_ms = 0;
            }
        }
    }
}

/// Who has sent the caller on stays where it was.
fn keep_transferor(writes: &mut Writes, world: &World) {
    let mut kept = Vec::new();
    for (id, call) in writes.calls.iter_mut() {
        let (Some(call), Some(before)) = (call, world.calls.get(id)) else { continue };
        let over = |call: &Call| {
            call.transfers.iter().filter(|transfer| transfer.outcome == Outcome::WentOver).count()
        };
        if !call.is_live() || over(call) == over(before) {
            continue;
        }
        for leg in call.legs.iter_mut().filter(|leg| leg.state == LegState::Releasing) {
            if let Some(was) = before.leg(leg.id).filter(|was| was.state == LegState::Active) {
                kept.extend(leg.bye_branch.clone());
                *leg = was.clone();
            }
        }
    }
    unsend(writes, &kept);
}

/// The caller is left on the line of the agent.
fn overhear(writes: &mut Writes) {
    for effect in &mut writes.effects {
        let Body::Media(plan) = &mut effect.body else { continue };
        let Some(Some(call)) = writes.calls.get(&plan.call) else { continue };
        let (Some(caller), CallState::Consulting { leg, .. }) = (call.caller(), &call.state) else {
            continue;
        };
        for heard in plan.legs.iter_mut().filter(|heard| heard.leg == caller.id) {
            heard.source = Source::Leg(*leg);
        }
    }
}

/// No N-1 mix, but one for all.
fn hear_oneself(writes: &mut Writes) {
    for effect in &mut writes.effects {
        let Body::Media(plan) = &mut effect.body else { continue };
        for heard in &mut plan.legs {
            if let Source::Mix(legs) = &mut heard.source {
                legs.push(heard.leg);
            }
        }
    }
}

/// Who was asked, and is no more, is not hung up.
fn keep_colleague(writes: &mut Writes, world: &World) {
    let mut kept = Vec::new();
    for (id, call) in writes.calls.iter_mut() {
        let (Some(call), Some(before)) = (call, world.calls.get(id)) else { continue };
        let Some(asked) = before.consulted().filter(|_| call.is_live()) else { continue };
        if let Some(leg) = call.leg_mut(asked.id).filter(|leg| leg.state == LegState::Releasing) {
            kept.extend(leg.bye_branch.clone());
            *leg = asked.clone();
        }
    }
    unsend(writes, &kept);
}

fn forget_joined(writes: &mut Writes) {
    for cdr in &writes.cdrs {
        let Some(into) = cdr.joined else { continue };
        let joined = writes.agents.iter_mut().filter(|(id, _)| Some(*id) == cdr.agent.as_ref());
        for agent in joined.filter_map(|(_, agent)| agent.as_mut()) {
            if let AgentState::Talking { call, .. } | AgentState::Held { call, .. } =
                &mut agent.state
                && *call == into
            {
                *call = cdr.call;
            }
        }
    }
}

/// Who was to be picked up rings on.
fn keep_ringing(writes: &mut Writes, world: &World) {
    let mut kept = Vec::new();
    for (id, call) in writes.calls.iter_mut() {
        let (Some(call), Some(before)) = (call, world.calls.get(id)) else { continue };
        let new = |leg: &Leg| !leg.is_caller() && leg.transaction.is_some();
        if !call.legs.iter().any(|leg| new(leg) && before.leg(leg.id).is_none()) {
            continue;
        }
        for leg in &mut call.legs {
            let Some(was) = before.leg(leg.id).filter(|was| was.is_ringing()) else { continue };
            let port = leg.media.port;
            *leg = was.clone();
            leg.media.port = port;
            kept.push(leg.invite_branch().to_owned());
        }
    }
    unsend(writes, &kept);
}

fn unsend(writes: &mut Writes, branches: &[String]) {
    writes.effects.retain(|effect| match &effect.body {
        Body::Send { request, .. } => {
            !branches.iter().any(|branch| branch == request.headers.branch())
        }
        Body::Respond { .. } | Body::Notify { .. } | Body::Media(_) => true,
    });
}

fn with_everybody_ready(world: &World) -> World {
    let mut world = world.clone();
    let resting = |agent: &&mut Agent| {
        matches!(agent.state, AgentState::NotReady { .. }) && agent.is_registered()
    };
    world.agents.values_mut().filter(resting).for_each(|agent| agent.state = AgentState::Ready);
    // What follows from the agents follows anew.
    world.restored().expect("no row is restored");
    world
}

fn with_no_pace(world: &World) -> World {
    let mut world = world.clone();
    let trunks = world.config.iter_mut().flat_map(|config| &mut config.trunks);
    for out in trunks.filter_map(|trunk| trunk.out.as_mut()) {
        out.calls_per_second = 0;
    }
    world
}

/// A 200 to an INVITE that is being cancelled.
fn is_late_answer(world: &World, envelope: &Envelope) -> bool {
    let Command::Gateway(GatewayEvent::Response { branch, response, .. }) = &envelope.command
    else {
        return false;
    };
    response.is_success()
        && world.calls.values().flat_map(|call| &call.legs).any(|leg| {
            matches!(leg.state, LegState::Cancelling { .. }) && leg.invite_branch() == branch
        })
}
