//! The memory of refused INVITEs: bounded in time and number.

use super::World;
use super::indices::EffectName;
use crate::call::refused::Refused;
use crate::command::TransactionKey;
use crate::effect::{Effect, EffectId};
use crate::limits;
use crate::rows::{self, RowChange};

impl World {
    /// The refusal that an INVITE got, to be said again.
    pub fn refusal_of(&self, transaction: &TransactionKey) -> Option<&Effect> {
        self.refused.get(transaction)?;
        let id = self.effect_that_answers(transaction)?;
        self.outbox.get(&id)
    }

    pub(super) fn remember_refused(&mut self, refused: Refused, rows: &mut Vec<RowChange>) {
        if self.refused.len() >= limits::REFUSED_MAX
            && let Some((_, oldest)) = self.indices.refused.first().cloned()
        {
            self.forget_refused(&oldest, rows);
        }
        rows.push(rows::refused(refused.call, Some(&refused)));
        self.indices.refused.insert((refused.until, refused.transaction.clone()));
        self.refused.insert(refused.transaction.clone(), refused);
    }

    /// Those whose time is over, with the effects that said them.
    pub(super) fn forget_old_refused(&mut self, rows: &mut Vec<RowChange>) {
        while let Some((until, transaction)) = self.indices.refused.first()
            && *until <= self.at
        {
            let transaction = transaction.clone();
            self.forget_refused(&transaction, rows);
        }
    }

    fn forget_refused(&mut self, transaction: &TransactionKey, rows: &mut Vec<RowChange>) {
        let Some(refused) = self.refused.remove(transaction) else { return };
        self.indices.refused.remove(&(refused.until, refused.transaction));
        rows.push(rows::refused(refused.call, None));
        if let Some(id) = self.effect_that_answers(transaction) {
            self.forget_effect(id, rows);
        }
    }

    fn effect_that_answers(&self, transaction: &TransactionKey) -> Option<EffectId> {
        self.indices.effects.get(EffectName::Respond(transaction))
    }
}
