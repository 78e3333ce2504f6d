//! What a leg has received, counted as RFC 3550 asks: loss (§A.3) and jitter (§A.8).

use super::packets::Block;
use crate::rtp::Order;

const NS_PER_US: u64 = 1000;
/// A stream whose timestamps jump by more than this has begun anew behind the same source: the
/// jump is no jitter.
const TRANSIT_JUMP_MS_MAX: u32 = 1000;

/// Of all sources that a leg has heard, one after another.
#[derive(Clone, Debug, Default)]
pub struct Reception {
    current: Option<Source>,
    /// Of the sources before the current one.
    lost_before: u64,
    pub received: u64,
    pub late: u64,
    pub duplicates: u64,
    /// For the mean: jitter in microseconds, summed over packets.
    jitter_us_sum: u64,
    jitter_packets: u64,
}

#[derive(Clone, Debug)]
struct Source {
    ssrc: u32,
    /// Sequence numbers, extended by the cycles (§A.1).
    base: u32,
    highest: u32,
    received: u64,
    duplicates: u64,
    expected_prior: u64,
    received_prior: u64,
    /// In timestamp units; wraps.
    transit: Option<u32>,
    /// Sixteen times the jitter in timestamp units.
    jitter_x16: u32,
    clock_khz: u32,
}

impl Source {
    fn expected(&self) -> u64 {
        u64::from(self.highest.wrapping_sub(self.base)) + 1
    }

    fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }
}

impl Reception {
    /// One packet, whatever it carries.
    pub fn on_packet(&mut self, ssrc: u32, sequence: u16, order: Order, clock_khz: u32) {
        match (order, &mut self.current) {
            (Order::Fresh, _) | (_, None) => {
                self.lost_before += self.current.as_ref().map_or(0, Source::lost);
                self.current = Some(Source {
                    ssrc,
                    base: u32::from(sequence),
                    highest: u32::from(sequence),
                    received: 1,
                    duplicates: 0,
                    expected_prior: 0,
                    received_prior: 0,
                    transit: None,
                    jitter_x16: 0,
                    clock_khz,
                });
                self.received += 1;
            }
            (Order::Ahead { .. }, Some(source)) => {
                let ahead = sequence.wrapping_sub(source.highest as u16);
                source.highest = source.highest.wrapping_add(u32::from(ahead));
                source.received += 1;
                self.received += 1;
            }
            (Order::Late, Some(source)) => {
                source.received += 1;
                self.received += 1;
                self.late += 1;
            }
            (Order::Duplicate, Some(source)) => {
                source.duplicates += 1;
                self.duplicates += 1;
            }
            (Order::Astray, Some(_)) => {}
        }
    }

    /// An audio packet that is none of the above's duplicates: when it was made, when it came.
    pub fn on_audio(&mut self, timestamp: u32, arrived_ns: u64, clock_khz: u32) {
        let Some(source) = &mut self.current else { return };
        if source.clock_khz != clock_khz {
            (source.clock_khz, source.transit, source.jitter_x16) = (clock_khz, None, 0);
        }
        // Wrapping is the point: only differences count.
        let arrival = (arrived_ns / NS_PER_US * u64::from(clock_khz) / 1000) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        let Some(before) = source.transit.replace(transit) else { return };
        let difference = (transit.wrapping_sub(before) as i32).unsigned_abs();
        if difference > TRANSIT_JUMP_MS_MAX * clock_khz {
            return;
        }
        source.jitter_x16 += difference;
        source.jitter_x16 -= (source.jitter_x16 - difference + 8) >> 4;
        self.jitter_us_sum += u64::from(source.jitter_x16) * 1000 / u64::from(16 * clock_khz);
        self.jitter_packets += 1;
    }

    /// Packets that were sent to us and never came.
    pub fn lost(&self) -> u64 {
        self.lost_before + self.current.as_ref().map_or(0, Source::lost)
    }

    /// The mean over all packets.
    pub fn jitter_us(&self) -> u32 {
        let mean = self.jitter_us_sum.checked_div(self.jitter_packets).unwrap_or(0);
        u32::try_from(mean).unwrap_or(u32::MAX)
    }

    /// What the next report says of the current source; the fraction is since the last report.
    pub fn report(&mut self) -> Option<Block> {
        let source = self.current.as_mut()?;
        let expected = source.expected();
        // As the RFC has it, a duplicate makes up for a loss.
        let received = source.received + source.duplicates;
        let lost = i64::try_from(expected).unwrap_or(i64::MAX)
            - i64::try_from(received).unwrap_or(i64::MAX);
        let expected_interval = expected.saturating_sub(source.expected_prior);
        let received_interval = received.saturating_sub(source.received_prior);
        let lost_interval = expected_interval.saturating_sub(received_interval);
        (source.expected_prior, source.received_prior) = (expected, received);
        let fraction = (lost_interval << 8).checked_div(expected_interval).unwrap_or(0);
        Some(Block {
            ssrc: source.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: source.highest,
            jitter: source.jitter_x16 >> 4,
            last_sr: 0,
            delay_since_last_sr: 0,
        })
    }
}
