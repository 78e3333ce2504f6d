//! When files that may change are read anew. Pure: what was found and when are inputs.

use std::time::{Duration, Instant};

use crate::limits;

/// `S` tells one content of the files from the next.
#[derive(Debug)]
pub struct Looks<S> {
    /// What was read last, of use or not.
    read: S,
    seen: S,
    /// Since when what was read is of no use.
    refused: Option<Instant>,
}

impl<S: Clone + PartialEq> Looks<S> {
    pub fn new(read: S) -> Self {
        Self { seen: read.clone(), read, refused: None }
    }

    /// Whether to read them now. They are several files: whoever replaces them does so one after the
    /// other, so that what has changed is read when it rests. What was of no use is tried
    /// again, for a certificate may become good with time.
    pub fn on_look(&mut self, found: S, asked: bool, now: Instant) -> bool {
        let rests = found == self.seen;
        self.seen.clone_from(&found);
        let again = Duration::from_secs(limits::SAID_AGAIN_S);
        let again = self.refused.is_some_and(|at| now.saturating_duration_since(at) >= again);
        let reads = asked || (rests && (again || found != self.read));
        if reads {
            self.read = found;
        }
        reads
    }

    pub fn on_read(&mut self, of_use: bool, now: Instant) {
        self.refused = (!of_use).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn files_are_read_when_they_have_changed_and_rest() {
        let (mut looks, now) = (Looks::new("a"), Instant::now());
        assert!(!looks.on_look("a", false, now));
        assert!(!looks.on_look("b", false, now));
        assert!(!looks.on_look("c", false, now), "somebody still writes");
        assert!(looks.on_look("c", false, now));
        looks.on_read(true, now);
        assert!(!looks.on_look("c", false, now + after(1_000 * limits::SAID_AGAIN_S)));
        assert!(looks.on_look("c", true, now), "asked");
        assert!(looks.on_look("d", true, now), "asked while somebody writes");
        // What changed between two looks is read though it was asked for before.
        assert!(!looks.on_look("e", false, now));
        assert!(looks.on_look("e", false, now));
    }

    #[test]
    fn files_of_no_use_are_tried_again_and_at_once_when_they_change() {
        let (mut looks, now) = (Looks::new("a"), Instant::now());
        let again = after(1_000 * limits::SAID_AGAIN_S);
        assert!(looks.on_look("b", true, now));
        looks.on_read(false, now);
        assert!(!looks.on_look("b", false, now + again / 2));
        assert!(looks.on_look("b", false, now + again));
        looks.on_read(false, now + again);
        assert!(!looks.on_look("b", false, now + again + again / 2));
        assert!(!looks.on_look("c", false, now + again + again / 2));
        assert!(looks.on_look("c", false, now + again + again / 2));
        looks.on_read(true, now + 2 * again);
        assert!(!looks.on_look("c", false, now + 4 * again));
    }
}
