//! A transfer ends in one of three ways, once: it went over, it came back, or the call ended; and
//! the record says which.

use std::collections::BTreeMap;

use tandem_core::call::state::{Call, Outcome, Transfer};
use tandem_core::cdr::Cdr;
use tandem_core::ids::{CallId, EntityId};
use tandem_core::rows::CDRS;

use crate::coverage::Coverage;
use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Transfers {
    known: BTreeMap<CallId, Vec<Transfer>>,
}

/// What was said in the second call goes on with the caller of the first, at once.
fn goes_on(step: &Step<'_>, cdr: &Cdr, into: CallId) -> Checked {
    let Some(call) = step.world.calls.get(&into).filter(|call| call.is_live()) else {
        return Err(format!("call {} is joined to call {into}, which is over", cdr.call));
    };
    let went_over = call
        .transfers
        .last()
        .is_some_and(|last| last.attended && last.outcome == Outcome::WentOver);
    hold!(went_over, "call {} is joined to call {into}, which does not know it", cdr.call);
    hold!(call.agent == cdr.agent, "call {into} has another agent than call {}", cdr.call);
    let heard = call.legs.iter().filter(|leg| leg.agent() == cdr.agent.as_ref() && leg.is_up());
    hold!(heard.count() == 1, "the agent of call {} is not in call {into}", cdr.call);
    Ok(())
}

fn is_pending(transfer: &Transfer) -> bool {
    matches!(transfer.outcome, Outcome::Pending { .. })
}

impl Transfers {
    pub fn after(&mut self, step: &Step<'_>, coverage: &mut Coverage) -> Checked {
        for entity in &step.applied.touched {
            if let EntityId::Agent(id) = entity
                && step.world.agents.get(id).is_some_and(|agent| agent.second().is_some())
            {
                coverage.mark("an agent has two calls");
            }
            let EntityId::Call(id) = entity else { continue };
            match step.world.calls.get(id) {
                Some(call) => self.call(call, coverage)?,
                None => drop(self.known.remove(id)),
            }
        }
        for row in step.applied.rows.iter().filter(|row| row.family == CDRS) {
            let Some(cdr) = crate::inv_records::decoded(row) else { continue };
            let open = cdr.transfers.iter().any(is_pending);
            hold!(!open, "call {} is recorded with a transfer that has no end", cdr.call);
            if let Some(into) = cdr.joined {
                coverage.mark("two calls are joined");
                goes_on(step, &cdr, into)?;
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &Call, coverage: &mut Coverage) -> Checked {
        let before = self.known.insert(call.id, call.transfers.clone()).unwrap_or_default();
        let fewer = call.transfers.len() < before.len();
        hold!(!fewer, "call {} has forgotten a transfer", call.id);
        for (then, now) in before.iter().zip(&call.transfers) {
            let same = (then.at, &then.agent, &then.to, then.attended)
                == (now.at, &now.agent, &now.to, now.attended);
            hold!(same, "a transfer of call {} has become another", call.id);
            let decided_again = !is_pending(then) && then.outcome != now.outcome;
            hold!(!decided_again, "a transfer of call {} ends for the second time", call.id);
        }
        let ended = call
            .transfers
            .iter()
            .enumerate()
            .filter(|(at, now)| !is_pending(now) && before.get(*at).is_none_or(is_pending));
        for (_, transfer) in ended {
            coverage.mark(match transfer.outcome {
                Outcome::WentOver => "a transfer goes over",
                Outcome::CameBack { .. } => "a transfer comes back",
                Outcome::Ended | Outcome::Pending { .. } => "a transfer ends with its call",
            });
        }
        Ok(())
    }
}
