//! A consultation ends once, and one that is completed is a transfer. While it lasts the caller hears
//! music and nobody hears the caller.

use std::collections::BTreeMap;

use tandem_core::World;
use tandem_core::call::state::{Call, Consulted};
use tandem_core::effect::{Body, MediaPlan, Source};
use tandem_core::ids::{CallId, EntityId, LegId};

use crate::coverage::Coverage;
use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Consults {
    known: BTreeMap<CallId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    outcome: Option<Consulted>,
    /// The colleague's leg names a consultation: two may be of the same moment.
    asked: Option<LegId>,
    /// Transfers of the call.
    transfers: usize,
}

impl Consults {
    pub fn after(&mut self, step: &Step<'_>, coverage: &mut Coverage) -> Checked {
        for entity in &step.applied.touched {
            let EntityId::Call(id) = entity else { continue };
            match step.world.calls.get(id) {
                Some(call) => self.call(call, coverage)?,
                None => drop(self.known.remove(id)),
            }
        }
        for effect in &step.applied.effects {
            if let Body::Media(plan) = &effect.body {
                caller_is_apart(step.world, plan)?;
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &Call, coverage: &mut Coverage) -> Checked {
        let before = self.known.remove(&call.id).unwrap_or_default();
        let outcome = call.consult.as_ref().map(|consult| consult.outcome);
        let asked = call.consulted().map(|leg| leg.id).or(before.asked);
        let transfers = call.transfers.len();
        self.known.insert(call.id, Known { outcome, asked, transfers });
        let Some(now) = &call.consult else {
            hold!(before.outcome.is_none(), "call {} has forgotten its consultation", call.id);
            return Ok(());
        };
        let same = before.outcome.filter(|_| before.asked == asked);
        let was = same.unwrap_or(Consulted::Pending);
        let once = was == Consulted::Pending || was == now.outcome;
        hold!(once, "a consultation of call {} ends for the second time", call.id);
        if was == now.outcome {
            return Ok(());
        }
        let moved = call.transfers.len() > before.transfers;
        let completed = now.outcome == Consulted::Completed;
        hold!(
            completed == moved,
            "a consultation of call {} is {}, and that is no transfer of it",
            call.id,
            now.outcome.as_str()
        );
        coverage.mark(match now.outcome {
            Consulted::Completed if call.state_name() == "dialing" => {
                "a consultation is completed while it rings"
            }
            Consulted::Completed => "a consultation is completed",
            Consulted::HungUp => "a colleague who is asked hangs up",
            Consulted::Ended => "a consultation ends with its call",
            Consulted::Cancelled | Consulted::Failed { .. } | Consulted::Pending => {
                "a consultation comes to nothing"
            }
        });
        Ok(())
    }
}

fn caller_is_apart(world: &World, plan: &MediaPlan) -> Checked {
    let Some(call) = world.calls.get(&plan.call) else { return Ok(()) };
    let Some(caller) = call.caller().filter(|_| call.consulted().is_some()) else { return Ok(()) };
    for leg in &plan.legs {
        let apart = if leg.leg == caller.id {
            leg.source == Source::Music
        } else {
            leg.source != Source::Leg(caller.id)
        };
        hold!(apart, "the caller of {} is in on what its agent asks", call.id);
    }
    Ok(())
}
