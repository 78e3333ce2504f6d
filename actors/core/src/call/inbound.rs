//! A new INVITE: where it leads, or why it is refused.

use std::sync::Arc;

use tandem_sip::dialog::Dialog;
use tandem_sip::reason::Q850;
use tandem_sip::sdp::{Agreed, Audio, Beside, Codec, Direction};
use tandem_sip::{Response, UriError, replaces};

use super::identity::{self, Identity};
use super::leg::{Leg, Media, Role, State as LegState};
use super::protection::{self, Protection};
use super::state::{Call, State};
use super::{
    codecs, media, outbound, outside, pickup, progress, reason, reliable, session_timer, unreached,
};
use crate::agent::machine as agent;
use crate::cdr::{Cdr, Disposition, Side};
use crate::channel::machine as channel;
use crate::command::Inbound;
use crate::config::{Target, Trunk};
use crate::draft::{ALLOW, Draft};
use crate::ids::{AgentId, CallId, EntityId, FlowId, LegId, QueueId, TrunkId};
use crate::ivr::machine as ivr;
use crate::limits;
use crate::trunk::numbers::{Incoming, rewritten};

/// Who calls.
pub enum Caller {
    Agent(AgentId),
    Trunk(TrunkId),
}

/// Where a number leads.
pub enum Destination {
    Queue(QueueId),
    Echo,
    Extension(AgentId),
    Flow(FlowId),
    /// A number that is none of ours.
    Outside(String),
}

/// The SIP status that refuses, and how the record calls it.
pub struct Refusal(pub u16, pub Disposition);

pub fn on_invite(draft: &mut Draft<'_>, invite: &Inbound) {
    if let Some((id, leg)) = draft.world.leg_of_transaction(&invite.transaction) {
        on_repeated(draft, id, leg);
        return;
    }
    if let Some(refusal) = draft.world.refusal_of(&invite.transaction) {
        draft.effect(refusal.entity.clone(), &refusal.gateway, refusal.body.clone());
        return;
    }
    let id = CallId(draft.rng.next());
    let admitted = match replaces::of_headers(&invite.request.headers) {
        Ok(None) => admit(draft, id, invite),
        Ok(Some(replaces)) => pickup::on_invite(draft, invite, &replaces),
        Err(status) => Err(Refusal(status, Disposition::Rejected)),
    };
    if let Err(Refusal(status, disposition)) = admitted {
        refuse(draft, id, invite, status, disposition);
    }
}

/// The INVITE of a call that is there: a gateway that started anew can't know the caller's
/// retransmission for one. What was said last is said again (RFC 3261 §17.2.1).
fn on_repeated(draft: &mut Draft<'_>, id: CallId, leg: LegId) {
    let Some(call) = draft.call(&id) else { return };
    let Some(leg) = call.leg(leg) else { return };
    let Some(transaction) = leg.transaction.clone() else { return };
    let rings = call.legs.iter().any(|leg| leg.state == LegState::Alerting);
    // Said reliably it is repeated until it is acknowledged, and never again.
    let rings = leg.reliable.map_or(rings, |reliable| reliable.is_pending());
    let response = match leg.state {
        LegState::Trying if rings => progress::ringing(draft, id, leg),
        LegState::Trying => leg.invite.respond(100, None, None),
        LegState::Answered => ok(draft, call, leg),
        // Its ACK came, or its refusal went: there is no transaction to answer.
        LegState::Active
        | LegState::Calling
        | LegState::Proceeding
        | LegState::Alerting
        | LegState::Cancelling { .. }
        | LegState::Releasing
        | LegState::Released => return,
    };
    draft.respond(EntityId::Call(id), &transaction, response);
}

fn admit(draft: &mut Draft<'_>, id: CallId, invite: &Inbound) -> Result<(), Refusal> {
    if is_full(draft) {
        return Err(Refusal(503, Disposition::Rejected));
    }
    let caller = caller(draft, invite).ok_or(Refusal(403, Disposition::Rejected))?;
    let rules = match &caller {
        Caller::Trunk(trunk) => incoming(draft, trunk),
        Caller::Agent(_) => Incoming::default(),
    };
    let digits = invite.request.uri.user.as_deref().unwrap_or_default();
    let digits = rewritten(&rules.called, digits);
    let destination = match &caller {
        Caller::Agent(_) => look_up_all(draft, &digits),
        // Who comes in by a trunk does not get out by one: that would be anybody's.
        Caller::Trunk(_) => look_up(draft, &digits),
    };
    let destination = destination.ok_or(Refusal(404, Disposition::Rejected))?;
    match &destination {
        // It is tried, so that the record says what came of it.
        Destination::Outside(_) => {}
        Destination::Queue(_)
        | Destination::Echo
        | Destination::Extension(_)
        | Destination::Flow(_) => takes(draft, &destination)?,
    }
    let held = match &caller {
        Caller::Agent(id) => may_place(draft, id)?,
        Caller::Trunk(_) => None,
    };
    let allowed = match &caller {
        Caller::Trunk(trunk) => spoken_with(draft, trunk),
        Caller::Agent(_) => Vec::new(),
    };
    let agreed = agree(invite.offer.as_ref(), &destination, &allowed)?;
    let leg = LegId(draft.rng.next());
    let protection = protect(draft, leg, invite)?;
    let channel = match &caller {
        Caller::Trunk(trunk) => {
            let full = Refusal(503, Disposition::Rejected);
            Some(channel::seize_in(draft, id, trunk).ok_or(full)?)
        }
        Caller::Agent(_) => None,
    };
    let gateway = invite.transaction.gateway.clone();
    // The second call of an agent has its media where the first has it: they may be joined.
    let first = held.and_then(|held| draft.call(&held));
    let gateway = first.map_or(gateway, |first| first.gateway.clone());
    let port = draft.take_port(&gateway).ok_or(Refusal(503, Disposition::Rejected))?;
    let mut leg = caller_leg(draft, invite, leg, agreed, port);
    leg.media.protection = protection;
    leg.media.allowed = allowed;
    leg.media.open = codecs::open(invite, &destination);
    let Identity { shown: from, asserted, diverted_from } =
        identity::of(&invite.request.headers, channel.is_some()).rewritten(&rules.calling);
    draft.put_call(Call {
        channel,
        legs: vec![leg],
        asserted,
        diverted_from,
        ..Call::new(id, State::InFlow, gateway, from, digits, draft.now)
    });
    if let Caller::Agent(agent) = caller {
        agent::on_originated(draft, &agent, id);
        if let Some(call) = draft.call_mut(&id) {
            call.calling_agent = Some(agent);
        }
    }
    let trying = invite.request.respond(100, None, None);
    draft.respond(EntityId::Call(id), &invite.transaction, trying);
    go_to(draft, id, destination);
    Ok(())
}

/// May the agent's phone place a call? The call that it holds meanwhile.
fn may_place(draft: &Draft<'_>, id: &AgentId) -> Result<Option<CallId>, Refusal> {
    let agent = draft.agent(id).ok_or(Refusal(403, Disposition::Rejected))?;
    if agent::may_call(agent) {
        return Ok(None);
    }
    let held = agent::held(agent).filter(|held| {
        draft.call(held).is_some_and(|call| matches!(call.state, State::Connected { .. }))
    });
    held.map(Some).ok_or(Refusal(403, Disposition::Rejected))
}

/// The caller goes where the number leads; it was asked whether there is room.
pub fn go_to(draft: &mut Draft<'_>, id: CallId, destination: Destination) {
    match destination {
        Destination::Echo => {
            answer(draft, id);
            if let Some(call) = draft.call_mut(&id) {
                call.state = State::InFlow;
            }
            media::plan(draft, id);
        }
        Destination::Queue(queue) => {
            answer(draft, id);
            join(draft, id, &queue);
            media::plan(draft, id);
        }
        Destination::Extension(callee) => {
            if !outbound::ring_extension(draft, id, &callee) {
                unreached::unreached(draft, id, 503, Disposition::Rejected, Side::System);
            }
        }
        Destination::Flow(flow) => {
            answer(draft, id);
            ivr::begin(draft, id, &flow);
        }
        Destination::Outside(number) => outside::begin(draft, id, &number),
    }
}

/// May a call go there now?
pub fn takes(draft: &Draft<'_>, destination: &Destination) -> Result<(), Refusal> {
    match destination {
        Destination::Extension(callee) => reachable(draft, callee),
        Destination::Queue(queue) => room(draft, queue),
        Destination::Outside(number) if outside::has_room(draft, number) => Ok(()),
        Destination::Outside(_) => Err(Refusal(503, Disposition::Rejected)),
        Destination::Echo | Destination::Flow(_) => Ok(()),
    }
}

/// Has the shard room for no new call?
pub fn is_full(draft: &Draft<'_>) -> bool {
    draft.world.calls.len() >= limits::CALLS_MAX || draft.world.outbox.len() >= limits::OUTBOX_MAX
}

/// The call waits in a queue from now on.
pub fn join(draft: &mut Draft<'_>, id: CallId, queue: &QueueId) {
    let now = draft.now;
    if let Some(entity) = draft.queue_mut(queue) {
        entity.join(id, now);
    }
    if let Some(call) = draft.call_mut(&id) {
        call.state = State::Queued { queue: queue.clone() };
        call.queue = Some(queue.clone());
        call.queued_at.get_or_insert(now);
    }
}

/// Whose call it is. From an address that a trunk names come the calls of a switch, unless they come under
/// an agent's name: one phone behind it that has registered does not make them that agent's, who may
/// call out.
pub fn caller(draft: &Draft<'_>, invite: &Inbound) -> Option<Caller> {
    let user = invite.request.headers.from.uri.user.as_deref().unwrap_or_default();
    if let Some(agent) = draft.world.agent_at(invite.source, invite.carrier, user) {
        return Some(Caller::Agent(agent.clone()));
    }
    let trunks = draft.config().map_or(&[][..], |config| &config.trunks);
    let admits = |trunk: &&Trunk| trunk.admits(invite.source.ip(), &invite.names);
    let trunk = |it: &Trunk| Caller::Trunk(it.id.clone());
    let named = trunks.iter().filter(admits).find(|trunk| !trunk.sources.is_empty());
    let lone = || draft.world.lone_agent_at(invite.source, invite.carrier);
    named
        .map(trunk)
        .or_else(|| lone().map(|agent| Caller::Agent(agent.clone())))
        .or_else(|| trunks.iter().find(admits).map(trunk))
}

/// The trunk's codecs.
pub fn spoken_with(draft: &Draft<'_>, trunk: &TrunkId) -> Vec<Codec> {
    let known = draft.config().and_then(|config| config.trunk(trunk));
    known.map(|trunk| trunk.codecs.clone()).unwrap_or_default()
}

fn incoming(draft: &Draft<'_>, trunk: &TrunkId) -> Incoming {
    let config = draft.config();
    let known = config.and_then(|config| config.trunk(trunk));
    known.map(|trunk| trunk.incoming.clone()).unwrap_or_default()
}

pub fn look_up(draft: &Draft<'_>, digits: &str) -> Option<Destination> {
    let config = draft.config()?;
    if digits.is_empty() || digits.len() > limits::DIGITS_MAX {
        return None;
    }
    if let Some(number) = config.numbers.iter().find(|number| number.digits == digits) {
        return Some(match &number.target {
            Target::Queue(queue) => Destination::Queue(queue.clone()),
            Target::Echo => Destination::Echo,
            Target::Flow(flow) => Destination::Flow(config.newest_flow(flow)?.name.clone()),
        });
    }
    let extension = config.agents.iter().find(|agent| *agent.id.0 == *digits)?;
    Some(Destination::Extension(extension.id.clone()))
}

/// For agents and the API, who may call out, too.
pub fn look_up_all(draft: &Draft<'_>, digits: &str) -> Option<Destination> {
    let ours = look_up(draft, digits);
    ours.or_else(|| {
        outside::is_routed(draft, digits).then(|| Destination::Outside(digits.to_owned()))
    })
}

pub fn reachable(draft: &Draft<'_>, callee: &AgentId) -> Result<(), Refusal> {
    let agent = draft.agent(callee).ok_or(Refusal(404, Disposition::Rejected))?;
    if !agent.is_registered() {
        return Err(Refusal(480, Disposition::NoAnswer));
    }
    if !agent::may_ring(agent) {
        return Err(Refusal(486, Disposition::Busy));
    }
    Ok(())
}

pub fn room(draft: &Draft<'_>, queue: &QueueId) -> Result<(), Refusal> {
    let waiting_max =
        draft.config().and_then(|config| config.queue(queue)).map(|known| known.waiting_max);
    let waiting = draft.queue(queue).map(|queue| queue.entries.len());
    match (waiting, waiting_max) {
        (Some(waiting), Some(max)) if waiting < max as usize => Ok(()),
        (Some(_), Some(_)) => Err(Refusal(503, Disposition::Rejected)),
        (None, _) | (_, None) => Err(Refusal(404, Disposition::Rejected)),
    }
}

/// Without an offer we make one in the 200 (RFC 3261 §13.2.1) and take the first codec of ours
/// until the ACK says otherwise.
fn agree(
    offer: Option<&Audio>,
    destination: &Destination,
    allowed: &[Codec],
) -> Result<Agreed, Refusal> {
    match offer {
        Some(offer) => codecs::of_caller(offer, destination, allowed),
        None => codecs::of_silent_caller(allowed),
    }
}

pub fn unsaid() -> Agreed {
    Agreed {
        codec: Codec::Pcmu,
        payload: Codec::Pcmu.static_payload(),
        fmtp: None,
        telephone_event: Some(101),
        events_wide: false,
        remote: None,
        direction: Direction::SendRecv,
        crypto: None,
        secure: false,
        beside: Beside::default(),
    }
}

pub fn protect(
    draft: &Draft<'_>,
    leg: LegId,
    invite: &Inbound,
) -> Result<Option<Protection>, Refusal> {
    match &invite.offer {
        Some(offer) => protection::of_offer(draft, leg, offer, None)
            .map_err(|_| Refusal(488, Disposition::Rejected)),
        None => Ok(protection::offered(draft, leg, invite.carrier)),
    }
}

pub fn caller_leg(
    draft: &mut Draft<'_>,
    invite: &Inbound,
    id: LegId,
    agreed: Agreed,
    port: u16,
) -> Leg {
    let local_tag = draft.rng.hex();
    let mut request = Arc::clone(&invite.request);
    if !request.body.is_empty() {
        // What was read out of the body is in `media`; the text itself is of no more use.
        Arc::make_mut(&mut request).body = Vec::new();
    }
    let contact = request.headers.contact.first();
    let carrier = contact.map_or(invite.carrier, |contact| invite.carrier.towards(&contact.uri));
    Leg {
        id,
        role: Role::Caller,
        state: LegState::Trying,
        gateway: invite.transaction.gateway.clone(),
        peer: invite.source,
        carrier,
        dialog: Dialog::as_uas(&request, &local_tag).ok().map(Arc::new),
        invite: request,
        transaction: Some(invite.transaction.clone()),
        local_tag,
        proofs: Vec::new(),
        bye_branch: None,
        refer: None,
        media: Media {
            port,
            ssrc: (draft.rng.next() >> 32) as u32,
            remote: agreed.remote,
            codec: agreed.codec,
            payload: agreed.payload,
            fmtp: agreed.fmtp,
            said: None,
            telephone_event: agreed.telephone_event,
            events_wide: agreed.events_wide,
            open: None,
            session_id: draft.rng.next() >> 1,
            session_version: 1,
            allowed: Vec::new(),
            protection: None,
            beside: agreed.beside,
        },
        held: false,
        release_at: None,
        timer: None,
        offer_until: None,
        redirected: false,
        early: Vec::new(),
        rang: Vec::new(),
        early_media: None,
        tried: Vec::new(),
        reliable: None,
        previewed: false,
    }
}

/// 200 with our SDP to the caller; the channel is active.
pub fn answer(draft: &mut Draft<'_>, id: CallId) {
    let Some(call) = draft.call(&id) else { return };
    let Some(leg) = call.caller().filter(|leg| leg.state == LegState::Trying) else { return };
    let leg_id = leg.id;
    if reliable::holds(draft, id, leg_id) {
        return;
    }
    let now = draft.now;
    if let Some(call) = draft.call_mut(&id) {
        call.answered_at = Some(now);
    }
    if let Some(channel) = draft.call(&id).and_then(|call| call.channel.clone()) {
        channel::on_answered(draft, &channel, id);
    }
    answer_leg(draft, id, leg_id);
}

/// 200 to whoever has sent us the leg's INVITE.
pub fn answer_leg(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let now = draft.now;
    let Some(call) = draft.call(&id) else { return };
    let Some(leg) = call.leg(leg_id) else { return };
    let Some(transaction) = leg.transaction.clone() else { return };
    let response = ok(draft, call, leg);
    let timer = session_timer::answered(draft, leg);
    // Without an offer in the INVITE ours is in the 200, if it was not in the 180.
    let offers = leg.invite.headers.content_type.is_none() && leg.reliable.is_none();
    let offer_until = offers.then(|| now.after(limits::OFFER_MS_MAX));
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.state = LegState::Answered;
        (leg.timer, leg.offer_until) = (timer, offer_until);
    }
    draft.respond(EntityId::Call(id), &transaction, response);
}

fn ok(draft: &Draft<'_>, call: &Call, leg: &Leg) -> Response {
    let address = draft.vip(&call.gateway).ip();
    let mut response = leg.invite.respond(200, None, Some(&leg.local_tag));
    response.headers.contact = vec![draft.contact_for(&leg.invite, &leg.gateway, leg.carrier)];
    response.headers.push_other("Allow", ALLOW);
    session_timer::put_answer(draft, &leg.invite, &mut response);
    if leg.reliable.is_some() {
        // The 180 has said it (RFC 3261 §13.2.1).
        return response;
    }
    response.headers.content_type = Some("application/sdp".into());
    response.body = leg.media.describe(address, Direction::SendRecv).compose();
    response
}

/// A final refusal of an INVITE that made no call, with its record.
fn refuse(draft: &mut Draft<'_>, id: CallId, invite: &Inbound, status: u16, how: Disposition) {
    // Nothing of a half-made call stays.
    draft.writes.calls.remove(&id);
    draft
        .writes
        .channels
        .retain(|_, channel| channel.as_ref().is_none_or(|channel| channel.call() != Some(id)));
    let tag = draft.rng.hex();
    let response = refusal(&invite.request, status, &tag);
    draft.refuse(id, &invite.transaction, response);
    let headers = &invite.request.headers;
    let trusted = matches!(caller(draft, invite), Some(Caller::Trunk(_)));
    let identity = identity::of(headers, trusted);
    draft.writes.cdrs.push(Cdr {
        call: id,
        sip_call_id: headers.call_id.clone(),
        from: identity.shown,
        to: invite.request.uri.user.clone().unwrap_or_default(),
        channel: None,
        started_at: draft.now,
        answered_at: None,
        queued_at: None,
        connected_at: None,
        ended_at: draft.now,
        queue: None,
        agent: None,
        disposition: how,
        hung_up_by: Side::System,
        cause: status.to_string(),
        takeovers: 0,
        recording: None,
        flow: None,
        flow_path: Vec::new(),
        transfers: Vec::new(),
        q850: Q850::of_status(status),
        asserted: identity.asserted,
        diverted_from: identity.diverted_from,
        outward: None,
        joined: None,
    });
}

/// A final refusal, with its cause (RFC 6432); 503 says when to come back.
pub fn refusal(invite: &tandem_sip::Request, status: u16, tag: &str) -> Response {
    let mut response = invite.respond(status, None, Some(tag));
    if status == 503 {
        response.headers.push_other("Retry-After", &limits::RETRY_AFTER_S.to_string());
    }
    reason::put(&mut response, Q850::of_status(status));
    response
}

/// The URI of `user` at an address, for From and To of our own requests.
pub fn address_of(user: &str, host: std::net::IpAddr) -> Result<tandem_sip::NameAddr, UriError> {
    // Through text, so that a user part with strange characters is refused rather than sent.
    let uri = format!("sip:{user}@{}", tandem_sip::host(host)).parse()?;
    Ok(tandem_sip::NameAddr::new(uri))
}
