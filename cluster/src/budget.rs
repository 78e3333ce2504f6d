//! What a voter's log and state may take of its disk, and what follows when they do. Nothing is ever deleted for
//! it: a record of a call is somebody's money. Near its end a budget warns; at its end its node takes no new
//! calls, and those that live go on in what the disk has left.
//!
//! [`Gauge`] is pure; [`Budgets`] tells and raises alarms.

use tandem_storage::log::Log;
use tandem_storage::state::State;
use tokio::sync::watch;

use crate::Limits;

/// From this share of a budget on it warns,
const NEAR_PERCENT: u64 = 80;
/// and a level that was reached is left only so much below.
const BACK_PERCENT: u64 = 5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Enough,
    Near,
    Full,
}

/// How much of one budget is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    pub bytes: u64,
    pub bytes_max: u64,
    pub level: Level,
}

impl Gauge {
    fn of(bytes_max: u64) -> Self {
        Self { bytes: 0, bytes_max, level: Level::Enough }
    }

    fn on_bytes(self, bytes: u64) -> Self {
        let reaches = |percent: u64| {
            u128::from(bytes) * 100 >= u128::from(self.bytes_max) * u128::from(percent)
        };
        let at_least = |level: Level, percent: u64| {
            let held = if self.level >= level { BACK_PERCENT } else { 0 };
            reaches(percent - held)
        };
        let level = if at_least(Level::Full, 100) {
            Level::Full
        } else if at_least(Level::Near, NEAR_PERCENT) {
            Level::Near
        } else {
            Level::Enough
        };
        Self { bytes, level, ..self }
    }

    fn shown(&self) -> String {
        format!("{} of {} MiB", self.bytes.div_ceil(1 << 20), self.bytes_max >> 20)
    }
}

/// Of one voter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub log: Gauge,
    pub state: Gauge,
}

impl Used {
    /// There is room for new calls.
    ///
    /// # Errors
    /// What is full, in a sentence with its code.
    pub fn check(&self) -> Result<(), String> {
        match (self.state.level, self.log.level) {
            (Level::Full, _) => Err(self.state_is_full()),
            (_, Level::Full) => Err(self.log_is_full()),
            _ => Ok(()),
        }
    }

    fn state_is_full(&self) -> String {
        format!("TD0438 the state takes {}: new calls are refused", self.state.shown())
    }

    fn log_is_full(&self) -> String {
        format!("TD0436 the log takes {}: new calls are refused", self.log.shown())
    }
}

/// Looks at the disk, tells others of the process, and raises alarms.
pub struct Budgets {
    log: Log,
    state: State,
    told: watch::Sender<Used>,
}

impl Budgets {
    pub fn new(log: Log, state: State, limits: &Limits) -> Self {
        let used =
            Used { log: Gauge::of(limits.log_bytes_max), state: Gauge::of(limits.state_bytes_max) };
        let budgets = Self { log, state, told: watch::Sender::new(used) };
        budgets.look();
        budgets
    }

    pub fn used(&self) -> watch::Receiver<Used> {
        self.told.subscribe()
    }

    pub fn look(&self) -> Used {
        let before = *self.told.borrow();
        let state = self.state.disk_bytes().unwrap_or_else(|error| {
            tracing::debug!(%error, "what the state takes on the disk");
            before.state.bytes
        });
        let log = before.log.on_bytes(self.log.stats().disk_bytes);
        let now = Used { log, state: before.state.on_bytes(state) };
        metrics::gauge!("tandem_log_bytes").set(now.log.bytes as f64);
        metrics::gauge!("tandem_log_bytes_max").set(now.log.bytes_max as f64);
        metrics::gauge!("tandem_state_bytes").set(now.state.bytes as f64);
        metrics::gauge!("tandem_state_bytes_max").set(now.state.bytes_max as f64);
        alarm(before, now);
        self.told.send_if_modified(|told| std::mem::replace(told, now) != now);
        now
    }
}

/// Once for each level that is reached or left.
fn alarm(before: Used, now: Used) {
    let (log, state) = (now.log.shown(), now.state.shown());
    if before.state.level != now.state.level {
        match now.state.level {
            Level::Enough => tracing::info!("the state takes {state} of its disk budget"),
            Level::Near => tracing::warn!("TD0437 the state takes {state} of its disk budget"),
            Level::Full => tracing::error!("{}", now.state_is_full()),
        }
    }
    if before.log.level != now.log.level {
        match now.log.level {
            Level::Enough | Level::Near => {
                tracing::info!("the log takes {log} of its disk budget");
            }
            Level::Full => tracing::error!("{}", now.log_is_full()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauge_warns_from_four_fifths_on_is_full_at_all_and_does_not_flap() {
        let mut gauge = Gauge::of(1_000);
        for (bytes, level) in [
            (799, Level::Enough),
            (800, Level::Near),
            (790, Level::Near),
            (999, Level::Near),
            (1_000, Level::Full),
            (960, Level::Full),
            (2_000, Level::Full),
            (949, Level::Near),
            (1_000, Level::Full),
            (749, Level::Enough),
            (u64::MAX, Level::Full),
            (0, Level::Enough),
        ] {
            gauge = gauge.on_bytes(bytes);
            assert_eq!((gauge.bytes, gauge.level), (bytes, level));
        }
    }

    #[test]
    fn what_is_full_says_so_with_its_code() {
        let (mut used, mib) = (Used::default(), 1 << 20);
        (used.log, used.state) = (Gauge::of(2 * mib), Gauge::of(3 * mib));
        assert_eq!(used.check(), Ok(()));
        used.log = used.log.on_bytes(2 * mib);
        let why = used.check().unwrap_err();
        assert!(why.ends_with(" the log takes 2 of 2 MiB: new calls are refused"), "{why}");
        used.state = used.state.on_bytes(4 * mib);
        let why = used.check().unwrap_err();
        assert!(why.ends_with(" the state takes 4 of 3 MiB: new calls are refused"), "{why}");
    }
}
