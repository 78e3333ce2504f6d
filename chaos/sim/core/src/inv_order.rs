//! Who came first is served first, and a caller keeps the place and the waiting time over ring-outs
//! and takeovers.

use std::collections::BTreeMap;

use tandem_core::call::state::State as CallState;
use tandem_core::command::{Command, GatewayEvent};
use tandem_core::ids::{CallId, EntityId, OfferId};
use tandem_core::queue::state::State;
use tandem_sip::Millis;

use crate::violation::Checked;
use crate::watch::Step;

/// Who had picked the caller up has never heard of it: the caller has the place of before.
fn comes_back(step: &Step<'_>, call: CallId, enqueued_at: Millis) -> bool {
    let unheard =
        matches!(step.envelope.command, Command::Gateway(GatewayEvent::AckTimeout { .. }));
    let call = step.world.calls.get(&call);
    unheard && call.is_some_and(|call| call.queued_at == Some(enqueued_at))
}

#[derive(Debug)]
struct Place {
    enqueued_at: Millis,
    offer: Option<OfferId>,
}

#[derive(Debug, Default)]
pub struct Order {
    places: BTreeMap<CallId, Place>,
}

impl Order {
    pub fn after(&mut self, step: &Step<'_>) -> Checked {
        for entity in &step.applied.touched {
            let EntityId::Queue(id) = entity else { continue };
            let Some(queue) = step.world.queues.get(id) else { continue };
            let mut earlier_waits: Option<CallId> = None;
            for entry in &queue.entries {
                let offer = match &entry.state {
                    State::Waiting => None,
                    State::Offered { offer, .. } => Some(*offer),
                };
                let enqueued_at = entry.enqueued_at;
                let before = self.places.insert(entry.call, Place { enqueued_at, offer });
                match &before {
                    Some(place) => hold!(
                        place.enqueued_at == enqueued_at,
                        "call {} has lost its place in queue {id}",
                        entry.call
                    ),
                    None => hold!(
                        enqueued_at == step.world.at || comes_back(step, entry.call, enqueued_at),
                        "call {} joins queue {id} at another time than now",
                        entry.call
                    ),
                }
                let new = offer.is_some() && before.and_then(|place| place.offer) != offer;
                if let (true, Some(first)) = (new, earlier_waits) {
                    return Err(format!(
                        "call {} is offered while {first} has waited longer in queue {id}",
                        entry.call
                    ));
                }
                if offer.is_none() {
                    earlier_waits.get_or_insert(entry.call);
                }
            }
        }
        for entity in &step.applied.touched {
            if let EntityId::Call(id) = entity {
                // One that is transferred may wait again, at a new place.
                let waits = step
                    .world
                    .calls
                    .get(id)
                    .is_some_and(|call| matches!(call.state, CallState::Queued { .. }));
                if !waits {
                    self.places.remove(id);
                }
            }
        }
        Ok(())
    }
}
