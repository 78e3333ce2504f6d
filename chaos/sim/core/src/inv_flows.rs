//! A caller's keys count once and in the order pressed; a place in a flow is never gone back from,
//! and stays over takeovers; a prompt goes on where it is; and there is always something that leads
//! on, in time.

use std::collections::BTreeMap;

use tandem_core::call::state::Unreached;
use tandem_core::command::{Command, Envelope, GatewayEvent};
use tandem_core::effect::{Body, MediaPlan, Source};
use tandem_core::ids::{CallId, EntityId};
use tandem_core::ivr::keys::Digit;
use tandem_core::ivr::state::{Run, State};
use tandem_core::{World, limits};

use crate::coverage::Coverage;
use crate::violation::Checked;
use crate::watch::Step;

/// Call, life of the gateway, number.
type Name = (CallId, u64, u64);

#[derive(Debug, Default)]
pub struct Flows {
    /// What gateways heard.
    heard: BTreeMap<Name, Digit>,
    runs: BTreeMap<CallId, Run>,
}

impl Flows {
    pub fn heard(&mut self, name: Name, digit: Digit) {
        self.heard.insert(name, digit);
    }

    pub fn after(&mut self, step: &Step<'_>, coverage: &mut Coverage) -> Checked {
        for effect in &step.applied.effects {
            if let Body::Media(plan) = &effect.body {
                prompt_is_where_it_is(step.world, plan)?;
            }
        }
        for entity in &step.applied.touched {
            let EntityId::Call(id) = entity else { continue };
            let call = step.world.calls.get(id).filter(|call| call.is_live());
            let run = call.and_then(|call| call.flow.as_ref());
            let Some(run) = run else {
                self.runs.remove(id);
                continue;
            };
            in_time(*id, run, step.world)?;
            if let Some(unreached) = call.and_then(|call| call.unreached) {
                tone_is_of_what_happened(*id, run, unreached)?;
                coverage.mark("who is not reached hears a tone");
            }
            if let Some(before) = self.runs.insert(*id, run.clone()) {
                self.goes_on(*id, &before, run, step)?;
            }
        }
        Ok(())
    }

    fn goes_on(&self, id: CallId, before: &Run, run: &Run, step: &Step<'_>) -> Checked {
        hold!(run.turn >= before.turn, "the flow of call {id} goes back");
        let (keys, old) = (&run.keys, &before.keys);
        let counted = (keys.life, keys.counted) >= (old.life, old.counted);
        hold!(counted, "keys of call {id} that counted are forgotten");
        hold!(run.path.starts_with(&before.path), "call {id} has lost its way through the flow");
        match &step.envelope.command {
            Command::Elected { .. } | Command::Gateway(GatewayEvent::Login(_)) => {
                hold!(run == before, "a takeover moves call {id} in its flow");
            }
            _ => {}
        }
        let new = self.counted_now(id, before, run, step.envelope);
        if matches!(step.envelope.command, Command::Gateway(GatewayEvent::Digit { .. })) {
            let same = run.turn == before.turn && run.digits == before.digits;
            hold!(!new.is_empty() || same, "a key of call {id} counts that counted before");
        }
        let all = format!("{}{new}", before.digits);
        hold!(
            all.contains(&run.digits),
            "call {id} has pressed {all}, and its flow has taken {}",
            run.digits
        );
        Ok(())
    }

    /// The keys that count with this entry, in the order in which the gateway heard them.
    fn counted_now(&self, id: CallId, before: &Run, run: &Run, envelope: &Envelope) -> String {
        let (keys, old) = (&run.keys, &before.keys);
        let event = match &envelope.command {
            Command::Gateway(GatewayEvent::Info { digit, .. }) => return digit.to_string(),
            Command::Gateway(GatewayEvent::Digit { number, .. }) => Some(*number),
            _ => None,
        };
        let mut arrived: Vec<(u64, u64)> =
            old.early.iter().map(|(number, _)| (old.life, *number)).collect();
        arrived.extend(event.map(|number| (keys.life, number)));
        arrived.sort_unstable();
        let counts = |(life, number): &(u64, u64)| {
            let late = (*life, *number) > (old.life, old.counted);
            late && (*life, *number) <= (keys.life, keys.counted)
        };
        let digit = |(life, number)| self.heard.get(&(id, life, number));
        arrived.into_iter().filter(counts).filter_map(digit).map(|d| d.as_char()).collect()
    }
}

/// Who can't be put through hears why, and nothing else.
fn tone_is_of_what_happened(id: CallId, run: &Run, unreached: Unreached) -> Checked {
    let tone = if unreached.status == 486 { "tone-busy-" } else { "tone-congestion-" };
    let hears = run.prompt().is_some_and(|(prompt, _)| prompt.0.starts_with(tone));
    let (status, state) = (unreached.status, run.state_name());
    hold!(hears, "call {id}, which nobody took ({status}), is {state} in {}", run.flow);
    Ok(())
}

/// Whoever begins to play begins where the prompt is by the world's time.
fn prompt_is_where_it_is(world: &World, plan: &MediaPlan) -> Checked {
    let Some(run) = world.calls.get(&plan.call).and_then(|call| call.flow.as_ref()) else {
        return Ok(());
    };
    for leg in &plan.legs {
        let Source::Prompt(prompt) = &leg.source else { continue };
        let Some((name, since)) = run.prompt().filter(|_| prompt.play == run.turn) else {
            continue;
        };
        let right = *name == prompt.prompt && since.after(prompt.offset_ms) == world.at;
        hold!(right, "call {} hears prompt {} from another place", plan.call, prompt.prompt);
    }
    Ok(())
}

/// No step waits for longer than it may.
fn in_time(id: CallId, run: &Run, world: &World) -> Checked {
    let most = match run.state {
        State::Playing { .. } | State::Prompting { .. } => limits::PROMPT_MS_MAX,
        State::Awaiting { .. } => limits::FIRST_DIGIT_MS_MAX,
        State::Collecting { .. } => limits::INTER_DIGIT_MS_MAX,
        State::Transferring | State::Over => return Ok(()),
    };
    let until = run.deadline().filter(|until| *until <= world.at.after(most));
    hold!(until.is_some(), "call {id} waits in its flow for longer than any step may");
    Ok(())
}
