//! Exactly one terminal outcome and one record a call: written when the call ends, never again.

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::cdr::Cdr;
use tandem_core::ids::{CallId, EntityId};
use tandem_core::rows::{CDRS, RowChange, decode_cdr};

use crate::inv_acknowledged::Acknowledged;
use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Records {
    written: BTreeSet<CallId>,
    /// And whether it was taken down because no ACK came.
    by_call_id: BTreeMap<String, bool>,
    pub count: usize,
}

pub fn decoded(row: &RowChange) -> Option<Cdr> {
    row.value.as_deref().and_then(|value| decode_cdr(value).ok())
}

impl Records {
    pub fn after(&mut self, step: &Step<'_>) -> Checked {
        for row in step.applied.rows.iter().filter(|row| row.family == CDRS) {
            let Some(cdr) = decoded(row) else { return Err("a record can't be read".into()) };
            self.count += 1;
            hold!(self.written.insert(cdr.call), "call {} has two records", cdr.call);
            // A gateway that refused a caller tells the cluster that nobody waits for its answer;
            // where the refusal was lost with the gateway, the caller calls on, and is served.
            let nobody_waited = cdr.cause == "no_ack";
            let before = self.by_call_id.insert(cdr.sip_call_id.clone(), nobody_waited);
            hold!(before != Some(false), "the INVITE {} has two records", cdr.sip_call_id);
            hold!(cdr.ended_at >= cdr.started_at, "call {} ended before it began", cdr.call);
            let times = [cdr.answered_at, cdr.queued_at, cdr.connected_at];
            for at in times.into_iter().flatten() {
                let within = cdr.started_at <= at && at <= cdr.ended_at;
                hold!(within, "a time of call {} lies outside of it", cdr.call);
            }
        }
        for entity in &step.applied.touched {
            let EntityId::Call(id) = entity else { continue };
            let live = step.world.calls.get(id).map(|call| call.is_live());
            let written = self.written.contains(id);
            match live {
                Some(true) => hold!(!written, "live call {id} has a record"),
                Some(false) | None => {
                    hold!(written || live.is_none(), "ended call {id} has no record");
                }
            }
        }
        Ok(())
    }

    pub fn at_rest(&self, acknowledged: &Acknowledged) -> Checked {
        for call_id in acknowledged.callers() {
            hold!(self.by_call_id.contains_key(call_id), "the call {call_id} has no record");
        }
        Ok(())
    }
}
