//! A call that nobody takes: it comes back to whoever sent it on or asked, or ends. Whoever has been
//! answered before hears why, as from any exchange.

use super::state::Unreached;
use super::{consult, ending, transfer};
use crate::cdr::{Disposition, Side};
use crate::draft::Draft;
use crate::ids::CallId;
use crate::ivr::machine as ivr;
use crate::ivr::tones::Tone;

/// Nobody takes the call where it was to go.
pub fn unreached(draft: &mut Draft<'_>, id: CallId, status: u16, how: Disposition, by: Side) {
    if consult::is_under_way(draft, id) {
        consult::on_failed(draft, id, status);
    } else if transfer::is_pending(draft, id) {
        transfer::come_back(draft, id, status);
    } else {
        end(draft, id, status, how, by);
    }
}

/// A caller whose own INVITE waits is told by its answer, one who is up already by a tone.
pub fn end(draft: &mut Draft<'_>, id: CallId, status: u16, how: Disposition, by: Side) {
    let said = draft.said;
    let call = draft.call_mut(&id).filter(|call| {
        let caller = call.caller();
        let hears = caller.is_some_and(|leg| leg.is_up() && leg.media.port != 0);
        // A flow says itself where it leads who can't be put through.
        hears && call.connected_at.is_none() && call.flow.is_none()
    });
    let Some(call) = call else { return ending::end_unanswered(draft, id, status, how, by) };
    call.unreached = Some(Unreached { status, how, by });
    // For the BYE that comes after the tone.
    call.q850 = said;
    ivr::play_tone(draft, id, Tone::of_status(status));
}
