//! How a leg was to talk over: the E-model (ITU-T G.107) from what RTP and RTCP have counted.
//!
//! `R = 93.2 − Id − Ie,eff`, and MOS from R. Echo is not looked at: nothing here hears any.

use tandem_sip::sdp::Codec;

use crate::limits::PTIME_MS;
use crate::plan::CallKey;

/// All that disturbs a call but delay, codec and loss, at G.107's default values.
const RATING_MAX: f64 = 93.2;
/// Where delay begins to disturb talk (G.107 §7.4).
const DELAY_MS_FREE: f64 = 100.0;
/// A jitter buffer of a common phone holds so many times the jitter.
const BUFFER_JITTERS: f64 = 2.0;
const US_PER_MS: f64 = 1000.0;

/// What a leg's streams have come to, told once when the leg is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    pub call: CallKey,
    pub leg: u64,
    /// As the plan named it.
    pub role: &'static str,
    pub codec: Codec,
    pub packets_sent: u64,
    pub packets_received: u64,
    pub packets_lost: u64,
    pub packets_late: u64,
    pub packets_duplicate: u64,
    /// The mean (RFC 3550 §A.8).
    pub jitter_us: u32,
    /// The mean; none where the peer has reported none.
    pub round_trip_us: Option<u32>,
    /// Hundredths of a mean opinion score of what the peer sent; none where it sent nothing.
    pub mos_x100: Option<u16>,
}

impl Quality {
    /// Whether anything went over the leg at all.
    pub(crate) fn is_of_a_stream(&self) -> bool {
        self.packets_sent > 0 || self.packets_received > 0
    }

    /// Adds the leg to the process's metrics.
    pub(crate) fn publish(&self) {
        if self.packets_received > 0 {
            let expected = (self.packets_received + self.packets_lost) as f64;
            let lost = self.packets_lost as f64 / expected;
            metrics::histogram!("tandem_media_leg_lost_ratio").record(lost);
            let jitter_s = f64::from(self.jitter_us) / 1e6;
            metrics::histogram!("tandem_media_leg_jitter_seconds").record(jitter_s);
        }
        if let Some(mos_x100) = self.mos_x100 {
            metrics::histogram!("tandem_media_leg_mos").record(f64::from(mos_x100) / 100.0);
        }
        if let Some(round_trip_us) = self.round_trip_us {
            let round_trip_s = f64::from(round_trip_us) / 1e6;
            metrics::histogram!("tandem_media_leg_round_trip_seconds").record(round_trip_s);
        }
    }
}

/// What a score is worked out from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub codec: Codec,
    pub received: u64,
    pub lost: u64,
    pub jitter_us: u32,
    pub round_trip_us: Option<u32>,
}

/// What a codec takes from the rating by itself, and how well it bears random loss (ITU-T G.113,
/// tables I.1 and I.4).
struct Impairment {
    ie: f64,
    bpl: f64,
}

impl Impairment {
    fn of(codec: Codec) -> Self {
        match codec {
            // G.711 without concealment of loss: we don't know what the peer has.
            // G.722 at 64 kbit/s is not worse within the telephone's band, which is what R is of.
            Codec::Pcmu | Codec::Pcma | Codec::G722 => Self { ie: 0.0, bpl: 4.3 },
            // In no table. Its decoders conceal loss, so it is taken for G.711 that does.
            Codec::Opus => Self { ie: 0.0, bpl: 25.1 },
            Codec::G729 => Self { ie: 10.0, bpl: 19.0 },
        }
    }
}

impl Measured {
    /// Of what was received; none where nothing was.
    pub fn mos_x100(&self) -> Option<u16> {
        if self.received == 0 {
            return None;
        }
        let expected = (self.received + self.lost) as f64;
        let loss_percent = 100.0 * self.lost as f64 / expected;
        let jitter_ms = f64::from(self.jitter_us) / US_PER_MS;
        let way_ms = f64::from(self.round_trip_us.unwrap_or(0)) / US_PER_MS / 2.0;
        let delay_ms = way_ms + f64::from(PTIME_MS) + BUFFER_JITTERS * jitter_ms;
        Some((mos(rating(self.codec, loss_percent, delay_ms)) * 100.0).round() as u16)
    }
}

/// R, from the share of packets lost at random and the delay from mouth to ear.
pub fn rating(codec: Codec, loss_percent: f64, delay_ms: f64) -> f64 {
    let Impairment { ie, bpl } = Impairment::of(codec);
    let effective = ie + (95.0 - ie) * loss_percent / (loss_percent + bpl);
    RATING_MAX - delay_impairment(delay_ms) - effective
}

/// Idd of G.107 §7.4.
fn delay_impairment(delay_ms: f64) -> f64 {
    if delay_ms <= DELAY_MS_FREE {
        return 0.0;
    }
    let x = (delay_ms / DELAY_MS_FREE).log2();
    let root = |x: f64| (1.0 + x.powi(6)).powf(1.0 / 6.0);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

/// G.107 annex B.
pub fn mos(rating: f64) -> f64 {
    match rating {
        r if r <= 0.0 => 1.0,
        r if r >= 100.0 => 4.5,
        r => (1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r)).max(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(value: f64) -> f64 {
        (value * 100.0).round() / 100.0
    }

    #[test]
    fn mos_of_known_ratings() {
        for (r, expected) in [
            (93.2, 4.41),
            (80.0, 4.02),
            (70.0, 3.6),
            (60.0, 3.1),
            (0.0, 1.0),
            (-20.0, 1.0),
            (100.0, 4.5),
        ] {
            assert_eq!(rounded(mos(r)), expected, "R {r}");
        }
        // Annex B dips below 1 for the worst of ratings, which no opinion can.
        assert_eq!(mos(3.0), 1.0);
    }

    #[test]
    fn delay_disturbs_from_100_ms_on() {
        let of = |delay_ms| rounded(RATING_MAX - rating(Codec::Pcma, 0.0, delay_ms));
        assert_eq!(of(20.0), 0.0);
        assert_eq!(of(100.0), 0.0);
        assert_eq!(of(200.0), 3.04);
        assert_eq!(of(400.0), 24.07);
        assert!(of(800.0) > of(400.0));
    }

    #[test]
    fn loss_without_concealment_is_soon_heard() {
        let of = |loss| rounded(rating(Codec::Pcmu, loss, 0.0));
        // 93.2 − 95 · Ppl / (Ppl + 4.3)
        assert_eq!(of(1.0), 75.28);
        assert_eq!(of(4.3), 45.7);
        assert_eq!(rounded(mos(of(1.0))), 3.83);
    }

    #[test]
    fn score_is_of_what_was_received() {
        let measured = Measured {
            codec: Codec::Pcma,
            received: 990,
            lost: 10,
            jitter_us: 2_000,
            round_trip_us: Some(40_000),
        };
        assert_eq!(measured.mos_x100(), Some(383));
        assert_eq!(Measured { lost: 0, ..measured }.mos_x100(), Some(441));
        assert_eq!(Measured { received: 0, ..measured }.mos_x100(), None);
        let slow = Measured { lost: 0, round_trip_us: Some(740_000), jitter_us: 5_000, ..measured };
        assert_eq!(slow.mos_x100(), Some(356), "400 ms from mouth to ear");
    }
}
