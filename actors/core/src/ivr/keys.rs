//! Keys that a caller presses, in the order in which they were pressed: what reports them may
//! commit out of order and comes again to each new leader.

use std::fmt;

use crate::limits;

/// A key of a telephone (RFC 4733 §2.3.1): `0`–`9`, `*`, `#`, `A`–`D`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digit(char);

impl Digit {
    pub fn new(key: char) -> Option<Self> {
        matches!(key, '0'..='9' | '*' | '#' | 'A'..='D').then_some(Self(key))
    }

    pub fn as_char(self) -> char {
        self.0
    }
}

impl fmt::Display for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How keys come. A phone may send each of them both ways: the way of its first key counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// telephone-event in RTP (RFC 4733).
    Rtp,
    /// SIP INFO (RFC 6086).
    Info,
}

/// Which of a caller's keys have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pub way: Option<Way>,
    /// The gateway's life that numbers them, from 1.
    pub life: u64,
    /// All up to this one have counted, or are lost.
    pub counted: u64,
    /// Those that came before an earlier one, by number.
    pub early: Vec<(u64, Digit)>,
}

impl Keys {
    /// A key of the RTP stream; those that count now, in order.
    pub fn on_pressed(&mut self, life: u64, number: u64, digit: Digit) -> Vec<Digit> {
        if *self.way.get_or_insert(Way::Rtp) != Way::Rtp || life < self.life {
            return Vec::new();
        }
        let mut now = Vec::new();
        if life > self.life {
            // What is missing of the last life went with it.
            now = self.give_up_waiting();
            (self.life, self.counted) = (life, 0);
        }
        let place = self.early.partition_point(|(early, _)| *early < number);
        let known = self.early.get(place).is_some_and(|(early, _)| *early == number);
        if number <= self.counted || known {
            return now;
        }
        self.early.insert(place, (number, digit));
        if self.early.len() > limits::DIGITS_EARLY_MAX {
            now.extend(self.give_up_waiting());
        }
        while self.early.first().is_some_and(|(next, _)| *next == self.counted + 1) {
            let (number, digit) = self.early.remove(0);
            self.counted = number;
            now.push(digit);
        }
        now
    }

    /// A key of an INFO, which its dialog has put in order (RFC 3261 §12.2.2).
    pub fn on_info(&mut self, digit: Digit) -> Option<Digit> {
        (*self.way.get_or_insert(Way::Info) == Way::Info).then_some(digit)
    }

    /// What is missing is taken for lost: those behind it count.
    pub fn give_up_waiting(&mut self) -> Vec<Digit> {
        let waiting = std::mem::take(&mut self.early);
        if let Some((last, _)) = waiting.last() {
            self.counted = *last;
        }
        waiting.into_iter().map(|(_, digit)| digit).collect()
    }
}
