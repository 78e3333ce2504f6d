//! What openraft counts batch sizes with, as small as that is: how many values there were of each power of two. What shows
//! such counts must be there for openraft to be built; this workspace does not ask for its statistics.

use std::fmt;
use std::marker::PhantomData;

/// A value of `n` significant bits is in bucket `n`: 0, 1, 2 to 3, 4 to 7, and so on.
const BUCKETS: usize = u64::BITS as usize + 1;

/// Counts of values by their power of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    /// The library in whose place this stands lets a period of counts carry data.
    data: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], data: PhantomData }
    }

    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// The same value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bits = u64::BITS - value.leading_zeros();
        if let Some(count) = self.counts.get_mut(bits as usize) {
            *count = count.saturating_add(times);
        }
    }

    /// Values in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Of what counts say: each is the highest value of its power of two.
    pub fn percentile_stats(&self) -> PercentileStats {
        let at = |per_mille| self.value_at(per_mille);
        PercentileStats {
            samples: self.total(),
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    /// So many of a thousand values are no higher.
    fn value_at(&self, per_mille: u64) -> u64 {
        let wanted = u128::from(self.total()) * u128::from(per_mille);
        let mut seen = 0_u128;
        for (bits, count) in (0_u32..).zip(&self.counts) {
            seen += u128::from(*count) * 1_000;
            if *count > 0 && seen >= wanted {
                return u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(0);
            }
        }
        0
    }

    /// Values of so many significant bits.
    pub fn of_bits(&self, bits: u32) -> u64 {
        self.counts.get(bits as usize).copied().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p99, .. } = self;
        write!(f, "n {samples} p50 {p50} p99 {p99}")
    }
}

/// Histograms one below the other.
#[derive(Clone, Debug)]
pub struct AsciiChart<T = ()>(Vec<(String, Histogram<T>)>);

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> AsciiChart<T> {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.0.push((name.to_owned(), histogram));
        self
    }

    pub const fn compact(&self) -> &Self {
        self
    }

    pub const fn detailed(&self) -> &Self {
        self
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0 {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_their_power_of_two() {
        let mut histogram: Histogram = Histogram::new();
        for value in [0, 1, 2, 3, 4, 7, 8, u64::MAX] {
            histogram.record(value);
        }
        let counts: Vec<u64> = (0..=4).map(|bits| histogram.of_bits(bits)).collect();
        assert_eq!(counts, [1, 1, 2, 2, 1]);
        assert_eq!((histogram.of_bits(64), histogram.total()), (1, 8));
        let PercentileStats { samples, p0_1, p10, p50, p99, .. } = histogram.percentile_stats();
        assert_eq!((samples, p0_1, p10, p50, p99), (8, 0, 0, 3, u64::MAX));
        let empty: Histogram = Histogram::new();
        assert_eq!(empty.percentile_stats().p50, 0);
        let chart = AsciiChart::new().add("sizes", histogram);
        assert_eq!(chart.to_string(), format!("sizes: n 8 p50 3 p99 {}\n", u64::MAX));
    }
}
