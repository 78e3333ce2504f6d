//! Keys heard in the audio itself (ITU-T Q.23, Q.24), for peers without telephone-event.
//!
//! Eight Goertzel filters over blocks of 12.75 ms, and for the two strongest tones more beside them,
//! so that a tone that is off by what is allowed shows all of its power: what else the block holds
//! is then no key. A key counts once two blocks in a row have it, and is told when three in a row
//! don't: so a tone of 40 ms is always found, a break of 10 ms tears none apart, and a pause of 40 ms
//! always parts two.

use std::f64::consts::TAU;

use crate::dtmf::Press;
use crate::limits::DTMF_END_MS_MAX;

const BLOCK: usize = 102;
const HALF: f32 = BLOCK as f32 / 2.0;
const SAMPLE_RATE_HZ: f64 = 8000.0;
const ROWS_HZ: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS_HZ: [f64; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
const KEYS: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// The weaker tone's amplitude: −33 dBm0; Q.24 asks for −25.
const AMPLITUDE_MIN: f32 = 500.0;
/// How much stronger the higher tone may be (4 dB), and the lower (8 dB): Q.24, the widest of the
/// administrations' limits.
const TWIST_HIGH_MAX: f32 = 2.51;
const TWIST_LOW_MAX: f32 = 6.31;
/// How far the tone of a group stands out from the others of it (8 dB).
const PEAK_MIN: f32 = 6.31;
/// Where a tone is looked for beside its place.
const BESIDE: [f64; 6] = [0.985, 0.99, 0.995, 1.005, 1.01, 1.015];
/// Of the block's power, what both tones carry.
const SHARE_MIN: f32 = 0.88;
/// The same of two blocks, where tones are looked for up to 1.75 % beside their place.
const PURE_SHARE_MIN: f32 = 0.92;
const PURE_STEPS: i32 = 7;
const PURE_STEP: f64 = 0.0025;
/// How much a tone's power may change from block to block (6 dB): a keypad's is steady.
const CHANGE_MAX: f32 = 4.0;
/// Blocks in a row without the key that end it.
const MISSING_MAX: u32 = 3;
const NS_PER_MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
pub struct Detector {
    /// The block before, and the one that fills.
    blocks: [f32; 2 * BLOCK],
    filled: usize,
    /// Of the block before.
    before: Option<Heard>,
    down: Option<Down>,
    heard_ns: u64,
}

/// The two tones of a block.
#[derive(Clone, Copy, Debug)]
struct Heard {
    key: char,
    powers: [f32; 2],
}

impl Heard {
    fn goes_on(&self, before: &Self) -> bool {
        let steady = |(now, then): (f32, f32)| now <= then * CHANGE_MAX && then <= now * CHANGE_MAX;
        self.key == before.key && self.powers.into_iter().zip(before.powers).all(steady)
    }
}

/// A key that is down.
#[derive(Clone, Copy, Debug)]
struct Down {
    key: char,
    blocks: u32,
    /// Blocks without it, in a row.
    missing: u32,
}

impl Down {
    fn press(self) -> Press {
        let us = u64::from(self.blocks) * (BLOCK as u64) * 125;
        Press { digit: self.key, duration_ms: (us / 1000) as u32 }
    }
}

impl Default for Detector {
    fn default() -> Self {
        Self { blocks: [0.0; 2 * BLOCK], filled: 0, before: None, down: None, heard_ns: 0 }
    }
}

impl Detector {
    /// Tells the keys that were let go.
    pub fn on_audio(&mut self, samples: &[i16], now_ns: u64, mut tell: impl FnMut(Press)) {
        self.heard_ns = now_ns;
        for sample in samples {
            self.blocks[BLOCK + self.filled] = f32::from(*sample);
            self.filled += 1;
            if self.filled == BLOCK {
                self.filled = 0;
                let heard = heard(&self.blocks[BLOCK..]);
                if let Some(press) = self.on_block(heard) {
                    tell(press);
                }
                self.blocks.copy_within(BLOCK.., 0);
            }
        }
    }

    /// A peer that sends nothing any more presses no key either.
    pub fn on_tick(&mut self, now_ns: u64) -> Option<Press> {
        let silent = now_ns.saturating_sub(self.heard_ns) > DTMF_END_MS_MAX * NS_PER_MS;
        let down = self.down.filter(|_| silent)?;
        self.down = None;
        Some(down.press())
    }

    fn on_block(&mut self, heard: Option<Heard>) -> Option<Press> {
        let before = std::mem::replace(&mut self.before, heard);
        let confirmed = heard.filter(|now| before.is_some_and(|then| now.goes_on(&then)));
        let confirmed = confirmed.filter(|now| is_pure(&self.blocks, now.key));
        let next = confirmed.map(|heard| Down { key: heard.key, blocks: 2, missing: 0 });
        match &mut self.down {
            Some(down) if heard.is_some_and(|heard| heard.key == down.key) => {
                down.blocks += 1 + down.missing;
                down.missing = 0;
                None
            }
            Some(down) => {
                down.missing += 1;
                // Another key needs no pause.
                if down.missing < MISSING_MAX && next.is_none() {
                    return None;
                }
                let press = down.press();
                self.down = next;
                Some(press)
            }
            None => {
                self.down = next;
                None
            }
        }
    }
}

/// What the whole block is, if it is a key.
fn heard(block: &[f32]) -> Option<Heard> {
    let energy: f32 = block.iter().map(|sample| sample * sample).sum();
    let quietest = (AMPLITUDE_MIN * HALF).powi(2);
    if 2.0 * quietest > energy * HALF {
        return None;
    }
    let row = strongest(block, ROWS_HZ)?;
    let column = strongest(block, COLUMNS_HZ)?;
    let (low, high) = (at_best(block, ROWS_HZ[row]), at_best(block, COLUMNS_HZ[column]));
    let loud = low.min(high) >= quietest;
    let level = high <= low * TWIST_HIGH_MAX && low <= high * TWIST_LOW_MAX;
    let alone = low + high >= SHARE_MIN * HALF * energy;
    (loud && level && alone).then(|| Heard { key: KEYS[row][column], powers: [low, high] })
}

/// Whether two blocks together are the key's tones alone. What passes in one block, for it can't tell
/// the overtones of a voice apart, does not pass in two.
fn is_pure(blocks: &[f32; 2 * BLOCK], key: char) -> bool {
    let energy: f32 = blocks.iter().map(|sample| sample * sample).sum();
    let Some(row) = KEYS.iter().position(|row| row.contains(&key)) else { return false };
    let Some(column) = KEYS[row].iter().position(|known| *known == key) else { return false };
    let best = |hz: f64| {
        let near = (-PURE_STEPS..=PURE_STEPS).map(|step| hz * (1.0 + f64::from(step) * PURE_STEP));
        near.map(|hz| power(blocks, hz)).fold(0.0, f32::max)
    };
    best(ROWS_HZ[row]) + best(COLUMNS_HZ[column]) >= PURE_SHARE_MIN * 2.0 * HALF * energy
}

/// The tone of a group that stands out.
fn strongest(block: &[f32], group_hz: [f64; 4]) -> Option<usize> {
    let powers = group_hz.map(|hz| power(block, hz));
    let (at, best) =
        powers.iter().copied().enumerate().max_by(|(_, one), (_, two)| one.total_cmp(two))?;
    let others = powers.iter().enumerate().filter(|(other, _)| *other != at);
    others.map(|(_, power)| power * PEAK_MIN).all(|power| power <= best).then_some(at)
}

/// A tone's power where it is greatest, at its place or a little beside.
fn at_best(block: &[f32], hz: f64) -> f32 {
    BESIDE.iter().map(|off| power(block, hz * off)).fold(power(block, hz), f32::max)
}

/// Goertzel's: (A · n / 2)² of a tone of amplitude A in n samples.
fn power(block: &[f32], hz: f64) -> f32 {
    let coefficient = (2.0 * (TAU * hz / SAMPLE_RATE_HZ).cos()) as f32;
    let (mut one, mut two) = (0.0_f32, 0.0_f32);
    for sample in block {
        let next = sample + coefficient * one - two;
        (two, one) = (one, next);
    }
    one * one + two * two - coefficient * one * two
}

#[cfg(test)]
mod tests {
    use crate::tones::Piece as _;

    use super::*;
    use crate::random::Random;

    const ALL: &str = "1234567890*#ABCD";

    fn tones_of(key: char) -> (f64, f64) {
        let row = KEYS.iter().position(|row| row.contains(&key)).expect("a key");
        let column = KEYS[row].iter().position(|known| *known == key).expect("a key");
        (ROWS_HZ[row], COLUMNS_HZ[column])
    }

    /// What a keypad sends, and how it strays from the standard.
    #[derive(Clone, Copy)]
    struct Pad {
        /// Of the lower and of the higher tone.
        amplitudes: (f64, f64),
        detune: (f64, f64),
        tone_ms: usize,
        pause_ms: usize,
        noise: f64,
    }

    const PAD: Pad = Pad {
        amplitudes: (4000.0, 4000.0),
        detune: (1.0, 1.0),
        tone_ms: 70,
        pause_ms: 70,
        noise: 0.0,
    };

    impl Pad {
        fn dial(&self, keys: &str, random: &mut Random) -> Vec<i16> {
            let mut samples = Vec::new();
            // The phase of the blocks is anything.
            let offset = (random.next() % 160) as usize;
            samples.resize(400 + offset, 0.0);
            for key in keys.chars() {
                let (low, high) = tones_of(key);
                for at in 0..self.tone_ms * 8 {
                    let wave = |hz: f64| (TAU * hz * at as f64 / SAMPLE_RATE_HZ).sin();
                    let sum = self.amplitudes.0 * wave(low * self.detune.0)
                        + self.amplitudes.1 * wave(high * self.detune.1);
                    samples.push(sum);
                }
                samples.resize(samples.len() + self.pause_ms * 8, 0.0);
            }
            samples.resize(samples.len() + 400, 0.0);
            let noisy = |sample: &f64| {
                let noise = (random.unit() + random.unit() + random.unit() - 1.5) * 2.0;
                (sample + noise * self.noise) as i16
            };
            samples.iter().map(noisy).collect()
        }

        fn heard(&self, keys: &str, seed: u64) -> String {
            presses(&self.dial(keys, &mut Random::new(seed))).iter().map(|p| p.digit).collect()
        }
    }

    fn presses(samples: &[i16]) -> Vec<Press> {
        let (mut detector, mut presses) = (Detector::default(), Vec::new());
        for packet in samples.chunks(160) {
            detector.on_audio(packet, 0, |press| presses.push(press));
        }
        presses
    }

    #[test]
    fn all_sixteen_keys_are_heard_once_each() {
        for seed in 0..20 {
            assert_eq!(PAD.heard(ALL, seed), ALL);
        }
    }

    #[test]
    fn shortest_tones_and_pauses_of_q_24_are_heard_and_glitches_are_not() {
        for seed in 0..40 {
            let quick = Pad { tone_ms: 40, pause_ms: 40, ..PAD };
            assert_eq!(quick.heard("1199##DD05", seed), "1199##DD05", "{seed}");
            assert_eq!(Pad { tone_ms: 20, ..quick }.heard("159D", seed), "", "{seed}");
            // A break of 10 ms does not make two keys of one.
            let broken = Pad { tone_ms: 60, pause_ms: 10, ..PAD };
            assert_eq!(broken.heard("55", seed), "5", "{seed}");
        }
    }

    #[test]
    fn tones_off_by_one_and_a_half_percent_are_heard_and_by_four_are_not() {
        for seed in 0..10 {
            for detune in [(0.985, 0.985), (1.015, 1.015), (0.985, 1.015), (1.015, 0.985)] {
                assert_eq!(Pad { detune, ..PAD }.heard(ALL, seed), ALL, "{detune:?}");
            }
            for detune in [(0.96, 0.96), (1.04, 1.04), (1.0, 1.045), (1.045, 1.0)] {
                let wrong = Pad { detune, ..PAD }.heard(ALL, seed);
                assert!(wrong.len() <= 2, "{detune:?}: {wrong}");
            }
        }
    }

    #[test]
    fn twist_and_level_have_limits() {
        let decibels = |low: f64, high: f64| {
            let amplitude = |level: f64| 22_000.0 * 10.0_f64.powf(level / 20.0);
            Pad { amplitudes: (amplitude(low), amplitude(high)), ..PAD }
        };
        // In dBm0, the lower tone first.
        for (low, high) in
            [(-6.0, -6.0), (-25.0, -25.0), (-10.0, -6.5), (-10.0, -17.0), (-29.0, -29.0)]
        {
            assert_eq!(decibels(low, high).heard(ALL, 7), ALL, "{low} {high}");
        }
        for (low, high) in [(-16.0, -10.0), (-10.0, -20.0), (-40.0, -40.0), (-10.0, -90.0)] {
            assert_eq!(decibels(low, high).heard(ALL, 7), "", "{low} {high}");
        }
    }

    #[test]
    fn keys_are_heard_through_noise() {
        let noisy = Pad { noise: 700.0, ..PAD };
        for seed in 0..10 {
            assert_eq!(noisy.heard(ALL, seed), ALL);
        }
    }

    #[test]
    fn key_lasts_as_long_as_it_is_held_and_ends_with_the_stream() {
        let long = Pad { tone_ms: 800, ..PAD }.dial("5", &mut Random::new(1));
        let presses = presses(&long);
        assert_eq!(presses.len(), 1);
        assert!((760..=800).contains(&presses[0].duration_ms), "{presses:?}");
        let mut detector = Detector::default();
        detector.on_audio(&long[..4000], 0, |press| panic!("{press:?}"));
        assert_eq!(detector.on_tick(100 * NS_PER_MS), None);
        assert_eq!(detector.on_tick(300 * NS_PER_MS).map(|press| press.digit), Some('5'));
        assert_eq!(detector.on_tick(600 * NS_PER_MS), None, "told once");
    }

    /// A voice: a pulse train that glides in pitch, through three formants that move from vowel to
    /// vowel as a tongue does, with breath, in bursts.
    fn voice(seconds: usize, random: &mut Random) -> Vec<i16> {
        const VOWELS: [[f64; 3]; 6] = [
            [730.0, 1090.0, 2440.0],
            [270.0, 2290.0, 3010.0],
            [530.0, 1840.0, 2480.0],
            [660.0, 1720.0, 2410.0],
            [570.0, 840.0, 2410.0],
            [700.0, 1220.0, 2600.0],
        ];
        let mut samples = Vec::with_capacity(seconds * 8000);
        let (mut phase, mut kept, mut from) = (0.0, [[0.0_f64; 2]; 3], VOWELS[0]);
        while samples.len() < seconds * 8000 {
            let vowel = VOWELS[(random.next() % 6) as usize];
            let (pitch, glide) = (90.0 + 200.0 * random.unit(), random.unit() - 0.5);
            let (length, silent) = (800 + (random.next() % 2400) as usize, random.unit() < 0.2);
            for at in 0..length {
                let share = at as f64 / length as f64;
                phase += pitch * (1.0 + glide * share) / SAMPLE_RATE_HZ;
                let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
                phase -= phase.floor();
                let mut sound = pulse + 0.02 * (random.unit() - 0.5);
                // The last third of a syllable is as it shall sound; before, it comes from the last.
                let moved = (share * 1.5).min(1.0);
                for ((to, from), [one, two]) in vowel.iter().zip(from).zip(&mut kept) {
                    let hz = from + (to - from) * moved;
                    let radius = (-std::f64::consts::PI * 90.0 / SAMPLE_RATE_HZ).exp();
                    let around = 2.0 * radius * (TAU * hz / SAMPLE_RATE_HZ).cos();
                    let next =
                        sound * (1.0 - radius) * 4.0 + around * *one - radius * radius * *two;
                    (*two, *one) = (*one, next);
                    sound = next;
                }
                let swell = (std::f64::consts::PI * share).sin();
                samples.push(if silent { 0.0 } else { sound * swell });
            }
            from = vowel;
        }
        let peak = samples.iter().fold(0.0_f64, |peak, sample| peak.max(sample.abs()));
        samples.iter().map(|sample| (sample * 20_000.0 / peak) as i16).collect()
    }

    #[test]
    fn voices_and_noise_press_no_keys() {
        let mut random = Random::new(11);
        let voices = voice(900, &mut random);
        let loud = voices.iter().filter(|sample| sample.unsigned_abs() > 1000).count();
        assert!(loud > voices.len() / 50, "the voice is heard: {loud}");
        assert_eq!(presses(&voices), []);
        let noise: Vec<i16> = (0..8000 * 120).map(|_| (random.next() as i16) / 2).collect();
        assert_eq!(presses(&noise), []);
        // Music on hold and the tones of the network, too.
        let music = crate::Music::load(None).unwrap();
        let music = music.list(crate::MusicRef::default());
        let mut samples = vec![0; 8000 * 60];
        music.fill_linear(0, &mut samples);
        assert_eq!(presses(&samples), []);
        let ringback = crate::tones::Ringback::new();
        for country in crate::tones::Country::ALL {
            ringback.of(country).fill_linear(0, &mut samples);
            assert_eq!(presses(&samples), [], "{country:?}");
        }
    }

    #[test]
    fn keys_are_heard_behind_a_voice() {
        let mut random = Random::new(12);
        for _ in 0..20 {
            let mut samples = voice(2, &mut random);
            samples.extend(PAD.dial(ALL, &mut random));
            samples.extend(voice(1, &mut random));
            let keys: String = presses(&samples).iter().map(|press| press.digit).collect();
            assert_eq!(keys, ALL);
        }
    }
}
