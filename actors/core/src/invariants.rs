//! What is true of every world after every command. Tests and simulators ask; a violation is a bug.

use std::collections::{BTreeMap, BTreeSet};

use crate::agent::state::State as AgentState;
use crate::call::leg::{Leg, Role, State as LegState};
use crate::call::state::{Call, Consulted, Outcome, State as CallState, Transfer};
use crate::effect::Body;
use crate::ids::{AgentId, CallId, ChannelId, LegId};
use crate::ivr::state::State as RunState;
use crate::limits;
use crate::queue::state::State as EntryState;
use crate::subscription::lamp::{self, Line};
use crate::subscription::state::Package;
use crate::world::World;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(Violation(format!($($text)*)));
        }
    };
}

/// # Errors
/// The first invariant that does not hold.
pub fn check(world: &World) -> Result<(), Violation> {
    agents_and_calls_agree(world)?;
    queues_are_in_order_and_offers_stand(world)?;
    channels_are_of_live_calls(world)?;
    trunks_are_remembered_in_bounds(world)?;
    ports_are_used_once(world)?;
    ended_calls_hold_nothing(world)?;
    recordings_are_planned_as_they_are(world)?;
    callers_in_flows_are_led_on(world)?;
    refusals_can_be_said_again(world)?;
    keys_are_bounded(world)?;
    watchers_were_told_what_is_so(world)?;
    transfers_end_once(world)?;
    consultations_end_once(world)?;
    early_media_is_of_who_is_dialed(world)
}

/// A caller hears before the answer whom it has called, and is not answered by that.
fn early_media_is_of_who_is_dialed(world: &World) -> Result<(), Violation> {
    for call in world.calls.values() {
        for leg in call.legs.iter().filter(|leg| leg.early_media.is_some()) {
            let dialed = call.state == CallState::Dialing { agent: None, leg: leg.id };
            let rings = leg.is_ringing() && leg.channel().is_some();
            ensure!(dialed && rings, "leg {} of call {} is heard too early", leg.id, call.id);
        }
    }
    Ok(())
}

/// A caller talks to one agent, an agent to one caller, and both know it.
fn agents_and_calls_agree(world: &World) -> Result<(), Violation> {
    for agent in world.agents.values() {
        match &agent.state {
            AgentState::Reserved { call, offer, .. } => {
                let ringing = world.calls.get(call).is_some_and(|call| {
                    call.legs.iter().any(|leg| {
                        leg.offer() == Some(*offer)
                            && leg.is_ringing()
                            // An agent's own call leads nowhere before the phone has answered.
                            && leg.is_caller() == (call.state == CallState::Routing)
                    })
                });
                ensure!(ringing, "agent {} is reserved for an offer that does not ring", agent.id);
            }
            AgentState::Talking { call, .. } | AgentState::Held { call, .. } => {
                let of = world.calls.get(call).is_some_and(|call| {
                    call.is_live()
                        && (call.agent.as_ref() == Some(&agent.id)
                            || call.calling_agent.as_ref() == Some(&agent.id)
                            || is_asked(call, &agent.id))
                });
                ensure!(of, "agent {} talks in a call that is not the agent's", agent.id);
            }
            AgentState::Consulting { call, second, .. } => {
                let of_agent = |call: &Call| {
                    // Who sends on whom it called serves that party from then on.
                    let serves = call.agent.as_ref() == Some(&agent.id);
                    serves || call.calling_agent.as_ref() == Some(&agent.id)
                };
                let has =
                    |id| world.calls.get(id).is_some_and(|call| call.is_live() && of_agent(call));
                ensure!(call != second, "agent {} has one call twice", agent.id);
                ensure!(has(call), "the first call of agent {} is not the agent's", agent.id);
                ensure!(has(second), "the second call of agent {} is not the agent's", agent.id);
            }
            AgentState::Ready => {
                ensure!(agent.is_registered(), "agent {} is ready without a phone", agent.id);
            }
            AgentState::LoggedOut | AgentState::NotReady { .. } | AgentState::Acw { .. } => {}
        }
    }
    let mut offers: BTreeMap<&AgentId, CallId> = BTreeMap::new();
    for call in world.calls.values() {
        let ringing: Vec<_> = call.legs.iter().filter(|leg| leg.is_ringing()).collect();
        ensure!(ringing.len() <= 1, "call {} rings {} agents", call.id, ringing.len());
        for leg in ringing {
            let Some(agent) = leg.agent() else { continue };
            let other = offers.insert(agent, call.id);
            ensure!(other.is_none(), "agent {agent} has two offers");
            let reserved = world.agents.get(agent).and_then(|agent| agent.call());
            ensure!(reserved == Some(call.id), "agent {agent} rings and is not reserved");
        }
        if let CallState::Connected { leg } = call.state {
            let up = call.leg(leg).filter(|leg| leg.is_up());
            ensure!(up.is_some(), "call {} is connected to a leg that is not up", call.id);
            if up.is_some_and(|leg| leg.channel().is_some()) {
                continue;
            }
            let agent = call.agent.as_ref().and_then(|agent| world.agents.get(agent));
            let talks = agent.is_some_and(|agent| agent.is_in(call.id));
            ensure!(talks, "the agent of call {} does not talk in it", call.id);
        }
    }
    Ok(())
}

/// The last that a watcher was told, or will be, is what every leg of that agent does.
fn watchers_were_told_what_is_so(world: &World) -> Result<(), Violation> {
    let subscriptions = &world.subscriptions;
    ensure!(subscriptions.len() <= limits::SUBSCRIPTIONS_MAX, "too many subscriptions");
    for subscription in subscriptions.values().filter(|known| known.is_active()) {
        let Package::Dialog(watched) = &subscription.package else { continue };
        let legs = world.calls.values().flat_map(|call| call.legs.iter().map(move |it| (call, it)));
        let own = legs.filter(|(call, leg)| lamp::is_of(call, leg, &watched.agent));
        let lines = own.filter_map(|(call, leg)| lamp::line(call, leg));
        let so: BTreeMap<LegId, Line> = lines.map(|line| (line.leg, line)).collect();
        let told: BTreeMap<LegId, Line> =
            watched.told.iter().map(|line| (line.leg, *line)).collect();
        let (id, of) = (subscription.id, &watched.agent);
        ensure!(so == told, "subscription {id} was told {told:?} of agent {of}, which is {so:?}");
    }
    Ok(())
}

fn is_asked(call: &Call, agent: &AgentId) -> bool {
    call.consulted().is_some_and(|leg| leg.is_up() && leg.agent() == Some(agent))
}

fn queues_are_in_order_and_offers_stand(world: &World) -> Result<(), Violation> {
    let mut queued = BTreeSet::new();
    for queue in world.queues.values() {
        let sorted = queue.entries.is_sorted_by_key(|entry| entry.enqueued_at);
        ensure!(sorted, "queue {} is out of order", queue.id);
        for entry in &queue.entries {
            ensure!(queued.insert(entry.call), "call {} waits twice", entry.call);
            let call = world.calls.get(&entry.call);
            let waits = call.is_some_and(|call| {
                call.state == CallState::Queued { queue: queue.id.clone() }
                    // A transfer brings a call to its second queue later than to its first.
                    && call.queued_at.is_some_and(|at| {
                        at == entry.enqueued_at
                            || at < entry.enqueued_at && !call.transfers.is_empty()
                    })
            });
            ensure!(waits, "queue {} holds call {} that does not wait", queue.id, entry.call);
            let ringing = call.and_then(|call| call.legs.iter().find(|leg| leg.is_ringing()));
            let offer = ringing.and_then(|leg| leg.offer());
            let says = match &entry.state {
                EntryState::Waiting => None,
                EntryState::Offered { offer, .. } => Some(*offer),
            };
            ensure!(offer == says, "call {} rings {offer:?}, its entry says {says:?}", entry.call);
        }
    }
    for call in world.calls.values() {
        let waits = matches!(call.state, CallState::Queued { .. });
        ensure!(
            waits == queued.contains(&call.id),
            "call {} and its queue do not agree on whether it waits",
            call.id
        );
    }
    Ok(())
}

fn channels_are_of_live_calls(world: &World) -> Result<(), Violation> {
    for channel in world.channels.values() {
        let Some(call) = channel.call() else { continue };
        let holds = world.calls.get(&call).is_some_and(|call| {
            let comes_in = call.is_live() && call.channel.as_ref() == Some(&channel.id);
            comes_in || call.legs.iter().any(|leg| leg_has(leg, &channel.id))
        });
        ensure!(holds, "channel {} is seized by no live call", channel.id);
    }
    for call in world.calls.values().filter(|call| call.is_live()) {
        if let Some(id) = &call.channel {
            let held = world.channels.get(id).and_then(|channel| channel.call());
            ensure!(held == Some(call.id), "call {} has lost channel {id}", call.id);
        }
    }
    let mut out = BTreeSet::new();
    for call in world.calls.values() {
        for id in call.legs.iter().filter_map(|leg| leg.channel().filter(|id| leg_has(leg, id))) {
            let held = world.channels.get(id).and_then(|channel| channel.call());
            ensure!(
                held == Some(call.id),
                "call {} goes out by channel {id}, not its own",
                call.id
            );
            ensure!(out.insert(id), "two legs go out by channel {id}");
            ensure!(call.channel.as_ref() != Some(id), "call {} goes out as it came in", call.id);
        }
    }
    Ok(())
}

fn leg_has(leg: &Leg, channel: &ChannelId) -> bool {
    leg.state != LegState::Released && leg.channel() == Some(channel)
}

/// What is remembered of trunks outward is bounded, and of them.
fn trunks_are_remembered_in_bounds(world: &World) -> Result<(), Violation> {
    for (id, trunk) in &world.trunks {
        ensure!(*id == trunk.id, "what is known of trunk {} is kept for {id}", trunk.id);
        ensure!(trunk.held.len() <= limits::PEERS_MAX, "too many peers of trunk {id} are held");
        let health = trunk.health.len().max(trunk.registrations.len());
        ensure!(health <= limits::HEALTH_MAX, "{health} findings of trunk {id} are kept");
    }
    for call in world.calls.values() {
        let left = call.outward.as_ref().map_or(0, |outward| outward.left.len());
        ensure!(left <= limits::HOPS_MAX, "call {} has {left} peers to try", call.id);
    }
    Ok(())
}

fn ports_are_used_once(world: &World) -> Result<(), Violation> {
    for gateway in world.gateways.values() {
        let mut taken = BTreeSet::new();
        for call in world.calls.values().filter(|call| call.gateway == gateway.id) {
            for port in call.legs.iter().map(|leg| leg.media.port).filter(|port| *port != 0) {
                ensure!(taken.insert(port), "port {port} of {} is used twice", gateway.id);
                let free = gateway.free_ports.contains(&port);
                ensure!(!free, "port {port} of {} is used and free", gateway.id);
            }
        }
        let lent =
            |port: &u16| gateway.granted.contains(port) && world.may_use_port(&gateway.id, *port);
        let free = gateway.free_ports.iter().find(|port| !lent(port));
        ensure!(free.is_none(), "port {free:?} of {} is free and not ours", gateway.id);
    }
    Ok(())
}

/// Whoever is in a flow has a prompt or a deadline that moves the call, and the flow that it began
/// with.
fn callers_in_flows_are_led_on(world: &World) -> Result<(), Violation> {
    for call in world.calls.values().filter(|call| call.is_live()) {
        let Some(run) = &call.flow else { continue };
        let config = world.config.as_ref();
        let flow = config.and_then(|config| config.flow(&run.flow, run.version));
        let step = flow.and_then(|flow| flow.step(run.step));
        ensure!(step.is_some(), "call {} has lost its step of flow {}", call.id, run.flow);
        // It has left the flow, and was sent on to an extension or the echo since.
        let moved = run.state == RunState::Over && !call.transfers.is_empty();
        let agree = match call.state {
            CallState::InFlow => run.is_in_flow() || moved,
            CallState::Dialing { .. } => run.state == RunState::Transferring || moved,
            CallState::Routing => false,
            CallState::Queued { .. }
            | CallState::Connected { .. }
            | CallState::Consulting { .. }
            | CallState::Conferenced { .. }
            | CallState::Ending => run.state == RunState::Over,
        };
        let (state, of_run) = (call.state_name(), run.state_name());
        ensure!(agree, "call {} is {state}, and its flow {of_run}", call.id);
    }
    Ok(())
}

fn refusals_can_be_said_again(world: &World) -> Result<(), Violation> {
    for transaction in world.refused.keys() {
        let kept = world.refusal_of(transaction).is_some();
        ensure!(kept, "the refusal of {} is not in the outbox", transaction.branch);
    }
    Ok(())
}

/// A transfer is under way while its extension rings, and whoever sent the call on waits or is gone.
fn transfers_end_once(world: &World) -> Result<(), Violation> {
    for call in world.calls.values() {
        let id = call.id;
        ensure!(call.transfers.len() <= limits::TRANSFERS_MAX, "call {id} has too many transfers");
        let under_way = |transfer: &Transfer| matches!(transfer.outcome, Outcome::Pending { .. });
        let earlier = call.transfers.split_last().map_or(&[][..], |(_, earlier)| earlier);
        ensure!(!earlier.iter().any(under_way), "an earlier transfer of call {id} is under way");
        if let Some(last) = call.transfers.last().filter(|last| under_way(last)) {
            let dials = matches!(call.state, CallState::Dialing { .. });
            ensure!(dials, "call {id} is transferred, and nothing rings");
            if let Outcome::Pending { leg: Some(leg) } = last.outcome {
                let waits = call.leg(leg).is_some_and(|leg| {
                    leg.state == LegState::Active && leg.agent() == Some(&last.agent)
                });
                ensure!(waits, "nobody waits for the transfer of call {id}");
                let talks = world.agents.get(&last.agent).is_some_and(|agent| agent.is_in(id));
                ensure!(talks, "agent {} has left call {id}", last.agent);
            }
        }
        // Whoever is no party any more is let go.
        let party = match (&call.state, call.transfers.last().map(|last| last.outcome)) {
            (
                CallState::Connected { leg }
                | CallState::Consulting { leg, .. }
                | CallState::Conferenced { leg, .. },
                _,
            ) => Some(*leg),
            (_, Some(Outcome::Pending { leg })) => leg,
            (_, _) => None,
        };
        let asked = call.consulted().map(|leg| leg.id);
        for leg in call.legs.iter().filter(|leg| !leg.is_caller()) {
            let is_party = party == Some(leg.id) || asked == Some(leg.id);
            let stays = leg.state != LegState::Active || is_party;
            ensure!(stays, "leg {} of call {id} is up, and no party to it", leg.id);
        }
        for leg in call.legs.iter().filter(|leg| leg.refer.is_some()) {
            let open = matches!(leg.state, LegState::Active | LegState::Releasing);
            ensure!(open, "leg {} is {} and has a REFER", leg.id, leg.state_name());
        }
    }
    Ok(())
}

/// What is paused stays paused: no plan that is in force records it.
fn recordings_are_planned_as_they_are(world: &World) -> Result<(), Violation> {
    for call in world.calls.values().filter(|call| call.recording_paused) {
        ensure!(call.recording.is_some(), "call {} pauses no recording", call.id);
    }
    for effect in world.outbox.values() {
        let Body::Media(plan) = &effect.body else { continue };
        let Some(call) = world.calls.get(&plan.call) else { continue };
        let in_force = plan.recording.filter(|_| plan.version == call.media_version);
        let agrees = in_force.is_none_or(|recording| recording.paused == call.recording_paused);
        ensure!(agrees, "the recording of call {} is not planned as it is", call.id);
    }
    Ok(())
}

/// A colleague is asked by an agent who is there, rings or speaks, and is nobody else's; what is
/// said of it says so.
fn consultations_end_once(world: &World) -> Result<(), Violation> {
    for call in world.calls.values() {
        let id = call.id;
        let open = call.consult.as_ref().filter(|consult| consult.outcome.is_open());
        let (leg, outcome) = match call.state {
            CallState::Consulting { leg, .. } => (leg, Consulted::Pending),
            CallState::Conferenced { leg, .. } => (leg, Consulted::Joined),
            CallState::Routing
            | CallState::InFlow
            | CallState::Queued { .. }
            | CallState::Dialing { .. }
            | CallState::Connected { .. }
            | CallState::Ending => {
                ensure!(open.is_none(), "a consultation of call {id} has no end");
                continue;
            }
        };
        let Some(consult) = open.filter(|consult| consult.outcome == outcome) else {
            return Err(Violation(format!("call {id} consults, and nobody has asked")));
        };
        let asks = call.leg(leg).is_some_and(|leg| {
            leg.state == LegState::Active && leg.agent() == Some(&consult.agent)
        });
        ensure!(asks, "who asks in call {id} is not there");
        let talks = |agent| world.agents.get(agent).and_then(|agent| agent.call()) == Some(id);
        ensure!(talks(&consult.agent), "agent {} has left call {id}", consult.agent);
        ensure!(call.agent.as_ref() == Some(&consult.agent), "call {id} has another agent");
        let asked = call.consulted().is_some_and(|leg| {
            (leg.is_ringing() && outcome == Consulted::Pending || leg.state == LegState::Active)
                && leg.agent() == Some(&consult.to)
        });
        ensure!(asked && talks(&consult.to), "agent {} is not asked in call {id}", consult.to);
        ensure!(consult.agent != consult.to, "agent {} asks nobody else", consult.to);
        let caller = call.caller().is_some_and(|leg| leg.is_up());
        ensure!(caller, "nobody waits for the consultation of call {id}");
    }
    Ok(())
}

fn keys_are_bounded(world: &World) -> Result<(), Violation> {
    ensure!(world.answered.len() <= limits::KEYS_MAX, "more keys are remembered than may be");
    for (key, answered) in &world.answered {
        ensure!(*key == answered.key, "the answer to {} is kept for {key}", answered.key);
        let left_ms = answered.until.since(world.at);
        ensure!(answered.until > world.at, "key {key} is over and remembered");
        ensure!(left_ms <= limits::KEY_MS_MAX, "key {key} is remembered for {left_ms} ms");
    }
    Ok(())
}

fn ended_calls_hold_nothing(world: &World) -> Result<(), Violation> {
    for call in world.calls.values() {
        let all_gone = call.legs.iter().all(|leg| leg.state == LegState::Released);
        ensure!(!all_gone, "call {} has no leg and is there", call.id);
        if call.is_live() {
            let caller = call.caller().is_some_and(|leg| match (&leg.role, &call.state) {
                (Role::Originator { .. }, CallState::Routing) => leg.is_ringing(),
                (Role::Originator { .. }, _) => leg.state == LegState::Active,
                (Role::Caller | Role::Transferee { .. }, CallState::Routing) => false,
                (Role::Transferee { .. }, _) => leg.state == LegState::Active,
                (Role::Caller, _) => {
                    matches!(leg.state, LegState::Trying | LegState::Answered | LegState::Active)
                }
                (Role::Agent { .. } | Role::Callee { .. } | Role::Trunk { .. }, _) => false,
            });
            ensure!(caller, "live call {} has no caller", call.id);
        } else {
            for leg in &call.legs {
                ensure!(leg.media.port == 0, "ended call {} holds a port", call.id);
                let waits = leg.state == LegState::Released || leg.release_at.is_some();
                ensure!(waits, "a leg of ended call {} waits without an end", call.id);
            }
        }
    }
    Ok(())
}
