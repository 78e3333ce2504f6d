//! An attended transfer by the phone itself: it holds the caller, has a colleague on a second call,
//! and sends a REFER whose target says which dialog that is (`Replaces`, RFC 3891, RFC 5589 §7.3).
//! Both calls are ours, so nothing is invited anew: the leg of who was asked moves into the caller's
//! call, which keeps its dialog, record and recording, and the second call is over.

use tandem_sip::replaces::Replaces;

use super::leg::{Role, State as LegState};
use super::state::{Call, Outcome, State, Transfer};
use super::{codecs, ending, media, transfer};
use crate::agent::machine as agent;
use crate::cdr::{Disposition, Side};
use crate::channel::machine as channel;
use crate::draft::Draft;
use crate::ids::{AgentId, CallId, ChannelId, LegId};

/// The cause in the record of a call whose conversation went on in another.
pub const TRANSFERRED: &str = "transferred";

/// The agent's phone, whose leg in the call is `leg`, has asked for it.
pub fn begin(
    draft: &mut Draft<'_>,
    id: CallId,
    leg: LegId,
    by: AgentId,
    to: String,
    replaces: &Replaces,
) {
    let found = joinable(draft, id, &by, replaces);
    let to = match &found {
        Ok(second) => second.who.to_string(),
        Err(_) => to,
    };
    let at = draft.now;
    if let Some(call) = draft.call_mut(&id) {
        let outcome = Outcome::Pending { leg: Some(leg) };
        call.transfers.push(Transfer { at, agent: by, to, attended: true, outcome });
    }
    match found {
        Ok(second) => join(draft, id, &second),
        Err(status) => transfer::come_back(draft, id, status),
    }
}

/// The second call, and the leg of who was asked in it.
struct Second {
    id: CallId,
    leg: LegId,
    who: Asked,
}

#[derive(Clone)]
enum Asked {
    Colleague(AgentId),
    /// By a trunk.
    Outside {
        number: String,
        channel: ChannelId,
    },
}

impl std::fmt::Display for Asked {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Colleague(agent) => agent.fmt(to),
            Self::Outside { number, .. } => number.fmt(to),
        }
    }
}

/// The statuses are those of an INVITE with that Replaces (RFC 3891 §3).
fn joinable(
    draft: &Draft<'_>,
    first: CallId,
    by: &AgentId,
    replaces: &Replaces,
) -> Result<Second, u16> {
    let found = draft.world.leg_of_dialog(&replaces.call_id, &replaces.to_tag);
    let (id, leg_id) = found.filter(|(id, _)| *id != first).ok_or(481_u16)?;
    let call = draft.call(&id).ok_or(481_u16)?;
    let own = call.leg(leg_id).ok_or(481_u16)?;
    let dialog = own.dialog.as_ref().filter(|dialog| dialog.remote_tag == replaces.from_tag);
    // Nobody joins a call that is not theirs.
    if dialog.is_none() || !own.is_caller() || call.calling_agent.as_ref() != Some(by) {
        return Err(481);
    }
    match own.state {
        LegState::Answered | LegState::Active if !call.is_live() => return Err(603),
        LegState::Answered | LegState::Active if replaces.early_only => return Err(486),
        LegState::Answered | LegState::Active => {}
        // An early dialog that its callee did not begin.
        LegState::Trying | LegState::Calling | LegState::Proceeding | LegState::Alerting => {
            return Err(481);
        }
        LegState::Cancelling { .. } | LegState::Releasing | LegState::Released => return Err(603),
    }
    let leg = match call.state {
        State::Connected { leg } => call.leg(leg).ok_or(481_u16)?,
        // Nobody is there to take the caller, or somebody who is about to leave.
        State::Routing
        | State::InFlow
        | State::Queued { .. }
        | State::Dialing { .. }
        | State::Consulting { .. }
        | State::Conferenced { .. }
        | State::Ending => return Err(603),
    };
    if leg.state != LegState::Active || leg.refer.is_some() || leg.branches().next().is_some() {
        // A transaction of its own is under way, and would be lost on the way.
        return Err(491);
    }
    let caller = draft.call(&first).and_then(Call::caller).ok_or(481_u16)?;
    if !codecs::can_talk(&caller.media, &leg.media) {
        return Err(488);
    }
    let anchor = draft.call(&first).map(|call| &call.gateway);
    if anchor != Some(&call.gateway) {
        return Err(488);
    }
    let who = match (&leg.role, &call.outward) {
        (Role::Agent { agent, .. } | Role::Callee { agent, .. }, _) => {
            Asked::Colleague(agent.clone())
        }
        (Role::Trunk { channel, .. }, Some(outward)) => {
            Asked::Outside { number: outward.number.clone(), channel: channel.clone() }
        }
        (Role::Trunk { .. }, None)
        | (Role::Caller | Role::Originator { .. } | Role::Transferee { .. }, _) => {
            return Err(481);
        }
    };
    Ok(Second { id, leg: leg.id, who })
}

fn join(draft: &mut Draft<'_>, id: CallId, second: &Second) {
    let ssrc = (draft.rng.next() >> 32) as u32;
    let Some(call) = draft.call_mut(&second.id) else { return };
    let Some(at) = call.legs.iter().position(|leg| leg.id == second.leg) else { return };
    let mut leg = call.legs.remove(at);
    let outward = call.outward.clone();
    // The second call says goodbye to its stream (RFC 3550 §6.3.7); this is another.
    leg.media.ssrc = ssrc;
    match &second.who {
        Asked::Colleague(agent) => agent::on_moved(draft, agent, second.id, id),
        Asked::Outside { channel, .. } => channel::on_moved(draft, channel, id),
    }
    ending::end(draft, second.id, Side::Caller, TRANSFERRED, Some(Disposition::Answered));
    for record in draft.writes.cdrs.iter_mut().filter(|record| record.call == second.id) {
        record.joined = Some(id);
    }
    if let Some(call) = draft.call_mut(&id) {
        call.legs.push(leg);
        call.state = State::Connected { leg: second.leg };
        match &second.who {
            Asked::Colleague(agent) => call.agent = Some(agent.clone()),
            Asked::Outside { .. } => call.outward = outward,
        }
    }
    transfer::on_reached(draft, id);
    media::plan(draft, id);
}
