//! An agent with several phones is called at one after the other, not at all of them at once: who
//! has taken a place at one desk does not want the others to ring, and a second leg that is
//! answered in the same moment would have to be taken down again before the caller.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_sip::{Carrier, Uri};

use super::codecs::Other;
use super::leg::Leg;
use super::outbound::{self, Failure, offer_of};
use super::protection;
use crate::agent::binding::{Registration, is_same};
use crate::agent::registrar;
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, LegId};

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

/// An agent's phone has registered over a connection: the agent's calls that go over an earlier one of it go on over this one,
/// whether they ring or talk. Which they are their Contact says, or `left`, the connections that this one takes the place of.
pub fn on_registered(
    draft: &mut Draft<'_>,
    agent: &AgentId,
    phone: &Registration,
    left: &[(SocketAddr, Carrier)],
) {
    if !phone.carrier.is_reliable() {
        return;
    }
    let calls = draft.agent(agent).map(|agent| [agent.call(), agent.second()]);
    for id in calls.into_iter().flatten().flatten() {
        let Some(call) = draft.call(&id) else { continue };
        let called = |leg: &Leg| {
            leg.is_caller() && leg.agent().is_none() && call.calling_agent.as_ref() == Some(agent)
        };
        let moves = |leg: &&Leg| {
            let is_its = leg.agent() == Some(agent) || called(leg);
            // Connections are numbered by the gateway that has them, and what goes by TLS goes by nothing else.
            let same_way = leg.gateway == phone.gateway
                && leg.carrier.transport() == phone.carrier.transport();
            let there = contact(leg).is_some_and(|contact| is_same(contact, &phone.contact))
                || left.contains(&(leg.peer, leg.carrier));
            let differs = (leg.peer, leg.carrier) != (phone.source, phone.carrier);
            is_its && same_way && there && differs
        };
        let legs: Vec<LegId> = call.legs.iter().filter(moves).map(|leg| leg.id).collect();
        for leg_id in legs {
            if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
                (leg.peer, leg.carrier) = (phone.source, phone.carrier);
            }
        }
    }
}

/// What the phone of a leg calls itself.
fn contact(leg: &Leg) -> Option<&Uri> {
    match (&leg.dialog, &leg.transaction) {
        (Some(dialog), _) => Some(&dialog.remote_target),
        (None, Some(_)) => leg.invite.headers.contact.first().map(|contact| &contact.uri),
        (None, None) => Some(&leg.invite.uri),
    }
}
