//! Operators who place calls: each asks until somebody answers, and some ask once more.

use std::collections::BTreeMap;

use tandem_core::answered::Outcome;
use tandem_core::call::leg::Leg;
use tandem_core::call::state::{Call, State};
use tandem_core::command::{Command, Keyed, OperatorCommand};
use tandem_core::ids::AgentId;
use tandem_core::{Rejection, Reply};

use crate::draws::For;
use crate::event::Event;
use crate::names;
use crate::node::Proposed;
use crate::plan::To;
use crate::simulation::Simulation;

/// What operators were told.
#[derive(Debug, Default)]
pub struct Desk {
    told: BTreeMap<usize, Told>,
}

#[derive(Clone, Debug, PartialEq)]
struct Told {
    outcome: Outcome,
    /// By whom, in which term.
    term: u64,
}

/// Nobody has answered so long after.
const PATIENCE_MS: u64 = 400;
const ATTEMPTS_MAX: u32 = 40;
const KEEP_MS: u64 = 600_000;

pub fn digits(to: To) -> String {
    match to {
        To::Support => "4001".to_owned(),
        To::Sales => "4002".to_owned(),
        To::Echo => "4003".to_owned(),
        To::Extension(agent) => (1_001 + u32::from(agent)).to_string(),
        To::Nowhere => "4999".to_owned(),
        To::Flow => "4000".to_owned(),
        To::Notice => "4004".to_owned(),
        To::Outside => "0049301".to_owned(),
    }
}

impl Simulation {
    /// The first attempt, one after no answer, or one to see whether the answer is the same.
    pub fn place(&mut self, placed: usize, attempt: u32) {
        let wanted = self.placed_calls[placed].clone();
        let told = self.desk.told.contains_key(&placed);
        let muddled = told && wanted.muddled;
        let to = if muddled { "4003".to_owned() } else { digits(wanted.to) };
        let from = AgentId::from((1_001 + u32::from(wanted.from)).to_string());
        let command = OperatorCommand::Originate { from, to };
        let keyed = Keyed { key: format!("p{placed:03}"), keep_ms: KEEP_MS, command };
        if let Some(n) = self.serving() {
            self.propose(n, None, Command::Keyed(keyed), Proposed::Asked { placed });
        }
        // Who has an answer asks once more at most.
        if !told && attempt < ATTEMPTS_MAX {
            let again = Event::Place { placed, attempt: attempt + 1 };
            self.schedule.put(self.now + PATIENCE_MS, again);
        }
    }

    /// The leader answers from what the cluster remembers.
    pub fn on_placed(&mut self, n: usize, placed: usize, reply: &Reply) {
        match reply {
            Reply::Rejected(Rejection::KeyReused(_)) => {
                self.coverage.mark("a key is refused for another request");
                return;
            }
            // Room may be there later.
            Reply::Rejected(Rejection::Full | Rejection::Panicked(_)) => return,
            Reply::Done | Reply::Rejected(_) => {}
        }
        let key = format!("p{placed:03}");
        let Some(known) = self.nodes[n].replica.world.answered.get(&key) else {
            self.fail("keys", format!("{key} was answered, and nobody knows what"));
            return;
        };
        let term = self.nodes[n].tree.unwrap_or_default();
        let told = Told { outcome: known.outcome.clone(), term };
        match self.desk.told.get(&placed) {
            None => {
                self.desk.told.insert(placed, told);
                if let Some(after) = self.placed_calls[placed].again_after {
                    let attempt = ATTEMPTS_MAX;
                    self.schedule.put(self.now + after, Event::Place { placed, attempt });
                }
            }
            Some(first) if first.outcome == told.outcome => {
                if first.term < told.term {
                    self.coverage.mark("an operator asks again over a takeover");
                }
            }
            Some(_) => self.fail("keys", format!("{key} is answered otherwise than before")),
        }
    }

    /// An operator sends a caller on, now and then, and repeats it for want of an answer.
    pub fn transfer_one(&mut self) {
        let moment = names::of(&[self.now]);
        let mut random = self.draws.at(For::Transfer, moment);
        if !random.percent(20) {
            return;
        }
        let to = match random.below(6) {
            0 => To::Sales,
            1 => To::Echo,
            2 => To::Outside,
            _ => To::Extension(random.below(u64::from(self.settings.agents)) as u16),
        };
        let connected = |call: &&Call| matches!(call.state, State::Connected { .. });
        let lot = |call: &&Call| names::of(&[moment, call.id.0]);
        let Some(call) = self.front().calls.values().filter(connected).min_by_key(lot) else {
            return;
        };
        let command = OperatorCommand::TransferCall { call: call.id, to: digits(to) };
        let key = format!("t{}", self.now);
        for _ in 0..=random.below(2) {
            let (key, command) = (key.clone(), command.clone());
            self.operate(Command::Keyed(Keyed { key, keep_ms: KEEP_MS, command }));
        }
    }

    /// Somebody pauses a recording while a card's number is said, or resumes it.
    pub fn pause_one(&mut self) {
        let moment = names::of(&[self.now, 1]);
        let mut random = self.draws.at(For::Pause, moment);
        if !random.percent(20) {
            return;
        }
        let recorded = |call: &&Call| call.is_live() && call.recording.is_some();
        let lot = |call: &&Call| names::of(&[moment, call.id.0]);
        let Some(call) = self.front().calls.values().filter(recorded).min_by_key(lot) else {
            return;
        };
        let paused = !call.recording_paused;
        let command = OperatorCommand::PauseRecording { call: call.id, paused };
        let key = format!("r{}", self.now);
        for _ in 0..=random.below(2) {
            let (key, command) = (key.clone(), command.clone());
            self.operate(Command::Keyed(Keyed { key, keep_ms: KEEP_MS, command }));
        }
    }

    /// An agent asks a colleague, sends the caller on to that one or goes back, by and by.
    pub fn consult_one(&mut self) {
        let moment = names::of(&[self.now]);
        let mut random = self.draws.at(For::Consult, moment);
        let lot = |call: &&Call| names::of(&[moment, call.id.0]);
        let live = || self.front().calls.values();
        let asks = |call: &&Call| call.consulted().is_some();
        // Three have more to say than two.
        let stays = |call: &Call, percent: u64| match call.state {
            State::Conferenced { .. } => percent / 4,
            State::Routing
            | State::InFlow
            | State::Queued { .. }
            | State::Dialing { .. }
            | State::Connected { .. }
            | State::Consulting { .. }
            | State::Ending => percent,
        };
        let may_join = |call: &Call| {
            let apart = matches!(call.state, State::Consulting { .. });
            apart && call.consulted().is_some_and(Leg::is_up)
        };
        let connected = |call: &&Call| matches!(call.state, State::Connected { .. });
        let command = match live().filter(asks).min_by_key(lot) {
            Some(call) if may_join(call) && random.percent(65) => {
                OperatorCommand::Conference { call: call.id }
            }
            Some(call) if random.percent(stays(call, 20)) => {
                OperatorCommand::CompleteConsult { call: call.id }
            }
            Some(call) if random.percent(stays(call, 12)) => {
                OperatorCommand::CancelConsult { call: call.id }
            }
            Some(_) if random.percent(60) => return,
            Some(_) | None => {
                let Some(call) = live().filter(connected).min_by_key(lot) else { return };
                if !random.percent(75) {
                    return;
                }
                let agent = random.below(u64::from(self.settings.agents)) as u16;
                OperatorCommand::Consult { call: call.id, to: digits(To::Extension(agent)) }
            }
        };
        let key = format!("q{}", self.now);
        for _ in 0..=random.below(2) {
            let (key, command) = (key.clone(), command.clone());
            self.operate(Command::Keyed(Keyed { key, keep_ms: KEEP_MS, command }));
        }
    }
}
