//! Matching: who is served next, and by whom.

use super::state::State;
use crate::agent::state::Agent;
use crate::call::outbound;
use crate::call::state::State as CallState;
use crate::config::{Queue, Strategy};
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, OfferId, QueueId};

/// Offers until no caller who waits has an available agent. Between queues that an agent serves,
/// the caller who has waited longest is first.
pub fn match_all(draft: &mut Draft<'_>) {
    // Each turn makes one agent unavailable, so the agents bound the loop.
    while let Some((call, queue, agent)) = next_match(draft) {
        if !outbound::offer(draft, call, &agent, &queue) {
            return;
        }
    }
}

fn next_match(draft: &Draft<'_>) -> Option<(CallId, QueueId, AgentId)> {
    let written = draft.writes.queues.iter().map(|(id, _)| id);
    let first = |id: &QueueId| {
        let head = draft.queue(id)?.head()?;
        let known = draft.config()?.queue(id)?;
        let agent = match known.strategy {
            Strategy::LongestIdle => longest_idle(draft, known)?,
        };
        Some((head.enqueued_at, head.call, id.clone(), agent))
    };
    let next = written.chain(draft.world.waiting()).filter_map(first).min();
    next.map(|(_, call, queue, agent)| (call, queue, agent))
}

/// The agent who has been ready longest; the id breaks ties.
fn longest_idle(draft: &Draft<'_>, queue: &Queue) -> Option<AgentId> {
    let rank = |agent: &Agent| (agent.since, agent.id.clone());
    if draft.writes.config.is_some() {
        // The indices are of the configuration before.
        let agents = queue.agents.iter().filter_map(|id| draft.agent(id));
        return agents.filter(|agent| agent.is_available()).map(rank).min().map(|(_, id)| id);
    }
    let written = draft.writes.agents.iter().filter_map(|(_, agent)| agent.as_ref());
    let written = written
        .filter(|agent| agent.is_available() && draft.world.serves(&agent.id, &queue.id))
        .map(rank);
    let known = draft.world.ready(&queue.id);
    let known = known.filter(|(_, id)| draft.writes.agents.get(id).is_none());
    let known = known.map(|(since, id)| (since, id.clone())).next();
    written.chain(known).min().map(|(_, id)| id)
}

/// An offer came to nothing: the caller waits at the same place.
pub fn on_offer_over(draft: &mut Draft<'_>, call: CallId, offer: OfferId) {
    let Some(CallState::Queued { queue }) = draft.call(&call).map(|call| call.state.clone()) else {
        return;
    };
    if let Some(entry) = draft.queue_mut(&queue).and_then(|queue| queue.entry_mut(call))
        && matches!(&entry.state, State::Offered { offer: current, .. } if *current == offer)
    {
        entry.state = State::Waiting;
    }
}
