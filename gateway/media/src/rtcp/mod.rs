//! RTCP of one leg (RFC 3550 §6): what we report, when, and what the peer's reports tell us.
//!
//! Two members a session, one packet of 100 bytes each in five seconds: far below the share of
//! the bandwidth that §6.2 allows, so that the least interval is the one that counts.

pub mod packets;
pub mod reception;
#[cfg(test)]
mod tests;

use crate::plan::CallKey;
use crate::random::Random;
use packets::{Block, CNAME_BYTES, Malformed, REPORT_BYTES_MAX, Report, Said, Sender};
use reception::Reception;

const NS_PER_MS: u64 = 1_000_000;
/// What the randomisation of §6.3.1 takes away from the mean (e − 3/2).
const COMPENSATION: f64 = std::f64::consts::E - 1.5;
/// A round trip of more is no measurement.
const ROUND_TRIP_S_MAX: u32 = 10;
/// Clocks are read in steps: a round trip a little below none is none.
const ROUND_TRIP_BELOW_ZERO_MAX: u32 = 65_536 / 100;

/// A leg's side of its RTCP session.
#[derive(Clone, Debug)]
pub struct Session {
    cname: [u8; CNAME_BYTES],
    interval_ms: u64,
    due_ns: u64,
    /// Of our RTP, as reports count it: modulo 2³².
    pub packets: u32,
    pub octets: u32,
    /// `packets` at the last report and at the one before.
    packets_reported: [u32; 2],
    last_sr: Option<LastSr>,
    round_trip_us_sum: u64,
    round_trips: u64,
    reported: bool,
}

/// The peer's newest sender report.
#[derive(Clone, Copy, Debug)]
struct LastSr {
    ssrc: u32,
    middle: u32,
    at_ns: u64,
}

/// What a report needs to know of the moment and of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now_ns: u64,
    pub unix_ns: u64,
    pub ssrc: u32,
    /// Of our stream, as of now.
    pub rtp_timestamp: u32,
}

impl Session {
    /// The name is the same wherever the leg goes on with its source.
    pub fn new(call: CallKey, leg: u64, ssrc: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&call.call.to_be_bytes());
        hasher.update(&leg.to_be_bytes());
        hasher.update(&ssrc.to_be_bytes());
        let hex = hasher.finalize().to_hex();
        let mut cname = [0; CNAME_BYTES];
        cname.copy_from_slice(&hex.as_bytes()[..CNAME_BYTES]);
        Self {
            cname,
            interval_ms: 0,
            due_ns: u64::MAX,
            packets: 0,
            octets: 0,
            packets_reported: [0; 2],
            last_sr: None,
            round_trip_us_sum: 0,
            round_trips: 0,
            reported: false,
        }
    }

    /// Reports from now on, the first after half of the interval (§6.2).
    pub fn begin(&mut self, interval_ms: u64, now_ns: u64, random: &mut Random) {
        self.interval_ms = interval_ms;
        self.due_ns = now_ns + spread_ns(interval_ms / 2, random);
    }

    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.due_ns
    }

    /// A packet of our stream has gone out.
    pub fn on_sent(&mut self, payload_bytes: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_bytes as u32);
    }

    /// The report that is due, and the next one's time.
    pub fn report(
        &mut self,
        moment: &Moment,
        reception: &mut Reception,
        random: &mut Random,
        out: &mut [u8; REPORT_BYTES_MAX],
    ) -> usize {
        self.due_ns = moment.now_ns + spread_ns(self.interval_ms, random);
        self.write(moment, reception, false, out)
    }

    /// The last report; none where the peer has never heard of our source (§6.3.7).
    pub fn goodbye(
        &mut self,
        moment: &Moment,
        reception: &mut Reception,
        out: &mut [u8; REPORT_BYTES_MAX],
    ) -> Option<usize> {
        let known = self.reported || self.packets > 0;
        known.then(|| self.write(moment, reception, true, out))
    }

    fn write(
        &mut self,
        moment: &Moment,
        reception: &mut Reception,
        bye: bool,
        out: &mut [u8; REPORT_BYTES_MAX],
    ) -> usize {
        // Whoever sent since the report before the last is a sender (§6.4).
        let sends = self.packets != self.packets_reported[1];
        self.packets_reported = [self.packets, self.packets_reported[0]];
        self.reported = true;
        let block = reception.report().map(|block| self.with_last_sr(block, moment.now_ns));
        let sender = sends.then(|| Sender {
            ntp: packets::ntp(moment.unix_ns),
            rtp_timestamp: moment.rtp_timestamp,
            packets: self.packets,
            octets: self.octets,
        });
        Report { ssrc: moment.ssrc, sender, block, cname: &self.cname, bye }.write(out)
    }

    fn with_last_sr(&self, block: Block, now_ns: u64) -> Block {
        let Some(last) = self.last_sr.filter(|last| last.ssrc == block.ssrc) else { return block };
        let since_us = now_ns.saturating_sub(last.at_ns) / 1000;
        let delay = since_us.saturating_mul(65_536) / 1_000_000;
        Block {
            last_sr: last.middle,
            delay_since_last_sr: u32::try_from(delay).unwrap_or(u32::MAX),
            ..block
        }
    }

    /// What the peer reports.
    ///
    /// # Errors
    /// It is no RTCP compound. What stood before the fault counts.
    pub fn on_datagram(&mut self, datagram: &[u8], moment: &Moment) -> Result<(), Malformed> {
        packets::read(datagram, |said| match said {
            Said::Sender { ssrc, ntp } => {
                let middle = packets::middle(ntp);
                self.last_sr = Some(LastSr { ssrc, middle, at_ns: moment.now_ns });
            }
            Said::Block(block) if block.ssrc == moment.ssrc => self.on_block(&block, moment),
            Said::Block(_) | Said::Goodbye => {}
        })
    }

    /// The round trip (§6.4.1).
    fn on_block(&mut self, block: &Block, moment: &Moment) {
        if block.last_sr == 0 {
            return;
        }
        let now = packets::middle(packets::ntp(moment.unix_ns));
        let mut units = now.wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr);
        if units.wrapping_neg() <= ROUND_TRIP_BELOW_ZERO_MAX {
            units = 0;
        }
        if units <= ROUND_TRIP_S_MAX * 65_536 {
            self.round_trip_us_sum += u64::from(units) * 1_000_000 / 65_536;
            self.round_trips += 1;
        }
    }

    /// The mean of those measured; none where the peer has reported none.
    pub fn round_trip_us(&self) -> Option<u32> {
        let mean = self.round_trip_us_sum.checked_div(self.round_trips)?;
        u32::try_from(mean).ok()
    }
}

/// Half to one and a half times the interval, so that members don't fall into step (§6.3.1).
fn spread_ns(interval_ms: u64, random: &mut Random) -> u64 {
    let factor = (0.5 + random.unit()) / COMPENSATION;
    ((interval_ms * NS_PER_MS) as f64 * factor) as u64
}
