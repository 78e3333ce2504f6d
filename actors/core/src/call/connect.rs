//! An agent's phone answers: the two legs become a conversation.

use std::sync::Arc;

use tandem_sip::reason::COMPLETED_ELSEWHERE;
use tandem_sip::sdp::Audio;
use tandem_sip::{Method, Response};

use super::codecs::{self, Other};
use super::leg::{Media, Role, State as LegState};
use super::outbound::{Failure, dialog_of, on_failed, take_answer};
use super::state::State;
use super::{consult, early, ending, inbound, media, originate, outside, session_timer, transfer};
use crate::agent::machine as agent;
use crate::cdr::Manifest;
use crate::draft::Draft;
use crate::ids::{CallId, LegId};
use crate::ivr::machine as ivr;

/// The first 2xx to our INVITE.
pub fn on_answered(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    response: &Response,
    answer: Option<&Audio>,
) {
    let tag = response.headers.to_tag().unwrap_or_default();
    let leg = draft.call(&id).and_then(|call| call.leg(leg_id));
    let known = leg.and_then(|leg| early::of_tag(leg, tag)).and_then(|early| early.media.clone());
    // Who has described its audio in an unreliable 18x, and says no more, has not done as it should
    // (RFC 3261 §13.2.1), but is understood.
    let previewed = leg.and_then(|leg| leg.early_media.as_deref());
    let previewed = previewed.filter(|early| early.tag == tag && answer.is_none());
    let known = known.or_else(|| previewed.map(|early| early.media.clone()));
    acknowledge(draft, id, leg_id, response);
    // Where the caller was told what this answer has no use for, it is told otherwise.
    let took = takes(draft, id, leg_id, known.as_ref(), answer)
        || (codecs::reopen(draft, id) && takes(draft, id, leg_id, None, answer));
    if !took {
        // An answer that names no codec of ours: nothing can be talked over it.
        ending::send_bye(draft, id, leg_id);
        on_failed(draft, id, leg_id, Failure::Rejected { status: 488 });
        return;
    }
    connected(draft, id, leg_id);
}

fn takes(
    draft: &mut Draft<'_>,
    id: CallId,
    leg_id: LegId,
    known: Option<&Media>,
    answer: Option<&Audio>,
) -> bool {
    let Some(other) = draft.call(&id).map(|call| Other::of(call, leg_id)) else { return false };
    let leg = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id));
    leg.is_some_and(|leg| match (known, answer) {
        (Some(media), _) => {
            leg.media = media.clone();
            true
        }
        (None, Some(answer)) => take_answer(&mut leg.media, answer, &other),
        (None, None) => false,
    })
}

/// The leg is up: what its call has waited for.
pub fn connected(draft: &mut Draft<'_>, id: CallId, leg_id: LegId) {
    let now = draft.now;
    let Some(call) = draft.call(&id) else { return };
    let Some(role) = call.leg(leg_id).map(|leg| leg.role.clone()) else { return };
    if let Role::Originator { agent, .. } = role {
        originate::on_answered(draft, id, &agent);
        return;
    }
    let queue = match &call.state {
        State::Queued { queue } => Some(queue.clone()),
        State::Routing
        | State::InFlow
        | State::Dialing { .. }
        | State::Connected { .. }
        | State::Consulting { .. }
        | State::Conferenced { .. }
        | State::Ending => None,
    };
    let agent = match role {
        Role::Agent { agent, .. } | Role::Callee { agent, .. } => Some(agent),
        Role::Trunk { .. } => None,
        Role::Caller | Role::Originator { .. } | Role::Transferee { .. } => return,
    };
    if let Some(agent) = agent.as_ref().filter(|_| consult::is_with(draft, id, leg_id)) {
        consult::on_answered(draft, id, agent);
        return;
    }
    outside::on_answered(draft, id, leg_id);
    if let Some(queue) = queue.as_ref().and_then(|queue| draft.queue_mut(queue)) {
        queue.leave(id);
    }
    let record = queue.as_ref().is_some_and(|queue| {
        let config = draft.config();
        let known = config.and_then(|c| c.queue(queue));
        known.is_some_and(|known| known.record)
    });
    // A call that was transferred goes on with its recording.
    let known = draft.call(&id).and_then(|call| call.recording);
    let recording = known.or_else(|| record.then(|| draft.recording_id()));
    transfer::on_reached(draft, id);
    if draft.call(&id).is_some_and(|call| call.answered_at.is_none()) {
        // The caller of an extension has waited for this.
        codecs::settle(draft, id, leg_id);
        inbound::answer(draft, id);
    }
    ivr::on_transferred(draft, id);
    if let Some(call) = draft.call_mut(&id) {
        call.state = State::Connected { leg: leg_id };
        call.connected_at.get_or_insert(now);
        if agent.is_some() {
            call.agent = agent.clone();
        }
        call.recording = recording;
    }
    if let Some(agent) = &agent {
        agent::on_connected(draft, agent, id);
    }
    if let (None, Some(recording), Some(call)) = (known, recording, draft.call(&id)) {
        let gateway = call.gateway.clone();
        draft.writes.manifests.push(Manifest::new(recording, id, gateway, now));
    }
    media::plan(draft, id);
}

/// ACKs a 2xx; the leg is active.
pub fn acknowledge(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, response: &Response) {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)).cloned() else { return };
    let dialog = dialog_of(&leg, response);
    let via = draft.via(&leg.gateway, leg.carrier);
    if let Some(dialog) = &dialog {
        draft.send(id, &leg, dialog.ack(leg.invite.headers.cseq.number, via));
    }
    let timer = session_timer::accepted(draft, response);
    if let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg_id)) {
        leg.timer = timer;
        leg.dialog = dialog.map(Arc::new);
        leg.state = LegState::Active;
        leg.early.clear();
        leg.early_media = None;
        leg.rang.clear();
        leg.release_at = None;
    }
}

/// ACK and BYE to a further branch of a fork. A repeated 200 of our own branch is the gateway's,
/// which repeats the ACK; where it comes this far, a new life of the gateway has no ACK to repeat.
pub fn take_down_fork(draft: &mut Draft<'_>, id: CallId, leg_id: LegId, response: &Response) {
    let Some(leg) = draft.call(&id).and_then(|call| call.leg(leg_id)).cloned() else { return };
    let ours = leg.dialog.as_ref().map(|dialog| dialog.remote_tag.as_str());
    let Some(mut dialog) = dialog_of(&leg, response) else { return };
    if response.headers.to_tag() == ours {
        let via = draft.via(&leg.gateway, leg.carrier);
        draft.send(id, &leg, dialog.ack(leg.invite.headers.cseq.number, via));
        return;
    }
    let via = draft.via(&leg.gateway, leg.carrier);
    draft.send(id, &leg, dialog.ack(leg.invite.headers.cseq.number, via));
    let via = draft.via(&leg.gateway, leg.carrier);
    let mut bye = dialog.request(Method::Bye, via, None);
    bye.headers.push_other("Reason", COMPLETED_ELSEWHERE);
    draft.send(id, &leg, bye);
}
