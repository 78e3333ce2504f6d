//! A phone that takes the place of another (RFC 3891) is the only one with the caller from then on,
//! and the other is let go in the same moment.

use std::collections::BTreeSet;

use tandem_core::call::leg::{Leg, State as LegState};
use tandem_core::call::state::{Call, State as CallState};
use tandem_core::ids::{EntityId, LegId};

use crate::coverage::Coverage;
use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct PickUps {
    known: BTreeSet<LegId>,
    /// Legs by which a call was placed: who sends on whom it called is no caller any more.
    placed: BTreeSet<LegId>,
}

impl PickUps {
    pub fn after(&mut self, step: &Step<'_>, coverage: &mut Coverage) -> Checked {
        for entity in &step.applied.touched {
            let EntityId::Call(id) = entity else { continue };
            let Some(call) = step.world.calls.get(id) else { continue };
            self.placed.extend(call.caller().map(|leg| leg.id));
            for leg in call.legs.iter().filter(|leg| has_invited(leg)) {
                if self.placed.contains(&leg.id) {
                    coverage.mark("who has placed a call sends on whom it called");
                } else if self.known.insert(leg.id) {
                    took_over(step, call, leg, coverage)?;
                }
            }
        }
        Ok(())
    }
}

/// An agent's leg whose INVITE is the phone's own.
fn has_invited(leg: &Leg) -> bool {
    !leg.is_caller() && leg.transaction.is_some()
}

fn took_over(step: &Step<'_>, call: &Call, new: &Leg, coverage: &mut Coverage) -> Checked {
    let id = call.id;
    hold!(call.state == CallState::Connected { leg: new.id }, "who picks call {id} up has it not");
    let agent = new.agent().and_then(|agent| step.world.agents.get(agent));
    hold!(agent.is_some_and(|agent| agent.is_in(id)), "who picks call {id} up is not in it");
    let mut cancelled = false;
    for old in call.legs.iter().filter(|leg| leg.id != new.id && !leg.is_caller()) {
        let gone = !old.is_up() && !old.is_ringing();
        hold!(gone, "call {id} is picked up, and is still with another");
        cancelled |= matches!(old.state, LegState::Cancelling { .. }) && old.agent() != new.agent();
    }
    coverage.mark(match (cancelled, call.transfers.last()) {
        (false, Some(last)) if last.at == step.world.at => "a conversation is taken over",
        (_, _) => "a ringing call is picked up",
    });
    Ok(())
}
