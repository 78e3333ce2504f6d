//! A phone that sends a call elsewhere (302, RFC 3261 §8.1.3.4): once, and only to an extension of
//! ours, so that nobody's phone can make us call the world.

use tandem_sip::{Response, Scheme};

use super::inbound::{self, Destination};
use super::leg::Role;
use super::{ending, outbound};
use crate::agent::machine as agent;
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, LegId};

/// The dialled extension's phone names another extension. False where the call can't go there: then
/// it is a refusal like others. An offer of a queue stays with the queue.
pub fn on_redirected(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    response: &Response,
) -> bool {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return false };
    let (from, offer) = match &leg.role {
        Role::Callee { agent, offer, .. } if !leg.redirected => (agent.clone(), *offer),
        Role::Caller
        | Role::Originator { .. }
        | Role::Agent { .. }
        | Role::Callee { .. }
        | Role::Trunk { .. }
        | Role::Transferee { .. } => return false,
    };
    let Some(to) = extension(draft, response).filter(|to| *to != from) else { return false };
    if inbound::reachable(draft, &to).is_err() {
        return false;
    }
    // Its port is free again, so there is one.
    ending::leg_released(draft, id, leg_id);
    agent::on_withdrawn(draft, &from, offer);
    if !outbound::ring_extension(draft, id, &to) {
        return false;
    }
    if let Some(new) = draft.call_mut(&id).and_then(|call| call.legs.last_mut()) {
        new.redirected = true;
    }
    true
}

fn extension(draft: &Draft<'_>, response: &Response) -> Option<AgentId> {
    let uri = &response.headers.contact.first()?.uri;
    let number = match uri.scheme {
        Scheme::Sip | Scheme::Sips => uri.user.as_deref()?,
        Scheme::Tel | Scheme::Other(_) => return None,
    };
    match inbound::look_up(draft, number)? {
        Destination::Extension(agent) => Some(agent),
        Destination::Queue(_)
        | Destination::Echo
        | Destination::Flow(_)
        | Destination::Outside(_) => None,
    }
}
