//! Chance, from a seed: one stream for each thing that is drawn, so that another number of agents
//! meets the same callers.

use crate::scenario::{Distribution, Duration};

pub const SEED_DEFAULT: u64 = 1;

/// splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Stream(u64);

/// What a stream is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The seeds of log entries.
    Entries,
    /// The gaps between callers.
    Arrivals,
    TalkTimes,
    Patience,
    /// Rings that are ignored.
    Ignoring,
}

impl Stream {
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let start = Self(seed).bits() ^ Self(purpose as u64).bits();
        Self(start)
    }

    /// One for each queue, so that another queue's callers do not change its own.
    pub fn of_queue(seed: u64, purpose: Purpose, queue: usize) -> Self {
        Self::new(seed ^ (queue as u64).wrapping_mul(0xd6e8_feb8_6659_fd93), purpose)
    }

    pub fn is_drawn(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in [0, 1), of 53 bits.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Seconds. The exponential one by inversion: −mean·ln(1 − u).
    pub fn draw_s(&mut self, duration: &Duration) -> f64 {
        match duration.distribution {
            Distribution::Exponential => -duration.mean_s * (-self.unit()).ln_1p(),
            Distribution::Constant => duration.mean_s,
        }
    }
}

#[test]
fn exponential_draws_have_the_mean_and_the_spread_that_they_should() {
    let mut stream = Stream::new(7, Purpose::TalkTimes);
    let duration = Duration { mean_s: 180.0, distribution: Distribution::Exponential };
    let draws: Vec<f64> = (0..200_000).map(|_| stream.draw_s(&duration)).collect();
    let mean = draws.iter().sum::<f64>() / draws.len() as f64;
    let square = draws.iter().map(|draw| draw * draw).sum::<f64>() / draws.len() as f64;
    assert!((mean / 180.0 - 1.0).abs() < 0.01, "{mean}");
    assert!((square / (2.0 * 180.0 * 180.0) - 1.0).abs() < 0.02, "{square}");
}
