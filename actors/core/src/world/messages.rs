//! The memory of texts under way: bounded in time and number.

use tandem_sip::Method;

use super::World;
use super::indices::EffectName;
use crate::message::state::Relayed;
use crate::rows::{self, RowChange};

impl World {
    pub(super) fn change_message(
        &mut self,
        branch: String,
        message: Option<Relayed>,
        rows: &mut Vec<RowChange>,
    ) {
        match message {
            Some(message) => {
                rows.push(rows::message(&branch, Some(&message)));
                self.indices.messages.insert((message.until, branch.clone()));
                self.messages.insert(branch, message);
            }
            None => self.forget_message(&branch, rows),
        }
    }

    /// Those whose time is over.
    pub(super) fn forget_old_messages(&mut self, rows: &mut Vec<RowChange>) {
        while let Some((until, branch)) = self.indices.messages.first()
            && *until <= self.at
        {
            let branch = branch.clone();
            self.forget_message(&branch, rows);
        }
    }

    fn forget_message(&mut self, branch: &str, rows: &mut Vec<RowChange>) {
        let Some(message) = self.messages.remove(branch) else { return };
        self.indices.messages.remove(&(message.until, message.branch));
        rows.push(rows::message(branch, None));
        // What nobody has said to be done is not done any more.
        if let Some(id) = self.indices.effects.get(EffectName::Send(branch, &Method::Message)) {
            self.forget_effect(id, rows);
        }
    }
}
