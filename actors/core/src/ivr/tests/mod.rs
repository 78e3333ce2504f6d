//! What a flow may be, in which order keys count, and each transition of a caller in a flow.

mod calls;
mod flows;
mod keys;

use super::flow::{Action, Choice, Flow, Gather, Step, StepId};
use super::keys::Digit;
use crate::command::GatewayEvent;
use crate::effect::{Body, Effect, Prompt, Source};
use crate::ids::{CallId, LegId};
use crate::tests::shard::Shard;
use crate::world::Reply;

pub fn digit(key: char) -> Digit {
    Digit::new(key).expect("a key")
}

pub fn choice(digits: &str, step: u16) -> Choice {
    Choice { digits: digits.into(), step: StepId(step) }
}

/// Asks for four digits at most, twice.
pub fn gather() -> Gather {
    Gather {
        prompt: Some("ask".into()),
        barge_in: true,
        digits_max: 4,
        terminator: Some(digit('#')),
        first_digit_ms: 5_000,
        inter_digit_ms: 2_000,
        tries_max: 2,
        no_input: StepId(0),
        no_match: StepId(0),
    }
}

pub fn flow(steps: &[(&str, Action)]) -> Flow {
    let steps =
        steps.iter().map(|(name, action)| Step { name: (*name).into(), action: action.clone() });
    Flow { name: "test".into(), version: 0, steps: steps.collect() }
}

/// What one call's caller does and hears.
pub struct Led {
    pub shard: Shard,
    pub call: CallId,
    pressed: u64,
}

impl Led {
    /// A caller of the demo tenant's number, the ACK sent.
    pub fn dial(number: &str) -> Self {
        Self::enter(Shard::new(), number)
    }

    /// A caller of 4000, which leads to this flow.
    pub fn through(steps: &[(&str, Action)]) -> Self {
        let flow = Flow { name: "main".into(), ..flow(steps) };
        assert_eq!(flow.problems(), []);
        Self::enter(Shard::with(|config| config.flows = vec![flow.into()]), "4000")
    }

    pub fn enter(mut shard: Shard, number: &str) -> Self {
        let call = shard.invite("c1", number).0.expect("a call");
        shard.ack(call);
        Self { shard, call, pressed: 0 }
    }

    fn leg(&self) -> LegId {
        self.shard.call(self.call).legs[0].id
    }

    /// The caller presses a key.
    pub fn press(&mut self, key: char) -> Vec<Effect> {
        self.pressed += 1;
        self.press_as(self.pressed, key)
    }

    pub fn press_as(&mut self, number: u64, key: char) -> Vec<Effect> {
        let (call, leg) = (self.call, self.leg());
        let duration_ms = 100;
        let event = GatewayEvent::Digit { call, leg, number, digit: digit(key), duration_ms };
        let (reply, effects) = self.shard.event(event);
        assert_eq!(reply, Reply::Done);
        effects
    }

    /// The gateway has played the prompt that is heard.
    pub fn prompt_ends(&mut self) -> Vec<Effect> {
        let play = self.run().turn;
        let (reply, effects) = self.prompt_ends_as(play);
        assert_eq!(reply, Reply::Done);
        effects
    }

    pub fn prompt_ends_as(&mut self, play: u64) -> (Reply, Vec<Effect>) {
        let (call, leg) = (self.call, self.leg());
        self.shard.event(GatewayEvent::PromptEnded { call, leg, play, missing: false })
    }

    pub fn run(&self) -> &super::state::Run {
        self.shard.call(self.call).flow.as_ref().expect("a flow")
    }

    /// Step, state and digits.
    pub fn place(&self) -> (&str, &'static str, &str) {
        let run = self.run();
        let config = self.shard.leader.config.as_ref().expect("a configuration");
        let flow = config.flow(&run.flow, run.version).expect("its flow");
        (flow.step_name(run.step), run.state_name(), &run.digits)
    }
}

/// The prompt that the last plan of the effects plays.
pub fn prompt(effects: &[Effect]) -> &Prompt {
    let plan = effects.iter().rev().find_map(|effect| match &effect.body {
        Body::Media(plan) => Some(plan),
        Body::Respond { .. } | Body::Send { .. } | Body::Notify { .. } => None,
    });
    match &plan.expect("a plan").legs[0].source {
        Source::Prompt(prompt) => prompt,
        other => panic!("{other:?} is no prompt"),
    }
}
