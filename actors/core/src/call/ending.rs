//! How calls end: who hung up, what each leg is still owed, and the one record.

use std::sync::Arc;

use tandem_sip::Method;

use super::leg::{Leg, State as LegState};
use super::outbound::{cancel, find, illegal, refuse_caller};
use super::state::{Call, State};
use super::{consult, media, pickup, reason, session_timer, transfer};
use crate::agent::machine as agent;
use crate::cdr::{self, Cdr, Disposition, Side};
use crate::channel::machine as channel;
use crate::command::TransactionKey;
use crate::draft::Draft;
use crate::ids::{CallId, LegId};
use crate::ivr::state::Run;
use crate::limits;
use crate::world::Rejection;

/// What a record gives as the cause, where it is no SIP status.
pub const NORMAL: &str = "normal_clearing";
pub const NO_ACK: &str = "no_ack";
pub const TOO_LONG: &str = "too_long";
pub const RTP_SILENCE: &str = "rtp_silence";
pub const SESSION_EXPIRED: &str = "session_expired";
pub const CALLER_UNREACHABLE: &str = "caller_unreachable";
pub const AGENT_UNREACHABLE: &str = "agent_unreachable";
pub const CALLEE_UNREACHABLE: &str = "callee_unreachable";

/// Nothing leads to this party any more.
pub fn unreachable(side: Side) -> &'static str {
    match side {
        Side::Caller => CALLER_UNREACHABLE,
        Side::Agent => AGENT_UNREACHABLE,
        Side::Callee | Side::System | Side::Operator => CALLEE_UNREACHABLE,
    }
}

/// The peer of a leg hung up; its 200 is on its way.
pub fn on_bye(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let Some(call) = draft.call(&id) else { return };
    let Some(leg) = call.leg(leg_id) else { return };
    let side = leg.side();
    if leg.state == LegState::Trying {
        // A BYE of an early dialog: the INVITE is owed its answer, too (RFC 3261 §15.1.2).
        end_unanswered(draft, id, 487, Disposition::Abandoned, side);
        return;
    }
    if transfer::transferor(draft, id) == Some(leg_id) {
        leg_released(draft, id, leg_id);
        transfer::on_transferor_gone(draft, id);
        return;
    }
    if consult::is_party(draft, id, leg_id) {
        leg_released(draft, id, leg_id);
        consult::on_gone(draft, id, leg_id);
        return;
    }
    // Where our own BYE is under way, the leg is no party to the call any more.
    let ends = call.is_live() && leg.is_up();
    leg_released(draft, id, leg_id);
    if ends {
        end(draft, id, side, NORMAL, None);
    }
}

/// A CANCEL of the caller's INVITE. One that comes too late changes nothing (RFC 3261 §9.2).
pub fn on_cancel(draft: &mut Draft<'_>, key: &TransactionKey) -> Result<(), Rejection> {
    let (id, leg_id) = draft
        .world
        .leg_of_transaction(key)
        .ok_or_else(|| Rejection::NotFound(format!("INVITE of branch {}", key.branch)))?;
    let (_, leg) = find(draft, id, leg_id)?;
    match leg.state {
        LegState::Trying => {
            end_unanswered(draft, id, 487, Disposition::Abandoned, Side::Caller);
            Ok(())
        }
        LegState::Answered
        | LegState::Active
        | LegState::Calling
        | LegState::Proceeding
        | LegState::Alerting
        | LegState::Cancelling { .. }
        | LegState::Releasing
        | LegState::Released => Err(illegal(draft, id, leg_id, "CANCEL")),
    }
}

/// No ACK came for our 2xx (RFC 3261 §13.3.1.4): the session is taken down with a BYE. Or no PRACK
/// for our 180.
pub fn on_ack_timeout(draft: &mut Draft<'_>, key: &TransactionKey) -> Result<(), Rejection> {
    let (id, leg_id) = draft
        .world
        .leg_of_transaction(key)
        .ok_or_else(|| Rejection::NotFound(format!("INVITE of branch {}", key.branch)))?;
    let (call, leg) = find(draft, id, leg_id)?;
    if leg.state == LegState::Trying && leg.reliable.is_some_and(|it| it.is_pending()) {
        // RFC 3262 §3: a caller who can't be told that it rings.
        end_unanswered(draft, id, 504, Disposition::Failed, Side::System);
        return Ok(());
    }
    if leg.state != LegState::Answered {
        return Err(illegal(draft, id, leg_id, "missing ACK"));
    }
    let live = call.is_live();
    if live && !leg.is_caller() && pickup::on_unacknowledged(draft, id, leg_id) {
        return Ok(());
    }
    let Ok((_, leg)) = find(draft, id, leg_id) else { return Ok(()) };
    let leg_is_caller = leg.is_caller();
    if let Some(call) = draft.call_mut(&id).filter(|_| live) {
        call.q850 = reason::of_cause(NO_ACK);
    }
    // Whoever took another's place comes late: the caller has been answered before.
    let how = leg_is_caller.then_some(Disposition::Failed);
    send_bye(draft, id, leg_id);
    if live {
        end(draft, id, Side::System, NO_ACK, how);
    }
    Ok(())
}

pub fn on_operator_release(draft: &mut Draft<'_>, id: CallId) -> Result<(), Rejection> {
    let call = draft.call(&id).filter(|call| call.is_live());
    let call = call.ok_or_else(|| Rejection::NotFound(format!("call {id}")))?;
    if call.answered_at.is_none() {
        end_unanswered(draft, id, 480, Disposition::Rejected, Side::Operator);
    } else {
        end(draft, id, Side::Operator, NORMAL, None);
    }
    Ok(())
}

pub fn on_too_long(draft: &mut Draft<'_>, id: CallId) -> Result<(), Rejection> {
    let call_ms_max = draft.config().map_or(u64::MAX, |config| config.call_ms_max);
    let due = draft
        .call(&id)
        .is_some_and(|call| call.is_live() && call.started_at.after(call_ms_max) <= draft.now);
    if !due {
        return Err(Rejection::NotFound(format!("call {id} that is too long")));
    }
    end(draft, id, Side::System, TOO_LONG, None);
    Ok(())
}

/// A peer that went away without a BYE.
pub fn on_rtp_silence(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) -> Result<(), Rejection> {
    let (call, leg) = find(draft, id, leg_id)?;
    if !call.is_live() || !leg.is_up() || call.is_held() {
        return Err(illegal(draft, id, leg_id, "RTP silence"));
    }
    lose(draft, id, leg_id, RTP_SILENCE);
    Ok(())
}

/// The peer of a leg that is up is gone without a word, and the call with it, unless others go on with it.
pub fn lose(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, cause: &str) {
    if transfer::transferor(draft, id) == Some(leg_id) {
        // The caller waits for somebody else by now.
        send_bye(draft, id, leg_id);
        transfer::on_transferor_gone(draft, id);
    } else if consult::is_party(draft, id, leg_id) {
        send_bye(draft, id, leg_id);
        consult::on_gone(draft, id, leg_id);
    } else {
        end(draft, id, Side::System, cause, None);
    }
}

/// The call comes to nothing: a caller's own INVITE that waits for its answer is refused with
/// `status`, one that is up already is hung up.
pub fn end_unanswered(draft: &mut Draft<'_>, id: CallId, status: u16, how: Disposition, by: Side) {
    refuse_caller(draft, id, status);
    let trying = |leg: &&mut Leg| leg.is_caller() && leg.state == LegState::Trying;
    if let Some(caller) = draft.call_mut(&id).and_then(|call| call.legs.iter_mut().find(trying)) {
        caller.state = LegState::Released;
    }
    end(draft, id, by, &status.to_string(), Some(how));
}

/// Ends the conversation: every leg is told, everything taken is given back, the record written.
pub fn end(draft: &mut Draft<'_>, id: CallId, by: Side, cause: &str, how: Option<Disposition>) {
    let transferor = transfer::on_end(draft, id);
    let consulted = consult::on_end(draft, id);
    let Some(call) = draft.call(&id).cloned() else { return };
    // The tone has ended, or the caller did not wait for its end.
    let status = call.unreached.map(|unreached| unreached.status.to_string());
    let cause = status.as_deref().unwrap_or(cause);
    let how = call.unreached.map(|unreached| unreached.how).or(how);
    let by = call.unreached.filter(|_| by == Side::System).map_or(by, |unreached| unreached.by);
    if let State::Queued { queue } = &call.state
        && let Some(queue) = draft.queue_mut(queue)
    {
        queue.leave(id);
    }
    let said = draft.said.take().or(call.unreached.and(call.q850));
    let q850 = said.or_else(|| reason::of_cause(cause));
    if let Some(call) = draft.call_mut(&id) {
        call.state = State::Ending;
        call.q850 = q850;
    }
    media::plan(draft, id);
    for leg in &call.legs {
        match leg.state {
            LegState::Active if transferor == Some(leg.id) => {
                transfer::let_go(draft, id, leg.id, 487);
            }
            LegState::Active => send_bye(draft, id, leg.id),
            // Its BYE waits for the ACK (RFC 3261 §15).
            LegState::Answered => wait_released(draft, id, leg.id),
            LegState::Calling | LegState::Proceeding | LegState::Alerting => {
                cancel(draft, id, leg.id);
                if let (Some(agent), Some(offer)) = (leg.agent(), leg.offer()) {
                    agent::on_withdrawn(draft, agent, offer);
                }
            }
            LegState::Trying => {
                refuse_caller(draft, id, 480);
                leg_released(draft, id, leg.id);
            }
            LegState::Cancelling { .. } | LegState::Releasing | LegState::Released => {}
        }
        free_port(draft, id, leg.id);
    }
    let agents = [call.agent.as_ref(), call.calling_agent.as_ref(), consulted.as_ref()];
    for agent in agents.into_iter().flatten() {
        agent::on_call_over(draft, agent, id);
    }
    if let Some(channel) = &call.channel {
        channel::release(draft, channel);
    }
    record(draft, &Call { q850, ..call }, by, cause, how);
    sweep(draft, id);
}

fn record(draft: &mut Draft<'_>, call: &Call, by: Side, cause: &str, how: Option<Disposition>) {
    let disposition = how.unwrap_or(match (&call.state, call.connected_at) {
        (State::Queued { .. }, None) if by == Side::Caller => Disposition::Abandoned,
        (State::Queued { .. }, None) => Disposition::Failed,
        // Somebody talked before it was transferred.
        (_, Some(_)) => Disposition::Answered,
        // Whom a flow has answered has been answered, whoever rings now.
        (State::Dialing { .. }, None) if call.flow.is_some() => Disposition::Answered,
        (State::Dialing { .. }, None) if by == Side::Caller => Disposition::Abandoned,
        (State::Routing | State::Dialing { .. }, None) => Disposition::NoAnswer,
        (
            State::InFlow
            | State::Connected { .. }
            | State::Consulting { .. }
            | State::Conferenced { .. }
            | State::Ending,
            None,
        ) => Disposition::Answered,
    });
    let cdr = Cdr {
        call: call.id,
        sip_call_id: call.sip_call_id().unwrap_or_default().to_owned(),
        from: call.from.clone(),
        to: call.to.clone(),
        channel: call.channel.clone(),
        started_at: call.started_at,
        answered_at: call.answered_at,
        queued_at: call.queued_at,
        connected_at: call.connected_at,
        ended_at: draft.now,
        queue: call.queue.clone(),
        agent: call.agent.clone(),
        disposition,
        hung_up_by: by,
        cause: cause.to_owned(),
        takeovers: call.takeovers,
        recording: call.recording,
        flow: flow_of(call).map(|run| run.flow.clone()),
        flow_path: path_of(draft, call),
        transfers: call.transfers.clone(),
        q850: call.q850,
        asserted: call.asserted.clone(),
        diverted_from: call.diverted_from.clone(),
        outward: call.outward.as_ref().map(|outward| cdr::Outward {
            number: outward.number.clone(),
            channel: outward.channel.clone(),
            peer: outward.peer,
        }),
        joined: None,
    };
    draft.writes.cdrs.push(cdr);
}

/// A tone is none that anybody has configured.
fn flow_of(call: &Call) -> Option<&Run> {
    call.flow.as_ref().filter(|_| call.unreached.is_none())
}

/// The steps of the flow by their names.
fn path_of(draft: &Draft<'_>, call: &Call) -> Vec<Arc<str>> {
    let Some(run) = flow_of(call) else { return Vec::new() };
    let flow = draft.config().and_then(|config| config.flow(&run.flow, run.version));
    let steps = flow.into_iter().flat_map(|flow| run.path.iter().map(|step| flow.step(*step)));
    steps.flatten().map(|step| Arc::clone(&step.name)).collect()
}

/// Sends the BYE of a leg that is up.
pub fn send_bye(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)) else { return };
    let (gateway, carrier) = (leg.gateway.clone(), leg.carrier);
    let via = draft.via(&gateway, carrier);
    let until = draft.now.after(limits::RELEASE_MS_MAX);
    let why = reason::of_bye(draft, id);
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) else { return };
    let Some(dialog) = leg.dialog.as_mut().map(Arc::make_mut) else {
        // Without a Contact of the peer there is nobody to tell.
        leg_released(draft, id, leg_id);
        return;
    };
    let mut bye = dialog.request(Method::Bye, via, None);
    bye.headers.push_other("Reason", &why);
    leg.bye_branch = Some(bye.headers.branch().to_owned());
    leg.refer = None;
    leg.state = LegState::Releasing;
    leg.release_at = Some(until);
    let leg = leg.clone();
    draft.send(id, &leg, bye);
    free_port(draft, id, leg_id);
}

fn wait_released(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let until = draft.now.after(2 * limits::RELEASE_MS_MAX);
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.release_at = Some(until);
    }
}

/// The leg is gone: its port is free, and the call too where it was the last.
pub fn leg_released(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    free_port(draft, id, leg_id);
    let leg = draft.call(&id).and_then(|call| call.leg(leg_id));
    let was_there = leg.filter(|leg| leg.state != LegState::Released);
    if let Some(seized) = was_there.and_then(Leg::channel).cloned() {
        channel::release(draft, &seized);
    }
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.state = LegState::Released;
        leg.release_at = None;
        leg.refer = None;
        leg.timer = None;
        leg.early.clear();
        leg.early_media = None;
        leg.rang.clear();
    }
    sweep(draft, id);
}

pub fn free_port(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let Some(call) = draft.call_mut(&id) else { return };
    let gateway = call.gateway.clone();
    let Some(leg) = call.leg_mut(leg_id) else { return };
    let port = std::mem::take(&mut leg.media.port);
    draft.give_port(&gateway, port);
}

/// Drops legs that are gone from a live call, and a call whose last leg is gone.
fn sweep(draft: &mut Draft<'_>, id: CallId) {
    let Some(call) = draft.call(&id) else { return };
    let gone = call.legs.iter().all(|leg| leg.state == LegState::Released);
    if !call.is_live() && gone {
        draft.writes.calls.insert(id, None);
    }
}

/// A peer that never said its last word.
pub fn on_release_over(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) -> Result<(), Rejection> {
    let (_, leg) = find(draft, id, leg_id)?;
    match leg.release_at {
        // Its NOTIFY was never answered.
        Some(at)
            if at <= draft.now && leg.state == LegState::Releasing && leg.bye_branch.is_none() =>
        {
            send_bye(draft, id, leg_id);
            Ok(())
        }
        Some(at) if at <= draft.now => {
            leg_released(draft, id, leg_id);
            Ok(())
        }
        Some(_) | None => Err(illegal(draft, id, leg_id, "end of release")),
    }
}

/// A new leader: every live call has lived through one more takeover.
pub fn on_elected(draft: &mut Draft<'_>, dark: bool) {
    draft.writes.dark = dark;
    let live: Vec<CallId> =
        draft.world.calls.values().filter(|call| call.is_live()).map(|call| call.id).collect();
    let now = draft.now;
    for id in live {
        if let Some(call) = draft.call_mut(&id) {
            call.takeovers += 1;
            session_timer::on_elected(call, now);
            draft.writes.at_risk += 1;
        }
    }
}
