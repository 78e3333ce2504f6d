//! What is counted, and all of it from what the core itself says: its call detail records, the
//! states of its agents, the length of its queue.
//!
//! Callers count by when they came: those of the measured window, whenever they were served. Times
//! of agents and of the queue count within the window.

use std::ops::Range;

use tandem_core::agent::state::State as AgentState;
use tandem_core::cdr::{Cdr, Disposition};
use tandem_core::ids::{EntityId, QueueId};
use tandem_core::rows::{self, CDRS};
use tandem_core::world::{Applied, World};
use tandem_sip::Millis;

use crate::sip::agent_of;

/// The window in as many equal parts: how far they differ says how sure the means are.
pub const BATCHES: usize = 20;

#[derive(Clone, Debug)]
pub struct Tally {
    /// Milliseconds.
    window: Range<u64>,
    queue: QueueId,
    /// An answer is not waited for within this, when an agent was free.
    answer_delay_ms: u64,
    threshold_ms: u64,
    pub batches: Vec<Batch>,
    pub agents: Vec<AgentTally>,
    pub wait_ms_max: u64,
    pub waiting: Level,
    pub waiting_max: usize,
    /// Entries of the log.
    pub commands: u64,
}

/// Callers of one part of the window.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Taken into the queue.
    pub offered: u64,
    pub answered: u64,
    pub abandoned: u64,
    /// Found the queue full.
    pub refused: u64,
    /// Answered within the threshold.
    pub in_time: u64,
    /// Not answered by an agent who was free when they came.
    pub waited: u64,
    pub answered_wait_ms: u64,
    pub abandoned_wait_ms: u64,
}

#[derive(Clone, Debug, Default)]
pub struct AgentTally {
    pub answered: u64,
    pub ringing: Level,
    pub talking: Level,
    pub after_call: Level,
}

/// A number over time: its integral, in number × ms.
#[derive(Clone, Debug, Default)]
pub struct Level {
    now: u64,
    since_ms: u64,
    pub area: u64,
}

impl Level {
    fn set(&mut self, at_ms: u64, now: u64, window: &Range<u64>) {
        let clip = |at: u64| at.clamp(window.start, window.end);
        self.area += self.now * (clip(at_ms) - clip(self.since_ms));
        (self.now, self.since_ms) = (now, at_ms);
    }
}

impl Tally {
    pub fn new(
        agents: u16,
        queue: QueueId,
        window: Range<u64>,
        answer_delay_ms: u64,
        threshold_ms: u64,
    ) -> Self {
        Self {
            window,
            queue,
            answer_delay_ms,
            threshold_ms,
            batches: vec![Batch::default(); BATCHES],
            agents: vec![AgentTally::default(); agents.into()],
            wait_ms_max: 0,
            waiting: Level::default(),
            waiting_max: 0,
            commands: 0,
        }
    }

    pub fn window_ms(&self) -> u64 {
        self.window.end - self.window.start
    }

    /// Takes in what one entry changed.
    pub fn on_applied(&mut self, at: Millis, world: &World, applied: &Applied) {
        self.commands += 1;
        for row in applied.rows.iter().filter(|row| row.family == CDRS) {
            let bytes = row.value.as_deref().expect("history is never deleted");
            self.on_record(&rows::decode_cdr(bytes).expect("a record of this build"));
        }
        for entity in &applied.touched {
            match entity {
                EntityId::Agent(id) => {
                    if let (Some(agent), Some(known)) = (agent_of(&id.0), world.agents.get(id)) {
                        self.on_agent(at, agent, &known.state);
                    }
                }
                EntityId::Queue(id) if *id == self.queue => {
                    self.on_waiting(at, world.queues.get(id).map_or(0, |q| q.entries.len()));
                }
                EntityId::Queue(_)
                | EntityId::Channel(_)
                | EntityId::Call(_)
                | EntityId::Gateway(_) => {}
            }
        }
    }

    /// Time has come to its end.
    pub fn close(&mut self, at: Millis) {
        let window = &self.window;
        self.waiting.set(at.0, 0, window);
        for agent in &mut self.agents {
            agent.ringing.set(at.0, 0, window);
            agent.talking.set(at.0, 0, window);
            agent.after_call.set(at.0, 0, window);
        }
    }

    fn on_agent(&mut self, at: Millis, agent: u16, state: &AgentState) {
        let agent = &mut self.agents[usize::from(agent)];
        let is_in = match state {
            AgentState::Reserved { .. } => [1, 0, 0],
            AgentState::Talking { .. } | AgentState::Held { .. } => [0, 1, 0],
            AgentState::Acw { .. } => [0, 0, 1],
            AgentState::LoggedOut | AgentState::NotReady { .. } | AgentState::Ready => [0, 0, 0],
        };
        agent.ringing.set(at.0, is_in[0], &self.window);
        agent.talking.set(at.0, is_in[1], &self.window);
        agent.after_call.set(at.0, is_in[2], &self.window);
    }

    fn on_waiting(&mut self, at: Millis, waiting: usize) {
        self.waiting.set(at.0, waiting as u64, &self.window);
        if self.window.contains(&at.0) {
            self.waiting_max = self.waiting_max.max(waiting);
        }
    }

    fn on_record(&mut self, cdr: &Cdr) {
        if !self.window.contains(&cdr.started_at.0) {
            return;
        }
        let into_ms = cdr.started_at.0 - self.window.start;
        let place = into_ms * BATCHES as u64 / self.window_ms();
        let batch = &mut self.batches[place as usize];
        let Some(queued_at) = cdr.queued_at else {
            batch.refused += 1;
            return;
        };
        let wait_ms = cdr.connected_at.unwrap_or(cdr.ended_at).since(queued_at);
        self.wait_ms_max = self.wait_ms_max.max(wait_ms);
        batch.offered += 1;
        match cdr.disposition {
            Disposition::Answered => {
                batch.answered += 1;
                batch.answered_wait_ms += wait_ms;
                batch.in_time += u64::from(wait_ms <= self.threshold_ms);
                batch.waited += u64::from(wait_ms > self.answer_delay_ms);
                let agent = cdr.agent.as_ref().and_then(|id| agent_of(&id.0));
                let agent = agent.expect("an answered call has its agent");
                self.agents[usize::from(agent)].answered += 1;
            }
            Disposition::Abandoned => {
                batch.abandoned += 1;
                batch.abandoned_wait_ms += wait_ms;
                batch.waited += 1;
            }
            Disposition::NoAnswer
            | Disposition::Busy
            | Disposition::Rejected
            | Disposition::Failed => {
                panic!("no fault is played here, and yet there is {cdr:?}")
            }
        }
    }
}
