//! What is left to be done again is only what may be: an INVITE no longer once its peer has said a
//! word, and nothing beyond the outbox's bound.

use tandem_core::call::leg::State as LegState;
use tandem_core::effect::Body;
use tandem_core::ids::EntityId;
use tandem_core::limits;
use tandem_sip::Method;

use crate::violation::Checked;
use crate::watch::Step;

pub fn after(step: &Step<'_>) -> Checked {
    let world = step.world;
    hold!(world.outbox.len() <= limits::OUTBOX_MAX, "the outbox is beyond its bound");
    for entity in &step.applied.touched {
        let EntityId::Call(id) = entity else { continue };
        let Some(call) = world.calls.get(id) else { continue };
        for effect in world.effects_of(entity) {
            let Body::Send { request, .. } = &effect.body else { continue };
            if request.method != Method::Invite {
                continue;
            }
            let branch = request.headers.branch();
            let leg = call.legs.iter().find(|leg| leg.invite_branch() == branch);
            let answered = leg.is_some_and(|leg| {
                !matches!(leg.state, LegState::Calling | LegState::Cancelling { sent: false })
            });
            hold!(!answered, "the INVITE {branch} has been answered and would be sent again");
        }
    }
    Ok(())
}
