//! A PRACK counts once (RFC 3262): whoever leads next knows of it, and nothing that it was the last
//! to wait for waits any longer.

use std::collections::BTreeSet;

use tandem_core::call::leg::State as LegState;
use tandem_core::call::reliable::Prack;
use tandem_core::call::state::State;
use tandem_core::ids::{EntityId, LegId};

use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Reliables {
    /// Legs whose callers have acknowledged what they were told reliably.
    came: BTreeSet<LegId>,
}

impl Reliables {
    pub fn after(&mut self, step: &Step<'_>) -> Checked {
        for entity in &step.applied.touched {
            let EntityId::Call(id) = entity else { continue };
            let Some(call) = step.world.calls.get(id) else { continue };
            for leg in &call.legs {
                let Some(reliable) = leg.reliable else { continue };
                match reliable.state {
                    Prack::Came => {
                        self.came.insert(leg.id);
                    }
                    Prack::Awaited | Prack::Holds => {
                        let came = self.came.contains(&leg.id);
                        hold!(!came, "the PRACK of call {id} is awaited, and has come");
                    }
                }
                let connected = matches!(call.state, State::Connected { .. });
                let waits = leg.state == LegState::Trying && reliable.state != Prack::Holds;
                hold!(!(connected && waits), "call {id} is answered, and its caller is not told");
            }
            if !call.is_live() {
                let gone: Vec<_> = call.legs.iter().map(|leg| leg.id).collect();
                self.came.retain(|leg| !gone.contains(leg));
            }
        }
        Ok(())
    }
}
