//! What happens to a caller in a flow: [`handle`] decides one event at one step and knows nothing
//! but these; around it, the call is led from step to step.

use std::sync::Arc;

use tandem_sip::Millis;

use super::flow::{Action, Choice, Flow, Gather, StepId};
use super::keys::Digit;
use super::state::{Run, State};
use super::tones::{self, Tone};
use crate::call::state::State as CallState;
use crate::call::{ending, inbound, media, outbound};
use crate::cdr::Side;
use crate::draft::Draft;
use crate::ids::{CallId, FlowId, LegId};
use crate::limits;
use crate::world::Rejection;

/// Why a flow that went on and on was ended.
const TOO_MANY_STEPS: &str = "flow_too_many_steps";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    PromptEnded { turn: u64 },
    Pressed(Digit),
    TimedOut { turn: u64 },
    TransferFailed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Stay,
    To(StepId),
}

/// The flow waits for nothing of the kind, or no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unexpected;

/// One event at one step. Whoever moves on to another step goes there by [`Move::To`].
pub(super) fn handle(
    run: &mut Run,
    action: &Action,
    now: Millis,
    event: Event,
) -> Result<Move, Unexpected> {
    match (&run.state, event) {
        // A prompt that is too long is taken for ended.
        (State::Playing { .. }, Event::PromptEnded { turn } | Event::TimedOut { turn }) => {
            expected(run, turn)?;
            Ok(after_play(action))
        }
        (State::Prompting { .. }, Event::PromptEnded { turn } | Event::TimedOut { turn }) => {
            expected(run, turn)?;
            await_first_digit(run, action, now);
            Ok(Move::Stay)
        }
        (
            State::Prompting { barge_in: true, .. }
            | State::Awaiting { .. }
            | State::Collecting { .. },
            Event::Pressed(digit),
        ) => Ok(on_digit(run, action, now, digit)),
        (State::Awaiting { .. }, Event::TimedOut { turn }) => {
            expected(run, turn)?;
            Ok(no_input(run, action, now))
        }
        (State::Collecting { .. }, Event::TimedOut { turn }) => {
            expected(run, turn)?;
            Ok(complete(run, action, now))
        }
        // Where a prompt can't be interrupted, keys mean nothing (as VoiceXML 2.0 §4.1.5 has it).
        (
            State::Playing { .. } | State::Prompting { barge_in: false, .. } | State::Transferring,
            Event::Pressed(_),
        ) => Ok(Move::Stay),
        (State::Transferring, Event::TransferFailed) => match action {
            Action::Extension { failed, .. } => Ok(Move::To(*failed)),
            Action::Play { .. }
            | Action::Menu { .. }
            | Action::Collect { .. }
            | Action::Branch { .. }
            | Action::Queue { .. }
            | Action::HangUp => Err(Unexpected),
        },
        // Its key came first.
        (State::Awaiting { .. } | State::Collecting { .. }, Event::PromptEnded { .. })
        | (State::Transferring, Event::PromptEnded { .. } | Event::TimedOut { .. })
        | (
            State::Playing { .. }
            | State::Prompting { .. }
            | State::Awaiting { .. }
            | State::Collecting { .. },
            Event::TransferFailed,
        )
        | (
            State::Over,
            Event::PromptEnded { .. }
            | Event::Pressed(_)
            | Event::TimedOut { .. }
            | Event::TransferFailed,
        ) => Err(Unexpected),
    }
}

fn expected(run: &Run, turn: u64) -> Result<(), Unexpected> {
    if run.turn == turn { Ok(()) } else { Err(Unexpected) }
}

fn after_play(action: &Action) -> Move {
    match action {
        Action::Play { next, .. } => Move::To(*next),
        Action::Menu { .. }
        | Action::Collect { .. }
        | Action::Branch { .. }
        | Action::Queue { .. }
        | Action::Extension { .. }
        | Action::HangUp => Move::Stay,
    }
}

fn gather_of(action: &Action) -> Option<&Gather> {
    match action {
        Action::Menu { gather, .. } | Action::Collect { gather, .. } => Some(gather),
        Action::Play { .. }
        | Action::Branch { .. }
        | Action::Queue { .. }
        | Action::Extension { .. }
        | Action::HangUp => None,
    }
}

/// Asks, for the first time or again.
fn ask(run: &mut Run, gather: &Gather, now: Millis) {
    run.digits.clear();
    let state = match &gather.prompt {
        Some(prompt) => {
            let barge_in = gather.barge_in;
            State::Prompting { prompt: prompt.clone(), since: now, barge_in }
        }
        None => State::Awaiting { until: now.after(gather.first_digit_ms) },
    };
    run.waits_for(state);
}

fn await_first_digit(run: &mut Run, action: &Action, now: Millis) {
    let first_digit_ms = gather_of(action).map_or(0, |gather| gather.first_digit_ms);
    run.waits_for(State::Awaiting { until: now.after(first_digit_ms) });
}

fn on_digit(run: &mut Run, action: &Action, now: Millis, digit: Digit) -> Move {
    let Some(gather) = gather_of(action) else { return Move::Stay };
    if gather.terminator == Some(digit) {
        return complete(run, action, now);
    }
    run.digits.push(digit.as_char());
    let full = run.digits.len() >= usize::from(gather.digits_max);
    let decided = match action {
        Action::Menu { choices, .. } => !choices.iter().any(|choice| goes_on(choice, &run.digits)),
        Action::Collect { .. }
        | Action::Play { .. }
        | Action::Branch { .. }
        | Action::Queue { .. }
        | Action::Extension { .. }
        | Action::HangUp => false,
    };
    if full || decided {
        return complete(run, action, now);
    }
    run.waits_for(State::Collecting { until: now.after(gather.inter_digit_ms) });
    Move::Stay
}

/// More digits may make it this choice.
fn goes_on(choice: &Choice, digits: &str) -> bool {
    choice.digits.len() > digits.len() && choice.digits.starts_with(digits)
}

/// No digit is missing any more.
fn complete(run: &mut Run, action: &Action, now: Millis) -> Move {
    let to = match action {
        Action::Menu { choices, .. } => {
            choices.iter().find(|choice| choice.digits == run.digits).map(|choice| choice.step)
        }
        Action::Collect { digits_min, next, .. } => {
            (run.digits.len() >= usize::from(*digits_min)).then_some(*next)
        }
        Action::Play { .. }
        | Action::Branch { .. }
        | Action::Queue { .. }
        | Action::Extension { .. }
        | Action::HangUp => None,
    };
    match to {
        Some(to) => Move::To(to),
        None => no_match(run, action, now),
    }
}

fn no_input(run: &mut Run, action: &Action, now: Millis) -> Move {
    run.no_input = run.no_input.saturating_add(1);
    try_again(run, action, now, |gather| gather.no_input)
}

fn no_match(run: &mut Run, action: &Action, now: Millis) -> Move {
    run.no_match = run.no_match.saturating_add(1);
    try_again(run, action, now, |gather| gather.no_match)
}

fn try_again(
    run: &mut Run,
    action: &Action,
    now: Millis,
    then: impl FnOnce(&Gather) -> StepId,
) -> Move {
    let Some(gather) = gather_of(action) else { return Move::Stay };
    if run.tries() >= gather.tries_max {
        return Move::To(then(gather));
    }
    ask(run, gather, now);
    Move::Stay
}

// --- the call around it ------------------------------------------------------------------------

/// An answered caller enters the newest version of the flow.
pub fn begin(draft: &mut Draft<'_>, id: CallId, name: &FlowId) {
    let flow = draft.config().and_then(|config| config.newest_flow(name)).cloned();
    let Some(flow) = flow else { return };
    if let Some(call) = draft.call_mut(&id) {
        call.flow = Some(Run::new(flow.name.clone(), flow.version));
    }
    go(draft, id, &flow, StepId::default());
}

/// Nobody can be reached: the caller hears so, and the call ends.
pub fn play_tone(draft: &mut Draft<'_>, id: CallId, tone: Tone) {
    let country = draft.config().map(|config| config.country).unwrap_or_default();
    let Some(flow) = tones::of(tone, country) else { return };
    if let Some(call) = draft.call_mut(&id) {
        call.flow = Some(Run::new(flow.name.clone(), flow.version));
    }
    go(draft, id, flow, StepId::default());
}

/// Leads the call to a step, and on through those that wait for nothing.
fn go(draft: &mut Draft<'_>, id: CallId, flow: &Flow, mut to: StepId) {
    let now = draft.now;
    let mut why = ending::NORMAL;
    for steps in 0..=limits::FLOW_STEPS_PER_EVENT_MAX {
        if steps == limits::FLOW_STEPS_PER_EVENT_MAX {
            why = TOO_MANY_STEPS;
            break;
        }
        let Some(call) = draft.call_mut(&id) else { return };
        let Some(run) = &mut call.flow else { return };
        run.arrives_at(to);
        let Some(step) = flow.step(to) else { break };
        match &step.action {
            Action::Play { prompt, .. } => {
                run.waits_for(State::Playing { prompt: prompt.clone(), since: now });
                call.state = CallState::InFlow;
                return media::plan(draft, id);
            }
            Action::Menu { gather, .. } | Action::Collect { gather, .. } => {
                ask(run, gather, now);
                call.state = CallState::InFlow;
                return media::plan(draft, id);
            }
            Action::Branch { cases, otherwise } => {
                let case = cases.iter().find(|case| case.digits == run.digits);
                to = case.map_or(*otherwise, |case| case.step);
            }
            Action::Queue { queue, full } => {
                if inbound::room(draft, queue).is_err() {
                    to = *full;
                    continue;
                }
                leave(draft, id, State::Over);
                inbound::join(draft, id, queue);
                return media::plan(draft, id);
            }
            Action::Extension { agent, failed } => {
                if inbound::reachable(draft, agent).is_err()
                    || !outbound::ring_extension(draft, id, agent)
                {
                    to = *failed;
                    continue;
                }
                return leave(draft, id, State::Transferring);
            }
            Action::HangUp => break,
        }
    }
    leave(draft, id, State::Over);
    ending::end(draft, id, Side::System, why, None);
}

fn leave(draft: &mut Draft<'_>, id: CallId, state: State) {
    if let Some(run) = draft.call_mut(&id).and_then(|call| call.flow.as_mut()) {
        run.waits_for(state);
    }
}

/// One event of the call's flow.
fn on_event(draft: &mut Draft<'_>, id: CallId, event: Event) -> Result<(), Unexpected> {
    let now = draft.now;
    let flow = flow_of(draft, id).ok_or(Unexpected)?;
    let call = draft.call(&id).filter(|call| call.is_live()).ok_or(Unexpected)?;
    let mut run = call.flow.clone().ok_or(Unexpected)?;
    let action = &flow.step(run.step).ok_or(Unexpected)?.action;
    let heard = |run: &Run| run.prompt().map(|_| run.turn);
    let before = heard(&run);
    let moved = handle(&mut run, action, now, event)?;
    let changed = heard(&run) != before;
    if let Some(call) = draft.call_mut(&id) {
        call.flow = Some(run);
    }
    match moved {
        Move::To(step) => go(draft, id, &flow, step),
        Move::Stay if changed => media::plan(draft, id),
        Move::Stay => {}
    }
    Ok(())
}

/// The version that the call began with.
fn flow_of(draft: &Draft<'_>, id: CallId) -> Option<Arc<Flow>> {
    let run = draft.call(&id)?.flow.as_ref()?;
    draft.config()?.flow(&run.flow, run.version).cloned()
}

/// Keys, each at the place where the one before it has led. Whoever is in no flow presses in vain.
fn press(draft: &mut Draft<'_>, id: CallId, digits: impl IntoIterator<Item = Digit>) {
    for digit in digits {
        if on_event(draft, id, Event::Pressed(digit)).is_err() {
            return;
        }
    }
}

/// The caller's keys count while the flow may still want them.
fn keys_of<'d>(
    draft: &'d mut Draft<'_>,
    id: CallId,
    leg: LegId,
) -> Option<&'d mut super::keys::Keys> {
    let call = draft.call(&id).filter(|call| call.is_live())?;
    let of_caller = call.leg(leg).is_some_and(|leg| leg.is_caller());
    let wanted = call.flow.as_ref().is_some_and(|run| run.state != State::Over);
    if !of_caller || !wanted {
        return None;
    }
    draft.call_mut(&id)?.flow.as_mut().map(|run| &mut run.keys)
}

/// A key in the RTP of a leg, the `number`-th of the gateway's life.
pub fn on_digit_pressed(
    draft: &mut Draft<'_>,
    (id, leg): (CallId, LegId),
    life: u64,
    number: u64,
    digit: Digit,
) -> Result<(), Rejection> {
    if draft.call(&id).is_none() {
        return Err(Rejection::NotFound(format!("call {id}")));
    }
    let Some(keys) = keys_of(draft, id, leg) else { return Ok(()) };
    let digits = keys.on_pressed(life, number, digit);
    press(draft, id, digits);
    Ok(())
}

/// A key in an INFO that the dialog of a leg has admitted.
pub fn on_info(draft: &mut Draft<'_>, id: CallId, leg: LegId, digit: Digit) {
    let digit = keys_of(draft, id, leg).and_then(|keys| keys.on_info(digit));
    press(draft, id, digit);
}

/// A gateway has played a prompt to its end, or has no such prompt.
pub fn on_prompt_ended(draft: &mut Draft<'_>, id: CallId, turn: u64) -> Result<(), Rejection> {
    on_event(draft, id, Event::PromptEnded { turn })
        .map_err(|Unexpected| Rejection::NotFound(format!("prompt {turn} of call {id}")))
}

/// What the flow waited for did not come.
pub fn on_wait_over(draft: &mut Draft<'_>, id: CallId, turn: u64) -> Result<(), Rejection> {
    let missing = || Rejection::NotFound(format!("wait {turn} of call {id}"));
    let now = draft.now;
    let call = draft.call_mut(&id).filter(|call| call.is_live());
    let run = call.and_then(|call| call.flow.as_mut()).ok_or_else(missing)?;
    if run.turn != turn || run.deadline().is_none_or(|at| at > now) {
        return Err(missing());
    }
    // A key that never came is waited for no longer: those behind it were pressed in time.
    let late = run.keys.give_up_waiting();
    if late.is_empty() {
        return on_event(draft, id, Event::TimedOut { turn }).map_err(|Unexpected| missing());
    }
    press(draft, id, late);
    // Keys that this step does not take leave its time as it was.
    if draft.call(&id).is_some_and(|call| call.flow.as_ref().is_some_and(|run| run.turn == turn)) {
        return on_event(draft, id, Event::TimedOut { turn }).map_err(|Unexpected| missing());
    }
    Ok(())
}

/// Does an extension ring for the call's flow?
pub fn is_transferring(draft: &Draft<'_>, id: CallId) -> bool {
    let run = draft.call(&id).and_then(|call| call.flow.as_ref());
    run.is_some_and(|run| run.state == State::Transferring)
}

/// The extension did not take the call: the flow goes on with it.
pub fn on_transfer_failed(draft: &mut Draft<'_>, id: CallId) {
    if on_event(draft, id, Event::TransferFailed).is_err() {
        ending::end(draft, id, Side::System, ending::NORMAL, None);
    }
}

/// The extension has taken the call.
pub fn on_transferred(draft: &mut Draft<'_>, id: CallId) {
    if is_transferring(draft, id) {
        leave(draft, id, State::Over);
    }
}
