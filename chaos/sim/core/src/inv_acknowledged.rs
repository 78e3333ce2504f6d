//! Nothing acknowledged is lost: what a caller is told about an INVITE was committed before, an
//! event that a gateway lets go of was, too, and in the end each of those calls has its record.

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::World;
use tandem_core::gateway::Fresh;
use tandem_core::ids::{EntityId, GatewayId};

use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Call-IDs that a committed command has brought, and whether a caller's.
    known: BTreeMap<String, bool>,
    /// Of callers whose INVITE has its 200.
    answered: BTreeSet<String>,
}

impl Acknowledged {
    pub fn after(&mut self, step: &Step<'_>) {
        for entity in &step.applied.touched {
            let EntityId::Call(id) = entity else { continue };
            let Some(call) = step.world.calls.get(id) else { continue };
            for leg in &call.legs {
                let call_id = &leg.invite.headers.call_id;
                if leg.transaction.is_some() && leg.is_up() && !self.answered.contains(call_id) {
                    self.answered.insert(call_id.clone());
                }
                if !self.known.contains_key(call_id) {
                    // Who takes another's place has no record: it is in that of the call.
                    let calls = leg.transaction.is_some() && leg.is_caller();
                    self.known.insert(call_id.clone(), calls);
                }
            }
        }
        for row in step.applied.rows.iter().filter(|row| row.family == tandem_core::rows::CDRS) {
            if let Some(cdr) = crate::inv_records::decoded(row) {
                self.known.insert(cdr.sip_call_id, true);
            }
        }
    }

    /// The caller's INVITE has its 200.
    pub fn was_answered(&self, call_id: &str) -> bool {
        self.answered.contains(call_id)
    }

    /// A peer is told of its INVITE.
    pub fn on_told(&self, call_id: &str) -> Checked {
        if self.known.contains_key(call_id) {
            Ok(())
        } else {
            Err(format!("{call_id} is answered, and no committed command knows it"))
        }
    }

    /// A gateway lets go of an event: it is told that it counts.
    pub fn on_let_go(world: &World, gateway: &GatewayId, life: u64, sequence: u64) -> Checked {
        let known = world.gateways.get(gateway).filter(|known| known.incarnation >= life);
        let counts = known.is_some_and(|known| {
            known.incarnation > life || known.judge(sequence) == Fresh::Repeated
        });
        hold!(counts, "{gateway} lets go of event {sequence}, and it does not count");
        Ok(())
    }

    pub fn callers(&self) -> impl Iterator<Item = &String> {
        self.known.iter().filter(|(_, caller)| **caller).map(|(call_id, _)| call_id)
    }
}
