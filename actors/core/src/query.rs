//! What the API shows, projected from the world.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tandem_sip::Millis;
use tandem_sip::reason::Q850;

use crate::agent::state::{Registration, State as AgentState};
use crate::call::leg::Leg;
use crate::call::state::{Call, Consult, Consulted, State as CallState, Transfer};
use crate::cdr::{Cdr, Manifest};
use crate::channel::state::State as ChannelState;
use crate::command::Gap;
use crate::config::Strategy;
use crate::ids::{AgentId, CallId, ChannelId, GatewayId, QueueId, TrunkId};
use crate::ivr::state::{Run, State as RunState};
use crate::time::rfc3339;
use crate::trunk::outward::Peer;
use crate::trunk::state::Health;
use crate::view;
use crate::world::World;

fn moment(at: Option<Millis>) -> Option<String> {
    at.map(rfc3339)
}

/// The shard's name wherever one is shown.
pub fn shard_name(shard: u16) -> String {
    format!("s{shard}")
}

/// Live calls in the order in which they began.
pub fn calls(world: &World) -> Vec<view::Call> {
    let mut calls: Vec<&Call> = world.calls.values().filter(|call| call.is_live()).collect();
    calls.sort_by_key(|call| (call.started_at, call.id));
    calls.into_iter().map(|call| show_call(world, call)).collect()
}

pub fn call(world: &World, id: CallId) -> Option<view::Call> {
    world.calls.get(&id).filter(|call| call.is_live()).map(|call| show_call(world, call))
}

fn show_call(world: &World, call: &Call) -> view::Call {
    let entry_queue = call.queue.as_ref().and_then(|queue| world.queues.get(queue));
    let ringing = call.legs.iter().find(|leg| leg.is_ringing()).and_then(|leg| leg.agent());
    let outward = call.outward.as_ref();
    let channel = call.channel.as_ref().or(outward.and_then(|outward| outward.channel.as_ref()));
    // Who is to take a transferred call, rather than who has it no more.
    let agent = match call.state {
        // Somebody outside has it: no agent does.
        CallState::Connected { leg }
            if call.leg(leg).is_some_and(|leg| leg.channel().is_some()) =>
        {
            call.calling_agent.as_ref()
        }
        CallState::Connected { .. }
        | CallState::Consulting { .. }
        | CallState::Conferenced { .. } => call.agent.as_ref(),
        CallState::Routing
        | CallState::InFlow
        | CallState::Queued { .. }
        | CallState::Dialing { .. }
        | CallState::Ending => ringing.or(call.agent.as_ref()),
    };
    view::Call {
        id: call.id.to_string(),
        state: call.state_name().to_owned(),
        held: call.is_held(),
        from: call.from.clone(),
        to: call.to.clone(),
        queue: call.queue.as_ref().map(ToString::to_string),
        agent: agent.map(ToString::to_string),
        position: entry_queue.and_then(|queue| queue.position(call.id)),
        gateway: call.gateway.to_string(),
        shard: shard_name(world.home),
        started_at: rfc3339(call.started_at),
        answered_at: moment(call.answered_at),
        connected_at: moment(call.connected_at),
        legs: call
            .legs
            .iter()
            .map(|leg| view::Leg {
                role: leg.role_name().to_owned(),
                sip_call_id: leg.invite.headers.call_id.clone(),
                state: leg.state_name().to_owned(),
            })
            .collect(),
        diverted_from: call.diverted_from.clone(),
        flow: call.flow.as_ref().and_then(|run| show_run(world, run)),
        recording: call
            .recording
            .map(|id| view::CallRecording { id: id.to_string(), paused: call.recording_paused }),
        consult: call.consult.as_ref().map(|consult| show_consult(call, consult)),
        direction: direction(call.channel.is_some(), outward.is_some()),
        trunk: channel.map(|channel| channel.trunk.to_string()),
        channel: channel.map(|channel| channel.number),
        outward: outward.map(|out| show_outward(&out.number, out.channel.as_ref(), out.peer)),
    }
}

fn show_consult(call: &Call, consult: &Consult) -> view::Consult {
    let (state, status) = match consult.outcome {
        Consulted::Pending if call.consulted().is_some_and(Leg::is_up) => ("talking", None),
        Consulted::Pending => ("ringing", None),
        Consulted::Failed { status } => (consult.outcome.as_str(), Some(status)),
        Consulted::Joined
        | Consulted::Completed
        | Consulted::Cancelled
        | Consulted::HungUp
        | Consulted::Ended => (consult.outcome.as_str(), None),
    };
    view::Consult {
        at: rfc3339(consult.at),
        agent: consult.agent.to_string(),
        to: consult.to.to_string(),
        state: state.to_owned(),
        status,
    }
}

/// While the flow has the call, or an extension rings for it.
fn show_run(world: &World, run: &Run) -> Option<view::Flow> {
    let flow = world.config.as_ref()?.flow(&run.flow, run.version)?;
    (run.state != RunState::Over).then(|| view::Flow {
        name: run.flow.to_string(),
        version: run.version,
        step: flow.step_name(run.step).to_owned(),
        prompt: run.prompt().map(|(prompt, _)| prompt.to_string()),
        digits: run.digits.clone(),
        tries: run.tries(),
    })
}

pub fn queues(world: &World) -> Vec<view::Queue> {
    let config = world.config.iter().flat_map(|config| &config.queues);
    config.filter_map(|known| queue(world, &known.id)).collect()
}

pub fn queue(world: &World, id: &QueueId) -> Option<view::Queue> {
    let known = world.config.as_ref()?.queue(id)?;
    let queue = world.queues.get(id)?;
    Some(view::Queue {
        name: id.to_string(),
        strategy: match known.strategy {
            Strategy::LongestIdle => "longest_idle".to_owned(),
        },
        waiting: (1..)
            .zip(&queue.entries)
            .map(|(position, entry)| view::Waiting {
                call: entry.call.to_string(),
                position,
                since: rfc3339(entry.enqueued_at),
            })
            .collect(),
        agents: known
            .agents
            .iter()
            .filter_map(|id| world.agents.get(id))
            .map(|agent| view::QueueAgent {
                id: agent.id.to_string(),
                state: agent.state_name().to_owned(),
            })
            .collect(),
    })
}

pub fn agents(world: &World) -> Vec<view::Agent> {
    let config = world.config.iter().flat_map(|config| &config.agents);
    config.filter_map(|known| agent(world, &known.id)).collect()
}

pub fn agent(world: &World, id: &AgentId) -> Option<view::Agent> {
    let agent = world.agents.get(id)?;
    let reason = match &agent.state {
        AgentState::NotReady { reason } => Some(reason.clone()),
        AgentState::LoggedOut
        | AgentState::Ready
        | AgentState::Reserved { .. }
        | AgentState::Talking { .. }
        | AgentState::Held { .. }
        | AgentState::Consulting { .. }
        | AgentState::Acw { .. } => None,
    };
    Some(view::Agent {
        id: id.to_string(),
        state: agent.state_name().to_owned(),
        reason,
        since: rfc3339(agent.since),
        call: agent.call().map(|call| call.to_string()),
        second_call: agent.second().map(|call| call.to_string()),
        registered: agent.is_registered(),
        gateway: agent.registration().map(|r| r.gateway.to_string()),
        phones: agent.bindings.iter().map(show_phone).collect(),
    })
}

fn show_phone(phone: &Registration) -> view::Phone {
    view::Phone {
        contact: phone.contact.to_string(),
        gateway: phone.gateway.to_string(),
        transport: phone.carrier.transport().as_str().to_ascii_lowercase(),
        until: rfc3339(phone.expires_at),
    }
}

pub fn trunks(world: &World) -> Vec<view::Trunk> {
    let config = world.config.iter().flat_map(|config| &config.trunks);
    config
        .map(|trunk| {
            let busy = world.channels.keys().filter(|id| id.trunk == trunk.id).count();
            let busy = u16::try_from(busy).unwrap_or(u16::MAX);
            let peer_of = |peer| show_peer(world, &trunk.id, peer);
            view::Trunk {
                name: trunk.id.to_string(),
                channels: trunk.channels,
                idle: trunk.channels.saturating_sub(busy),
                busy,
                peers: trunk.out.iter().flat_map(|out| &out.peers).map(peer_of).collect(),
                registrations: registrations(world, &trunk.id),
            }
        })
        .collect()
}

fn registrations(world: &World, trunk: &TrunkId) -> Vec<view::TrunkRegistration> {
    let known = world.trunks.get(trunk).into_iter().flat_map(|known| &known.registrations);
    let show = |(gateway, registered): (&GatewayId, &Health)| view::TrunkRegistration {
        gateway: gateway.to_string(),
        state: if registered.up { "registered" } else { "absent" }.to_owned(),
        status: registered.status,
        since: rfc3339(registered.since),
    };
    known.map(show).collect()
}

fn show_peer(world: &World, trunk: &TrunkId, peer: &Peer) -> view::Peer {
    let known = world.trunks.get(trunk);
    let hold = known.and_then(|known| known.holds(peer.address, world.at));
    let health = known.iter().flat_map(|known| &known.health);
    let health: Vec<_> = health.filter(|((address, _), _)| *address == peer.address).collect();
    let down = || health.iter().filter(|(_, health)| !health.up).map(|(_, health)| health);
    let everywhere = world
        .gateways
        .keys()
        .all(|gateway| known.is_some_and(|known| known.is_down(peer.address, gateway)));
    let last = down().max_by_key(|health| health.since);
    let state = match (hold, last) {
        (Some(_), _) => "held",
        (None, None) => "up",
        (None, Some(_)) if everywhere => "down",
        (None, Some(_)) => "degraded",
    };
    let show = |((_, gateway), health): &(&(SocketAddr, GatewayId), &Health)| view::PeerOptions {
        gateway: gateway.to_string(),
        state: if health.up { "up" } else { "down" }.to_owned(),
        status: health.status,
        since: rfc3339(health.since),
    };
    view::Peer {
        address: peer.to_string(),
        state: state.to_owned(),
        until: hold.map(|hold| rfc3339(hold.until)),
        status: hold.map(|hold| hold.status).or(last.map(|health| health.status)),
        since: moment(last.map(|health| health.since)),
        options: health.iter().map(show).collect(),
    }
}

/// How a call goes: in by a trunk, out by one, or neither.
fn direction(comes_in: bool, goes_out: bool) -> String {
    match (comes_in, goes_out) {
        (true, _) => "in",
        (false, true) => "out",
        (false, false) => "internal",
    }
    .to_owned()
}

fn show_outward(
    number: &str,
    channel: Option<&ChannelId>,
    peer: Option<SocketAddr>,
) -> view::Outward {
    view::Outward {
        number: number.to_owned(),
        trunk: channel.map(|channel| channel.trunk.to_string()),
        channel: channel.map(|channel| channel.number),
        peer: peer.map(|peer| peer.to_string()),
    }
}

/// `None` where there is no such trunk.
pub fn channels(world: &World, trunk: &TrunkId) -> Option<Vec<view::Channel>> {
    let known = world.config.as_ref()?.trunk(trunk)?;
    let show = |number| {
        let channel = world.channels.get(&ChannelId { trunk: trunk.clone(), number });
        let state = match channel.map(|channel| &channel.state) {
            None => "idle",
            Some(ChannelState::SeizedIn { .. }) => "seized_in",
            Some(ChannelState::SeizedOut { .. }) => "seized_out",
            Some(ChannelState::Active { .. }) => "active",
            Some(ChannelState::Guard { .. }) => "guard",
        };
        view::Channel {
            number,
            state: state.to_owned(),
            call: channel.and_then(|channel| channel.call()).map(|call| call.to_string()),
            since: rfc3339(channel.map_or(Millis(0), |channel| channel.since)),
        }
    };
    Some((1..=known.channels).map(show).collect())
}

pub fn show_cdr(cdr: &Cdr) -> view::Cdr {
    let outward = cdr.outward.as_ref().and_then(|outward| outward.channel.as_ref());
    let channel = cdr.channel.as_ref().or(outward);
    view::Cdr {
        // One record a call: the call names it.
        id: cdr.call.to_string(),
        call: cdr.call.to_string(),
        sip_call_id: cdr.sip_call_id.clone(),
        from: cdr.from.clone(),
        to: cdr.to.clone(),
        trunk: channel.map(|channel| channel.trunk.to_string()),
        channel: channel.map(|channel| channel.number),
        started_at: rfc3339(cdr.started_at),
        answered_at: moment(cdr.answered_at),
        queued_at: moment(cdr.queued_at),
        connected_at: moment(cdr.connected_at),
        ended_at: rfc3339(cdr.ended_at),
        wait_ms: cdr.queued_at.map(|queued| cdr.connected_at.unwrap_or(cdr.ended_at).since(queued)),
        talk_ms: cdr.connected_at.map(|connected| cdr.ended_at.since(connected)),
        queue: cdr.queue.as_ref().map(ToString::to_string),
        agent: cdr.agent.as_ref().map(ToString::to_string),
        disposition: cdr.disposition.as_str().to_owned(),
        hung_up_by: cdr.hung_up_by.as_str().to_owned(),
        cause: cdr.cause.clone(),
        q850: cdr.q850.map(Q850::get),
        takeovers: cdr.takeovers,
        recording: cdr.recording.map(|recording| recording.to_string()),
        flow: cdr.flow.as_ref().map(ToString::to_string),
        flow_path: cdr
            .flow
            .as_ref()
            .map(|_| cdr.flow_path.iter().map(|step| step.to_string()).collect()),
        transfers: cdr.transfers.iter().map(show_transfer).collect(),
        asserted_from: cdr.asserted.clone(),
        diverted_from: cdr.diverted_from.clone(),
        direction: direction(cdr.channel.is_some(), cdr.outward.is_some()),
        outward: cdr
            .outward
            .as_ref()
            .map(|out| show_outward(&out.number, out.channel.as_ref(), out.peer)),
        joined: cdr.joined.map(|call| call.to_string()),
    }
}

fn show_transfer(transfer: &Transfer) -> view::Transfer {
    view::Transfer {
        at: rfc3339(transfer.at),
        agent: transfer.agent.to_string(),
        to: transfer.to.clone(),
        kind: if transfer.attended { "attended" } else { "blind" }.to_owned(),
        outcome: transfer.outcome.as_str().to_owned(),
    }
}

/// A recording as it was told, and what each process has of it.
///
/// Whole is what was sealed; where that was done twice, by a process that came back and could not know that
/// another had gone on, the longer one. One that nobody has sealed is where it goes on, or ends with what
/// there is of it where nobody has told of more since its gateway is gone.
pub fn show_manifest(manifest: &Manifest, holdings: &[Manifest]) -> view::Recording {
    let told = || std::iter::once(manifest).chain(holdings);
    // Of those that are as long, the one whose name the recording has.
    let rank = |held: &&Manifest| (held.duration_ms, held.gateway == manifest.gateway);
    let sealed = told().filter(|held| held.sealed).max_by_key(rank);
    let running = told().filter(|held| !held.sealed && !held.cut).max_by_key(rank);
    let running = running.unwrap_or(manifest);
    let rest = holdings.iter().filter(|held| held.cut).max_by_key(rank);
    let rest = rest.filter(|rest| sealed.is_none() && rest.duration_ms > running.duration_ms);
    let shown = sealed.or(rest).unwrap_or(running);
    let whole = |held: &&Manifest| held.sealed && held.hash == shown.hash;
    let mut copies = vec![shown.gateway.to_string()];
    if sealed.is_some() {
        copies.extend(told().filter(whole).map(|held| held.gateway.to_string()));
        let mut known = BTreeSet::new();
        copies.retain(|gateway| known.insert(gateway.clone()));
    }
    let spans = |gaps: &[Gap]| {
        let span = |gap: &Gap| view::RecordingGap { at_ms: gap.at_ms, len_ms: gap.len_ms };
        gaps.iter().map(span).collect()
    };
    view::Recording {
        id: manifest.recording.to_string(),
        call: manifest.call.to_string(),
        began_at: moment(manifest.began_at.or(shown.began_at)),
        gateway: sealed.unwrap_or(running).gateway.to_string(),
        duration_ms: shown.duration_ms,
        chunks: shown.chunks,
        gaps: spans(&shown.gaps),
        pauses: spans(&shown.pauses),
        copies,
        sealed: sealed.is_some() || rest.is_some(),
        cut: rest.is_some(),
        hash: shown.hash.clone(),
    }
}
