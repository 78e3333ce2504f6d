//! A consultation ends once, and one that is completed is a transfer. While it lasts the caller hears
//! music and nobody hears the caller; but in a conference each hears all others, and nobody himself.

use std::collections::BTreeMap;

use tandem_core::World;
use tandem_core::call::leg::Leg;
use tandem_core::call::state::{Call, Consulted, State};
use tandem_core::effect::{Body, MediaLeg, MediaPlan, Source};
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
                all_hear_each_other(step.world, plan)?;
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
        let once = was == Consulted::Pending
            || was == Consulted::Joined && now.outcome != Consulted::Pending
            || was == now.outcome;
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
        let conferenced = was == Consulted::Joined;
        coverage.mark(match now.outcome {
            Consulted::Joined => "all three speak together",
            Consulted::Completed if conferenced => "the agent leaves a conference",
            Consulted::HungUp | Consulted::Cancelled if conferenced => {
                "the colleague leaves a conference"
            }
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
    let apart = matches!(call.state, State::Consulting { .. });
    let Some(caller) = call.caller().filter(|_| apart) else { return Ok(()) };
    for leg in &plan.legs {
        let apart = if leg.leg == caller.id {
            matches!(leg.source, Source::Music(_))
        } else {
            leg.source != Source::Leg(caller.id)
        };
        hold!(apart, "the caller of {} is in on what its agent asks", call.id);
    }
    Ok(())
}

fn all_hear_each_other(world: &World, plan: &MediaPlan) -> Checked {
    let Some(call) = world.calls.get(&plan.call) else { return Ok(()) };
    let is_mixed = |heard: &MediaLeg| matches!(heard.source, Source::Mix(_));
    let State::Conferenced { leg, joined } = call.state else {
        hold!(!plan.legs.iter().any(is_mixed), "{} is no conference, and mixed", call.id);
        return Ok(());
    };
    let parties = call.caller().map(|caller| caller.id).into_iter().chain([leg, joined]);
    let parties: Vec<&Leg> = parties.filter_map(|id| call.leg(id)).collect();
    for heard in &plan.legs {
        let Source::Mix(hears) = &heard.source else {
            return Err(format!("leg {} is left out of the conference of {}", heard.leg, call.id));
        };
        hold!(!hears.contains(&heard.leg), "leg {} of {} hears itself", heard.leg, call.id);
        for other in parties.iter().filter(|other| other.id != heard.leg) {
            let speaks = !other.held && other.is_up();
            let is_heard = hears.contains(&other.id);
            hold!(is_heard == speaks, "leg {} of {} doesn't hear {}", heard.leg, call.id, other.id);
        }
    }
    let mixed = plan.recording.is_none_or(|recording| recording.mixed);
    hold!(mixed, "the recording of the conference of {} lacks one who speaks", call.id);
    Ok(())
}
