//! What is to be played: TOML, checked whole before anything runs.

use std::ops::Range;

use serde::Deserialize;

pub const AGENTS_MAX: u16 = 5_000;
pub const QUEUES_MAX: usize = 64;
/// Of a queue's name.
pub const NAME_MAX: usize = 32;
/// Of a profile: a week in quarters of an hour.
pub const INTERVALS_MAX: usize = 672;
/// Arrivals an hour.
pub const PER_HOUR_MIN: f64 = 0.001;
pub const PER_HOUR_MAX: f64 = 360_000.0;
/// Of one play: some minutes of computing.
pub const CALLS_MAX: f64 = 20_000_000.0;
pub const HOURS_MAX: f64 = 1_000_000.0;
pub const MEAN_S_MIN: f64 = 0.1;
pub const MEAN_S_MAX: f64 = 86_400.0;
/// A phone that took longer would ring out: see [`crate::laboratory::RING_MS_MAX`].
pub const ANSWER_DELAY_S_MAX: f64 = 60.0;

pub const WAITING_MAX: u32 = 10_000;
pub const WAITING_MAX_DEFAULT: u32 = 100;

/// Name and text.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("erlang-a", include_str!("../scenarios/erlang-a.toml")),
    ("erlang-c", include_str!("../scenarios/erlang-c.toml")),
    ("impatient", include_str!("../scenarios/impatient.toml")),
    ("morning", include_str!("../scenarios/morning.toml")),
    ("support", include_str!("../scenarios/support.toml")),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no scenario {name:?}; there are {known}, or give the text of one (TOML)")]
    Unknown { name: String, known: String },
    #[error("the scenario can't be read: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("the scenario's {key} is {value}: it must be {expected}")]
    OutOfRange { key: String, value: f64, expected: String },
    #[error("the scenario's {key} {what}")]
    Wrong { key: String, what: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub title: String,
    pub agents: u16,
    /// What is measured, behind the warm-up.
    pub hours: f64,
    /// Left out of the figures: the centre begins empty.
    pub warm_up_hours: f64,
    /// The same after each call.
    pub after_call_work_s: f64,
    /// How long a phone rings before it is answered.
    pub answer_delay_s: f64,
    /// Callers who may wait at once in one queue; the next one is refused. Each costs a port, and
    /// the world's speed falls with the ports that its gateway brings: no more than are needed.
    pub waiting_max: u32,
    pub ignored_rings: Option<IgnoredRings>,
    /// At least one.
    pub queues: Vec<Queue>,
    pub seed: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub name: String,
    /// Who serves it: agents are counted from 0. Ranges that overlap share agents.
    pub agents: Range<u16>,
    pub arrivals: Arrivals,
    /// From the agent's answer to the hang-up.
    pub talk_time: Duration,
    /// How long a caller waits before hanging up; without it for ever.
    pub patience: Option<Duration>,
    pub service_level: ServiceLevel,
}

/// When callers come: a day of intervals, over and over. It begins with what is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    pub profile: Vec<Interval>,
    pub distribution: ArrivalDistribution,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    pub hours: f64,
    pub per_hour: f64,
}

/// Agents who let their phone ring: each ring is ignored with this probability. The distributor
/// takes the caller back and the agent for not ready, until the agent asks for calls again.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoredRings {
    pub probability: f64,
    #[serde(default = "ring_out_default")]
    pub ring_out_s: f64,
    #[serde(default = "back_after_default")]
    pub back_after_s: f64,
}

fn ring_out_default() -> f64 {
    15.0
}

fn back_after_default() -> f64 {
    30.0
}

/// As it is written: one queue in the open, or several in a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: String,
    agents: u16,
    hours: f64,
    #[serde(default)]
    warm_up_hours: f64,
    #[serde(default)]
    after_call_work_s: f64,
    #[serde(default)]
    answer_delay_s: f64,
    #[serde(default = "waiting_max_default")]
    waiting_max: u32,
    ignored_rings: Option<IgnoredRings>,
    arrivals: Option<WrittenArrivals>,
    talk_time: Option<Duration>,
    patience: Option<Duration>,
    service_level: Option<ServiceLevel>,
    #[serde(default)]
    queues: Vec<WrittenQueue>,
    seed: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenQueue {
    name: String,
    /// All of them, where nothing is said.
    agents: Option<Span>,
    arrivals: WrittenArrivals,
    talk_time: Duration,
    patience: Option<Duration>,
    #[serde(default)]
    service_level: ServiceLevel,
}

/// Counted from 1, both included.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    first: u16,
    last: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenArrivals {
    per_hour: Option<f64>,
    profile: Option<Vec<Interval>>,
    #[serde(default)]
    distribution: ArrivalDistribution,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalDistribution {
    /// Independent callers: exponential gaps.
    #[default]
    Poisson,
    /// Equal gaps.
    Constant,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duration {
    pub mean_s: f64,
    #[serde(default)]
    pub distribution: Distribution,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    #[default]
    Exponential,
    Constant,
}

fn waiting_max_default() -> u32 {
    WAITING_MAX_DEFAULT
}

/// 80/20 where nothing else is said.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceLevel {
    pub threshold_s: f64,
    /// The share that staffing aims at.
    pub target: f64,
}

impl Default for ServiceLevel {
    fn default() -> Self {
        Self { threshold_s: 20.0, target: 0.8 }
    }
}

impl Arrivals {
    /// What lies between two callers, where one is expected in a unit of time.
    pub fn unit_gaps(&self) -> Duration {
        let distribution = match self.distribution {
            ArrivalDistribution::Poisson => Distribution::Exponential,
            ArrivalDistribution::Constant => Distribution::Constant,
        };
        Duration { mean_s: 1.0, distribution }
    }

    pub fn day_hours(&self) -> f64 {
        self.profile.iter().map(|interval| interval.hours).sum()
    }

    /// The mean over the day.
    pub fn per_hour(&self) -> f64 {
        let calls: f64 = self.profile.iter().map(|part| part.hours * part.per_hour).sum();
        calls / self.day_hours()
    }
}

impl Scenario {
    /// A name of [`BUILT_IN`], or TOML.
    ///
    /// # Errors
    /// Where it is neither, or a key is missing, unknown or out of its range.
    pub fn read(name_or_text: &str) -> Result<Self, Error> {
        let built_in = BUILT_IN.iter().find(|(name, _)| *name == name_or_text.trim());
        let text = match built_in {
            Some((_, text)) => text,
            None if name_or_text.contains(['=', '\n', '[']) => name_or_text,
            None => {
                let known: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                let known = known.join(", ");
                return Err(Error::Unknown { name: name_or_text.to_owned(), known });
            }
        };
        toml::from_str::<Written>(text)?.checked()
    }

    /// The queue of a scenario that has but one, or the first.
    pub fn queue(&self) -> &Queue {
        &self.queues[0]
    }

    /// One queue, a steady stream of callers, and agents who answer: what formulas are about.
    pub fn is_simple(&self) -> bool {
        let steady = self.queues.iter().all(|queue| queue.arrivals.profile.len() == 1);
        self.queues.len() == 1 && steady && self.ignored_rings.is_none()
    }

    /// Seconds of an agent for one call of the first queue: ringing, talk and after-call work.
    pub fn holding_s(&self) -> f64 {
        self.answer_delay_s + self.queue().talk_time.mean_s + self.after_call_work_s
    }

    pub fn per_second(&self) -> f64 {
        self.queue().arrivals.per_hour() / 3_600.0
    }

    /// Offered load of the first queue, erlangs.
    pub fn load(&self) -> f64 {
        self.per_second() * self.holding_s()
    }
}

impl Written {
    fn checked(self) -> Result<Scenario, Error> {
        within("agents", self.agents.into(), 1.0, AGENTS_MAX.into())?;
        within("hours", self.hours, 0.01, HOURS_MAX)?;
        within("warm_up_hours", self.warm_up_hours, 0.0, HOURS_MAX)?;
        within("after_call_work_s", self.after_call_work_s, 0.0, MEAN_S_MAX)?;
        within("answer_delay_s", self.answer_delay_s, 0.0, ANSWER_DELAY_S_MAX)?;
        within("waiting_max", self.waiting_max.into(), 1.0, WAITING_MAX.into())?;
        if let Some(ignored) = &self.ignored_rings {
            // Who ignores every ring serves nobody, for ever.
            within("ignored_rings.probability", ignored.probability, 0.0, 0.95)?;
            let ring_out_s_min = self.answer_delay_s + 1.0;
            within("ignored_rings.ring_out_s", ignored.ring_out_s, ring_out_s_min, MEAN_S_MAX)?;
            within("ignored_rings.back_after_s", ignored.back_after_s, 0.0, MEAN_S_MAX)?;
        }
        let queues = self.queues()?;
        let calls: f64 = queues
            .iter()
            .map(|queue| queue.arrivals.per_hour() * (self.hours + self.warm_up_hours))
            .sum();
        if calls > CALLS_MAX {
            let per_hour = calls / (self.hours + self.warm_up_hours);
            let hours = CALLS_MAX / per_hour - self.warm_up_hours;
            let expected = format!(
                "at most {hours:.0} at this rate of arrivals: a play has no more than \
                 {CALLS_MAX:.0} calls"
            );
            return Err(Error::OutOfRange { key: "hours".into(), value: self.hours, expected });
        }
        Ok(Scenario {
            title: self.title,
            agents: self.agents,
            hours: self.hours,
            warm_up_hours: self.warm_up_hours,
            after_call_work_s: self.after_call_work_s,
            answer_delay_s: self.answer_delay_s,
            waiting_max: self.waiting_max,
            ignored_rings: self.ignored_rings,
            queues,
            seed: self.seed,
        })
    }

    fn queues(&self) -> Result<Vec<Queue>, Error> {
        if self.queues.is_empty() {
            let missing = |key: &str| {
                wrong(key, "is missing: give it here, or queues as [[queues]], each with its own")
            };
            let arrivals = self.arrivals.as_ref().ok_or_else(|| missing("arrivals"))?;
            let talk_time = self.talk_time.as_ref().ok_or_else(|| missing("talk_time"))?;
            let queue = Queue {
                name: "queue".into(),
                agents: 0..self.agents,
                arrivals: arrivals.checked("", self.hours)?,
                talk_time: talk_time.clone(),
                patience: self.patience.clone(),
                service_level: self.service_level.clone().unwrap_or_default(),
            };
            queue.check("")?;
            return Ok(vec![queue]);
        }
        let given = [
            ("arrivals", self.arrivals.is_some()),
            ("talk_time", self.talk_time.is_some()),
            ("patience", self.patience.is_some()),
            ("service_level", self.service_level.is_some()),
        ];
        if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(wrong(key, "stands beside [[queues]]: each queue has its own"));
        }
        within("queues (their number)", self.queues.len() as f64, 1.0, QUEUES_MAX as f64)?;
        let mut queues: Vec<Queue> = Vec::new();
        for written in &self.queues {
            let queue = written.checked(self.agents, self.hours)?;
            if queues.iter().any(|other| other.name == queue.name) {
                return Err(wrong("queues", &format!("name {:?} twice", queue.name)));
            }
            queues.push(queue);
        }
        Ok(queues)
    }
}

impl WrittenQueue {
    fn checked(&self, agents: u16, hours: f64) -> Result<Queue, Error> {
        let name = &self.name;
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
            let what = format!("is {name:?}: it must be 1 to {NAME_MAX} letters, digits, - or _");
            return Err(wrong("queues.name", &what));
        }
        let at = format!("queues.{name}.");
        let span = self.agents.unwrap_or(Span { first: 1, last: agents });
        within(&format!("{at}agents.first"), span.first.into(), 1.0, agents.into())?;
        let (first, last) = (f64::from(span.first), f64::from(agents));
        within(&format!("{at}agents.last"), span.last.into(), first, last)?;
        let queue = Queue {
            name: name.clone(),
            agents: span.first - 1..span.last,
            arrivals: self.arrivals.checked(&at, hours)?,
            talk_time: self.talk_time.clone(),
            patience: self.patience.clone(),
            service_level: self.service_level.clone(),
        };
        queue.check(&at)?;
        Ok(queue)
    }
}

impl WrittenArrivals {
    /// `at` is where it stands.
    fn checked(&self, at: &str, hours: f64) -> Result<Arrivals, Error> {
        let profile = match (self.per_hour, &self.profile) {
            (Some(per_hour), None) => {
                within(&format!("{at}arrivals.per_hour"), per_hour, PER_HOUR_MIN, PER_HOUR_MAX)?;
                vec![Interval { hours, per_hour }]
            }
            (None, Some(profile)) => profile.clone(),
            (None, None) => {
                let what = "miss a key: missing field `per_hour`, or a `profile` of intervals";
                return Err(wrong(&format!("{at}arrivals"), what));
            }
            (Some(_), Some(_)) => {
                let what = "have both per_hour and a profile: only one can be";
                return Err(wrong(&format!("{at}arrivals"), what));
            }
        };
        let key = format!("{at}arrivals.profile");
        within(&format!("{key} (its length)"), profile.len() as f64, 1.0, INTERVALS_MAX as f64)?;
        for interval in &profile {
            within(&format!("{key}.hours"), interval.hours, 0.01, HOURS_MAX)?;
            within(&format!("{key}.per_hour"), interval.per_hour, 0.0, PER_HOUR_MAX)?;
        }
        let arrivals = Arrivals { profile, distribution: self.distribution };
        within(&format!("{key} (its mean)"), arrivals.per_hour(), PER_HOUR_MIN, PER_HOUR_MAX)?;
        // Every interval is measured at least once.
        within("hours", hours, arrivals.day_hours(), HOURS_MAX)?;
        Ok(arrivals)
    }
}

impl Queue {
    fn check(&self, at: &str) -> Result<(), Error> {
        let talk_s = self.talk_time.mean_s;
        within(&format!("{at}talk_time.mean_s"), talk_s, MEAN_S_MIN, MEAN_S_MAX)?;
        if let Some(patience) = &self.patience {
            within(&format!("{at}patience.mean_s"), patience.mean_s, MEAN_S_MIN, MEAN_S_MAX)?;
        }
        let level = &self.service_level;
        within(&format!("{at}service_level.threshold_s"), level.threshold_s, 0.0, MEAN_S_MAX)?;
        within(&format!("{at}service_level.target"), level.target, 0.01, 0.999)
    }
}

fn wrong(key: &str, what: &str) -> Error {
    Error::Wrong { key: key.to_owned(), what: what.to_owned() }
}

/// TOML knows `nan` and `inf`; no range holds them.
fn within(key: &str, value: f64, min: f64, max: f64) -> Result<(), Error> {
    if value >= min && value <= max {
        return Ok(());
    }
    let expected = format!("from {min} to {max}");
    Err(Error::OutOfRange { key: key.to_owned(), value, expected })
}
