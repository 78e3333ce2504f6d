//! Offers that meet (RFC 3261 §14.2, RFC 3311 §5.2): one that comes while another is unanswered is
//! refused, and what is under way goes on.

use tandem_sip::{Method, Millis, Request, Response};

use super::early_offer;
use super::leg::{Leg, State as LegState};
use crate::draft::Draft;

/// The refusal of a re-INVITE or UPDATE that comes at a bad time.
pub fn refusal(
    draft: &mut Draft<'_>,
    leg: &Leg,
    request: &Request,
    offers: bool,
) -> Option<Response> {
    let invites = request.method == Method::Invite;
    if !offers && !invites {
        return None;
    }
    if leg.state == LegState::Trying {
        return early_offer::refusal_to_caller(draft, leg, request);
    }
    let ours = asks(leg) || awaits_answer(leg, draft.now);
    ours.then(|| request.respond(491, None, None))
}

/// A re-INVITE of ours is under way.
fn asks(leg: &Leg) -> bool {
    let refresh = leg.timer.as_ref().and_then(|timer| timer.under_way());
    refresh.is_some_and(|refresh| refresh.invite)
}

/// An offer in a 2xx of ours waits for the answer in its ACK; where that never comes, not for ever.
fn awaits_answer(leg: &Leg, now: Millis) -> bool {
    leg.offer_until.is_some_and(|until| now < until)
}
