//! An agent who has called somebody, and sends that party on.
//!
//! A call lasts as long as its caller, and here that would be the one who leaves. So the two change
//! places before anything else: the called party is the one whom the call is for, and the agent one
//! who serves it, as if that party had called. Whatever a transfer comes to is the same then.

use super::leg::{Leg, Party, Role, State as LegState};
use super::state::{Call, State};
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, LegId, OfferId};

/// The agent whose leg has placed the call and talks with whom it called: an extension, or somebody
/// outside. Who was given by a queue is not that agent's to send on.
///
/// # Errors
/// The SIP status that says why not.
pub fn transferor(call: &Call, leg: &Leg) -> Result<AgentId, u16> {
    let by = leg.agent().or(call.calling_agent.as_ref()).ok_or(403_u16)?;
    let called = called(call).ok_or(403_u16)?;
    match called.role {
        Role::Callee { .. } | Role::Trunk { .. } => {}
        Role::Caller | Role::Originator { .. } | Role::Agent { .. } | Role::Transferee { .. } => {
            return Err(403);
        }
    }
    if called.state != LegState::Active {
        // It has picked the call up in this moment.
        return Err(491);
    }
    Ok(by.clone())
}

fn called(call: &Call) -> Option<&Leg> {
    match call.state {
        State::Connected { leg } => call.leg(leg),
        State::Routing
        | State::InFlow
        | State::Queued { .. }
        | State::Dialing { .. }
        | State::Consulting { .. }
        | State::Conferenced { .. }
        | State::Ending => None,
    }
}

/// The called party is the caller from now on, and the agent's leg the other.
pub fn change_places(draft: &mut Draft<'_>, id: CallId, leg: LegId, by: &AgentId) {
    let role =
        Role::Agent { agent: by.clone(), offer: OfferId(draft.rng.next()), ring_until: draft.now };
    let Some(call) = draft.call_mut(&id) else { return };
    let known_as = call.sip_call_id().unwrap_or_default().to_owned();
    let Some(called) = called(call).map(|leg| leg.id) else { return };
    let Some(at) = call.legs.iter().position(|leg| leg.id == called) else { return };
    let number = call.outward.as_ref().map(|outward| outward.number.clone()).unwrap_or_default();
    let mut party = call.legs.remove(at);
    let who = match (party.channel(), party.agent()) {
        (Some(channel), _) => Party::Outside { number, channel: channel.clone() },
        (None, Some(agent)) => Party::Colleague(agent.clone()),
        (None, None) => return call.legs.insert(at, party),
    };
    call.calling_agent = match &who {
        Party::Colleague(agent) => Some(agent.clone()),
        Party::Outside { .. } => None,
    };
    party.role = Role::Transferee { who, known_as };
    call.legs.insert(0, party);
    call.agent = Some(by.clone());
    call.state = State::Connected { leg };
    if let Some(own) = call.leg_mut(leg) {
        own.role = role;
    }
}
