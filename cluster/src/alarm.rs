//! An alarm that may stay for long.

use std::time::{Duration, Instant};

/// It is repeated this seldom.
const EVERY: Duration = Duration::from_secs(60);

/// When it was raised last.
#[derive(Debug, Default)]
pub struct Alarm {
    last: Option<Instant>,
}

impl Alarm {
    /// At first, and then seldom.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarm_is_raised_at_once_and_then_seldom() {
        let (mut alarm, now) = (Alarm::default(), Instant::now());
        assert!(alarm.is_due(now));
        assert!(!alarm.is_due(now + EVERY / 2));
        assert!(alarm.is_due(now + EVERY));
        assert!(!alarm.is_due(now + EVERY * 3 / 2));
    }
}
