//! A caller talks to one agent and an agent to one caller, or to two, one of whom is held; a colleague
//! who is asked, to nobody else.

use std::collections::BTreeMap;

use tandem_core::call::leg::State as LegState;
use tandem_core::ids::{CallId, EntityId};

use crate::violation::Checked;
use crate::watch::Step;

pub fn after(step: &Step<'_>) -> Checked {
    let moved = step
        .applied
        .touched
        .iter()
        .any(|entity| matches!(entity, EntityId::Call(_) | EntityId::Agent(_)));
    if !moved {
        return Ok(());
    }
    let mut talks = BTreeMap::new();
    for call in step.world.calls.values().filter(|call| call.is_live()) {
        let asked = call.consulted().filter(|leg| leg.state == LegState::Active);
        let mut up = call.legs.iter().filter(|leg| {
            let is_asked = asked.is_some_and(|asked| asked.id == leg.id);
            leg.state == LegState::Active && !leg.is_caller() && !is_asked
        });
        let (first, second) = (up.next(), up.next());
        hold!(second.is_none(), "the caller of {} talks to two agents", call.id);
        for agent in first.into_iter().chain(asked).filter_map(|leg| leg.agent()) {
            let other = talks.insert(agent, call.id);
            // One whose second call's party is sent on has both until that is over.
            let has = step.world.agents.get(agent).filter(|it| it.second().is_some());
            let both = has.is_some_and(|it| {
                it.is_in(call.id) && other.is_some_and(|other: CallId| it.is_in(other))
            });
            hold!(other.is_none() || both, "agent {agent} talks to the callers of two calls");
        }
    }
    Ok(())
}
