//! Audio that is made here: the tones of the network, and the measure of a tone.

use std::f64::consts::TAU;

use crate::g711::{self, Law};

pub(crate) const SAMPLE_RATE_HZ: f64 = 8000.0;
const RINGBACK_LEVEL: f64 = 6000.0;
/// Whoever can't be put through hears it that long.
const TONE_MS: usize = 4_000;

/// A piece of audio that repeats, as samples and in both laws.
pub struct Loop {
    linear: Box<[i16]>,
    ulaw: Box<[u8]>,
    alaw: Box<[u8]>,
}

impl Loop {
    pub fn new(samples: &[i16]) -> Self {
        assert!(!samples.is_empty(), "a loop has samples");
        Self {
            linear: samples.into(),
            ulaw: g711::encode(Law::Mu, samples).into_boxed_slice(),
            alaw: g711::encode(Law::A, samples).into_boxed_slice(),
        }
    }

    pub fn samples(&self) -> usize {
        self.ulaw.len()
    }
}

/// Audio of ours, from a position on.
pub trait Piece {
    fn fill(&self, law: Law, at: u64, out: &mut [u8]);

    /// The same as samples.
    fn fill_linear(&self, at: u64, out: &mut [i16]);
}

/// The position may be any number: it goes round.
impl Piece for Loop {
    fn fill(&self, law: Law, at: u64, out: &mut [u8]) {
        go_round(if law == Law::Mu { &self.ulaw } else { &self.alaw }, at, out);
    }

    fn fill_linear(&self, at: u64, out: &mut [i16]) {
        go_round(&self.linear, at, out);
    }
}

fn go_round<T: Copy>(piece: &[T], at: u64, out: &mut [T]) {
    let mut from = (at % piece.len() as u64) as usize;
    let mut done = 0;
    while done < out.len() {
        let count = (piece.len() - from).min(out.len() - done);
        out[done..done + count].copy_from_slice(&piece[from..from + count]);
        done += count;
        from = 0;
    }
}

/// By its code of ISO 3166.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Country {
    Cn,
    De,
    Fr,
    Gb,
    Jp,
    Us,
}

impl Country {
    pub const ALL: [Self; 6] = [Self::Cn, Self::De, Self::Fr, Self::Gb, Self::Jp, Self::Us];

    pub fn code(self) -> &'static str {
        match self {
            Self::Cn => "cn",
            Self::De => "de",
            Self::Fr => "fr",
            Self::Gb => "gb",
            Self::Jp => "jp",
            Self::Us => "us",
        }
    }

    /// Whoever is called is busy.
    fn busy(self) -> Cadence {
        match self {
            Self::Cn => Cadence { hz: &[450.0], on_off_ms: &[(350, 350)] },
            Self::De => Cadence { hz: &[425.0], on_off_ms: &[(480, 480)] },
            Self::Fr => Cadence { hz: &[440.0], on_off_ms: &[(500, 500)] },
            Self::Gb => Cadence { hz: &[400.0], on_off_ms: &[(375, 375)] },
            Self::Jp => Cadence { hz: &[400.0], on_off_ms: &[(500, 500)] },
            Self::Us => Cadence { hz: &[480.0, 620.0], on_off_ms: &[(500, 500)] },
        }
    }

    /// There is no way to whoever is called.
    fn congestion(self) -> Cadence {
        match self {
            Self::Cn => Cadence { hz: &[450.0], on_off_ms: &[(700, 700)] },
            Self::De => Cadence { hz: &[425.0], on_off_ms: &[(240, 240)] },
            Self::Fr => Cadence { hz: &[440.0], on_off_ms: &[(250, 250)] },
            Self::Gb => Cadence { hz: &[400.0], on_off_ms: &[(400, 350), (225, 525)] },
            // The supplement has none apart from busy.
            Self::Jp => Cadence { hz: &[400.0], on_off_ms: &[(500, 500)] },
            Self::Us => Cadence { hz: &[480.0, 620.0], on_off_ms: &[(250, 250)] },
        }
    }

    fn ringback(self) -> Cadence {
        match self {
            Self::Cn => Cadence { hz: &[450.0], on_off_ms: &[(1000, 4000)] },
            Self::De => Cadence { hz: &[425.0], on_off_ms: &[(1000, 4000)] },
            Self::Fr => Cadence { hz: &[440.0], on_off_ms: &[(1500, 3500)] },
            Self::Gb => Cadence { hz: &[400.0, 450.0], on_off_ms: &[(400, 200), (400, 2000)] },
            // 400 Hz that 16 Hz modulate: it and its side tones.
            Self::Jp => Cadence { hz: &[384.0, 400.0, 416.0], on_off_ms: &[(1000, 2000)] },
            Self::Us => Cadence { hz: &[440.0, 480.0], on_off_ms: &[(2000, 4000)] },
        }
    }
}

/// A tone of the network: what it is made of, and how it goes on and off.
struct Cadence {
    hz: &'static [f64],
    on_off_ms: &'static [(usize, usize)],
}

impl Cadence {
    fn for_ms(&self, ms: usize) -> Vec<i16> {
        self.samples().into_iter().cycle().take(ms * 8).collect()
    }

    fn samples(&self) -> Vec<i16> {
        let level = RINGBACK_LEVEL / self.hz.len() as f64;
        let wave = |at: usize| -> f64 {
            self.hz.iter().map(|hz| (TAU * hz * at as f64 / SAMPLE_RATE_HZ).sin() * level).sum()
        };
        let mut samples = Vec::new();
        for (on_ms, off_ms) in self.on_off_ms {
            samples.extend((0..on_ms * 8).map(|at| wave(at) as i16));
            samples.resize(samples.len() + off_ms * 8, 0);
        }
        samples
    }
}

/// Tones that are played once, by the names of prompts (ITU-T E.180, supplement 2).
pub fn clips() -> impl Iterator<Item = (String, Vec<i16>)> {
    Country::ALL.into_iter().flat_map(|country| {
        let code = country.code();
        [
            (format!("tone-busy-{code}"), country.busy().for_ms(TONE_MS)),
            (format!("tone-congestion-{code}"), country.congestion().for_ms(TONE_MS)),
        ]
    })
}

/// The ringing tone of each country (ITU-T E.180, supplement 2).
pub struct Ringback([Loop; 6]);

impl Ringback {
    pub fn new() -> Self {
        Self(Country::ALL.map(|country| Loop::new(&country.ringback().samples())))
    }

    pub fn of(&self, country: Country) -> &Loop {
        let [cn, de, fr, gb, jp, us] = &self.0;
        match country {
            Country::Cn => cn,
            Country::De => de,
            Country::Fr => fr,
            Country::Gb => gb,
            Country::Jp => jp,
            Country::Us => us,
        }
    }
}

impl Default for Ringback {
    fn default() -> Self {
        Self::new()
    }
}

/// One second of a sine wave: whole periods, so it repeats without a click.
pub fn sine(hz: u32, level: f64) -> Loop {
    let samples: Vec<i16> = (0..8000)
        .map(|at| ((TAU * f64::from(hz) * f64::from(at) / SAMPLE_RATE_HZ).sin() * level) as i16)
        .collect();
    Loop::new(&samples)
}

/// The share of the samples' power that lies at one frequency, 0 to 1 (Goertzel).
pub fn share_at(samples: &[i16], hz: f64) -> f64 {
    let total: f64 = samples.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
    if total <= 0.0 {
        return 0.0;
    }
    let coefficient = 2.0 * (TAU * hz / SAMPLE_RATE_HZ).cos();
    let (mut one, mut two) = (0.0_f64, 0.0_f64);
    for sample in samples {
        let next = f64::from(*sample) + coefficient * one - two;
        two = one;
        one = next;
    }
    let power = one * one + two * two - coefficient * one * two;
    (2.0 * power / (samples.len() as f64 * total)).min(1.0)
}

/// The frequency that carries most of the power of the last 200 ms, to 5 Hz; none for silence or
/// noise.
pub fn dominant_hz(samples: &[i16]) -> Option<u32> {
    const QUIET: f64 = 100.0;
    const SHARE_MIN: f64 = 0.5;
    // 200 ms tell frequencies 5 Hz apart: a wider step would step over a tone, as would a longer
    // stretch.
    const SAMPLES: usize = 1600;
    const STEP_HZ: u32 = 5;
    let samples = &samples[samples.len().saturating_sub(SAMPLES)..];
    if samples.is_empty() {
        return None;
    }
    let power: f64 = samples.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
    if (power / samples.len() as f64).sqrt() < QUIET {
        return None;
    }
    let best = |candidates: &mut dyn Iterator<Item = u32>| {
        candidates
            .map(|hz| (hz, share_at(samples, f64::from(hz))))
            .max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let (coarse, _) = best(&mut (20..780).map(|steps| steps * STEP_HZ))?;
    let (hz, share) = best(&mut (coarse - STEP_HZ..=coarse + STEP_HZ))?;
    (share >= SHARE_MIN).then_some((hz + STEP_HZ / 2) / STEP_HZ * STEP_HZ)
}
