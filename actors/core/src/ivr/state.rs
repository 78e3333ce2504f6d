use tandem_sip::Millis;

use super::flow::StepId;
use super::keys::Keys;
use crate::ids::{FlowId, PromptId};
use crate::limits;

/// A call's way through a flow: all that another leader goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub flow: FlowId,
    pub version: u64,
    pub step: StepId,
    pub state: State,
    /// Grows with each thing that the flow waits for: it names a prompt and its end, and a
    /// deadline, so that late ones are told apart.
    pub turn: u64,
    /// Pressed at this step, or collected at the last.
    pub digits: String,
    /// Tries of this step that ended without a key.
    pub no_input: u8,
    /// Tries of this step that ended with a wrong answer.
    pub no_match: u8,
    /// The first steps that it has been through, this one included.
    pub path: Vec<StepId>,
    pub keys: Keys,
}

/// What the flow waits for.
///
/// ```text
/// play      Playing ──end of prompt──▶ next step
/// menu,     Prompting ──end of prompt──▶ Awaiting ──key──▶ Collecting ──complete──▶ its step
/// collect       │   ▲─────no key────────────┘                ▲   │ key
///               │   └─────wrong answer───────────────────────┼───┘
///               └──key, barge-in─────────────────────────────┘
/// extension Transferring ──answered──▶ Over, failed──▶ its step
/// queue, hang-up ──▶ Over
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A prompt that keys don't stop.
    Playing { prompt: PromptId, since: Millis },
    /// The prompt of a step that asks. With `barge_in` the first key stops it.
    Prompting { prompt: PromptId, since: Millis, barge_in: bool },
    /// For the first digit.
    Awaiting { until: Millis },
    /// For the next digit.
    Collecting { until: Millis },
    /// An extension rings.
    Transferring,
    /// The flow has let the call go.
    Over,
}

impl Run {
    pub fn new(flow: FlowId, version: u64) -> Self {
        Self {
            flow,
            version,
            step: StepId::default(),
            state: State::Over,
            turn: 0,
            digits: String::new(),
            no_input: 0,
            no_match: 0,
            path: Vec::new(),
            keys: Keys::default(),
        }
    }

    /// The prompt that is heard, and since when.
    pub fn prompt(&self) -> Option<(&PromptId, Millis)> {
        match &self.state {
            State::Playing { prompt, since } | State::Prompting { prompt, since, .. } => {
                Some((prompt, *since))
            }
            State::Awaiting { .. }
            | State::Collecting { .. }
            | State::Transferring
            | State::Over => None,
        }
    }

    /// When the flow goes on by itself.
    pub fn deadline(&self) -> Option<Millis> {
        match &self.state {
            State::Playing { since, .. } | State::Prompting { since, .. } => {
                Some(since.after(limits::PROMPT_MS_MAX))
            }
            State::Awaiting { until } | State::Collecting { until } => Some(*until),
            State::Transferring | State::Over => None,
        }
    }

    /// Does the flow lead the caller?
    pub fn is_in_flow(&self) -> bool {
        self.deadline().is_some()
    }

    /// Does the first key stop what is heard?
    pub fn takes_keys(&self) -> bool {
        matches!(self.state, State::Prompting { barge_in: true, .. })
    }

    pub fn tries(&self) -> u8 {
        self.no_input.saturating_add(self.no_match)
    }

    pub fn waits_for(&mut self, state: State) {
        self.state = state;
        self.turn += 1;
    }

    /// Comes to a step: what was asked before is over.
    pub fn arrives_at(&mut self, step: StepId) {
        self.step = step;
        (self.no_input, self.no_match) = (0, 0);
        if self.path.len() < limits::FLOW_PATH_MAX {
            self.path.push(step);
        }
    }

    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Playing { .. } => "playing",
            State::Prompting { .. } => "prompting",
            State::Awaiting { .. } => "awaiting",
            State::Collecting { .. } => "collecting",
            State::Transferring => "transferring",
            State::Over => "over",
        }
    }
}
