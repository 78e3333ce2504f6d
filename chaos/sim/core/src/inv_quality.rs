//! What a gateway says of a leg is written once, whatever is repeated on the way, and names a call
//! that there was, and whose leg it was.

use std::collections::BTreeSet;

use tandem_core::ids::{CallId, EntityId};
use tandem_core::rows::{QUALITIES, decode_quality};

use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Qualities {
    calls: BTreeSet<CallId>,
    written: BTreeSet<Vec<u8>>,
}

impl Qualities {
    pub fn after(&mut self, step: &Step<'_>) -> Checked {
        for entity in &step.applied.touched {
            if let EntityId::Call(id) = entity {
                self.calls.insert(*id);
            }
        }
        for row in step.applied.rows.iter().filter(|row| row.family == QUALITIES) {
            let read = row.value.as_deref().and_then(|value| decode_quality(value).ok());
            let Some(read) = read else { return Err("a leg's quality can't be read".into()) };
            let (call, leg) = (read.quality.call, read.quality.leg);
            hold!(self.calls.contains(&call), "there was no call {call} of leg {leg}");
            hold!(read.quality.role.is_some(), "nobody knows whose leg {leg} was");
            let new = self.written.insert(row.key.clone());
            hold!(new, "the quality of leg {leg} of call {call} is written twice");
        }
        Ok(())
    }
}
