//! Comfort noise (RFC 3389): what a recording has while a peer says that it is silent. Listeners
//! are sent nothing: their phones make up for it.

use crate::limits::{COMFORT_NOISE_PACKETS_MAX, SAMPLES_PER_PACKET};
use crate::random::Random;

/// Of the level that the peer gave, until its audio goes on.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    pub ssrc: u32,
    /// Of the next piece, by the clock of 8 kHz.
    pub timestamp: u32,
    amplitude: f64,
    pieces_left: u32,
}

impl Noise {
    /// From the moment of the packet on. The spectrum that may follow the level is not heeded: what is
    /// left of a pause is hiss of its loudness.
    pub fn new(payload: &[u8], ssrc: u32, timestamp: u32) -> Option<Self> {
        // −dBov (§3); of even noise the greatest sample is √3 times the mean power's root.
        let level = f64::from(payload.first()? & 0x7f);
        let amplitude = 3.0_f64.sqrt() * 32_768.0 * 10.0_f64.powf(-level / 20.0);
        Some(Self { ssrc, timestamp, amplitude, pieces_left: COMFORT_NOISE_PACKETS_MAX })
    }

    /// The next 20 ms; none where the peer has been silent for too long.
    pub fn piece(&mut self, random: &mut Random) -> Option<[i16; SAMPLES_PER_PACKET as usize]> {
        self.pieces_left = self.pieces_left.checked_sub(1)?;
        self.timestamp = self.timestamp.wrapping_add(SAMPLES_PER_PACKET);
        let mut samples = [0; SAMPLES_PER_PACKET as usize];
        for sample in &mut samples {
            *sample = ((2.0 * random.unit() - 1.0) * self.amplitude) as i16;
        }
        Some(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_as_loud_as_the_peer_says_and_ends() {
        for (level, expected) in [(20, 3276.8), (40, 327.7), (60, 32.8)] {
            let mut random = Random::new(9);
            // The spectrum behind the level is no matter.
            let mut noise = Noise::new(&[level, 3, 7], 1, 80).expect("a level");
            let samples: Vec<i16> =
                (0..50).flat_map(|_| noise.piece(&mut random).unwrap()).collect();
            let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
            let level = (power / samples.len() as f64).sqrt();
            assert!((level / expected - 1.0).abs() < 0.05, "{level} instead of {expected}");
            assert_eq!(noise.timestamp, 80 + 50 * 160);
            let pieces = std::iter::from_fn(|| noise.piece(&mut random)).count();
            assert_eq!(pieces as u32, COMFORT_NOISE_PACKETS_MAX - 50);
        }
        assert!(Noise::new(&[], 1, 0).is_none());
        let mut silent = Noise::new(&[127], 1, 0).expect("a level");
        assert_eq!(silent.piece(&mut Random::new(1)), Some([0; 160]));
    }
}
