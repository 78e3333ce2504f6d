//! Offers go only to agents who are ready, and an agent has at most one.

use std::collections::BTreeMap;

use tandem_core::agent::state::{Agent, State};
use tandem_core::call::leg::Role;
use tandem_core::command::{Command, GatewayEvent, OperatorCommand, RequestedState};
use tandem_core::deadline::Deadline;
use tandem_core::ids::{AgentId, EntityId};

use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Offers {
    states: BTreeMap<AgentId, Agent>,
}

impl Offers {
    pub fn after(&mut self, step: &Step<'_>) -> Checked {
        for entity in &step.applied.touched {
            let EntityId::Agent(id) = entity else { continue };
            let Some(now) = step.world.agents.get(id) else { continue };
            let before = self.states.insert(id.clone(), now.clone());
            let State::Reserved { call, offer, .. } = &now.state else { continue };
            let ringing = step
                .world
                .calls
                .get(call)
                .and_then(|call| call.legs.iter().find(|leg| leg.offer() == Some(*offer)));
            let of_queue = ringing.is_some_and(|leg| matches!(leg.role, Role::Agent { .. }));
            let Some(before) = before.filter(|_| of_queue) else { continue };
            let same = matches!(
                &before.state,
                State::Reserved { offer: known, .. } if known == offer
            );
            if same {
                continue;
            }
            let ready = match &before.state {
                State::Ready => before.is_registered() || registers(step, id),
                State::Reserved { .. }
                | State::Talking { .. }
                | State::Held { .. }
                | State::Consulting { .. } => {
                    // It was over in the same entry.
                    !matches!(before.pending, Some(ref rest) if *rest != tandem_core::agent::state::Rest::Ready)
                }
                State::LoggedOut | State::NotReady { .. } => {
                    registers(step, id) || asks_ready(step, id)
                }
                State::Acw { .. } => asks_ready(step, id) || is_acw_over(step, id),
            };
            let was = before.state_name();
            hold!(ready, "agent {id} is offered a call while {was}");
            hold!(now.is_registered(), "agent {id} is offered a call without a phone");
        }
        Ok(())
    }
}

fn registers(step: &Step<'_>, id: &AgentId) -> bool {
    matches!(&step.envelope.command,
        Command::Gateway(GatewayEvent::Register(register)) if register.agent == *id)
}

fn asks_ready(step: &Step<'_>, id: &AgentId) -> bool {
    matches!(&step.envelope.command,
        Command::Operator(OperatorCommand::SetAgentState { agent, state })
            if agent == id && *state == RequestedState::Ready)
}

fn is_acw_over(step: &Step<'_>, id: &AgentId) -> bool {
    matches!(&step.envelope.command,
        Command::Due(Deadline::AcwOver { agent, .. }) if agent == id)
}
