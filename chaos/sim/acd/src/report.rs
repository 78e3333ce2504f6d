//! What came out: counts, means, and how sure they are.

use crate::model::Model;
use crate::scenario::{Queue, Scenario};
use crate::tally::{Batch, IntervalTally, QueueTally, Tally};
use crate::textbook::Sums;

/// Student's t for 95 % and one degree of freedom less than there are batches.
const STUDENT_T: f64 = 2.093;

#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub scenario: Scenario,
    pub seed: u64,
    pub counts: Counts,
    pub figures: Figures,
    /// Half of each 95 % confidence interval, from the spread over time; of means over callers only.
    pub spread: Figures,
    pub model: Option<Model>,
    pub agents: Vec<AgentFigures>,
    /// As in the scenario.
    pub queues: Vec<QueueFigures>,
    /// Whether a textbook's queue came to the same sums with the same callers, to the millisecond;
    /// none where some were refused, or the textbook does not know such a centre.
    pub as_textbook: Option<bool>,
    /// Log entries that the world has applied, warm-up and all.
    pub commands: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entered the queue: answered and abandoned together.
    pub offered: u64,
    pub answered: u64,
    pub abandoned: u64,
    /// Found the queue full and never entered it.
    pub refused: u64,
    /// Rings that their agents ignored.
    pub ignored: u64,
    pub wait_ms_max: u64,
    pub queue_max: usize,
}

/// None where nothing is known or nothing was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Of those offered.
    pub abandonment: Option<f64>,
    /// Answered within the threshold ÷ offered: who gives up counts against it.
    pub service_level: Option<f64>,
    /// Average speed of answer: the mean wait of those answered, ringing included.
    pub asa_s: Option<f64>,
    /// Average time to abandon.
    pub ata_s: Option<f64>,
    /// Of all who were offered.
    pub mean_wait_s: Option<f64>,
    /// The share that was not answered by an agent who was free.
    pub waiting_probability: Option<f64>,
    /// Talk and after-call work ÷ staffed time.
    pub occupancy: Option<f64>,
    /// Time in which the agent's phone rang ÷ staffed time.
    pub ringing: Option<f64>,
    pub mean_queue: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AgentFigures {
    pub answered: u64,
    pub occupancy: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct QueueFigures {
    pub name: String,
    /// By the intervals of the queue's day; all days together.
    pub intervals: Vec<IntervalFigures>,
    pub whole: IntervalFigures,
}

/// The callers who came in one interval. None where nothing was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntervalFigures {
    pub offered: u64,
    pub answered: u64,
    pub abandoned: u64,
    pub refused: u64,
    pub service_level: Option<f64>,
    pub asa_s: Option<f64>,
    /// Of the agents who serve the queue, for whichever queue they are busy.
    pub occupancy: Option<f64>,
}

impl IntervalFigures {
    fn of(tally: &IntervalTally) -> Self {
        let ratio = |above: u64, below: u64| (below > 0).then(|| above as f64 / below as f64);
        let callers = &tally.callers;
        Self {
            offered: callers.offered,
            answered: callers.answered,
            abandoned: callers.abandoned,
            refused: callers.refused,
            service_level: ratio(callers.in_time, callers.offered),
            asa_s: ratio(callers.answered_wait_ms, callers.answered).map(|ms| ms / 1_000.0),
            occupancy: ratio(tally.busy_ms, tally.staffed_ms),
        }
    }
}

impl Report {
    pub fn new(scenario: Scenario, seed: u64, tally: &Tally, textbook: &Sums) -> Self {
        let sum = |of: fn(&Batch) -> u64| tally.batches.iter().map(of).sum();
        let counts = Counts {
            offered: sum(|b| b.offered),
            answered: sum(|b| b.answered),
            abandoned: sum(|b| b.abandoned),
            refused: sum(|b| b.refused),
            ignored: tally.ignored,
            wait_ms_max: tally.wait_ms_max,
            queue_max: tally.waiting_max,
        };
        assert_eq!(counts.offered, counts.answered + counts.abandoned, "callers are conserved");
        let (figures, spread) = measure(tally);
        let staffed_ms = tally.window_ms() as f64;
        let agents = tally.agents.iter().map(|agent| AgentFigures {
            answered: agent.answered,
            occupancy: (agent.talking.area + agent.after_call.area) as f64 / staffed_ms,
        });
        Self {
            model: Model::of(&scenario),
            agents: agents.collect(),
            queues: tally.queues.iter().zip(&scenario.queues).map(queue_figures).collect(),
            as_textbook: (counts.refused == 0 && is_textbook(&scenario))
                .then(|| Sums::of(tally) == *textbook),
            commands: tally.commands,
            scenario,
            seed,
            counts,
            figures,
            spread,
        }
    }
}

/// The textbook has one queue and agents who answer; its callers may come as they like.
fn is_textbook(scenario: &Scenario) -> bool {
    scenario.queues.len() == 1
        && scenario.queue().agents == (0..scenario.agents)
        && scenario.ignored_rings.is_none()
}

fn queue_figures((tally, queue): (&QueueTally, &Queue)) -> QueueFigures {
    let mut whole = IntervalTally::default();
    for interval in &tally.intervals {
        whole.callers.add(&interval.callers);
        whole.busy_ms += interval.busy_ms;
        whole.staffed_ms += interval.staffed_ms;
    }
    QueueFigures {
        name: queue.name.clone(),
        intervals: tally.intervals.iter().map(IntervalFigures::of).collect(),
        whole: IntervalFigures::of(&whole),
    }
}

fn measure(tally: &Tally) -> (Figures, Figures) {
    let ratio = |above: fn(&Batch) -> f64, below: fn(&Batch) -> u64| {
        let pairs: Vec<_> = tally.batches.iter().map(|b| (above(b), below(b) as f64)).collect();
        Ratio::of(&pairs)
    };
    let abandonment = ratio(|b| b.abandoned as f64, |b| b.offered);
    let service_level = ratio(|b| b.in_time as f64, |b| b.offered);
    let asa = ratio(|b| b.answered_wait_ms as f64 / 1_000.0, |b| b.answered);
    let ata = ratio(|b| b.abandoned_wait_ms as f64 / 1_000.0, |b| b.abandoned);
    let wait =
        ratio(|b| (b.answered_wait_ms + b.abandoned_wait_ms) as f64 / 1_000.0, |b| b.offered);
    let waiting = ratio(|b| b.waited as f64, |b| b.offered);
    let window_ms = tally.window_ms() as f64;
    let staffed_ms = window_ms * tally.agents.len() as f64;
    let busy_ms: u64 = tally.agents.iter().map(|a| a.talking.area + a.after_call.area).sum();
    let ringing_ms: u64 = tally.agents.iter().map(|a| a.ringing.area).sum();
    let figures = Figures {
        abandonment: abandonment.mean,
        service_level: service_level.mean,
        asa_s: asa.mean,
        ata_s: ata.mean,
        mean_wait_s: wait.mean,
        waiting_probability: waiting.mean,
        occupancy: Some(busy_ms as f64 / staffed_ms),
        ringing: Some(ringing_ms as f64 / staffed_ms),
        mean_queue: Some(tally.waiting.area as f64 / window_ms),
    };
    let spread = Figures {
        abandonment: abandonment.half_width,
        service_level: service_level.half_width,
        asa_s: asa.half_width,
        ata_s: ata.half_width,
        mean_wait_s: wait.half_width,
        waiting_probability: waiting.half_width,
        ..Figures::default()
    };
    (figures, spread)
}

/// A mean over callers, as the ratio of two sums over batches.
struct Ratio {
    mean: Option<f64>,
    half_width: Option<f64>,
}

impl Ratio {
    /// The method of batch means with the ratio estimator: Law, *Simulation Modeling and Analysis*,
    /// 5th ed. 2015, §9.5.3; batches follow each other in time, so what is left of their dependence is small.
    fn of(pairs: &[(f64, f64)]) -> Self {
        let count = pairs.len() as f64;
        let above: f64 = pairs.iter().map(|(above, _)| above).sum();
        let below: f64 = pairs.iter().map(|(_, below)| below).sum();
        if below == 0.0 {
            return Self { mean: None, half_width: None };
        }
        let mean = above / below;
        let square = |(above, below): &(f64, f64)| (above - mean * below).powi(2);
        let variance = pairs.iter().map(square).sum::<f64>() / (count - 1.0);
        let half_width = STUDENT_T * (variance / count).sqrt() / (below / count);
        Self { mean: Some(mean), half_width: Some(half_width) }
    }
}
