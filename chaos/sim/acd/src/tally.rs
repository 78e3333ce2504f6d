//! What is counted, and all of it from what the core itself says: its call detail records, the
//! states of its agents, the length of its queue.
//!
//! Callers count by when they came: those of the measured window, whenever they were served, and
//! of the interval of the day. Times of agents and of the queues count within the window.

use std::ops::Range;

use tandem_core::agent::state::State as AgentState;
use tandem_core::cdr::{Cdr, Disposition};
use tandem_core::ids::EntityId;
use tandem_core::rows::{self, CDRS};
use tandem_core::world::{Applied, World};
use tandem_sip::Millis;

use crate::laboratory::milliseconds;
use crate::scenario::Scenario;
use crate::sip::{agent_of, queue_of};

/// The window in as many equal parts: how far they differ says how sure the means are.
pub const BATCHES: usize = 20;

#[derive(Clone, Debug)]
pub struct Tally {
    /// Milliseconds.
    window: Range<u64>,
    /// An answer is not waited for within this, when an agent was free.
    answer_delay_ms: u64,
    pub batches: Vec<Batch>,
    pub queues: Vec<QueueTally>,
    pub agents: Vec<AgentTally>,
    pub wait_ms_max: u64,
    /// Callers in all queues.
    pub waiting: Level,
    pub waiting_max: usize,
    /// Rings that nobody answered, in the window.
    pub ignored: u64,
    /// Entries of the log.
    pub commands: u64,
}

/// One queue, by the intervals of its day.
#[derive(Clone, Debug)]
pub struct QueueTally {
    name: String,
    threshold_ms: u64,
    agents: Range<u16>,
    day: Day,
    /// Callers in it now.
    waiting: usize,
    pub intervals: Vec<IntervalTally>,
}

#[derive(Clone, Debug, Default)]
pub struct IntervalTally {
    pub callers: Batch,
    /// Talk and after-call work of the queue's agents, for whichever queue.
    pub busy_ms: u64,
    pub staffed_ms: u64,
}

/// A day of intervals, over and over from the window's first moment to its last.
#[derive(Clone, Debug)]
struct Day {
    window: Range<u64>,
    /// Where each interval ends, from the day's beginning.
    ends_ms: Vec<u64>,
}

impl Day {
    /// The interval, and the moment at which it ends.
    fn at(&self, at_ms: u64) -> (usize, u64) {
        let day_ms = self.ends_ms.last().copied().unwrap_or(1).max(1);
        let since_ms = at_ms - self.window.start;
        let into_ms = since_ms % day_ms;
        let found = self.ends_ms.iter().position(|end_ms| into_ms < *end_ms);
        let interval = found.unwrap_or_default();
        (interval, at_ms - into_ms + self.ends_ms[interval])
    }

    /// How much of each interval lies between two moments of the window.
    fn parts(&self, between: Range<u64>, mut part: impl FnMut(usize, u64)) {
        let mut at_ms = between.start.clamp(self.window.start, self.window.end);
        let to_ms = between.end.clamp(self.window.start, self.window.end);
        while at_ms < to_ms {
            let (interval, end_ms) = self.at(at_ms);
            let until_ms = end_ms.min(to_ms);
            part(interval, until_ms - at_ms);
            at_ms = until_ms;
        }
    }
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

impl Batch {
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.answered += other.answered;
        self.abandoned += other.abandoned;
        self.refused += other.refused;
        self.in_time += other.in_time;
        self.waited += other.waited;
        self.answered_wait_ms += other.answered_wait_ms;
        self.abandoned_wait_ms += other.abandoned_wait_ms;
    }
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
    pub fn new(scenario: &Scenario, window: Range<u64>) -> Self {
        let queue = |queue: &crate::scenario::Queue| {
            let mut hours = 0.0;
            let ends_ms = queue.arrivals.profile.iter().map(|interval| {
                hours += interval.hours;
                milliseconds(hours * 3_600.0)
            });
            let day = Day { window: window.clone(), ends_ms: ends_ms.collect() };
            let mut intervals = vec![IntervalTally::default(); day.ends_ms.len()];
            day.parts(window.clone(), |interval, ms| {
                intervals[interval].staffed_ms += ms * queue.agents.len() as u64;
            });
            QueueTally {
                name: queue.name.clone(),
                threshold_ms: milliseconds(queue.service_level.threshold_s),
                agents: queue.agents.clone(),
                day,
                waiting: 0,
                intervals,
            }
        };
        Self {
            answer_delay_ms: milliseconds(scenario.answer_delay_s),
            batches: vec![Batch::default(); BATCHES],
            queues: scenario.queues.iter().map(queue).collect(),
            window,
            agents: vec![AgentTally::default(); scenario.agents.into()],
            ignored: 0,
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
                EntityId::Queue(id) => {
                    let waiting = world.queues.get(id).map_or(0, |queue| queue.entries.len());
                    let known = self.queues.iter_mut().find(|queue| *queue.name == *id.0);
                    known.expect("a queue of the scenario").waiting = waiting;
                    self.on_waiting(at, self.queues.iter().map(|queue| queue.waiting).sum());
                }
                EntityId::Channel(_) | EntityId::Call(_) | EntityId::Gateway(_) => {}
            }
        }
    }

    /// Time has come to its end.
    pub fn close(&mut self, at: Millis) {
        self.waiting.set(at.0, 0, &self.window);
        for agent in 0..self.agents.len() {
            self.set(at, agent as u16, [0, 0, 0]);
        }
    }

    /// A ring that its agent will not answer begins.
    pub fn on_ignored(&mut self, at: Millis) {
        self.ignored += u64::from(self.window.contains(&at.0));
    }

    fn on_agent(&mut self, at: Millis, agent: u16, state: &AgentState) {
        let is_in = match state {
            AgentState::Reserved { .. } => [1, 0, 0],
            AgentState::Talking { .. }
            | AgentState::Held { .. }
            | AgentState::Consulting { .. } => [0, 1, 0],
            AgentState::Acw { .. } => [0, 0, 1],
            AgentState::LoggedOut | AgentState::NotReady { .. } | AgentState::Ready => [0, 0, 0],
        };
        self.set(at, agent, is_in);
    }

    /// Rings, talks, works after a call.
    fn set(&mut self, at: Millis, number: u16, is_in: [u64; 3]) {
        let agent = &mut self.agents[usize::from(number)];
        if agent.talking.now + agent.after_call.now > 0 {
            let since = agent.talking.since_ms..at.0;
            for queue in self.queues.iter_mut().filter(|queue| queue.agents.contains(&number)) {
                let intervals = &mut queue.intervals;
                queue.day.parts(since.clone(), |interval, ms| intervals[interval].busy_ms += ms);
            }
        }
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
        let number = queue_of(&cdr.to).expect("every caller calls a queue");
        let queue = &mut self.queues[number];
        let (interval, _) = queue.day.at(cdr.started_at.0);
        let came_to =
            Came { cdr, threshold_ms: queue.threshold_ms, delay_ms: self.answer_delay_ms };
        came_to.count(&mut queue.intervals[interval].callers);
        came_to.count(&mut self.batches[place as usize]);
        let Some(queued_at) = cdr.queued_at else { return };
        // However often an agent has let it ring: the waiting time and the place are kept.
        assert_eq!(queued_at, cdr.started_at, "{cdr:?} has lost its waiting time");
        self.wait_ms_max = self.wait_ms_max.max(came_to.wait_ms(queued_at));
        if cdr.disposition == Disposition::Answered {
            let agent = cdr.agent.as_ref().and_then(|id| agent_of(&id.0));
            let agent = agent.expect("an answered call has its agent");
            self.agents[usize::from(agent)].answered += 1;
        }
    }
}

/// What a caller came to.
struct Came<'a> {
    cdr: &'a Cdr,
    threshold_ms: u64,
    delay_ms: u64,
}

impl Came<'_> {
    fn wait_ms(&self, queued_at: Millis) -> u64 {
        self.cdr.connected_at.unwrap_or(self.cdr.ended_at).since(queued_at)
    }

    fn count(&self, batch: &mut Batch) {
        let Some(queued_at) = self.cdr.queued_at else {
            batch.refused += 1;
            return;
        };
        let wait_ms = self.wait_ms(queued_at);
        batch.offered += 1;
        match self.cdr.disposition {
            Disposition::Answered => {
                batch.answered += 1;
                batch.answered_wait_ms += wait_ms;
                batch.in_time += u64::from(wait_ms <= self.threshold_ms);
                batch.waited += u64::from(wait_ms > self.delay_ms);
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
                panic!("no fault is played here, and yet there is {:?}", self.cdr)
            }
        }
    }
}
