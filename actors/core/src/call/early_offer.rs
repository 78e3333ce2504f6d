//! An UPDATE with an offer before the INVITE is answered (RFC 3311 §5.2, RFC 6337 §3.1).
//!
//! It changes what both have agreed on in a reliable 18x and its PRACK. Before that there is nothing
//! to change: who waits for our answer is told to wait (500), who owes us one that this is so (491).

use tandem_sip::{Method, Request, Response};

use super::codecs::Other;
use super::early::{self, Early};
use super::leg::{Leg, Media};
use super::outbound::find;
use super::reliable::Prack;
use super::{media, protection};
use crate::command::Inbound;
use crate::draft::{ALLOW, Draft};
use crate::ids::{CallId, EntityId, LegId};
use crate::limits;

/// What stands against an offer of a caller whose INVITE is unanswered.
pub fn refusal_to_caller(draft: &mut Draft<'_>, leg: &Leg, request: &Request) -> Option<Response> {
    let updates = request.method == Method::Update;
    let offered = leg.invite.headers.content_type.is_some();
    match leg.reliable.map(|reliable| reliable.state) {
        Some(Prack::Came) if updates => return None,
        // Ours is in the 180, and the PRACK has the answer.
        Some(Prack::Awaited | Prack::Holds) if updates && !offered => {
            return Some(request.respond(491, None, None));
        }
        Some(Prack::Came | Prack::Awaited | Prack::Holds) | None => {}
    }
    // The peer's own INVITE waits for our answer.
    let mut response = request.respond(500, None, None);
    let wait_s = draft.rng.next() % (limits::GLARE_RETRY_S_MAX + 1);
    response.headers.push_other("Retry-After", &wait_s.to_string());
    Some(response)
}

/// An UPDATE of whoever rings, within one of the early dialogs that our INVITE has made. False
/// where it is of none.
pub fn on_update(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, inbound: &Inbound) -> bool {
    let Ok((_, leg)) = find(draft, id, leg_id) else { return false };
    let request = &inbound.request;
    if request.method != Method::Update || !leg.is_ringing() {
        return false;
    }
    let tag = request.headers.from_tag().unwrap_or_default().to_owned();
    let Some(mut early) = early::of_tag(leg, &tag).cloned() else {
        if !is_heard(leg, &tag) {
            return false;
        }
        // What has described itself unreliably has not answered our offer.
        let status = if inbound.offer.is_some() { 491 } else { 200 };
        answer(draft, id, inbound, request.respond(status, None, None));
        return true;
    };
    let response = match early.dialog.admit(request) {
        Ok(()) => {
            early.dialog.refresh_target(&request.headers);
            updated(draft, id, leg_id, &mut early, inbound)
        }
        Err(refused) => request.respond(refused.status(), None, None),
    };
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return false };
    let heard = leg.early_media.as_mut().filter(|heard| heard.tag == tag);
    let changed = heard.zip(early.media.as_ref()).is_some_and(|(heard, media)| {
        let changed = heard.media != *media;
        heard.media.clone_from(media);
        changed
    });
    if let Some(known) = leg.early.iter_mut().find(|known| known.dialog.remote_tag == tag) {
        *known = early;
    }
    answer(draft, id, inbound, response);
    if changed {
        media::plan(draft, id);
    }
    true
}

fn is_heard(leg: &Leg, tag: &str) -> bool {
    leg.early_media.as_ref().is_some_and(|heard| heard.tag == tag)
}

fn updated(
    draft: &Draft<'_>,
    id: CallId,
    leg_id: LegId,
    early: &mut Early,
    inbound: &Inbound,
) -> Response {
    let request = &inbound.request;
    let Ok((call, leg)) = find(draft, id, leg_id) else { return request.respond(481, None, None) };
    let mut response = request.respond(200, None, None);
    response.headers.contact = vec![draft.contact_for(&leg.invite, &leg.gateway, leg.carrier)];
    response.headers.push_other("Allow", ALLOW);
    let Some(offer) = &inbound.offer else { return response };
    // Our own offer has no answer in this dialog.
    let Some(before) = &early.media else { return request.respond(491, None, None) };
    let other = Other::of(call, leg_id);
    let protection = protection::of_offer(draft, leg_id, offer, before.protection.as_ref());
    let (Ok(agreed), Ok(protection)) = (other.agree(offer), protection) else {
        return request.respond(488, None, None);
    };
    let mut media = Media { protection, ..before.clone() };
    media.agree(&agreed, &other);
    media.beside = agreed.beside;
    media.remote = agreed.remote.or(media.remote);
    media.session_version += 1;
    response.headers.content_type = Some("application/sdp".into());
    response.body = media.describe(draft.vip(&call.gateway).ip(), agreed.direction).compose();
    early.media = Some(media);
    response
}

fn answer(draft: &mut Draft<'_>, id: CallId, inbound: &Inbound, response: Response) {
    draft.respond(EntityId::Call(id), &inbound.transaction, response);
}
