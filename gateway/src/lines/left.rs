//! Lines that this process serves no more, or could not serve. Pure, time is an input.

use std::collections::BTreeMap;

use crate::limits::{UNABLE_MS_FIRST, UNABLE_MS_MAX};

/// Lives of lines that were served here and may still be said to be this process's.
#[derive(Debug, Default)]
pub struct Left(BTreeMap<String, Life>);

#[derive(Debug)]
struct Life {
    life: u64,
    /// Nothing of it is here any more: it is given back. Before, its address is.
    gone: bool,
}

impl Left {
    pub fn is_leaving(&mut self, line: &str, life: u64) {
        self.0.insert(line.to_owned(), Life { life, gone: false });
    }

    pub fn is_gone(&mut self, line: &str, life: u64) {
        if self.0.get(line).is_none_or(|known| known.life <= life) {
            self.0.insert(line.to_owned(), Life { life, gone: true });
        }
    }

    /// It is known that this process has it no more.
    pub fn forget(&mut self, line: &str) {
        self.0.remove(line);
    }

    pub fn has(&self, line: &str, life: u64) -> bool {
        self.0.get(line).is_some_and(|known| known.life == life)
    }

    /// What is given back: each line with its life.
    pub fn given_back(&self) -> impl Iterator<Item = (&str, u64)> {
        let gone = self.0.iter().filter(|(_, life)| life.gone);
        gone.map(|(line, life)| (line.as_str(), life.life))
    }
}

/// Lines that could not be served here of late.
#[derive(Debug, Default)]
pub struct Unable(BTreeMap<String, Since>);

#[derive(Debug)]
struct Since {
    until_ms: u64,
    pause_ms: u64,
}

impl Unable {
    pub fn failed(&mut self, line: &str, now_ms: u64) {
        let before = self.0.get(line).map(|since| since.pause_ms.saturating_mul(2));
        let pause_ms = before.map_or(UNABLE_MS_FIRST, |pause_ms| pause_ms.min(UNABLE_MS_MAX));
        self.0.insert(line.to_owned(), Since { until_ms: now_ms + pause_ms, pause_ms });
    }

    pub fn served(&mut self, line: &str) {
        self.0.remove(line);
    }

    pub fn at(&self, now_ms: u64) -> impl Iterator<Item = &String> {
        self.0.iter().filter(move |(_, since)| now_ms < since.until_ms).map(|(line, _)| line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_given_back_when_nothing_of_it_is_here_and_not_before() {
        let mut left = Left::default();
        left.is_leaving("a", 7);
        assert!(left.has("a", 7) && !left.has("a", 8));
        assert_eq!(left.given_back().count(), 0);
        left.is_gone("a", 7);
        assert_eq!(left.given_back().collect::<Vec<_>>(), [("a", 7)]);
        // The end of an earlier life says nothing of a later one.
        left.is_leaving("a", 9);
        left.is_gone("a", 7);
        assert_eq!(left.given_back().count(), 0);
        left.forget("a");
        assert!(!left.has("a", 9));
    }

    #[test]
    fn line_that_fails_again_is_left_to_others_for_longer() {
        let mut unable = Unable::default();
        let mut now = 0;
        for pause in [1_000, 2_000, 4_000] {
            unable.failed("a", now);
            assert_eq!(unable.at(now + pause - 1).collect::<Vec<_>>(), ["a"]);
            assert_eq!(unable.at(now + pause).count(), 0);
            now += pause;
        }
        for _ in 0..20 {
            unable.failed("a", now);
        }
        assert_eq!(unable.at(now + UNABLE_MS_MAX).count(), 0);
        assert_eq!(unable.at(now + UNABLE_MS_MAX - 1).count(), 1);
        unable.served("a");
        unable.failed("a", now);
        assert_eq!(unable.at(now + UNABLE_MS_FIRST).count(), 0);
    }
}
