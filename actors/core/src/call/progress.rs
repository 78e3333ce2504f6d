//! Whoever is called rings, or is heard before it answers, and the caller is told so.

use tandem_sip::Response;
use tandem_sip::sdp::Audio;

use super::leg::{Leg, State as LegState};
use super::state::Call;
use super::{early_media, media, outside, reliable};
use crate::draft::{ALLOW, Draft};
use crate::ids::{CallId, EntityId, LegId};

/// A provisional response to an INVITE of ours; `dialing`: its caller waits for that leg alone.
pub fn on_provisional(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    response: &Response,
    answer: Option<&Audio>,
    dialing: bool,
) {
    let alerting = response.status >= 180;
    outside::on_provisional(draft, id, leg_id);
    let mut first = false;
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        first = alerting && leg.state != LegState::Alerting;
        if alerting {
            leg.state = LegState::Alerting;
        } else if leg.state == LegState::Calling {
            leg.state = LegState::Proceeding;
        }
    }
    let heard = alerting && early_media::on_described(draft, id, leg_id, response, answer);
    let described = dialing && (first || heard) && tell_progress(draft, id, heard);
    if heard || described {
        // Who knows where to listen hears it ring, or hears whom it has called.
        media::plan(draft, id);
    }
}

/// The number dialled rings, so says the caller's phone; or it is heard already. True where the
/// caller was told where to listen.
fn tell_progress(draft: &mut Draft<'_>, id: CallId, heard: bool) -> bool {
    // What was said reliably, or of a party that is heard, is not said twice.
    let told = |caller: &Leg| caller.reliable.is_some() || caller.previewed;
    if draft.call(&id).and_then(Call::caller).is_none_or(told) {
        return false;
    }
    reliable::begin(draft, id);
    let Some(call) = draft.call_mut(&id) else { return false };
    let trying = |leg: &&mut Leg| leg.is_caller() && leg.state == LegState::Trying;
    let Some(caller) = call.legs.iter_mut().find(trying) else { return false };
    caller.previewed = heard;
    let caller = caller.clone();
    if let Some(transaction) = &caller.transaction {
        let response = ringing(draft, id, &caller);
        draft.respond(EntityId::Call(id), transaction, response);
    }
    caller.reliable.is_some() || caller.previewed
}

/// 180 to the caller, or 183 where it hears whom it has called.
pub fn ringing(draft: &Draft<'_>, id: CallId, caller: &Leg) -> Response {
    let status = if caller.previewed { 183 } else { 180 };
    let mut response = caller.invite.respond(status, None, Some(&caller.local_tag));
    response.headers.contact =
        vec![draft.contact_for(&caller.invite, &caller.gateway, caller.carrier)];
    if caller.reliable.is_some() {
        response.headers.push_other("Allow", ALLOW);
    }
    reliable::put(draft, id, caller, &mut response);
    response
}
