//! telephone-event (RFC 4733 §2.3): many packets of one key press are told once.

use crate::limits::{DTMF_END_MS_MAX, SAMPLES_PER_MS};

const NS_PER_MS: u64 = 1_000_000;
const KEYS: [char; 16] =
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    pub digit: char,
    pub duration_ms: u32,
}

/// The key that is down at one peer, or was last.
#[derive(Clone, Debug, Default)]
pub struct Keypad {
    current: Option<Current>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    timestamp: u32,
    press: Press,
    told: bool,
    seen_ns: u64,
}

impl Keypad {
    /// What is to be told now that this packet is here: at most the key before, whose end was
    /// lost, and this one.
    pub fn on_packet(&mut self, timestamp: u32, payload: &[u8], now_ns: u64) -> [Option<Press>; 2] {
        let &[event, flags, high, low, ..] = payload else { return [None; 2] };
        let Some(digit) = KEYS.get(usize::from(event)) else { return [None; 2] };
        let samples = u32::from(u16::from_be_bytes([high, low]));
        let press = Press { digit: *digit, duration_ms: samples / SAMPLES_PER_MS };
        let ended = flags & 0x80 != 0;
        match &mut self.current {
            Some(current) if current.timestamp == timestamp => {
                current.press.duration_ms = current.press.duration_ms.max(press.duration_ms);
                current.seen_ns = now_ns;
                let tell = ended && !current.told;
                current.told |= ended;
                [None, tell.then_some(current.press)]
            }
            // Behind the key that is down: an old packet that was late.
            Some(current) if timestamp.wrapping_sub(current.timestamp) >= 1 << 31 => [None; 2],
            Some(_) | None => {
                let before = self.current.filter(|current| !current.told).map(|c| c.press);
                self.current = Some(Current { timestamp, press, told: ended, seen_ns: now_ns });
                [before, ended.then_some(press)]
            }
        }
    }

    /// A key whose end packets were all lost ends by silence.
    pub fn on_tick(&mut self, now_ns: u64) -> Option<Press> {
        let current = self.current.as_mut()?;
        let silent = now_ns.saturating_sub(current.seen_ns) > DTMF_END_MS_MAX * NS_PER_MS;
        (silent && !current.told).then(|| {
            current.told = true;
            current.press
        })
    }
}
