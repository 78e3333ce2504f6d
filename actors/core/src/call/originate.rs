//! Click-to-dial: an agent's phone is rung, and once it has answered, the number is dialled as if
//! that phone had dialled it.

use super::inbound::{self, Refusal};
use super::leg::Role;
use super::state::{Call, State};
use super::{outbound, unreached};
use crate::agent::machine as agent;
use crate::cdr::Side;
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, EntityId, OfferId};
use crate::world::Rejection;

pub fn on_originate(draft: &mut Draft<'_>, from: &AgentId, to: &str) -> Result<(), Rejection> {
    let caller =
        draft.agent(from).ok_or_else(|| Rejection::NotFound(format!("extension {:?}", from.0)))?;
    let Some(registration) = caller.registration() else {
        return Err(Rejection::Refused(format!("extension {from} has no registered phone")));
    };
    if !agent::may_call(caller) {
        let state = caller.state_name();
        return Err(Rejection::Refused(format!("the agent of extension {from} is {state}")));
    }
    let gateway = registration.gateway.clone();
    if inbound::look_up_all(draft, to).is_none() {
        return Err(Rejection::NotFound(format!("number {to:?}")));
    }
    if *from.0 == *to {
        return Err(Rejection::Refused(format!("extension {from} can't call itself")));
    }
    if inbound::is_full(draft) {
        return Err(Rejection::Full);
    }
    let id = CallId(draft.rng.next());
    draft.put_call(Call {
        calling_agent: Some(from.clone()),
        ..Call::new(id, State::Routing, gateway, from.to_string(), to.to_owned(), draft.now)
    });
    let ring_ms = draft.config().map_or(0, |config| config.no_answer_ms);
    let offer = OfferId(draft.rng.next());
    let ring_until = draft.now.after(ring_ms);
    let role = Role::Originator { agent: from.clone(), offer, ring_until };
    // The phone shows where the call will lead.
    outbound::ring(draft, id, from, role, to).ok_or(Rejection::Full)?;
    agent::on_offered(draft, from, id, offer);
    draft.writes.about = Some(EntityId::Call(id));
    Ok(())
}

/// The agent's phone answered. Its call goes where the number leads by now.
pub fn on_answered(draft: &mut Draft<'_>, id: CallId, caller: &AgentId) {
    agent::on_connected(draft, caller, id);
    let now = draft.now;
    let Some(call) = draft.call_mut(&id) else { return };
    call.answered_at = Some(now);
    let to = call.to.clone();
    let gone = Refusal(404, crate::cdr::Disposition::Rejected);
    let destination = inbound::look_up_all(draft, &to).ok_or(gone);
    let destination = destination.and_then(|destination| {
        inbound::takes(draft, &destination)?;
        Ok(destination)
    });
    match destination {
        Ok(destination) => inbound::go_to(draft, id, destination),
        Err(Refusal(status, how)) => {
            unreached::end(draft, id, status, how, Side::System);
        }
    }
}
