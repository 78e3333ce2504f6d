//! An agent asks a colleague before the caller is sent on, or instead of it (a consultation, and
//! the attended transfer that may come of it).
//!
//! ```text
//! Connected ──consult──▶ Consulting: the colleague's phone rings ──answered──▶ both speak
//!     ▲                      │ complete                             conference │       │ complete
//!     │                      ▼                                                 ▼       ▼
//!     │                   Dialing, as a blind transfer goes on       Conferenced ──▶ Connected with
//!     │                                                                  │            the colleague
//!     └── cancelled, not taken, colleague hangs up ──────────────────────┘
//! ```
//! From a conference the same ways lead out, since it is the caller who has come to a consultation.
//! The colleague's leg is one of the same call, so that its completion moves nobody: what the call
//! has gathered stays where it is. An agent who hangs up completes, as at every telephone that can
//! transfer: the caller goes on to the colleague, and is never left with nobody.

use super::inbound::{Destination, Refusal};
use super::leg::{Leg, Role};
use super::state::{Call, Consult, Consulted, Outcome, State, Transfer};
use super::{codecs, ending, media, outbound, transfer};
use crate::agent::machine as agent;
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, EntityId, LegId, OfferId};
use crate::limits;
use crate::world::Rejection;

// --- what is asked for -------------------------------------------------------------------------

pub fn on_consult(draft: &mut Draft<'_>, id: CallId, to: &str) -> Result<(), Rejection> {
    let call = live(draft, id)?;
    let State::Connected { leg } = call.state else {
        let state = call.state_name();
        let why = format!("call {id} is {state}; only a connected call has somebody who can ask");
        return Err(Rejection::Refused(why));
    };
    if !call.caller().is_some_and(Leg::is_up) {
        return Err(Rejection::Refused(format!("the caller of call {id} is not answered yet")));
    }
    let by = call.leg(leg).and_then(Leg::agent).cloned();
    let by = by.ok_or_else(|| Rejection::NotFound("agent of the call".into()))?;
    transfer::acknowledged(call, leg)?;
    if draft.agent(&by).is_some_and(|agent| agent.second().is_some()) {
        return Err(Rejection::Refused(format!("agent {by} has a second call to ask in")));
    }
    if call.transfers.len() >= limits::TRANSFERS_MAX {
        // It could not be completed.
        let most = limits::TRANSFERS_MAX;
        return Err(Rejection::Refused(format!("a call is transferred {most} times at most")));
    }
    let callee = match transfer::resolve(draft, to) {
        Ok(Destination::Extension(callee)) => callee,
        Ok(
            Destination::Queue(_)
            | Destination::Echo
            | Destination::Flow(_)
            | Destination::Outside(_),
        )
        | Err(Refusal(503, _)) => {
            return Err(Rejection::Refused(format!("{to} is no extension; only one can be asked")));
        }
        Err(refusal) => return Err(transfer::rejection(to, &refusal)),
    };
    let consulted = ring(draft, id, &by, &callee).ok_or(Rejection::Full)?;
    let at = draft.now;
    if let Some(call) = draft.call_mut(&id) {
        call.state = State::Consulting { leg, consulted };
        call.consult = Some(Consult { at, agent: by, to: callee, outcome: Consulted::Pending });
    }
    draft.writes.about = Some(EntityId::Call(id));
    media::plan(draft, id);
    Ok(())
}

/// The colleague's phone shows who asks.
fn ring(draft: &mut Draft<'_>, id: CallId, by: &AgentId, callee: &AgentId) -> Option<LegId> {
    let ring_ms = draft.config().map_or(0, |config| config.no_answer_ms);
    let offer = OfferId(draft.rng.next());
    let role = Role::Callee { agent: callee.clone(), offer, ring_until: draft.now.after(ring_ms) };
    let leg = outbound::ring(draft, id, callee, role, &by.0)?;
    agent::on_offered(draft, callee, id, offer);
    Some(leg)
}

/// The caller is let in on what the two say.
pub fn on_conference(draft: &mut Draft<'_>, id: CallId) -> Result<(), Rejection> {
    let (leg, joined) = asked_of(draft, id)?;
    conferenceable(live(draft, id)?, leg, joined)?;
    if let Some(call) = draft.call_mut(&id) {
        call.state = State::Conferenced { leg, joined };
        if let Some(consult) = &mut call.consult {
            consult.outcome = Consulted::Joined;
        }
    }
    draft.writes.about = Some(EntityId::Call(id));
    media::plan(draft, id);
    Ok(())
}

pub fn on_complete(draft: &mut Draft<'_>, id: CallId) -> Result<(), Rejection> {
    let (leg, _) = asked_of(draft, id)?;
    draft.writes.about = Some(EntityId::Call(id));
    complete(draft, id, Some(leg));
    Ok(())
}

pub fn on_cancel(draft: &mut Draft<'_>, id: CallId) -> Result<(), Rejection> {
    let (_, consulted) = asked_of(draft, id)?;
    draft.writes.about = Some(EntityId::Call(id));
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(consulted)).cloned() else {
        return Ok(());
    };
    if leg.is_up() {
        ending::send_bye(draft, id, consulted);
        leave(draft, id, &leg);
    } else {
        outbound::cancel(draft, id, consulted);
        if let (Some(callee), Some(offer)) = (leg.agent(), leg.offer()) {
            agent::on_withdrawn(draft, callee, offer);
        }
    }
    come_back(draft, id, Consulted::Cancelled);
    Ok(())
}

// --- what happens ------------------------------------------------------------------------------

/// The colleague has answered.
pub fn on_answered(draft: &mut Draft<'_>, id: CallId, callee: &AgentId) {
    agent::on_connected(draft, callee, id);
    media::plan(draft, id);
}

/// The colleague has not taken it.
pub fn on_failed(draft: &mut Draft<'_>, id: CallId, status: u16) {
    come_back(draft, id, Consulted::Failed { status });
}

/// A party to the consultation hangs up, or is gone; its leg is seen to.
pub fn on_gone(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let Some((asks, _)) = draft.call(&id).and_then(parties) else { return };
    if leg_id == asks {
        complete(draft, id, None);
        return;
    }
    if let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)).cloned() {
        leave(draft, id, &leg);
    }
    come_back(draft, id, Consulted::HungUp);
}

/// The call is over; the colleague who was asked has no more part in it.
pub fn on_end(draft: &mut Draft<'_>, id: CallId) -> Option<AgentId> {
    parties(draft.call(&id)?)?;
    settle(draft, id, Consulted::Ended).map(|consult| consult.to)
}

/// The caller goes to the colleague, at once or when that one answers; `waits` is the leg of who has
/// asked, where it is still there.
fn complete(draft: &mut Draft<'_>, id: CallId, waits: Option<LegId>) {
    let Some((_, consulted)) = draft.call(&id).and_then(parties) else { return };
    let Some(Consult { agent: by, to, .. }) = settle(draft, id, Consulted::Completed) else {
        return;
    };
    let at = draft.now;
    let Some(call) = draft.call_mut(&id) else { return };
    let is_up = call.leg(consulted).is_some_and(Leg::is_up);
    call.transfers.push(Transfer {
        at,
        agent: by.clone(),
        to: to.to_string(),
        attended: true,
        outcome: Outcome::Pending { leg: waits },
    });
    if is_up {
        call.state = State::Connected { leg: consulted };
        call.agent = Some(to);
        transfer::on_reached(draft, id);
    } else {
        call.state = State::Dialing { agent: Some(to), leg: consulted };
        if waits.is_none() {
            agent::on_call_over(draft, &by, id);
        }
    }
    media::plan(draft, id);
}

/// The agent is with the caller again.
fn come_back(draft: &mut Draft<'_>, id: CallId, outcome: Consulted) {
    let Some((leg, _)) = draft.call(&id).and_then(parties) else { return };
    settle(draft, id, outcome);
    if let Some(call) = draft.call_mut(&id) {
        call.state = State::Connected { leg };
    }
    media::plan(draft, id);
}

fn leave(draft: &mut Draft<'_>, id: CallId, leg: &Leg) {
    if let Some(callee) = leg.agent() {
        agent::on_call_over(draft, callee, id);
    }
}

/// Decides the consultation that is under way, once.
fn settle(draft: &mut Draft<'_>, id: CallId, outcome: Consulted) -> Option<Consult> {
    let consult = draft.call_mut(&id)?.consult.as_mut()?;
    if !consult.outcome.is_open() {
        return None;
    }
    consult.outcome = outcome;
    Some(consult.clone())
}

// --- what is asked about it ----------------------------------------------------------------------

fn live<'d>(draft: &'d Draft<'_>, id: CallId) -> Result<&'d Call, Rejection> {
    let call = draft.call(&id).filter(|call| call.is_live());
    call.ok_or_else(|| Rejection::NotFound(format!("call {:?}", id.to_string())))
}

/// Both have answered, and everybody speaks what can be mixed.
fn conferenceable(call: &Call, leg: LegId, joined: LegId) -> Result<(), Rejection> {
    let id = call.id;
    if let State::Conferenced { .. } = call.state {
        return Err(Rejection::Refused(format!("all of call {id} speak together already")));
    }
    if !call.leg(joined).is_some_and(Leg::is_up) {
        return Err(Rejection::Refused(format!("who is asked in call {id} has not answered yet")));
    }
    let colleagues = [leg, joined].into_iter().filter_map(|leg| call.leg(leg));
    let mut parties = call.caller().into_iter().chain(colleagues);
    match parties.find(|leg| codecs::is_only_passed(leg.media.codec)) {
        Some(leg) => {
            let codec = leg.media.codec.name();
            let why = format!("a party to call {id} speaks {codec}, which can't be mixed here");
            Err(Rejection::Refused(why))
        }
        None => Ok(()),
    }
}

fn asked_of(draft: &Draft<'_>, id: CallId) -> Result<(LegId, LegId), Rejection> {
    let call = live(draft, id)?;
    parties(call).ok_or_else(|| {
        let state = call.state_name();
        Rejection::Refused(format!("call {id} is {state}; nobody is consulted in it"))
    })
}

/// The legs of who asks and of who is asked.
fn parties(call: &Call) -> Option<(LegId, LegId)> {
    match call.state {
        State::Consulting { leg, consulted } => Some((leg, consulted)),
        State::Conferenced { leg, joined } => Some((leg, joined)),
        State::Routing
        | State::InFlow
        | State::Queued { .. }
        | State::Dialing { .. }
        | State::Connected { .. }
        | State::Ending => None,
    }
}

pub fn is_under_way(draft: &Draft<'_>, id: CallId) -> bool {
    draft.call(&id).and_then(parties).is_some()
}

/// Is it the colleague's leg?
pub fn is_with(draft: &Draft<'_>, id: CallId, leg: LegId) -> bool {
    draft.call(&id).and_then(parties).is_some_and(|(_, consulted)| consulted == leg)
}

/// Is it the leg of who asks or is asked?
pub fn is_party(draft: &Draft<'_>, id: CallId, leg: LegId) -> bool {
    let parties = draft.call(&id).and_then(parties);
    parties.is_some_and(|(asks, consulted)| leg == asks || leg == consulted)
}
