//! telephone-event (RFC 4733 §2.3): many packets of one key press are told once.

use crate::limits::DTMF_END_MS_MAX;

const NS_PER_MS: u64 = 1_000_000;
pub const KEYS: [char; 16] =
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
    pub fn on_packet(
        &mut self,
        timestamp: u32,
        payload: &[u8],
        clock_khz: u32,
        now_ns: u64,
    ) -> [Option<Press>; 2] {
        let &[event, flags, high, low, ..] = payload else { return [None; 2] };
        let Some(digit) = KEYS.get(usize::from(event)) else { return [None; 2] };
        let samples = u32::from(u16::from_be_bytes([high, low]));
        let press = Press { digit: *digit, duration_ms: samples / clock_khz };
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

/// The same event counted by another clock; what is too long for its field is as long as that can
/// say (RFC 4733 §2.3.5).
pub fn to_clock(payload: &mut [u8], from_khz: u32, to_khz: u32) {
    let [_, _, high, low, ..] = payload else { return };
    let lasts = u32::from(u16::from_be_bytes([*high, *low]));
    let lasts = u16::try_from(lasts * to_khz / from_khz.max(1)).unwrap_or(u16::MAX);
    [*high, *low] = lasts.to_be_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_lasts_as_long_by_another_clock() {
        for (from, lasts, to, expected) in
            [(8, 800_u16, 48, 4_800_u16), (48, 4_800, 8, 800), (8, 60_000, 48, u16::MAX)]
        {
            let [high, low] = lasts.to_be_bytes();
            let mut payload = [5, 0x8a, high, low];
            to_clock(&mut payload, from, to);
            assert_eq!(payload[..2], [5, 0x8a]);
            assert_eq!(u16::from_be_bytes([payload[2], payload[3]]), expected);
            let [_, told] = Keypad::default().on_packet(7, &payload, to, 0);
            let ms = u32::from(expected) / to;
            assert_eq!(told, Some(Press { digit: '5', duration_ms: ms }));
        }
        to_clock(&mut [5, 1], 8, 48);
    }
}
