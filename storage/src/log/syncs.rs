//! How long the disk of the log takes to sync, of late. Time is an input.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What is told is of the last one to two of these.
const HALF: Duration = Duration::from_secs(30);
/// Longer ones count as this.
const HIGHEST_US: u64 = 60_000_000;
/// Of a figure: 1 % is near enough.
const DIGITS: u8 = 2;

pub struct Syncs {
    /// This half, and the one before it.
    halves: Option<[Histogram<u32>; 2]>,
    since: Instant,
}

impl Syncs {
    pub fn new(now: Instant) -> Self {
        // Of constant bounds, so that it is there.
        let empty = Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).ok();
        Self { halves: empty.map(|empty| [empty.clone(), empty]), since: now }
    }

    pub fn record(&mut self, took: Duration, now: Instant) {
        self.turn(now);
        if let Some([this, _]) = &mut self.halves {
            this.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Of a hundred syncs one takes longer, microseconds; none where nothing was synced.
    pub fn p99_us(&mut self, now: Instant) -> Option<u64> {
        self.turn(now);
        let [this, before] = self.halves.as_ref()?;
        let mut both = before.clone();
        both.add(this).ok()?;
        (!both.is_empty()).then(|| both.value_at_quantile(0.99))
    }

    fn turn(&mut self, now: Instant) {
        let over = now.saturating_duration_since(self.since);
        if over < HALF {
            return;
        }
        self.since = now;
        let Some([this, before]) = &mut self.halves else { return };
        std::mem::swap(this, before);
        this.reset();
        if over >= 2 * HALF {
            before.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_of_long_ago_are_forgotten() {
        let begun = Instant::now();
        let mut syncs = Syncs::new(begun);
        assert_eq!(syncs.p99_us(begun), None);
        for _ in 0..99 {
            syncs.record(Duration::from_micros(400), begun);
        }
        syncs.record(Duration::from_secs(2), begun);
        let near =
            |told: Option<u64>, us: u64| told.is_some_and(|told| told.abs_diff(us) <= us / 50);
        assert!(near(syncs.p99_us(begun), 400));
        syncs.record(Duration::from_secs(2), begun);
        assert!(near(syncs.p99_us(begun + HALF), 2_000_000));
        syncs.record(Duration::from_millis(1), begun + HALF);
        assert!(near(syncs.p99_us(begun + HALF), 2_000_000), "half of the window is left");
        assert!(near(syncs.p99_us(begun + 2 * HALF), 1_000));
        assert_eq!(syncs.p99_us(begun + 9 * HALF), None);
        syncs.record(Duration::from_secs(900), begun + 9 * HALF);
        assert!(near(syncs.p99_us(begun + 9 * HALF), HIGHEST_US));
    }
}
