//! Keys for a peer without telephone-event: what another leg tells as events is dialled to it in
//! tones (ITU-T Q.23), in the place of that leg's audio.

use std::f64::consts::TAU;

use crate::dtmf::KEYS;
use crate::limits::{
    DIAL_KEYS_MAX, DIAL_PAUSE_MS, DIAL_TONE_MS_MAX, DIAL_TONE_MS_MIN, DTMF_END_MS_MAX, PTIME_MS,
    SAMPLES_PER_MS, SAMPLES_PER_PACKET,
};

const SAMPLE_RATE_HZ: f64 = 8000.0;
const NS_PER_MS: u64 = 1_000_000;
const ROWS_HZ: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS_HZ: [f64; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
const PAD: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];
/// Of each tone: about −9 dBm0; the higher is 2 dB louder, for lines take more of it.
const ROW_LEVEL: f64 = 7000.0;
const COLUMN_LEVEL: f64 = 8800.0;

/// Keys that are being dialled, and those that follow.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    keys: [Option<Key>; DIAL_KEYS_MAX],
}

#[derive(Clone, Copy, Debug)]
struct Key {
    tones_hz: [f64; 2],
    /// Of its event: all packets of a key have it.
    timestamp: u32,
    lasts_ms: u32,
    ended: bool,
    seen_ns: u64,
    /// Milliseconds that were dialled, the pause behind it included.
    dialled_ms: u32,
}

impl Key {
    fn tone_ms(&self) -> u32 {
        self.lasts_ms.clamp(DIAL_TONE_MS_MIN, DIAL_TONE_MS_MAX)
    }

    /// The key is up, or nothing is heard of it any more.
    fn is_up(&self, now_ns: u64) -> bool {
        self.ended || now_ns.saturating_sub(self.seen_ns) > DTMF_END_MS_MAX * NS_PER_MS
    }
}

impl Dial {
    pub fn is_idle(&self) -> bool {
        self.keys[0].is_none()
    }

    /// An event packet of the leg that is heard, which was counted by a clock of so many kHz.
    pub fn on_event(&mut self, timestamp: u32, payload: &[u8], clock_khz: u32, now_ns: u64) {
        let &[event, flags, high, low, ..] = payload else { return };
        let Some(digit) = KEYS.get(usize::from(event)) else { return };
        let lasts_ms = u32::from(u16::from_be_bytes([high, low])) / clock_khz.max(1);
        let ended = flags & 0x80 != 0;
        if let Some(key) = self.keys.iter_mut().flatten().find(|key| key.timestamp == timestamp) {
            key.lasts_ms = key.lasts_ms.max(lasts_ms);
            key.ended |= ended;
            key.seen_ns = now_ns;
            return;
        }
        // The end is said three times: one that comes behind its key's time begins no other.
        let Some(place) = self.keys.iter_mut().find(|place| place.is_none()) else { return };
        if ended {
            return;
        }
        let row = PAD.iter().position(|row| row.contains(digit)).unwrap_or_default();
        let column = PAD[row].iter().position(|known| known == digit).unwrap_or_default();
        *place = Some(Key {
            tones_hz: [ROWS_HZ[row], COLUMNS_HZ[column]],
            timestamp,
            lasts_ms,
            ended,
            seen_ns: now_ns,
            dialled_ms: 0,
        });
    }

    /// The next 20 ms; none where nothing is dialled any more.
    pub fn piece(&mut self, now_ns: u64) -> Option<[i16; SAMPLES_PER_PACKET as usize]> {
        let key = self.keys[0].as_mut()?;
        let mut samples = [0; SAMPLES_PER_PACKET as usize];
        let sounds = key.dialled_ms < key.tone_ms()
            || !key.is_up(now_ns) && key.dialled_ms < DIAL_TONE_MS_MAX;
        if sounds {
            for (at, sample) in (key.dialled_ms * SAMPLES_PER_MS..).zip(&mut samples) {
                let wave = |hz: f64| (TAU * hz * f64::from(at) / SAMPLE_RATE_HZ).sin();
                let [row, column] = key.tones_hz.map(wave);
                *sample = (ROW_LEVEL * row + COLUMN_LEVEL * column) as i16;
            }
            key.lasts_ms = key.lasts_ms.max(key.dialled_ms + PTIME_MS);
        }
        key.dialled_ms += PTIME_MS;
        if !sounds && key.dialled_ms >= key.tone_ms() + DIAL_PAUSE_MS {
            self.keys.rotate_left(1);
            if let Some(last) = self.keys.last_mut() {
                *last = None;
            }
        }
        Some(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::Detector;

    const MS: u64 = NS_PER_MS;

    fn event(number: u8, ended: bool, samples: u16) -> [u8; 4] {
        let [high, low] = samples.to_be_bytes();
        [number, 10 | (u8::from(ended) << 7), high, low]
    }

    /// What is dialled until nothing is, with the keys that are heard in it.
    fn dialled(dial: &mut Dial, mut now_ns: u64) -> (usize, String) {
        let (mut detector, mut heard, mut pieces) = (Detector::default(), String::new(), 0);
        while let Some(piece) = dial.piece(now_ns) {
            detector.on_audio(&piece, now_ns, |press| heard.push(press.digit));
            now_ns += 20 * MS;
            pieces += 1;
            assert!(pieces < 10_000, "it ends");
        }
        heard.extend(detector.on_tick(now_ns + 300 * MS).map(|press| press.digit));
        (pieces, heard)
    }

    #[test]
    fn keys_are_dialled_one_after_another_and_heard_as_those() {
        let mut dial = Dial::default();
        for (key, at) in (0_u8..8).zip(1..) {
            for (lasts, ended) in [(160, false), (320, false), (640, true), (640, true)] {
                dial.on_event(at * 10_000, &event(key, ended, lasts), 8, 0);
            }
        }
        let (pieces, heard) = dialled(&mut dial, 0);
        assert_eq!(heard, "01234567");
        // 80 ms each and a pause.
        assert_eq!(pieces as u32, 8 * (80 + DIAL_PAUSE_MS) / PTIME_MS);
        assert!(dial.is_idle());
        // More at once than anybody presses.
        for at in 1..50 {
            dial.on_event(at * 10_000, &event(5, false, 160), 8, 0);
        }
        assert_eq!(dialled(&mut dial, 0).1.len(), DIAL_KEYS_MAX);
    }

    #[test]
    fn every_key_of_the_pad_is_dialled() {
        for (number, digit) in (0..).zip(KEYS) {
            let mut dial = Dial::default();
            dial.on_event(1, &event(number, false, 160), 8, 0);
            assert_eq!(dialled(&mut dial, 0).1, digit.to_string());
        }
    }

    #[test]
    fn key_sounds_as_long_as_it_is_held_and_no_longer_than_anybody_holds_one() {
        let mut dial = Dial::default();
        // At 48 kHz: its packets come while it is dialled.
        for at in 0..20_u16 {
            dial.on_event(1, &event(9, false, 960 * (at + 1)), 48, u64::from(at) * 20 * MS);
            assert!(dial.piece(u64::from(at) * 20 * MS).is_some());
        }
        dial.on_event(1, &event(9, true, 19_200), 48, 400 * MS);
        let (rest, _) = dialled(&mut dial, 400 * MS);
        assert_eq!(rest as u32, DIAL_PAUSE_MS / PTIME_MS, "400 ms were dialled");
        // One whose end is lost ends by silence.
        dial.on_event(2, &event(9, false, 160), 8, 0);
        let (pieces, heard) = dialled(&mut dial, 0);
        assert_eq!(heard, "9");
        assert!((10..15).contains(&pieces), "{pieces}");
        // The third end packet, behind all of it, is no other key.
        dial.on_event(1, &event(9, true, 19_200), 48, 900 * MS);
        assert!(dial.is_idle());
        for broken in [&[][..], &[5, 1], &[16, 10, 0, 160]] {
            dial.on_event(3, broken, 8, 0);
            assert!(dial.is_idle());
        }
    }
}
