//! What happened, as a hash that two runs of a seed share, and as a story for people.

use crate::digest::Digest;

/// Lines of a story beyond this are counted, not kept.
const LINES_MAX: usize = 200_000;

#[derive(Debug, Default)]
pub struct Trace {
    digest: Digest,
    told: bool,
    lines: Vec<Line>,
    left_out: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at_ms: u64,
    pub who: String,
    pub what: String,
}

impl Trace {
    /// With a story, or without: the hash is the same.
    pub fn new(told: bool) -> Self {
        Self { told, ..Self::default() }
    }

    pub fn is_told(&self) -> bool {
        self.told
    }

    pub fn note(&mut self, at_ms: u64, kind: u8, what: u64) {
        self.digest.number(at_ms << 8 | u64::from(kind));
        self.digest.number(what);
    }

    pub fn tell(&mut self, at_ms: u64, line: impl FnOnce() -> (String, String)) {
        if !self.told {
            return;
        }
        if self.lines.len() >= LINES_MAX {
            self.left_out += 1;
            return;
        }
        let (who, what) = line();
        self.lines.push(Line { at_ms, who, what });
    }

    pub fn hash(&self) -> u64 {
        self.digest.value()
    }

    pub fn take_lines(&mut self) -> (Vec<Line>, usize) {
        (std::mem::take(&mut self.lines), std::mem::take(&mut self.left_out))
    }
}
