//! What the core itself says is true of every world.

use tandem_core::invariants;

use crate::violation::Checked;
use crate::watch::Step;

pub fn after(step: &Step<'_>) -> Checked {
    // Entries that touched nothing left the world as it was.
    if step.applied.touched.is_empty() {
        return Ok(());
    }
    invariants::check(step.world).map_err(|violation| violation.0)
}
