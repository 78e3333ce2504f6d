//! A flow as data: steps that name each other by their places. What is wrong with one is told when
//! it is configured, so that no caller meets it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::keys::Digit;
use crate::config::Config;
use crate::ids::{AgentId, FlowId, PromptId, QueueId};
use crate::limits;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub name: FlowId,
    /// Given by the shard: it grows with each change of the steps. A call finishes on the version
    /// that it began with.
    pub version: u64,
    /// Calls begin at the first.
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: Arc<str>,
    pub action: Action,
}

/// The place of a step in its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u16);

/// What a step does with the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Plays to its end, whatever keys are pressed.
    Play {
        prompt: PromptId,
        next: StepId,
    },
    /// Asks for one of a few answers.
    Menu {
        gather: Gather,
        choices: Vec<Choice>,
    },
    /// Asks for digits of any kind, for instance a number of an account.
    Collect {
        gather: Gather,
        digits_min: u8,
        next: StepId,
    },
    /// Goes by the digits that were collected last.
    Branch {
        cases: Vec<Choice>,
        otherwise: StepId,
    },
    /// The caller waits for an agent; `full` where the queue takes nobody more.
    Queue {
        queue: QueueId,
        full: StepId,
    },
    /// An extension rings; `failed` where it is busy, not there, or nobody answers.
    Extension {
        agent: AgentId,
        failed: StepId,
    },
    HangUp,
}

/// How digits are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    pub prompt: Option<PromptId>,
    /// The first key stops the prompt. Otherwise keys count once it has ended.
    pub barge_in: bool,
    pub digits_max: u8,
    /// Ends the digits before there are `digits_max`; it is none of them.
    pub terminator: Option<Digit>,
    /// From the end of the prompt.
    pub first_digit_ms: u64,
    /// From each digit to the next.
    pub inter_digit_ms: u64,
    /// How often is asked, time-outs and wrong answers counted together.
    pub tries_max: u8,
    /// Where the last try ended without a key.
    pub no_input: StepId,
    /// Where the last try ended with a wrong answer.
    pub no_match: StepId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub digits: String,
    pub step: StepId,
}

/// What is wrong with a flow, and at which step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Problem {
    pub step: StepId,
    pub what: String,
}

impl Flow {
    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.steps.get(usize::from(id.0))
    }

    pub fn step_name(&self, id: StepId) -> &str {
        self.step(id).map_or("", |step| &step.name)
    }

    /// Everything that is wrong with it, beside names that only its surroundings know.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.steps.is_empty() || self.steps.len() > limits::FLOW_STEPS_MAX {
            let (count, max) = (self.steps.len(), limits::FLOW_STEPS_MAX);
            let what = format!("has {count} steps; a flow has 1 to {max}");
            return vec![Problem { step: StepId(0), what }];
        }
        let mut names = BTreeSet::new();
        for (at, step) in (0..).zip(&self.steps) {
            let mut tell = |what| problems.push(Problem { step: StepId(at), what });
            if !names.insert(&step.name) {
                tell("has the name of another step".to_owned());
            }
            for (_, to) in step.action.exits() {
                if self.step(to).is_none() {
                    tell(format!("leads to step {}, which is not there", to.0));
                }
            }
            step.action.tell_problems(&mut tell);
        }
        problems.extend(self.cycle_without_input());
        problems
    }

    /// Steps that lead back to themselves though the caller does nothing: such a flow would go
    /// round for ever.
    fn cycle_without_input(&self) -> Option<Problem> {
        let exits = |at: usize| {
            let exits = self.steps[at].action.exits().into_iter();
            let silent = exits.filter(|(how, to)| *how == Exit::Silent && self.step(*to).is_some());
            silent.map(|(_, to)| usize::from(to.0))
        };
        // Steps that lead to no cycle are taken away until only those are left that do.
        let mut open: Vec<usize> = (0..self.steps.len()).map(|at| exits(at).count()).collect();
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); self.steps.len()];
        for at in 0..self.steps.len() {
            exits(at).for_each(|to| before[to].push(at));
        }
        let mut done: Vec<usize> = (0..open.len()).filter(|at| open[*at] == 0).collect();
        while let Some(at) = done.pop() {
            for from in &before[at] {
                open[*from] -= 1;
                if open[*from] == 0 {
                    done.push(*from);
                }
            }
        }
        let mut at = open.iter().position(|left| *left > 0)?;
        let mut way = Vec::new();
        while !way.contains(&at) {
            way.push(at);
            at = exits(at).find(|to| open[*to] > 0)?;
        }
        let from = way.iter().position(|step| *step == at)?;
        let mut names: Vec<&str> = way[from..].iter().map(|at| &*self.steps[*at].name).collect();
        names.push(&self.steps[at].name);
        let what = format!("goes round without a key of the caller: {}", names.join(" → "));
        Some(Problem { step: StepId(u16::try_from(at).ok()?), what })
    }
}

/// How a step is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By what the caller pressed.
    Keyed,
    /// By itself.
    Silent,
}

impl Action {
    /// Where it may lead.
    pub fn exits(&self) -> Vec<(Exit, StepId)> {
        let of = |choices: &[Choice], how| -> Vec<(Exit, StepId)> {
            choices.iter().map(|choice| (how, choice.step)).collect()
        };
        let silent = |step: &StepId| vec![(Exit::Silent, *step)];
        let gather =
            |gather: &Gather| vec![(Exit::Silent, gather.no_input), (Exit::Keyed, gather.no_match)];
        match self {
            Self::Play { next, .. } => silent(next),
            Self::Menu { gather: how, choices } => [gather(how), of(choices, Exit::Keyed)].concat(),
            Self::Collect { gather: how, next, .. } => {
                [gather(how), vec![(Exit::Keyed, *next)]].concat()
            }
            Self::Branch { cases, otherwise } => {
                [of(cases, Exit::Silent), silent(otherwise)].concat()
            }
            Self::Queue { full, .. } => silent(full),
            Self::Extension { failed, .. } => silent(failed),
            Self::HangUp => Vec::new(),
        }
    }

    pub fn prompt(&self) -> Option<&PromptId> {
        match self {
            Self::Play { prompt, .. } => Some(prompt),
            Self::Menu { gather, .. } | Self::Collect { gather, .. } => gather.prompt.as_ref(),
            Self::Branch { .. } | Self::Queue { .. } | Self::Extension { .. } | Self::HangUp => {
                None
            }
        }
    }

    fn tell_problems(&self, tell: &mut impl FnMut(String)) {
        match self {
            Self::Menu { gather, choices } => {
                gather.tell_problems(tell);
                tell_choices(choices, tell);
                let longest = choices.iter().map(|choice| choice.digits.len()).max();
                match longest {
                    None => tell("offers nothing".to_owned()),
                    Some(longest) if longest > usize::from(gather.digits_max) => {
                        tell(format!("offers {longest} digits and takes {}", gather.digits_max));
                    }
                    Some(_) => {}
                }
                let ends = |choice: &Choice| {
                    gather.terminator.is_some_and(|end| choice.digits.contains(end.as_char()))
                };
                if choices.iter().any(ends) {
                    tell("offers the key that ends the digits".to_owned());
                }
            }
            Self::Collect { gather, digits_min, .. } => {
                gather.tell_problems(tell);
                if *digits_min == 0 || *digits_min > gather.digits_max {
                    tell(format!("wants {digits_min} digits of {} at most", gather.digits_max));
                }
            }
            Self::Branch { cases, .. } => tell_choices(cases, tell),
            Self::Play { .. } | Self::Queue { .. } | Self::Extension { .. } | Self::HangUp => {}
        }
    }
}

impl Gather {
    fn tell_problems(&self, tell: &mut impl FnMut(String)) {
        let mut within = |what: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                tell(format!("{what} is {value}; it may be {min} to {max}"));
            }
        };
        within("digits_max", self.digits_max.into(), 1, limits::FLOW_DIGITS_MAX.into());
        within("tries_max", self.tries_max.into(), 1, limits::FLOW_TRIES_MAX.into());
        within("first_digit_ms", self.first_digit_ms, 1, limits::FIRST_DIGIT_MS_MAX);
        let (min, max) = (limits::INTER_DIGIT_MS_MIN, limits::INTER_DIGIT_MS_MAX);
        within("inter_digit_ms", self.inter_digit_ms, min, max);
    }
}

fn tell_choices(choices: &[Choice], tell: &mut impl FnMut(String)) {
    let mut known = BTreeSet::new();
    for Choice { digits, .. } in choices {
        if !known.insert(digits) {
            tell(format!("names {digits} twice"));
        }
        if digits.is_empty() || !digits.chars().all(|key| Digit::new(key).is_some()) {
            tell(format!("names {digits:?}, which nobody can press"));
        }
    }
}

/// Gives each flow of a new configuration its version, and keeps the versions of before that calls
/// go on with.
pub(crate) fn keep_versions(
    new: &mut Config,
    old: Option<&Config>,
    in_use: &BTreeSet<(FlowId, u64)>,
) {
    let known: Vec<Arc<Flow>> =
        old.into_iter().flat_map(|old| old.flows.iter().chain(&old.retired)).cloned().collect();
    for flow in &mut new.flows {
        let earlier = || known.iter().filter(|known| known.name == flow.name);
        let newest = old.and_then(|old| old.newest_flow(&flow.name));
        let version = match newest {
            Some(newest) if newest.steps == flow.steps => newest.version,
            Some(_) | None => 1 + earlier().map(|known| known.version).max().unwrap_or(0),
        };
        Arc::make_mut(flow).version = version;
    }
    let is_newest = |flow: &Flow| {
        new.newest_flow(&flow.name).is_some_and(|newest| newest.version == flow.version)
    };
    let retired = known
        .into_iter()
        .filter(|flow| in_use.contains(&(flow.name.clone(), flow.version)) && !is_newest(flow));
    new.retired = retired.collect();
}
