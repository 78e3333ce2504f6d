//! A deadline comes true when it has passed, and once.

use tandem_core::Reply;
use tandem_core::command::Command;

use crate::violation::Checked;
use crate::watch::Step;

pub fn after(step: &Step<'_>) -> Checked {
    let Command::Due(deadline) = &step.envelope.command else { return Ok(()) };
    if step.applied.reply != Reply::Done {
        return Ok(());
    }
    hold!(step.was_due, "{deadline:?} came true, and was not due");
    let again = step.world.due(step.world.at).contains(deadline);
    hold!(!again, "{deadline:?} came true and may do so again");
    Ok(())
}
