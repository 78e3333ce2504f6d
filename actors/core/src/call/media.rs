//! What a call's media shall be, derived whole from its state.

use tandem_sip::Millis;

use super::leg::Leg;
use super::protection::Protection;
use super::state::{Call, State};
use super::{early_media, transfer};
use crate::draft::Draft;
use crate::effect::{
    Body, MediaKeys, MediaLeg, MediaPlan, Prompt, RecordingPlan, Rollover, Source,
};
use crate::ids::{CallId, EntityId, LegId};
use crate::ivr::state::State as RunState;

/// Puts the plan that follows from the call's state into effect.
pub fn plan(draft: &mut Draft<'_>, id: CallId) {
    let now = draft.now;
    let config = draft.config();
    let country = config.map(|config| config.country).unwrap_or_default();
    let queue = draft.call(&id).and_then(|call| call.queue.as_ref());
    let queue = queue.zip(config).and_then(|(queue, config)| config.queue(queue));
    let music = queue.and_then(|queue| queue.music.clone());
    let Some(call) = draft.call_mut(&id) else { return };
    call.media_version += 1;
    let talks = match call.state {
        State::Connected { leg }
        | State::Consulting { leg, .. }
        | State::Conferenced { leg, .. } => Some(leg),
        State::Routing
        | State::InFlow
        | State::Queued { .. }
        | State::Dialing { .. }
        | State::Ending => None,
    };
    let caller = call.caller().map(|leg| leg.id);
    let mut legs = Vec::new();
    for leg in call.legs.iter().filter(|leg| call.is_live() && leg.media.port != 0) {
        let source = match (other(call, leg), &call.state) {
            (_, State::Conferenced { .. }) => Source::Mix(heard_in_conference(call, leg)),
            // Who is put on hold hears music.
            (Some(other), _) if other.held => Source::Music(music.clone()),
            (Some(other), _) => Source::Leg(other.id),
            (None, State::InFlow) => in_flow(call, now),
            (None, State::Queued { .. } | State::Consulting { .. }) if leg.is_caller() => {
                Source::Music(music.clone())
            }
            // The colleague's phone rings.
            (None, State::Consulting { leg: asks, .. }) if *asks == leg.id => {
                Source::Ringback(country)
            }
            (None, State::Dialing { .. }) if leg.is_caller() => Source::Ringback(country),
            (None, _) => Source::Silence,
        };
        legs.push(media_leg(leg, source));
    }
    // While a transferred call goes on to somebody, its recording goes on with whoever is there.
    let waits = transfer::pending(call).flatten();
    let right = talks.or(waits).or(caller);
    let is_served = |id: &LegId| legs.iter().any(|leg: &MediaLeg| leg.leg == *id);
    let recording = match (call.recording, caller.filter(is_served), right.filter(is_served)) {
        (Some(id), Some(left), Some(right)) => {
            let mixed = matches!(call.state, State::Conferenced { .. });
            Some(RecordingPlan { id, left, right, mixed, paused: call.recording_paused })
        }
        _ => None,
    };
    let plan = MediaPlan { call: id, version: call.media_version, legs, recording };
    let gateway = call.gateway.clone();
    draft.effect(EntityId::Call(id), &gateway, Body::Media(plan));
}

/// Whom the leg hears, where somebody speaks with it.
fn other<'c>(call: &'c Call, leg: &Leg) -> Option<&'c Leg> {
    let (one, two) = match call.state {
        State::Connected { leg } => (call.caller()?, call.leg(leg)?),
        State::Dialing { leg, .. } => early_media::pair(call, leg)?,
        State::Consulting { leg, consulted } => {
            (call.leg(leg)?, call.leg(consulted).filter(|leg| leg.is_up())?)
        }
        State::Routing
        | State::InFlow
        | State::Queued { .. }
        | State::Conferenced { .. }
        | State::Ending => return None,
    };
    if leg.id == one.id { Some(two) } else { (leg.id == two.id).then_some(one) }
}

/// The others, as far as they speak: who puts a conference on hold plays no music into it.
fn heard_in_conference(call: &Call, hears: &Leg) -> Vec<LegId> {
    let speaks = |leg: &&Leg| leg.is_up() && !leg.held && leg.media.port != 0;
    let others = call.legs.iter().filter(|leg| leg.id != hears.id);
    others.filter(speaks).map(|leg| leg.id).collect()
}

/// The prompt of the flow from where it is by now: a gateway that plays it already goes on.
fn in_flow(call: &Call, now: Millis) -> Source {
    // A call that has left its flow may have been sent on to the echo.
    let run = call.flow.as_ref().filter(|run| run.state != RunState::Over);
    let Some(run) = run else { return Source::Echo };
    let Some((prompt, since)) = run.prompt() else { return Source::Silence };
    Source::Prompt(Prompt {
        prompt: prompt.clone(),
        play: run.turn,
        offset_ms: now.since(since),
        barge_in: run.takes_keys(),
    })
}

fn media_leg(leg: &Leg, source: Source) -> MediaLeg {
    let media = leg.media_now();
    let is_there = leg.is_up() || leg.transaction.is_some() || leg.early_media.is_some();
    MediaLeg {
        leg: leg.id,
        port: media.port,
        remote: media.remote.filter(|_| !leg.held && is_there && !media.awaits_keys()),
        codec: media.codec,
        payload: media.payload,
        telephone_event: media.telephone_event,
        events_wide: media.events_wide,
        ssrc: media.ssrc,
        source,
        role: Some(leg.side()),
        keys: media.protection.as_ref().and_then(keys),
    }
}

/// Another life of its gateway goes on with the call: what that sends by SRTP lies behind all that the last one can have
/// sent, told or not, for no index may be used twice (RFC 3711 §9.1).
pub fn begin_again(draft: &mut Draft<'_>, id: CallId) {
    let Some(call) = draft.call_mut(&id) else { return };
    for protection in call.legs.iter_mut().filter_map(|leg| leg.media.protection.as_mut()) {
        protection.rollover.sent = protection.rollover.sent.saturating_add(1);
    }
    plan(draft, id);
}

/// A gateway has told how far a leg's SRTP has come: whoever goes on with the leg begins there.
pub fn on_rollover(draft: &mut Draft<'_>, id: CallId, leg: LegId, told: Rollover) {
    // One that is late is of a call that is over, or of a leg.
    let Some(leg) = draft.call_mut(&id).and_then(|call| call.leg_mut(leg)) else { return };
    if let Some(protection) = &mut leg.media.protection {
        protection.on_rollover(told);
    }
}

/// None until both are known: nothing is sent before.
fn keys(protection: &Protection) -> Option<MediaKeys> {
    let Protection { suite, ours, theirs, rollover, .. } = protection;
    let theirs = theirs.clone()?;
    Some(MediaKeys { suite: *suite, ours: ours.clone(), theirs, rollover: *rollover })
}
