//! What happens to an agent. Each function is one event; a pair that the table does not allow is a
//! rejection or leaves the agent as it is, and says so.

use tandem_sip::Millis;

use super::state::{Agent, Rest, State};
use crate::command::RequestedState;
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, EntityId, OfferId};
use crate::world::Rejection;

pub(super) const STATION_LOST: &str = "station_lost";

pub(super) fn enter(draft: &mut Draft<'_>, id: &AgentId, state: State) {
    let now = draft.now;
    enter_since(draft, id, state, now);
}

fn enter_since(draft: &mut Draft<'_>, id: &AgentId, state: State, since: Millis) {
    let index = draft.meta.index;
    if let Some(agent) = draft.agent_mut(id) {
        agent.state = state;
        agent.since = since;
        agent.since_index = index;
    }
}

fn illegal(agent: &Agent, event: &'static str) -> Rejection {
    Rejection::Illegal {
        entity: EntityId::Agent(agent.id.clone()),
        state: agent.state_name(),
        event,
    }
}

/// A dialled extension may ring while its agent has no call and no work.
pub fn may_ring(agent: &Agent) -> bool {
    matches!(agent.state, State::Ready | State::NotReady { .. } | State::LoggedOut)
}

/// May the agent's phone place a call?
pub fn may_call(agent: &Agent) -> bool {
    matches!(agent.state, State::Ready | State::NotReady { .. } | State::LoggedOut)
}

/// The one call, where the agent's phone holds it: a second may be placed beside it.
pub fn held(agent: &Agent) -> Option<CallId> {
    match &agent.state {
        State::Held { call, .. } => Some(*call),
        State::LoggedOut
        | State::NotReady { .. }
        | State::Ready
        | State::Reserved { .. }
        | State::Talking { .. }
        | State::Consulting { .. }
        | State::Acw { .. } => None,
    }
}

/// Where an agent without a call is.
fn rest(agent: &Agent) -> Option<Rest> {
    match &agent.state {
        State::LoggedOut => Some(Rest::LoggedOut),
        State::NotReady { reason } => Some(Rest::NotReady { reason: reason.clone() }),
        State::Ready => Some(Rest::Ready),
        State::Reserved { .. }
        | State::Talking { .. }
        | State::Held { .. }
        | State::Consulting { .. }
        | State::Acw { .. } => None,
    }
}

// --- offers and calls ------------------------------------------------------------------------

/// An offer of the queue, or a call to the extension.
pub fn on_offered(draft: &mut Draft<'_>, id: &AgentId, call: CallId, offer: OfferId) {
    let Some(agent) = draft.agent(id) else { return };
    let Some(back) = rest(agent) else { return };
    let back_since = agent.since;
    enter(draft, id, State::Reserved { call, offer, back, back_since });
}

/// The agent did not take it: not ready, with the reason.
pub fn on_missed(draft: &mut Draft<'_>, id: &AgentId, offer: OfferId, reason: &str) {
    let reserved = draft.agent(id).and_then(|agent| match &agent.state {
        State::Reserved { offer: current, .. } => {
            (*current == offer).then(|| agent.pending.clone())
        }
        State::LoggedOut
        | State::NotReady { .. }
        | State::Ready
        | State::Talking { .. }
        | State::Held { .. }
        | State::Consulting { .. }
        | State::Acw { .. } => None,
    });
    if let Some(pending) = reserved {
        let logged_out = pending == Some(Rest::LoggedOut);
        clear_pending(draft, id);
        let next = if logged_out {
            State::LoggedOut
        } else {
            State::NotReady { reason: reason.to_owned() }
        };
        enter(draft, id, next);
    }
}

/// The offer was taken back: the agent is as before, with the same idle rank.
pub fn on_withdrawn(draft: &mut Draft<'_>, id: &AgentId, offer: OfferId) {
    let Some(agent) = draft.agent(id) else { return };
    if let State::Reserved { offer: current, back, back_since, .. } = agent.state.clone()
        && current == offer
    {
        let (pending, registered) = (agent.pending.clone(), agent.is_registered());
        clear_pending(draft, id);
        let next = pending.unwrap_or_else(|| back.clone());
        if next == back && (registered || back != Rest::Ready) {
            enter_since(draft, id, back.into(), back_since);
        } else {
            settle(draft, id, next);
        }
    }
}

pub fn on_connected(draft: &mut Draft<'_>, id: &AgentId, call: CallId) {
    let back = draft.agent(id).and_then(|agent| match &agent.state {
        State::Reserved { back, .. } => Some(back.clone()),
        State::LoggedOut
        | State::NotReady { .. }
        | State::Ready
        | State::Talking { .. }
        | State::Held { .. }
        | State::Consulting { .. }
        | State::Acw { .. } => None,
    });
    if let Some(back) = back {
        enter(draft, id, State::Talking { call, back });
    }
}

/// The agent's phone places a call; where it holds one, beside that.
pub fn on_originated(draft: &mut Draft<'_>, id: &AgentId, call: CallId) {
    let next = draft.agent(id).and_then(|agent| match &agent.state {
        State::Held { call: first, back } => {
            Some(State::Consulting { call: *first, second: call, back: back.clone() })
        }
        State::LoggedOut
        | State::NotReady { .. }
        | State::Ready
        | State::Reserved { .. }
        | State::Talking { .. }
        | State::Consulting { .. }
        | State::Acw { .. } => rest(agent).map(|back| State::Talking { call, back }),
    });
    if let Some(next) = next {
        enter(draft, id, next);
    }
}

/// The conversation goes on in another call.
pub fn on_moved(draft: &mut Draft<'_>, id: &AgentId, from: CallId, to: CallId) {
    let Some(agent) = draft.agent_mut(id) else { return };
    match &mut agent.state {
        State::Talking { call, .. } | State::Held { call, .. } | State::Consulting { call, .. }
            if *call == from =>
        {
            *call = to;
        }
        State::Consulting { second, .. } if *second == from => *second = to,
        State::LoggedOut
        | State::NotReady { .. }
        | State::Ready
        | State::Reserved { .. }
        | State::Talking { .. }
        | State::Held { .. }
        | State::Consulting { .. }
        | State::Acw { .. } => {}
    }
}

pub fn on_held(draft: &mut Draft<'_>, id: &AgentId, call: CallId, held: bool) {
    let next = draft.agent(id).and_then(|agent| match (&agent.state, held) {
        (State::Talking { call: of, back }, true) if *of == call => {
            Some(State::Held { call, back: back.clone() })
        }
        (State::Held { call: of, back }, false) if *of == call => {
            Some(State::Talking { call, back: back.clone() })
        }
        _ => None,
    });
    if let Some(next) = next {
        enter(draft, id, next);
    }
}

/// The agent's last leg ended: after-call work.
pub fn on_call_over(draft: &mut Draft<'_>, id: &AgentId, call: CallId) {
    let acw_ms = draft.config().map_or(0, |config| config.acw_ms);
    let Some(agent) = draft.agent(id) else { return };
    let back = match &agent.state {
        State::Talking { call: of, back } | State::Held { call: of, back } if *of == call => {
            back.clone()
        }
        State::Consulting { call: first, second, back } if *first == call || *second == call => {
            let (left, back) = (if *first == call { *second } else { *first }, back.clone());
            let held = draft.call(&left).is_some_and(|call| call.is_held_by(id));
            let next = if held {
                State::Held { call: left, back }
            } else {
                State::Talking { call: left, back }
            };
            enter(draft, id, next);
            return;
        }
        State::Talking { .. }
        | State::Held { .. }
        | State::Consulting { .. }
        | State::LoggedOut
        | State::NotReady { .. }
        | State::Ready
        | State::Reserved { .. }
        | State::Acw { .. } => return,
    };
    let next = agent.pending.clone().unwrap_or(back);
    clear_pending(draft, id);
    if acw_ms == 0 {
        settle(draft, id, next);
    } else {
        let until = draft.now.after(acw_ms);
        enter(draft, id, State::Acw { until, next });
    }
}

pub fn on_acw_over(draft: &mut Draft<'_>, id: &AgentId, since_index: u64) -> Result<(), Rejection> {
    let agent = draft.agent(id).ok_or_else(|| Rejection::NotFound(format!("agent {id}")))?;
    match &agent.state {
        State::Acw { until, next } if agent.since_index == since_index && *until <= draft.now => {
            let next = next.clone();
            settle(draft, id, next);
            Ok(())
        }
        State::Acw { .. }
        | State::LoggedOut
        | State::NotReady { .. }
        | State::Ready
        | State::Reserved { .. }
        | State::Talking { .. }
        | State::Held { .. }
        | State::Consulting { .. } => Err(illegal(agent, "end of after-call work")),
    }
}

/// Comes to rest; nobody is ready without a phone.
fn settle(draft: &mut Draft<'_>, id: &AgentId, next: Rest) {
    let registered = draft.agent(id).is_some_and(|agent| agent.is_registered());
    let next = match next {
        Rest::Ready if !registered => State::NotReady { reason: STATION_LOST.into() },
        rest => rest.into(),
    };
    enter(draft, id, next);
}

fn clear_pending(draft: &mut Draft<'_>, id: &AgentId) {
    if let Some(agent) = draft.agent_mut(id) {
        agent.pending = None;
    }
}

// --- what people ask for -----------------------------------------------------------------------

pub fn on_requested(
    draft: &mut Draft<'_>,
    id: &AgentId,
    wanted: &RequestedState,
) -> Result<(), Rejection> {
    let agent = draft.agent(id).ok_or_else(|| Rejection::NotFound(format!("agent {id}")))?;
    if *wanted == RequestedState::Ready && !agent.is_registered() {
        return Err(Rejection::Refused(format!("agent {id} has no registered phone")));
    }
    let rest = match wanted {
        RequestedState::Ready => Rest::Ready,
        RequestedState::NotReady { reason } => Rest::NotReady { reason: reason.clone() },
        RequestedState::LoggedOut => Rest::LoggedOut,
    };
    match agent.state.clone() {
        State::Reserved { .. }
        | State::Talking { .. }
        | State::Held { .. }
        | State::Consulting { .. } => {
            if let Some(agent) = draft.agent_mut(id) {
                agent.pending = Some(rest);
            }
        }
        // Asked to be ready twice: the idle rank stays.
        State::Ready if rest == Rest::Ready => {}
        State::LoggedOut | State::NotReady { .. } | State::Ready | State::Acw { .. } => {
            enter(draft, id, rest.into());
        }
    }
    Ok(())
}

/// The supervisor gave the agent's actor up.
pub fn on_quarantined(draft: &mut Draft<'_>, id: &AgentId, reason: &str) {
    let Some(agent) = draft.agent(id) else { return };
    let rest_state = Rest::NotReady { reason: reason.to_owned() };
    match agent.state {
        State::Ready | State::Acw { .. } => enter(draft, id, rest_state.into()),
        State::Reserved { .. }
        | State::Talking { .. }
        | State::Held { .. }
        | State::Consulting { .. } => {
            if let Some(agent) = draft.agent_mut(id) {
                agent.pending = Some(rest_state);
            }
        }
        State::LoggedOut | State::NotReady { .. } => {}
    }
}
