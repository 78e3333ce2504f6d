//! Flows, and calls' ways through them.

use std::sync::Arc;

use tandem_sip::Millis;
use tandem_sip::protobuf::{Encode, Writer};

use super::{Error, narrow, need};
use crate::ivr::flow::{Action, Choice, Flow, Gather, Step, StepId};
use crate::ivr::keys::{Digit, Keys, Way};
use crate::ivr::state::{Run, State};
use crate::proto;

impl Encode for Flow {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.name.0);
        to.uint(2, self.version);
        to.messages(3, &self.steps);
    }
}

impl Encode for Step {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.name);
        match &self.action {
            Action::Play { prompt, next } => to.delimited(2, |to| {
                to.text(1, &prompt.0);
                to.uint(2, next.0);
            }),
            Action::Menu { gather, choices } => to.delimited(3, |to| {
                to.message(1, gather);
                to.messages(2, choices);
            }),
            Action::Collect { gather, digits_min, next } => to.delimited(4, |to| {
                to.message(1, gather);
                to.uint(2, *digits_min);
                to.uint(3, next.0);
            }),
            Action::Branch { cases, otherwise } => to.delimited(5, |to| {
                to.messages(1, cases);
                to.uint(2, otherwise.0);
            }),
            Action::Queue { queue, full } => to.delimited(6, |to| {
                to.text(1, &queue.0);
                to.uint(2, full.0);
            }),
            Action::Extension { agent, failed } => to.delimited(7, |to| {
                to.text(1, &agent.0);
                to.uint(2, failed.0);
            }),
            Action::HangUp => to.flag(8, true),
        }
    }
}

impl Encode for Gather {
    fn encode(&self, to: &mut Writer) {
        to.some_text(1, self.prompt.as_ref().map(|prompt| &*prompt.0));
        to.flag(2, self.barge_in);
        to.uint(3, self.digits_max);
        if let Some(terminator) = &self.terminator {
            to.shown(4, terminator);
        }
        to.uint(5, self.first_digit_ms);
        to.uint(6, self.inter_digit_ms);
        to.uint(7, self.tries_max);
        to.uint(8, self.no_input.0);
        to.uint(9, self.no_match.0);
    }
}

impl Encode for Choice {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.digits);
        to.uint(2, self.step.0);
    }
}

pub(super) fn flow_from(flow: proto::Flow) -> Result<Arc<Flow>, Error> {
    let steps = flow.steps.into_iter().map(|step| {
        Ok(Step { name: step.name.into(), action: action_from(need(step.action, "step.action")?)? })
    });
    let steps = steps.collect::<Result<_, Error>>()?;
    Ok(Arc::new(Flow { name: flow.name.into(), version: flow.version, steps }))
}

fn action_from(action: proto::flow::step::Action) -> Result<Action, Error> {
    use proto::flow::step::Action as From;
    Ok(match action {
        From::Play(play) => Action::Play { prompt: play.prompt.into(), next: step_id(play.next)? },
        From::Menu(menu) => {
            Action::Menu { gather: gather_from(menu.gather)?, choices: choices_from(menu.choices)? }
        }
        From::Collect(collect) => Action::Collect {
            gather: gather_from(collect.gather)?,
            digits_min: narrow(collect.digits_min, "collect.digits_min")?,
            next: step_id(collect.next)?,
        },
        From::Branch(branch) => Action::Branch {
            cases: choices_from(branch.cases)?,
            otherwise: step_id(branch.otherwise)?,
        },
        From::Queue(to) => Action::Queue { queue: to.queue.into(), full: step_id(to.full)? },
        From::Extension(to) => {
            Action::Extension { agent: to.agent.into(), failed: step_id(to.failed)? }
        }
        From::HangUp(_) => Action::HangUp,
    })
}

fn gather_from(gather: Option<proto::flow::Gather>) -> Result<Gather, Error> {
    let gather = need(gather, "step.gather")?;
    Ok(Gather {
        prompt: gather.prompt.map(Into::into),
        barge_in: gather.barge_in,
        digits_max: narrow(gather.digits_max, "gather.digits_max")?,
        terminator: gather.terminator.as_deref().map(digit_from).transpose()?,
        first_digit_ms: gather.first_digit_ms,
        inter_digit_ms: gather.inter_digit_ms,
        tries_max: narrow(gather.tries_max, "gather.tries_max")?,
        no_input: step_id(gather.no_input)?,
        no_match: step_id(gather.no_match)?,
    })
}

fn choices_from(choices: Vec<proto::flow::Choice>) -> Result<Vec<Choice>, Error> {
    let choice = |choice: proto::flow::Choice| -> Result<Choice, Error> {
        Ok(Choice { digits: choice.digits, step: step_id(choice.step)? })
    };
    choices.into_iter().map(choice).collect()
}

fn step_id(place: u32) -> Result<StepId, Error> {
    narrow(place, "flow.step").map(StepId)
}

pub(super) fn digit_from(text: &str) -> Result<Digit, Error> {
    let mut keys = text.chars();
    match (keys.next().and_then(Digit::new), keys.next()) {
        (Some(digit), None) => Ok(digit),
        (_, _) => Err(Error::Unknown("digit", text.to_owned())),
    }
}

impl Encode for Run {
    fn encode(&self, to: &mut Writer) {
        to.text(1, &self.flow.0);
        to.uint(2, self.version);
        to.uint(3, self.step.0);
        to.text(4, self.state_name());
        match &self.state {
            State::Playing { prompt, since } => {
                to.text(5, &prompt.0);
                to.uint(6, since.0);
            }
            State::Prompting { prompt, since, barge_in } => {
                to.text(5, &prompt.0);
                to.uint(6, since.0);
                to.flag(7, *barge_in);
            }
            State::Awaiting { until } | State::Collecting { until } => to.uint(8, until.0),
            State::Transferring | State::Over => {}
        }
        to.uint(9, self.turn);
        to.text(10, &self.digits);
        to.uint(11, self.no_input);
        to.uint(12, self.no_match);
        to.packed(13, self.path.iter().map(|step| u64::from(step.0)));
        to.message(14, &self.keys);
    }
}

impl Encode for Keys {
    fn encode(&self, to: &mut Writer) {
        let way = match self.way {
            None => "",
            Some(Way::Rtp) => "rtp",
            Some(Way::Info) => "info",
        };
        to.text(1, way);
        to.uint(2, self.life);
        to.uint(3, self.counted);
        for (number, digit) in &self.early {
            to.delimited(4, |to| {
                to.uint(1, *number);
                to.shown(2, digit);
            });
        }
    }
}

impl TryFrom<proto::FlowRun> for Run {
    type Error = Error;

    fn try_from(run: proto::FlowRun) -> Result<Self, Error> {
        let (since, until) = (Millis(run.since), Millis(run.until));
        let state = match run.state.as_str() {
            "playing" => State::Playing { prompt: run.prompt.into(), since },
            "prompting" => {
                State::Prompting { prompt: run.prompt.into(), since, barge_in: run.barge_in }
            }
            "awaiting" => State::Awaiting { until },
            "collecting" => State::Collecting { until },
            "transferring" => State::Transferring,
            "over" => State::Over,
            other => return Err(Error::Unknown("state of a flow", other.to_owned())),
        };
        Ok(Self {
            flow: run.flow.into(),
            version: run.version,
            step: step_id(run.step)?,
            state,
            turn: run.turn,
            digits: run.digits,
            no_input: narrow(run.no_input, "flow.no_input")?,
            no_match: narrow(run.no_match, "flow.no_match")?,
            path: run.path.into_iter().map(step_id).collect::<Result<_, _>>()?,
            keys: need(run.keys, "flow.keys")?.try_into()?,
        })
    }
}

impl TryFrom<proto::flow_run::Keys> for Keys {
    type Error = Error;

    fn try_from(keys: proto::flow_run::Keys) -> Result<Self, Error> {
        let way = match keys.way.as_str() {
            "" => None,
            "rtp" => Some(Way::Rtp),
            "info" => Some(Way::Info),
            other => return Err(Error::Unknown("way of keys", other.to_owned())),
        };
        let early = |early: proto::flow_run::Early| Ok((early.number, digit_from(&early.digit)?));
        Ok(Self {
            way,
            life: keys.life,
            counted: keys.counted,
            early: keys.early.into_iter().map(early).collect::<Result<_, Error>>()?,
        })
    }
}
