//! Matching: who is served next, and by whom.

use super::state::State;
use crate::call::outbound;
use crate::call::state::State as CallState;
use crate::config::Strategy;
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
    let config = draft.config()?;
    config
        .queues
        .iter()
        .filter_map(|known| {
            let head = draft.queue(&known.id)?.head()?;
            let agent = match known.strategy {
                Strategy::LongestIdle => longest_idle(draft, &known.agents)?,
            };
            Some((head.enqueued_at, head.call, known.id.clone(), agent))
        })
        .min()
        .map(|(_, call, queue, agent)| (call, queue, agent))
}

/// The agent who has been ready longest; the id breaks ties.
fn longest_idle(draft: &Draft<'_>, agents: &[AgentId]) -> Option<AgentId> {
    agents
        .iter()
        .filter_map(|id| draft.agent(id))
        .filter(|agent| agent.is_available())
        .min_by_key(|agent| (agent.since, &agent.id))
        .map(|agent| agent.id.clone())
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
