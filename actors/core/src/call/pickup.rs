//! An INVITE with Replaces (RFC 3891): an agent's phone takes the place of another one, which rings
//! (a pick-up) or talks. It is answered at once; the caller is told nothing of it.
//!
//! ```text
//! Queued, Dialing: the old phone rings ──▶ Connected with the new one, the old is cancelled
//! Connected with the old phone ──────────▶ Connected with the new one, the old is hung up
//! ```

use tandem_sip::reason::COMPLETED_ELSEWHERE;
use tandem_sip::replaces::Replaces;

use super::codecs::{self, Other};
use super::inbound::{self, Caller, Refusal};
use super::leg::{Leg, Party, Role, State as LegState};
use super::state::{Call, Outcome, State, Transfer};
use super::{connect, ending, media, outbound};
use crate::agent::machine as agent;
use crate::cdr::Disposition;
use crate::command::Inbound;
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, LegId, OfferId};
use crate::limits;

pub fn on_invite(
    draft: &mut Draft<'_>,
    invite: &Inbound,
    replaces: &Replaces,
) -> Result<(), Refusal> {
    let by = match inbound::caller(draft, invite) {
        Some(Caller::Agent(agent)) => agent,
        // What is said in a call is not for whoever has read its tags.
        Some(Caller::Trunk(_)) | None => return Err(refusal(403)),
    };
    let found = find(draft, &by, replaces).map_err(refusal)?;
    let call = draft.call(&found.id).ok_or(refusal(481))?;
    let other = Other::of(call, found.old.id);
    let anchor = call.gateway.clone();
    let agreed = codecs::of_successor(invite.offer.as_ref(), &other)?;
    let new = LegId(draft.rng.next());
    let protection = inbound::protect(draft, new, invite)?;
    let port = draft.take_port(&anchor).ok_or(refusal(503))?;
    let mut leg = inbound::caller_leg(draft, invite, new, agreed.clone(), port);
    leg.media.agree(&agreed, &other);
    leg.media.protection = protection;
    let offer = OfferId(draft.rng.next());
    leg.role = found.role(by.clone(), offer, draft.now);
    if let Some(call) = draft.call_mut(&found.id) {
        call.legs.push(leg);
    }
    inbound::answer_leg(draft, found.id, new);
    if found.old.is_ringing() {
        pick_up(draft, &found, new, &by, offer);
    } else {
        take_over(draft, &found, new, &by);
    }
    Ok(())
}

fn refusal(status: u16) -> Refusal {
    Refusal(status, Disposition::Rejected)
}

/// The call, and the leg in it whose place is taken.
struct Found {
    id: CallId,
    old: Leg,
    of: AgentId,
}

impl Found {
    /// The new leg's: that of the old.
    fn role(&self, agent: AgentId, offer: OfferId, now: tandem_sip::Millis) -> Role {
        let ring_until = now;
        match self.old.role {
            Role::Agent { .. } => Role::Agent { agent, offer, ring_until },
            Role::Callee { .. }
            | Role::Trunk { .. }
            | Role::Caller
            | Role::Originator { .. }
            | Role::Transferee { .. } => Role::Callee { agent, offer, ring_until },
        }
    }
}

/// The statuses are those of RFC 3891 §3.
fn find(draft: &Draft<'_>, by: &AgentId, replaces: &Replaces) -> Result<Found, u16> {
    let found = draft.world.leg_of_dialog(&replaces.call_id, &replaces.to_tag);
    let (id, leg_id) = found.ok_or(481_u16)?;
    let call = draft.call(&id).ok_or(481_u16)?;
    let old = call.leg(leg_id).ok_or(481_u16)?;
    let confirmed = old.dialog.as_ref().is_some_and(|it| it.remote_tag == replaces.from_tag);
    if !confirmed && !old.rang.contains(&replaces.from_tag) {
        return Err(481);
    }
    match old.state {
        LegState::Calling | LegState::Proceeding | LegState::Alerting => {}
        // An early dialog that we have not begun.
        LegState::Trying => return Err(481),
        LegState::Answered | LegState::Active if !call.is_live() => return Err(603),
        LegState::Answered | LegState::Active if replaces.early_only => return Err(486),
        LegState::Answered | LegState::Active => {}
        LegState::Cancelling { .. } | LegState::Releasing | LegState::Released => return Err(603),
    }
    let of = match &old.role {
        Role::Agent { agent, .. } | Role::Callee { agent, .. } => agent.clone(),
        // Nobody takes the place of a customer.
        Role::Trunk { .. } | Role::Transferee { who: Party::Outside { .. }, .. } => {
            return Err(403);
        }
        Role::Caller if call.calling_agent.is_none() => return Err(403),
        // Whoever has placed a call stays in it, and so does whom it is for.
        Role::Caller
        | Role::Originator { .. }
        | Role::Transferee { who: Party::Colleague(_), .. } => return Err(603),
    };
    if !is_settled(call, old) {
        // A transfer, a consultation or an ACK is under way.
        return Err(491);
    }
    let moves_phone = of == *by && old.is_up();
    if !moves_phone && !draft.agent(by).is_some_and(agent::may_call) {
        return Err(403);
    }
    if old.is_up() && !moves_phone && call.transfers.len() >= limits::TRANSFERS_MAX {
        return Err(603);
    }
    Ok(Found { id, old: old.clone(), of })
}

fn is_settled(call: &Call, old: &Leg) -> bool {
    match call.state {
        State::Queued { .. } => old.is_ringing(),
        State::Dialing { leg, .. } => leg == old.id && old.is_ringing(),
        State::Connected { leg } => {
            leg == old.id && old.state == LegState::Active && old.refer.is_none()
        }
        State::Routing
        | State::InFlow
        | State::Consulting { .. }
        | State::Conferenced { .. }
        | State::Ending => false,
    }
}

/// As if the new phone had been rung: nobody's place in a queue and nobody's transfer is lost.
fn pick_up(draft: &mut Draft<'_>, found: &Found, new: LegId, by: &AgentId, offer: OfferId) {
    let Found { id, old, of } = found;
    outbound::cancel_because(draft, *id, old.id, COMPLETED_ELSEWHERE);
    if let Some(offer) = old.offer() {
        // The other has missed nothing.
        agent::on_withdrawn(draft, of, offer);
    }
    agent::on_offered(draft, by, *id, offer);
    connect::connected(draft, *id, new);
}

/// The new phone has not taken its 200, or was told meanwhile that nobody answers: its caller, who
/// has lost the old one by it, waits again at the place of before. False where there is no queue.
pub fn on_unacknowledged(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) -> bool {
    let Some(call) = draft.call(&id) else { return false };
    let queue = call.queue.clone().filter(|queue| inbound::room(draft, queue).is_ok());
    let at = call.queued_at.unwrap_or(draft.now);
    let by = call.leg(leg_id).and_then(Leg::agent).cloned();
    let (Some(queue), Some(by), State::Connected { leg }) = (queue, by, &call.state) else {
        return false;
    };
    if *leg != leg_id {
        return false;
    }
    ending::send_bye(draft, id, leg_id);
    agent::on_call_over(draft, &by, id);
    if let Some(queue) = draft.queue_mut(&queue) {
        queue.join(id, at);
    }
    if let Some(call) = draft.call_mut(&id) {
        call.state = State::Queued { queue };
    }
    media::plan(draft, id);
    true
}

fn take_over(draft: &mut Draft<'_>, found: &Found, new: LegId, by: &AgentId) {
    let Found { id, old, of } = found;
    let at = draft.now;
    if let Some(call) = draft.call_mut(id) {
        call.state = State::Connected { leg: new };
        call.agent = Some(by.clone());
        if of != by {
            call.transfers.push(Transfer {
                at,
                agent: of.clone(),
                to: by.to_string(),
                attended: true,
                outcome: Outcome::WentOver,
            });
        }
    }
    ending::send_bye(draft, *id, old.id);
    if of == by {
        agent::on_held(draft, by, *id, false);
    } else {
        agent::on_call_over(draft, of, *id);
        agent::on_originated(draft, by, *id);
    }
    media::plan(draft, *id);
}
