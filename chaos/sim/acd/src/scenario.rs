//! What is to be played: TOML, checked whole before anything runs.

use serde::Deserialize;

pub const AGENTS_MAX: u16 = 5_000;
/// Arrivals an hour.
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
    ("support", include_str!("../scenarios/support.toml")),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no scenario {name:?}; there are {known}, or give the text of one (TOML)")]
    Unknown { name: String, known: String },
    #[error("the scenario can't be read: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("the scenario's {key} is {value}: it must be {expected}")]
    OutOfRange { key: &'static str, value: f64, expected: String },
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub title: String,
    pub agents: u16,
    /// What is measured, behind the warm-up.
    pub hours: f64,
    /// Left out of the figures: the centre begins empty.
    #[serde(default)]
    pub warm_up_hours: f64,
    pub arrivals: Arrivals,
    /// From the agent's answer to the hang-up.
    pub talk_time: Duration,
    /// The same after each call.
    #[serde(default)]
    pub after_call_work_s: f64,
    /// How long a phone rings before it is answered.
    #[serde(default)]
    pub answer_delay_s: f64,
    /// How long a caller waits before hanging up; without it for ever.
    pub patience: Option<Duration>,
    /// Callers who may wait at once; the next one is refused. Each costs a port, and the world's
    /// speed falls with the ports that its gateway brings: no more than are needed.
    #[serde(default = "waiting_max_default")]
    pub waiting_max: u32,
    #[serde(default)]
    pub service_level: ServiceLevel,
    pub seed: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrivals {
    pub per_hour: f64,
    #[serde(default)]
    pub distribution: ArrivalDistribution,
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
    /// What lies between two callers.
    pub fn gaps(&self) -> Duration {
        let distribution = match self.distribution {
            ArrivalDistribution::Poisson => Distribution::Exponential,
            ArrivalDistribution::Constant => Distribution::Constant,
        };
        Duration { mean_s: 3_600.0 / self.per_hour, distribution }
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
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), Error> {
        within("agents", self.agents.into(), 1.0, AGENTS_MAX.into())?;
        within("hours", self.hours, 0.01, HOURS_MAX)?;
        within("warm_up_hours", self.warm_up_hours, 0.0, HOURS_MAX)?;
        within("arrivals.per_hour", self.arrivals.per_hour, 0.001, PER_HOUR_MAX)?;
        within("talk_time.mean_s", self.talk_time.mean_s, MEAN_S_MIN, MEAN_S_MAX)?;
        within("after_call_work_s", self.after_call_work_s, 0.0, MEAN_S_MAX)?;
        within("answer_delay_s", self.answer_delay_s, 0.0, ANSWER_DELAY_S_MAX)?;
        if let Some(patience) = &self.patience {
            within("patience.mean_s", patience.mean_s, MEAN_S_MIN, MEAN_S_MAX)?;
        }
        within("waiting_max", self.waiting_max.into(), 1.0, WAITING_MAX.into())?;
        within("service_level.threshold_s", self.service_level.threshold_s, 0.0, MEAN_S_MAX)?;
        within("service_level.target", self.service_level.target, 0.01, 0.999)?;
        let calls = self.arrivals.per_hour * (self.hours + self.warm_up_hours);
        if calls > CALLS_MAX {
            let hours = CALLS_MAX / self.arrivals.per_hour - self.warm_up_hours;
            let expected = format!(
                "at most {hours:.0} at this rate of arrivals: a play has no more than \
                 {CALLS_MAX:.0} calls"
            );
            return Err(Error::OutOfRange { key: "hours", value: self.hours, expected });
        }
        Ok(())
    }

    /// Seconds of an agent for one call: ringing, talk and after-call work.
    pub fn holding_s(&self) -> f64 {
        self.answer_delay_s + self.talk_time.mean_s + self.after_call_work_s
    }

    pub fn per_second(&self) -> f64 {
        self.arrivals.per_hour / 3_600.0
    }

    /// Offered load, erlangs.
    pub fn load(&self) -> f64 {
        self.per_second() * self.holding_s()
    }
}

/// TOML knows `nan` and `inf`; no range holds them.
fn within(key: &'static str, value: f64, min: f64, max: f64) -> Result<(), Error> {
    if value >= min && value <= max {
        return Ok(());
    }
    Err(Error::OutOfRange { key, value, expected: format!("from {min} to {max}") })
}
