//! Opus (RFC 6716) of telephone audio: made and read at 8 kHz, one channel, whatever its RTP clock.

use std::panic::{AssertUnwindSafe, catch_unwind};

use opus_rs::{Application, OpusDecoder, OpusEncoder};

use crate::limits::{OPUS_BYTES_MAX, OPUS_SAMPLES_MAX};

const HZ: i32 = 8000;
/// What narrow-band speech is coded with (RFC 6716 §2.1.1 has 8 to 12 kbit/s for it; music on hold
/// wants more).
const BITS_PER_SECOND: i32 = 24_000;
/// 0 to 10. More costs more than is heard of it at 8 kHz: `--example transcoding` measures it.
const COMPLEXITY: i32 = 2;
/// Samples of the frames that long packets are made of.
const FRAME_10_MS: usize = 80;
const FRAME_20_MS: usize = 160;
/// Frames that one call of the encoder takes: 2.5, 5, 10, 20, 40 and 60 ms.
const FRAMES: [usize; 6] = [20, 40, FRAME_10_MS, FRAME_20_MS, 320, 480];
/// Of a packet's first byte: how many frames there are (RFC 6716 §3.1).
const CODE: u8 = 3;
const MANY: u8 = 3;
const VARIABLE: u8 = 0x80;
/// A longer frame's length takes two bytes (§3.2.1). At our bit rate none is half as long.
const LENGTH_OF_ONE_BYTE_MAX: usize = 251;

pub struct Decoder {
    /// None where there is none to be had.
    inner: Option<OpusDecoder>,
    samples: [f32; OPUS_SAMPLES_MAX],
}

impl Decoder {
    pub fn new() -> Self {
        Self { inner: OpusDecoder::new(HZ, 1).ok(), samples: [0.0; OPUS_SAMPLES_MAX] }
    }

    /// How many samples the packet makes: none of one that can't be read.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> usize {
        let Self { inner: Some(inner), samples } = self else { return 0 };
        // A byte alone says that nothing was sent (DTX), and no packet lasts over 120 ms.
        if packet.len() < 2 {
            return 0;
        }
        // No packet is known that gets this far. If there is one, it costs its own call a
        // decoder, not the audio of all that this thread serves.
        let read =
            catch_unwind(AssertUnwindSafe(|| inner.decode(packet, OPUS_SAMPLES_MAX, samples)));
        let count = match read {
            Ok(read) => read.unwrap_or(0).min(out.len()).min(OPUS_SAMPLES_MAX),
            Err(_) => {
                self.inner = OpusDecoder::new(HZ, 1).ok();
                0
            }
        };
        for (to, sample) in out[..count].iter_mut().zip(&self.samples) {
            *to = (sample * 32_768.0) as i16;
        }
        count
    }
}

pub struct Encoder {
    inner: Option<OpusEncoder>,
    frame: [u8; OPUS_BYTES_MAX],
}

impl Encoder {
    pub fn new() -> Self {
        let inner = OpusEncoder::new(HZ, 1, Application::Voip).ok().map(|mut encoder| {
            encoder.bitrate_bps = BITS_PER_SECOND;
            encoder.complexity = COMPLEXITY;
            encoder
        });
        Self { inner, frame: [0; OPUS_BYTES_MAX] }
    }

    /// How many bytes the samples make; none where Opus has no packet of that length.
    pub fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> Option<usize> {
        if FRAMES.contains(&samples.len()) {
            return self.inner.as_mut()?.encode_i16(samples, samples.len(), out).ok();
        }
        let whole = |frame: &usize| samples.len().is_multiple_of(*frame);
        let frame = [FRAME_20_MS, FRAME_10_MS].into_iter().find(whole)?;
        if samples.is_empty() || samples.len() > OPUS_SAMPLES_MAX {
            return None;
        }
        self.pack(samples, frame, out)
    }

    /// A packet of several frames, each with its length (RFC 6716 §3.2.5, code 3).
    fn pack(&mut self, samples: &[i16], frame: usize, out: &mut [u8]) -> Option<usize> {
        let count = samples.len() / frame;
        // All lengths but the last go before the frames.
        let mut end = 1 + count;
        let mut kind = None;
        for (at, samples) in samples.chunks_exact(frame).enumerate() {
            let made = self.inner.as_mut()?.encode_i16(samples, frame, &mut self.frame).ok()?;
            let (first, data) = self.frame.get(..made)?.split_first()?;
            if first & CODE != 0 || kind.is_some_and(|kind| kind != *first) {
                return None;
            }
            kind = Some(*first);
            if data.len() > LENGTH_OF_ONE_BYTE_MAX {
                return None;
            }
            if at + 1 < count {
                *out.get_mut(2 + at)? = data.len() as u8;
            }
            out.get_mut(end..end + data.len())?.copy_from_slice(data);
            end += data.len();
        }
        *out.get_mut(0)? = kind? | MANY;
        *out.get_mut(1)? = VARIABLE | u8::try_from(count).ok()?;
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::PACKET_SAMPLES_MAX;
    use crate::tones::{self, Piece as _, share_at};

    #[test]
    fn packets_of_each_length_that_a_leg_of_g_711_may_send_are_made_and_read() {
        let tone = tones::sine(1000, 8000.0);
        for ms in [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 120] {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            let mut heard = Vec::new();
            for at in 0..20 {
                let (mut samples, mut packet) = (vec![0; ms * 8], [0; 1488]);
                tone.fill_linear((at * ms * 8) as u64, &mut samples);
                let bytes = encoder.encode(&samples, &mut packet).expect("a packet");
                let mut out = [0; PACKET_SAMPLES_MAX];
                assert_eq!(decoder.decode(&packet[..bytes], &mut out), ms * 8, "{ms} ms");
                heard.extend_from_slice(&out[..ms * 8]);
            }
            let share = share_at(&heard[heard.len() / 2..], 1000.0);
            assert!(share > 0.98, "{ms} ms: {share}");
        }
        for samples in [0, 1, 100, 1040, 1500] {
            assert_eq!(Encoder::new().encode(&vec![0; samples], &mut [0; 1488]), None, "{samples}");
        }
        let tight = Encoder::new().encode(&[900; 240], &mut [0; 12]);
        assert_eq!(tight, None, "no room for it");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Junk, and what a phone has made with some of its bytes spoiled.
        #[test]
        fn hostile_payloads_are_survived_and_bounded(
            junk in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 1..8),
            seed in any::<u64>(),
        ) {
            let mut decoder = OpusDecoder::new(HZ, 1).unwrap();
            let mut random = crate::random::Random::new(seed);
            let mut phone = OpusEncoder::new(48_000, 2, Application::Audio).unwrap();
            phone.bitrate_bps = 8_000 + (random.next() % 64_000) as i32;
            for mut packet in junk {
                if random.next().is_multiple_of(2) {
                    let samples: Vec<i16> = (0..1920).map(|_| random.next() as i16).collect();
                    packet.resize(1276, 0);
                    let bytes = phone.encode_i16(&samples, 960, &mut packet).unwrap();
                    packet.truncate(bytes);
                    for _ in 0..random.next() % 5 {
                        let at = (random.next() as usize) % bytes;
                        packet[at] = random.next() as u8;
                    }
                }
                // Without what would catch a panic.
                let mut out = [0.0; OPUS_SAMPLES_MAX];
                if let Ok(count) = decoder.decode(&packet, OPUS_SAMPLES_MAX, &mut out) {
                    prop_assert!(count <= OPUS_SAMPLES_MAX);
                    prop_assert!(out.iter().all(|sample| sample.is_finite()));
                }
            }
        }
    }
}
