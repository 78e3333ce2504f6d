//! Requests within a dialog: BYE, re-INVITE, UPDATE, OPTIONS, INFO, PRACK, and the ACK of our 2xx.

use std::sync::Arc;

use tandem_sip::dialog::Refused;
use tandem_sip::reason::Q850;
use tandem_sip::sdp::Audio;
use tandem_sip::{Method, Response};

use super::codecs::Other;
use super::leg::{Party, Role, State as LegState};
use super::outbound::{find, illegal, take_answer};
use super::{early_offer, ending, glare, media, protection, reliable, session_timer, transfer};
use crate::agent::machine as agent;
use crate::command::Inbound;
use crate::draft::{ALLOW, Draft};
use crate::ids::{CallId, EntityId, LegId};
use crate::limits;
use crate::world::Rejection;

/// The leg whose dialog has taken it.
pub fn on_request(draft: &mut Draft<'_>, inbound: &Inbound) -> Option<(CallId, LegId)> {
    let headers = &inbound.request.headers;
    let tag = headers.to_tag().unwrap_or_default();
    let found = draft.world.leg_of_dialog(&headers.call_id, tag);
    let known = found.filter(|(id, leg)| is_of_peer(draft, *id, *leg, inbound));
    let Some((id, leg_id)) = known else {
        if let Some((id, leg_id)) = found
            && early_offer::on_update(draft, id, leg_id, inbound)
        {
            return found;
        }
        // An ACK is never answered; every other request is told that we know no such dialog.
        let entity = EntityId::Gateway(inbound.transaction.gateway.clone());
        let response = inbound.request.respond(481, None, None);
        draft.respond(entity, &inbound.transaction, response);
        return None;
    };
    if admit(draft, id, leg_id, inbound).is_err() {
        answer(draft, id, inbound, inbound.request.respond(500, None, None));
        return None;
    }
    follow(draft, id, leg_id, inbound);
    match inbound.request.method {
        Method::Bye => {
            answer(draft, id, inbound, inbound.request.respond(200, None, None));
            draft.said = Q850::of_reason(headers);
            ending::on_bye(draft, id, leg_id);
        }
        Method::Invite | Method::Update => on_offer(draft, id, leg_id, inbound),
        Method::Options | Method::Info => {
            let mut response = inbound.request.respond(200, None, None);
            response.headers.push_other("Allow", ALLOW);
            answer(draft, id, inbound, response);
        }
        Method::Prack => reliable::on_prack(draft, id, leg_id, inbound),
        Method::Refer => transfer::on_refer(draft, id, leg_id, inbound),
        // We have subscribed to nothing (RFC 6665 §8.3.2).
        Method::Notify => answer(draft, id, inbound, inbound.request.respond(489, None, None)),
        // RFC 6665 §4.5.2: a subscription has a dialog of its own.
        Method::Subscribe => answer(draft, id, inbound, inbound.request.respond(403, None, None)),
        Method::Ack
        | Method::Cancel
        | Method::Register
        | Method::Message
        | Method::Publish
        | Method::Other(_) => {
            let mut response = inbound.request.respond(405, None, None);
            response.headers.push_other("Allow", ALLOW);
            answer(draft, id, inbound, response);
        }
    }
    Some((id, leg_id))
}

/// The From tag must be the one that the dialog knows.
fn is_of_peer(draft: &Draft<'_>, id: CallId, leg: LegId, inbound: &Inbound) -> bool {
    let leg = draft.call(&id).and_then(|call| call.leg(leg));
    let dialog = leg.and_then(|leg| leg.dialog.as_ref());
    dialog.is_some_and(|dialog| {
        inbound.request.headers.from_tag() == Some(dialog.remote_tag.as_str())
    })
}

fn admit(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    inbound: &Inbound,
) -> Result<(), Refused> {
    let leg = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id));
    match leg.and_then(|leg| leg.dialog.as_mut()).map(Arc::make_mut) {
        Some(dialog) => dialog.admit(&inbound.request),
        None => Ok(()),
    }
}

/// A phone that has lost its connection and opened another is reached over the one that its last request came over.
fn follow(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, inbound: &Inbound) {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return };
    let (now, next) = ((leg.peer, leg.carrier), (inbound.source, inbound.carrier));
    let over_connections = leg.carrier.is_reliable() && inbound.carrier.is_reliable();
    let as_safe = inbound.carrier.is_secure() || !leg.carrier.is_secure();
    // Connections are numbered by the gateway that has them.
    let here = leg.gateway == inbound.transaction.gateway;
    if now == next || !over_connections || !as_safe || !here {
        return;
    }
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        (leg.peer, leg.carrier) = next;
    }
}

fn answer(draft: &mut Draft<'_>, id: CallId, inbound: &Inbound, response: Response) {
    draft.respond(EntityId::Call(id), &inbound.transaction, response);
}

/// A re-INVITE or UPDATE: hold, retrieve, moved media, or a refresh (RFC 3261 §14, RFC 3311).
fn on_offer(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, inbound: &Inbound) {
    let Ok((call, leg)) = find(draft, id, leg_id) else { return };
    let early = leg.state == LegState::Trying;
    if !(leg.is_up() || early) || !call.is_live() {
        answer(draft, id, inbound, inbound.request.respond(481, None, None));
        return;
    }
    let leg = leg.clone();
    if let Some(refusal) = glare::refusal(draft, &leg, &inbound.request, inbound.offer.is_some()) {
        answer(draft, id, inbound, refusal);
        return;
    }
    let Ok((call, leg)) = find(draft, id, leg_id) else { return };
    if early && inbound.offer.is_none() {
        // An UPDATE that changes nothing, before our answer (RFC 3311 §5.2).
        answer(draft, id, inbound, inbound.request.respond(200, None, None));
        return;
    }
    let other = Other::of(call, leg_id);
    let anchor = call.gateway.clone();
    let contact = draft.contact_for(&leg.invite, &leg.gateway, leg.carrier);
    let mut media = leg.media.clone();
    let (mut held, mut direction) = (leg.held, tandem_sip::sdp::Direction::SendRecv);
    if let Some(offer) = &inbound.offer {
        let Ok(agreed) = other.agree(offer) else {
            answer(draft, id, inbound, inbound.request.respond(488, None, None));
            return;
        };
        let Ok(protection) =
            protection::of_offer(draft, leg_id, offer, leg.media.protection.as_ref())
        else {
            answer(draft, id, inbound, inbound.request.respond(488, None, None));
            return;
        };
        media.protection = protection;
        media.agree(&agreed, &other);
        media.beside = agreed.beside;
        held = offer.is_hold();
        direction = agreed.direction;
        // While it holds, the address of before is kept: RTP goes on there after the retrieve.
        media.remote = agreed.remote.or(media.remote);
        media.session_version += 1;
    }
    let describes = inbound.offer.is_some() || inbound.request.method == Method::Invite;
    let mut response = inbound.request.respond(200, None, None);
    response.headers.contact = vec![contact];
    response.headers.push_other("Allow", ALLOW);
    if describes {
        response.headers.content_type = Some("application/sdp".into());
        response.body = media.describe(draft.vip(&anchor).ip(), direction).compose();
    }
    if !early {
        session_timer::on_refreshed(draft, id, leg_id, &inbound.request, &mut response);
    }
    let offers = describes && inbound.offer.is_none();
    let offer_until = offers.then(|| draft.now.after(limits::OFFER_MS_MAX));
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.media = media;
        leg.offer_until = offer_until.or(leg.offer_until);
        if let Some(dialog) = &mut leg.dialog {
            Arc::make_mut(dialog).refresh_target(&inbound.request.headers);
        }
    }
    hold(draft, id, leg_id, held);
    answer(draft, id, inbound, response);
    media::plan(draft, id);
}

/// The peer holds, or holds no more; an agent's phone holds for its agent.
fn hold(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, held: bool) {
    let Some(call) = draft.call_mut(&id) else { return };
    let calling_agent = call.calling_agent.clone();
    let Some(leg) = call.leg_mut(leg_id) else { return };
    let changed = leg.held != held;
    leg.held = held;
    let agent = match &leg.role {
        Role::Caller => calling_agent,
        Role::Trunk { .. } | Role::Transferee { who: Party::Outside { .. }, .. } => None,
        Role::Originator { agent, .. }
        | Role::Agent { agent, .. }
        | Role::Callee { agent, .. }
        | Role::Transferee { who: Party::Colleague(agent), .. } => Some(agent.clone()),
    };
    if let (Some(agent), true) = (agent, changed) {
        agent::on_held(draft, &agent, id, held);
    }
}

/// The answer to an offer of ours that a re-INVITE without one got.
pub(super) fn on_answer(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, audio: &Audio) {
    let Some(call) = draft.call(&id) else { return };
    let Some(leg) = call.leg(leg_id) else { return };
    let (before, mut media) = ((leg.media.clone(), leg.held), leg.media.clone());
    if !take_answer(&mut media, audio, &Other::of(call, leg_id)) {
        return;
    }
    media.remote = media.remote.or(before.0.remote);
    let after = (media, audio.is_hold());
    // An ACK that comes again changes nothing.
    if after == before {
        return;
    }
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.media = after.0;
    }
    hold(draft, id, leg_id, after.1);
    media::plan(draft, id);
}

/// The ACK of our 2xx; it may carry the answer to our offer.
pub fn on_ack(
    draft: &mut Draft<'_>,
    call_id: &str,
    tag: &str,
    audio: Option<&Audio>,
) -> Result<(), Rejection> {
    let (id, leg_id) = draft
        .world
        .leg_of_dialog(call_id, tag)
        .ok_or_else(|| Rejection::NotFound(format!("dialog {call_id}")))?;
    let (call, leg) = find(draft, id, leg_id)?;
    let (live, other) = (call.is_live(), Other::of(call, leg_id));
    let (state, offered) = (leg.state.clone(), leg.offer_until.is_some());
    if let Some(leg) = draft.call_mut(&id).filter(|_| offered).and_then(|c| c.leg_mut(leg_id)) {
        leg.offer_until = None;
    }
    match state {
        LegState::Answered => {
            let took =
                draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)).is_some_and(|leg| {
                    leg.state = LegState::Active;
                    audio.is_some_and(|audio| take_answer(&mut leg.media, audio, &other))
                });
            if !live {
                // It was hung up before its ACK came; only now may the BYE go (RFC 3261 §15).
                ending::send_bye(draft, id, leg_id);
            } else if took {
                media::plan(draft, id);
            }
            Ok(())
        }
        // The ACK of a re-INVITE's 200.
        LegState::Active => {
            if let Some(audio) = audio {
                on_answer(draft, id, leg_id, audio);
            }
            Ok(())
        }
        LegState::Trying
        | LegState::Calling
        | LegState::Proceeding
        | LegState::Alerting
        | LegState::Cancelling { .. }
        | LegState::Releasing
        | LegState::Released => Err(illegal(draft, id, leg_id, "ACK")),
    }
}
