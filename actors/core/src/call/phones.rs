//! An agent with several phones is called at one after the other, not at all of them at once: who
//! has taken a place at one desk does not want the others to ring, and a second leg that is
//! answered in the same moment would have to be taken down again before the caller.

use std::sync::Arc;

use super::codecs::Other;
use super::outbound::{self, Failure, offer_of};
use super::protection;
use crate::agent::registrar;
use crate::draft::Draft;
use crate::ids::{CallId, LegId};

/// The agent's next phone rings in the place of one that can't be reached: the same leg, within the
/// same time. False where none is left.
pub fn ring_next(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) -> bool {
    let Some(call) = draft.call(&id) else { return false };
    let Some(leg) = call.leg(leg_id).filter(|leg| leg.is_ringing()) else { return false };
    let agent = leg.agent().and_then(|agent| draft.agent(agent));
    let mut tried = leg.tried.clone();
    tried.push(leg.invite.uri.clone());
    let Some(phone) = agent.and_then(|agent| registrar::next_phone(agent, &tried)).cloned() else {
        return false;
    };
    let other = Other::of_caller(call);
    let media_ip = draft.vip(&call.gateway).ip();
    let protection = protection::offered(draft, leg_id, phone.carrier);
    let mut invite = Arc::clone(&leg.invite);
    let request = Arc::make_mut(&mut invite);
    request.uri = phone.contact;
    request.headers.route = phone.path;
    request.headers.contact.clear();
    request.headers.contact = vec![draft.contact_for(request, &phone.gateway, phone.carrier)];
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return false };
    leg.media.protection = protection;
    leg.media.remote = None;
    request.body = offer_of(&leg.media, media_ip, &other);
    leg.invite = invite;
    (leg.gateway, leg.peer, leg.carrier) = (phone.gateway, phone.source, phone.carrier);
    leg.tried = tried;
    leg.rang.clear();
    outbound::invite_again(draft, id, leg_id, |_| {})
}

/// Nobody has answered an INVITE of ours: where only a connection leads there, it leads there no
/// more.
pub fn on_silent(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let leg = draft.call(&id).and_then(|call| call.leg(leg_id));
    let phone = leg.and_then(|leg| Some((leg.agent()?.clone(), leg.carrier)));
    if let Some((agent, carrier)) = phone {
        registrar::on_unreachable(draft, &agent, carrier);
    }
}

/// The connection that a leg rings over is gone, and no answer can come any more.
pub fn on_flow_gone(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    if !ring_next(draft, id, leg_id) {
        outbound::cancel(draft, id, leg_id);
        outbound::on_failed(draft, id, leg_id, Failure::Lost);
    }
}
