//! The world's time never goes back, and what happens is dated by it, not by anybody's clock.

use tandem_core::ids::EntityId;
use tandem_sip::Millis;

use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Time {
    at: Millis,
    index: u64,
}

impl Time {
    pub fn after(&mut self, step: &Step<'_>) -> Checked {
        let world = step.world;
        hold!(world.index > self.index, "index {} comes after {}", world.index, self.index);
        hold!(world.at >= self.at, "time goes back to {:?} from {:?}", world.at, self.at);
        hold!(world.at >= step.envelope.at, "time stands behind the command's");
        let before = std::mem::replace(&mut self.at, world.at);
        self.index = world.index;
        for entity in &step.applied.touched {
            let EntityId::Agent(id) = entity else { continue };
            let Some(agent) = world.agents.get(id) else { continue };
            let dated = agent.since <= world.at;
            hold!(dated, "agent {id} is in a state since the future");
            let new = agent.since_index == step.meta.index;
            // An offer that was withdrawn leaves an agent who rests as before.
            let kept = matches!(agent.state_name(), "ready" | "not_ready" | "logged_out");
            hold!(
                !new || kept || agent.since >= before,
                "agent {id} changed before the last entry"
            );
        }
        for call in step.world.calls.values() {
            hold!(call.started_at <= world.at, "call {} began in the future", call.id);
        }
        Ok(())
    }
}
