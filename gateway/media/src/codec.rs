//! Codecs at work: samples of 8 kHz to and from payloads, with what each keeps between packets.
//!
//! Telephony's 8 kHz is what everything here meets at: music, recordings, the detector of keys. Two
//! legs of one codec don't come here; their payloads are passed on as they are. G.729 never does: it
//! is silent here, and whoever plans sees to it that nobody has to hear it.

use std::f32::consts::PI;

use audio_codec::g722::{Bitrate, G722Decoder, G722Encoder};
use audio_codec::{Decoder as _, Encoder as _, pcma, pcmu};
use tandem_sip::sdp::Codec;

use crate::g711::{self, Law};
use crate::limits::{PACKET_SAMPLES_MAX, SAMPLES_PER_MS};
use crate::opus;

/// What turns a leg's payloads into samples.
pub enum Decoder {
    Law(&'static [i16; 256]),
    G722(Box<G722Decoder>),
    Opus(Box<opus::Decoder>),
    Deaf,
}

impl Decoder {
    pub fn new(codec: Codec) -> Self {
        match codec {
            Codec::Pcmu => Self::Law(g711::linear(Law::Mu)),
            Codec::Pcma => Self::Law(g711::linear(Law::A)),
            // Its lower band alone is the 8 kHz that we want.
            Codec::G722 => {
                let narrow = G722Decoder::with_options(Bitrate::Mode1_64000, false, true);
                Self::G722(Box::new(narrow))
            }
            Codec::Opus => Self::Opus(Box::new(opus::Decoder::new())),
            Codec::G729 => Self::Deaf,
        }
    }

    /// How many samples the payload makes; what is more than `out` holds is left out.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> usize {
        let cut = &payload[..payload.len().min(out.len())];
        match self {
            Self::Law(linear) => {
                for (to, code) in out.iter_mut().zip(cut) {
                    *to = linear[usize::from(*code)];
                }
                cut.len()
            }
            Self::G722(decoder) => decoder.decode_into(cut, out).unwrap_or(0),
            Self::Opus(decoder) => decoder.decode(payload, out),
            Self::Deaf => 0,
        }
    }
}

/// What makes a leg's payloads of samples.
pub enum Encoder {
    Pcmu,
    Pcma,
    G722(Box<Wide>),
    Opus(Box<opus::Encoder>),
    Dumb,
}

impl Encoder {
    pub fn new(codec: Codec) -> Self {
        match codec {
            Codec::Pcmu => Self::Pcmu,
            Codec::Pcma => Self::Pcma,
            Codec::G722 => Self::G722(Box::new(Wide::new())),
            Codec::Opus => Self::Opus(Box::new(opus::Encoder::new())),
            Codec::G729 => Self::Dumb,
        }
    }

    /// How many bytes the samples make; none where the codec can't take so many at once.
    pub fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> Option<usize> {
        let done = match self {
            Self::Pcmu => pcmu::PcmuEncoder::new().encode_into(samples, out),
            Self::Pcma => pcma::PcmaEncoder::new().encode_into(samples, out),
            Self::G722(wide) => return wide.encode(samples, out),
            Self::Opus(encoder) => return encoder.encode(samples, out),
            Self::Dumb => return None,
        };
        done.ok()
    }
}

/// A leg's codec at work, both ways. What only passes by needs neither, and they are large.
pub struct Voice {
    codec: Codec,
    decoder: Option<Decoder>,
    encoder: Option<Encoder>,
}

impl Voice {
    pub fn new(codec: Codec) -> Self {
        Self { codec, decoder: None, encoder: None }
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether what a leg of the other codec sends must become samples on its way to this one.
    pub fn needs_samples_of(&self, other: Codec) -> bool {
        self.codec != other && (Law::of(self.codec).is_none() || Law::of(other).is_none())
    }

    /// The samples of a received payload, in the order sent.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> usize {
        self.decoder.get_or_insert_with(|| Decoder::new(self.codec)).decode(payload, out)
    }

    /// The payload that samples make.
    pub fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> Option<usize> {
        self.encoder.get_or_insert_with(|| Encoder::new(self.codec)).encode(samples, out)
    }

    /// What is sent of a payload of another leg's codec: itself, its code in the other law, or what
    /// its samples make. None where it can't be had.
    pub fn put(
        &mut self,
        from: Codec,
        payload: &[u8],
        samples: &[i16],
        out: &mut [u8],
    ) -> Option<usize> {
        if self.needs_samples_of(from) {
            return if samples.is_empty() { None } else { self.encode(samples, out) };
        }
        let out = out.get_mut(..payload.len())?;
        let laws = Law::of(from).zip(Law::of(self.codec));
        match laws.and_then(|(from, to)| g711::transcode(from, to)) {
            Some(table) => {
                for (to, from) in out.iter_mut().zip(payload) {
                    *to = table[usize::from(*from)];
                }
            }
            None => out.copy_from_slice(payload),
        }
        Some(payload.len())
    }
}

/// G.722 of telephone audio: its encoder wants 16 kHz.
pub struct Wide {
    encoder: G722Encoder,
    doubler: Doubler,
    wide: [i16; 2 * PACKET_SAMPLES_MAX],
}

impl Wide {
    fn new() -> Self {
        Self {
            encoder: G722Encoder::new(),
            doubler: Doubler::new(),
            wide: [0; 2 * PACKET_SAMPLES_MAX],
        }
    }

    fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> Option<usize> {
        let wide = self.wide.get_mut(..2 * samples.len())?;
        for (sample, pair) in samples.iter().zip(wide.chunks_exact_mut(2)) {
            pair.copy_from_slice(&self.doubler.double(*sample));
        }
        self.encoder.encode_into(wide, out).ok()
    }
}

/// On each side of the instant between two samples.
const TAPS: usize = 8;

/// 8 kHz to 16 kHz: between two samples comes what a band-limited signal has there.
struct Doubler {
    weights: [f32; TAPS],
    /// The newest last.
    kept: [f32; 2 * TAPS],
}

impl Doubler {
    fn new() -> Self {
        let mut weights = [0.0; TAPS];
        for (at, weight) in (0_u8..).zip(&mut weights) {
            let x = f32::from(at) + 0.5;
            let window = (PI * x / (2.0 * TAPS as f32)).cos();
            *weight = (PI * x).sin() / (PI * x) * window * window;
        }
        // Both sides together weigh one.
        let sum: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= 2.0 * sum);
        Self { weights, kept: [0.0; 2 * TAPS] }
    }

    /// A sample of a millisecond ago, and what comes behind it.
    fn double(&mut self, sample: i16) -> [i16; 2] {
        self.kept.copy_within(1.., 0);
        self.kept[2 * TAPS - 1] = f32::from(sample);
        let mut between = 0.0;
        for (at, weight) in self.weights.iter().enumerate() {
            between += weight * (self.kept[TAPS - 1 - at] + self.kept[TAPS + at]);
        }
        [self.kept[TAPS - 1] as i16, between as i16]
    }
}

const _: () = assert!(TAPS == SAMPLES_PER_MS as usize, "a millisecond of delay, as is said above");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tones::{self, Piece as _, share_at};

    /// A second of a tone through encoder and decoder, in packets.
    fn through(codec: Codec, hz: u32, packet: usize) -> Vec<i16> {
        let tone = tones::sine(hz, 8000.0);
        let mut samples = vec![0; 8000];
        tone.fill_linear(0, &mut samples);
        let (mut encoder, mut decoder) = (Encoder::new(codec), Decoder::new(codec));
        let mut heard = Vec::new();
        for samples in samples.chunks_exact(packet) {
            let (mut payload, mut back) = ([0; 1500], [0; PACKET_SAMPLES_MAX]);
            let bytes = encoder.encode(samples, &mut payload).expect("a packet");
            let count = decoder.decode(&payload[..bytes], &mut back);
            assert_eq!(count, packet, "{codec:?}");
            heard.extend_from_slice(&back[..count]);
        }
        heard
    }

    #[test]
    fn tones_pass_through_each_codec_at_their_level() {
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
            for hz in [350, 1000, 2000, 3000] {
                let heard = &through(codec, hz, 160)[800..];
                let share = share_at(heard, f64::from(hz));
                assert!(share > 0.98, "{codec:?} {hz} Hz: {share}");
                let power = heard.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
                let level = (2.0 * power / heard.len() as f64).sqrt();
                assert!((6800.0..9000.0).contains(&level), "{codec:?} {hz} Hz: {level}");
            }
        }
    }

    #[test]
    fn packets_of_any_length_are_taken() {
        for packet in [80, 160, 240, 480, 800] {
            let heard = through(Codec::G722, 1000, packet);
            assert!(share_at(&heard[800..], 1000.0) > 0.98, "{packet}");
        }
    }

    #[test]
    fn payloads_of_noise_are_survived_and_bounded() {
        let mut random = crate::random::Random::new(5);
        let noise: Vec<u8> = (0..1500).map(|_| random.next() as u8).collect();
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus, Codec::G729] {
            let mut decoder = Decoder::new(codec);
            let mut out = [0; PACKET_SAMPLES_MAX];
            for cut in [0, 1, 7, 160, PACKET_SAMPLES_MAX, 1500] {
                let count = decoder.decode(&noise[..cut], &mut out);
                // A byte of Opus may stand for far more than one sample.
                let most = if codec == Codec::Opus { PACKET_SAMPLES_MAX } else { cut };
                assert!(count <= most.min(PACKET_SAMPLES_MAX), "{codec:?}");
            }
        }
    }

    #[test]
    fn g_729_is_passed_on_and_neither_read_nor_made() {
        let (mut voice, mut out) = (Voice::new(Codec::G729), [0; 1500]);
        assert_eq!(voice.put(Codec::G729, &[1, 2, 3], &[], &mut out), Some(3));
        assert_eq!(voice.decode(&[0; 20], &mut [0; 160]), 0);
        assert_eq!(voice.encode(&[0; 160], &mut out), None);
        assert_eq!(voice.put(Codec::Pcma, &[1; 160], &[5; 160], &mut out), None);
    }

    #[test]
    fn payload_is_passed_on_mapped_or_made_anew() {
        let mut out = [0; 1500];
        let mut voice = Voice::new(Codec::G722);
        assert_eq!(voice.put(Codec::G722, &[1, 2, 3], &[], &mut out), Some(3));
        assert_eq!(out[..3], [1, 2, 3]);
        assert_eq!(voice.put(Codec::Pcma, &[1, 2, 3], &[], &mut out), None, "no samples");
        assert_eq!(voice.put(Codec::Pcma, &[1, 2], &[5, 6], &mut out), Some(2));
        let mut voice = Voice::new(Codec::Pcmu);
        assert_eq!(voice.put(Codec::Pcma, &[0xd5], &[], &mut out), Some(1));
        assert_eq!(Some(out[0]), g711::transcode(Law::A, Law::Mu).map(|table| table[0xd5]));
    }
}
