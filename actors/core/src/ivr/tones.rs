//! Flows that every tenant has: a tone of the network for a few seconds, then the end. They are for
//! callers who have been answered already and can't be put through.

use std::sync::{Arc, LazyLock};

use super::flow::{Action, Flow, Step, StepId};
use crate::config::Country;
use crate::ids::FlowId;

/// A configured flow's begin at 1.
const VERSION: u64 = 0;

/// ITU-T E.180.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Whoever is called is busy.
    Busy,
    /// There is no way to whoever is called.
    Congestion,
}

impl Tone {
    pub const ALL: [Self; 2] = [Self::Busy, Self::Congestion];

    /// What a phone makes of the same answer to its own INVITE (RFC 3398 §8.2.6).
    pub fn of_status(status: u16) -> Self {
        if matches!(status, 486 | 600) { Self::Busy } else { Self::Congestion }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Congestion => "congestion",
        }
    }

    /// Of the prompt, which gateways have, and of the flow that plays it.
    pub fn name(self, country: Country) -> String {
        format!("tone-{}-{}", self.as_str(), country.as_str())
    }
}

static FLOWS: LazyLock<Vec<Arc<Flow>>> = LazyLock::new(|| {
    let tones = Tone::ALL.into_iter();
    let names = tones.flat_map(|tone| Country::ALL.map(|country| tone.name(country)));
    names.map(|name| Arc::new(flow_of(&name))).collect()
});

fn flow_of(name: &str) -> Flow {
    let play = Action::Play { prompt: name.into(), next: StepId(1) };
    let step = |name: &str, action| Step { name: name.into(), action };
    let steps = vec![step("tone", play), step("end", Action::HangUp)];
    Flow { name: name.into(), version: VERSION, steps }
}

/// The flow of a tone, where it is one.
pub fn flow(name: &FlowId, version: u64) -> Option<&'static Arc<Flow>> {
    FLOWS.iter().find(|flow| version == VERSION && flow.name == *name)
}

pub fn of(tone: Tone, country: Country) -> Option<&'static Arc<Flow>> {
    flow(&tone.name(country).as_str().into(), VERSION)
}
