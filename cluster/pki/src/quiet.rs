//! What is said again and again is said once a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits;

#[derive(Debug, Default)]
pub struct Quiet {
    /// In the order in which they were said.
    said: VecDeque<(String, Instant)>,
}

impl Quiet {
    /// Whether it is to be said now.
    pub fn says(&mut self, what: &str, now: Instant) -> bool {
        let pause = Duration::from_secs(limits::SAID_AGAIN_S);
        self.said.retain(|(_, at)| now.saturating_duration_since(*at) < pause);
        if self.said.iter().any(|(known, _)| known == what) {
            return false;
        }
        if self.said.len() == limits::SAID_MAX {
            self.said.pop_front();
        }
        self.said.push_back((what.to_owned(), now));
        true
    }

    #[cfg(test)]
    pub fn said(&self) -> Vec<String> {
        self.said.iter().map(|(what, _)| what.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_said_again_after_the_pause_and_others_at_once() {
        let (mut quiet, now) = (Quiet::default(), Instant::now());
        assert!(quiet.says("a", now) && quiet.says("b", now));
        let pause = Duration::from_secs(limits::SAID_AGAIN_S);
        assert!(!quiet.says("a", now + pause / 2));
        assert!(quiet.says("a", now + pause));
        for n in 0..2 * limits::SAID_MAX {
            assert!(quiet.says(&n.to_string(), now + pause));
        }
        assert_eq!(quiet.said.len(), limits::SAID_MAX);
    }
}
