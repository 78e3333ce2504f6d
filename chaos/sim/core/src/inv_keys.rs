//! A key has one effect: however often an operator asks, over whichever leaders, one call is placed,
//! and the answer is the same.

use std::collections::BTreeMap;

use tandem_core::Reply;
use tandem_core::answered::Answered;
use tandem_core::command::Command;

use crate::violation::Checked;
use crate::watch::Step;

#[derive(Debug, Default)]
pub struct Keys {
    known: BTreeMap<String, Answered>,
}

impl Keys {
    pub fn after(&mut self, step: &Step<'_>) -> Checked {
        let Command::Keyed(keyed) = &step.envelope.command else { return Ok(()) };
        let key = &keyed.key;
        let Some(known) = step.world.answered.get(key) else {
            let was = self.known.contains_key(key);
            hold!(!was, "the answer to {key} is forgotten");
            let done = step.applied.reply == Reply::Done;
            hold!(!done, "{key} was done, and nobody remembers");
            return Ok(());
        };
        let Some(first) = self.known.get(key) else {
            hold!(known.command == keyed.command, "{key} is remembered for another request");
            self.known.insert(key.clone(), known.clone());
            return Ok(());
        };
        hold!(step.applied.reply != Reply::Done, "{key} has had its effect, and has one again");
        hold!(step.applied.effects.is_empty(), "{key} has effects for the second time");
        hold!(known == first, "{key} has another answer than the first time");
        Ok(())
    }
}
