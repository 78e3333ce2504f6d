//! The flows of a tenant: steps by name, each with what it does and where it leads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tandem_core::config::{Agent, Queue};
use tandem_core::ivr::flow::{Action, Choice, Flow, Gather, Step, StepId};
use tandem_core::ivr::keys::Digit;
use tandem_core::limits;

use super::reader::{Placed, Reader};
use super::tenant::{A_NAME, name};

const DIGITS_MAX_DEFAULT: u64 = 1;
const FIRST_DIGIT_MS_DEFAULT: u64 = 5_000;
const INTER_DIGIT_MS_DEFAULT: u64 = 3_000;
const TRIES_DEFAULT: u64 = 3;

const A_STEP: &str = "the name of a step of this flow";
const ACTIONS: &str =
    "\"play\", \"menu\", \"collect\", \"branch\", \"queue\", \"extension\" or \"hang_up\"";
const CHOICES: &str = "a table of keys and steps, for instance { 1 = \"support\" }";

/// What the rest of the file knows.
pub struct Known<'k> {
    pub agents: &'k [Agent],
    pub queues: &'k [Queue],
    /// Names of prompts; none where the file can't know them.
    pub prompts: Option<&'k [String]>,
}

/// A step's table, with its name.
struct Row<'r, 's, 'a> {
    reader: Reader<'s, 'a>,
    name: Option<Placed<String>>,
    places: &'r BTreeMap<String, StepId>,
    known: &'r Known<'r>,
}

/// `None` where a mistake leaves no flow to speak of.
pub fn flow(reader: Reader<'_, '_>, known: &Known<'_>) -> Option<(Placed<String>, Flow)> {
    let flow_name = reader.required("name", name(&reader, "name"), A_NAME);
    let tables = reader.tables("step");
    if tables.is_empty() && !reader.has("step") {
        reader.mistake("step", reader.at(), "is missing", "tables: [[flow.step]]");
    }
    if tables.len() > limits::FLOW_STEPS_MAX {
        let (count, max) = (tables.len(), limits::FLOW_STEPS_MAX);
        let problem = format!("are {count} steps");
        reader.mistake("step", reader.at(), problem, format!("{max} at most"));
        return None;
    }
    let named: Vec<(Reader<'_, '_>, Option<Placed<String>>)> = tables
        .into_iter()
        .map(|step| {
            let placed = step.required("name", name(&step, "name"), A_NAME);
            (step, placed)
        })
        .collect();
    let mut places = BTreeMap::new();
    for (at, (step, name)) in (0..).zip(&named) {
        let Some(name) = name else { continue };
        if places.insert(name.value.clone(), StepId(at)).is_some() {
            let problem = format!("is {:?}, which is taken", name.value);
            step.mistake("name", name.at.clone(), problem, "a name that no other step has");
        }
    }
    let mut at: Vec<Range<usize>> = Vec::new();
    let mut steps = Vec::new();
    let mut whole = places.len() == named.len();
    for (reader, name) in named {
        at.push(reader.at());
        let row = Row { reader, name, places: &places, known };
        match row.step() {
            Some(step) => steps.push(step),
            None => whole = false,
        }
    }
    let flow = Flow { name: flow_name.as_ref()?.value.as_str().into(), version: 0, steps };
    if whole {
        for problem in flow.problems() {
            let step = flow.step_name(problem.step);
            let place = at.get(usize::from(problem.step.0)).cloned().unwrap_or_default();
            reader.mistake("step", place, format!("{step:?} {}", problem.what), "");
        }
    }
    reader.finish();
    whole.then_some((flow_name?, flow))
}

/// A number's announcement: played to its end, then the call is over.
pub fn announcement(prompt: &str) -> Flow {
    let step = |name: &str, action| Step { name: name.into(), action };
    let play = Action::Play { prompt: prompt.into(), next: StepId(1) };
    let steps = vec![step("announcement", play), step("hang_up", Action::HangUp)];
    Flow { name: format!("announcement-{prompt}").into(), version: 0, steps }
}

/// Whether the prompt can be played, as far as the file can know.
pub fn check_prompt(
    reader: &Reader<'_, '_>,
    key: &str,
    prompt: &Placed<String>,
    known: Option<&[String]>,
) {
    if known.is_some_and(|known| !known.contains(&prompt.value)) {
        reader.mistake(
            key,
            prompt.at.clone(),
            format!("names {:?}, which is not there", prompt.value),
            "the name of a WAV file in the folder of [prompts], or of a built-in prompt",
        );
    }
}

impl Row<'_, '_, '_> {
    fn step(self) -> Option<Step> {
        let action = self.action();
        self.reader.finish();
        Some(Step { name: self.name?.value.into(), action: action? })
    }

    fn action(&self) -> Option<Action> {
        let reader = &self.reader;
        let what = reader.required("do", reader.string("do", ACTIONS), ACTIONS)?;
        match what.value.as_str() {
            "play" => {
                let (prompt, next) = (self.prompt(true), self.to("next"));
                Some(Action::Play { prompt: prompt?.value.into(), next: next? })
            }
            "menu" => {
                let (gather, choices) = (self.gather(), self.choices("choices"));
                Some(Action::Menu { gather: gather?, choices: choices? })
            }
            "collect" => {
                let expected = format!("an integer from 1 to {}", limits::FLOW_DIGITS_MAX);
                let max = u64::from(limits::FLOW_DIGITS_MAX);
                let digits_min = reader.integer("digits_min", 1..=max, &expected).unwrap_or(1);
                let (gather, next) = (self.gather(), self.to("next"));
                let digits_min = u8::try_from(digits_min).ok()?;
                Some(Action::Collect { gather: gather?, digits_min, next: next? })
            }
            "branch" => {
                let (cases, otherwise) = (self.choices("cases"), self.to("otherwise"));
                Some(Action::Branch { cases: cases?, otherwise: otherwise? })
            }
            "queue" => {
                let (queue, full) = (self.queue(), self.to("full"));
                Some(Action::Queue { queue: queue?.into(), full: full? })
            }
            "extension" => {
                let (agent, failed) = (self.agent(), self.to("failed"));
                Some(Action::Extension { agent: agent?.into(), failed: failed? })
            }
            "hang_up" => Some(Action::HangUp),
            other => {
                reader.mistake("do", what.at, format!("is {other:?}"), ACTIONS);
                None
            }
        }
    }

    fn to(&self, key: &'static str) -> Option<StepId> {
        let step = self.reader.required(key, self.reader.string(key, A_STEP), A_STEP)?;
        self.place(key, &step)
    }

    fn place(&self, key: &str, step: &Placed<String>) -> Option<StepId> {
        let place = self.places.get(&step.value).copied();
        if place.is_none() {
            let problem = format!("names {:?}, which is not there", step.value);
            self.reader.mistake(key, step.at.clone(), problem, A_STEP);
        }
        place
    }

    fn prompt(&self, required: bool) -> Option<Placed<String>> {
        let expected = "the name of a prompt";
        let mut prompt = self.reader.string("prompt", expected);
        if required {
            prompt = self.reader.required("prompt", prompt, expected);
        }
        if let Some(prompt) = &prompt {
            check_prompt(&self.reader, "prompt", prompt, self.known.prompts);
        }
        prompt
    }

    fn choices(&self, key: &'static str) -> Option<Vec<Choice>> {
        let texts = self.reader.required(key, self.reader.texts(key, CHOICES), CHOICES)?;
        let mut choices = Vec::new();
        for (digits, step) in texts {
            let step = self.place(key, &step)?;
            choices.push(Choice { digits: digits.value, step });
        }
        choices.sort_by(|a, b| a.digits.cmp(&b.digits));
        Some(choices)
    }

    fn gather(&self) -> Option<Gather> {
        let reader = &self.reader;
        let number = |key, max: u64, default| {
            let expected = format!("an integer from 1 to {max}");
            reader.integer(key, 1..=max, &expected).unwrap_or(default)
        };
        let inter_digit = limits::INTER_DIGIT_MS_MIN..=limits::INTER_DIGIT_MS_MAX;
        let expected = format!(
            "milliseconds: an integer from {} to {}",
            inter_digit.start(),
            inter_digit.end()
        );
        let inter_digit_ms = reader
            .integer("inter_digit_ms", inter_digit, &expected)
            .unwrap_or(INTER_DIGIT_MS_DEFAULT);
        let digits_max = number("digits_max", limits::FLOW_DIGITS_MAX.into(), DIGITS_MAX_DEFAULT);
        let tries_max = number("tries_max", limits::FLOW_TRIES_MAX.into(), TRIES_DEFAULT);
        let prompt = self.prompt(false).map(|prompt| prompt.value.into());
        let (no_input, no_match) = (self.to("no_input"), self.to("no_match"));
        Some(Gather {
            prompt,
            barge_in: reader.bool("barge_in", "true or false").unwrap_or(true),
            digits_max: u8::try_from(digits_max).ok()?,
            terminator: self.terminator(),
            first_digit_ms: number(
                "first_digit_ms",
                limits::FIRST_DIGIT_MS_MAX,
                FIRST_DIGIT_MS_DEFAULT,
            ),
            inter_digit_ms,
            tries_max: u8::try_from(tries_max).ok()?,
            no_input: no_input?,
            no_match: no_match?,
        })
    }

    fn terminator(&self) -> Option<Digit> {
        let expected = "one key, for instance \"#\"";
        let text = self.reader.string("terminator", expected)?;
        let mut keys = text.value.chars();
        match (keys.next().and_then(Digit::new), keys.next()) {
            (Some(digit), None) => Some(digit),
            (_, _) => {
                let problem = format!("is {:?}", text.value);
                self.reader.mistake("terminator", text.at, problem, expected);
                None
            }
        }
    }

    fn queue(&self) -> Option<String> {
        let expected = "the name of a [[queue]]";
        let queue =
            self.reader.required("queue", self.reader.string("queue", expected), expected)?;
        let known = self.known.queues.iter().any(|known| *known.id.0 == *queue.value);
        self.known_or_told(known, "queue", queue, expected)
    }

    fn agent(&self) -> Option<String> {
        let expected = "the id of an [[agent]]";
        let text = self.reader.string("extension", expected);
        let agent = self.reader.required("extension", text, expected)?;
        let known = self.known.agents.iter().any(|known| *known.id.0 == *agent.value);
        self.known_or_told(known, "extension", agent, expected)
    }

    fn known_or_told(
        &self,
        known: bool,
        key: &str,
        name: Placed<String>,
        expected: &str,
    ) -> Option<String> {
        if !known {
            let problem = format!("names {:?}, which is not there", name.value);
            self.reader.mistake(key, name.at, problem, expected);
            return None;
        }
        Some(name.value)
    }
}

/// The flow that a number leads to, where it is one of these.
pub fn find<'f>(flows: &'f [Arc<Flow>], name: &str) -> Option<&'f Arc<Flow>> {
    flows.iter().find(|flow| *flow.name.0 == *name)
}
