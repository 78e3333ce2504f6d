//! What a call's media shall be, derived whole from its state.

use tandem_sip::Millis;

use super::leg::{Leg, Role};
use super::state::{Call, State};
use crate::draft::Draft;
use crate::effect::{Body, MediaLeg, MediaPlan, Prompt, RecordingPlan, Source};
use crate::ids::{CallId, EntityId};

/// Puts the plan that follows from the call's state into effect.
pub fn plan(draft: &mut Draft<'_>, id: CallId) {
    let now = draft.now;
    let Some(call) = draft.call_mut(&id) else { return };
    call.media_version += 1;
    let connected = match call.state {
        State::Connected { leg } => Some(leg),
        State::InFlow | State::Queued { .. } | State::Dialing { .. } | State::Ending => None,
    };
    let caller = call.caller().map(|leg| leg.id);
    let mut legs = Vec::new();
    for leg in call.legs.iter().filter(|leg| call.is_live() && leg.media.port != 0) {
        let other = match (&leg.role, connected) {
            (Role::Caller, other) => other,
            (Role::Agent { .. } | Role::Callee { .. }, Some(this)) if this == leg.id => caller,
            (Role::Agent { .. } | Role::Callee { .. }, _) => None,
        };
        let source = match (other.and_then(|other| call.leg(other)), &call.state) {
            // Who is put on hold hears music.
            (Some(other), _) if other.held => Source::Music,
            (Some(other), _) => Source::Leg(other.id),
            (None, State::InFlow) => in_flow(call, now),
            (None, State::Queued { .. }) if leg.role == Role::Caller => Source::Music,
            (None, State::Dialing { .. }) if leg.role == Role::Caller => Source::Ringback,
            (None, _) => Source::Silence,
        };
        legs.push(media_leg(leg, source));
    }
    let recording = match (call.recording, caller, connected) {
        (Some(id), Some(left), Some(right)) => Some(RecordingPlan { id, left, right }),
        _ => None,
    };
    let plan = MediaPlan { call: id, version: call.media_version, legs, recording };
    let gateway = call.gateway.clone();
    draft.effect(EntityId::Call(id), &gateway, Body::Media(plan));
}

/// The prompt of the flow from where it is by now: a gateway that plays it already goes on.
fn in_flow(call: &Call, now: Millis) -> Source {
    let Some(run) = &call.flow else { return Source::Echo };
    let Some((prompt, since)) = run.prompt() else { return Source::Silence };
    Source::Prompt(Prompt {
        prompt: prompt.clone(),
        play: run.turn,
        offset_ms: now.since(since),
        barge_in: run.takes_keys(),
    })
}

fn media_leg(leg: &Leg, source: Source) -> MediaLeg {
    MediaLeg {
        leg: leg.id,
        port: leg.media.port,
        remote: leg
            .media
            .remote
            .filter(|_| !leg.held && (leg.is_up() || leg.transaction.is_some())),
        codec: leg.media.codec,
        payload: leg.media.payload,
        telephone_event: leg.media.telephone_event,
        ssrc: leg.media.ssrc,
        source,
        role: Some(leg.side()),
    }
}
