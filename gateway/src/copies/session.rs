//! What one session of the sender knows of the other box: without time or disk, so that every order of answers
//! can be tried.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use tandem_media::record::board::Entry;

use crate::limits;

/// Where one recording's copy is, as far as this session knows.
#[derive(Debug)]
pub(super) enum Copy {
    /// The other was asked how far it is.
    Asked,
    /// It has been sent up to `sent`; the ends of what it has not said to have yet.
    Sending { sent: u64, under_way: VecDeque<u64> },
    /// It was refused: nothing until then.
    Refused { until: Instant },
}

/// What the other box is known to have, and what is under way to it.
#[derive(Debug, Default)]
pub(super) struct Session {
    copies: BTreeMap<u64, Copy>,
    asked: usize,
    under_way: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Ask,
    /// Lines from the first place to the second.
    Send {
        from: u64,
        to: u64,
    },
}

impl Session {
    /// What is to be done for a recording of which the board says that there is more.
    pub(super) fn next(&mut self, recording: u64, entry: &Entry, now: Instant) -> Option<Next> {
        match self.copies.get(&recording) {
            None => {}
            Some(Copy::Refused { until }) if *until <= now => {}
            Some(Copy::Refused { .. } | Copy::Asked) => return None,
            Some(Copy::Sending { sent, .. }) => {
                let (from, to) = (*sent, entry.written.bytes);
                let room = self.under_way < limits::COPY_ITEMS_UNDER_WAY_MAX;
                return (from < to && room).then_some(Next::Send { from, to });
            }
        }
        if self.asked >= limits::COPY_ASKED_MAX {
            return None;
        }
        self.copies.insert(recording, Copy::Asked);
        self.asked += 1;
        Some(Next::Ask)
    }

    /// The other goes on from there.
    pub(super) fn on_have(&mut self, recording: u64, bytes: u64) {
        self.forget(recording);
        let under_way = VecDeque::new();
        self.copies.insert(recording, Copy::Sending { sent: bytes, under_way });
    }

    /// A line was sent. False where it is no longer wanted: its copy was refused meanwhile.
    pub(super) fn on_sent(&mut self, recording: u64, at: u64, end: u64) -> bool {
        match self.copies.get_mut(&recording) {
            Some(Copy::Sending { sent, under_way }) if *sent == at => {
                *sent = end;
                under_way.push_back(end);
                self.under_way += 1;
                true
            }
            Some(Copy::Sending { .. } | Copy::Asked | Copy::Refused { .. }) | None => false,
        }
    }

    pub(super) fn on_kept(&mut self, recording: u64, bytes: u64) {
        if let Some(Copy::Sending { under_way, .. }) = self.copies.get_mut(&recording) {
            let before = under_way.len();
            under_way.retain(|end| *end > bytes);
            self.under_way -= before - under_way.len();
        }
    }

    pub(super) fn on_refused(&mut self, recording: u64, until: Instant) {
        self.forget(recording);
        self.copies.insert(recording, Copy::Refused { until });
    }

    /// All of it is there.
    pub(super) fn forget(&mut self, recording: u64) {
        match self.copies.remove(&recording) {
            Some(Copy::Sending { under_way, .. }) => self.under_way -= under_way.len(),
            Some(Copy::Asked) => self.asked -= 1,
            Some(Copy::Refused { .. }) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tandem_media::record::board::{Board, Place};

    use super::*;

    fn again() -> Duration {
        Duration::from_millis(limits::COPY_AGAIN_MS)
    }

    fn entry(bytes: u64) -> Entry {
        let board = Board::new(true);
        board.found(1, Place { bytes, frames: 0 }, false);
        board.behind()[0].1
    }

    #[test]
    fn recording_is_asked_for_once_and_goes_on_where_the_other_is() {
        let (mut session, now) = (Session::default(), Instant::now());
        assert_eq!(session.next(1, &entry(500), now), Some(Next::Ask));
        assert_eq!(session.next(1, &entry(500), now), None);
        session.on_have(1, 200);
        assert_eq!(session.next(1, &entry(500), now), Some(Next::Send { from: 200, to: 500 }));
        assert!(session.on_sent(1, 200, 350));
        // Sent twice by mistake: the other would refuse it.
        assert!(!session.on_sent(1, 200, 350));
        assert_eq!(session.next(1, &entry(500), now), Some(Next::Send { from: 350, to: 500 }));
    }

    #[test]
    fn what_is_under_way_is_bounded_and_kept_makes_room() {
        let (mut session, now) = (Session::default(), Instant::now());
        session.on_have(1, 0);
        let most = limits::COPY_ITEMS_UNDER_WAY_MAX as u64;
        for at in 0..most {
            assert!(session.on_sent(1, at, at + 1));
        }
        assert_eq!(session.next(1, &entry(9 * most), now), None);
        session.on_kept(1, most / 2);
        let next = Next::Send { from: most, to: 9 * most };
        assert_eq!(session.next(1, &entry(9 * most), now), Some(next));
    }

    #[test]
    fn questions_are_bounded_and_an_answer_makes_room() {
        let (mut session, now) = (Session::default(), Instant::now());
        let most = limits::COPY_ASKED_MAX as u64;
        for recording in 0..most {
            assert_eq!(session.next(recording, &entry(500), now), Some(Next::Ask));
        }
        assert_eq!(session.next(most, &entry(500), now), None);
        session.on_have(3, 0);
        assert_eq!(session.next(most, &entry(500), now), Some(Next::Ask));
    }

    #[test]
    fn refused_copy_is_asked_for_again_later_and_frees_its_room() {
        let (mut session, now) = (Session::default(), Instant::now());
        session.on_have(1, 0);
        assert!(session.on_sent(1, 0, 10));
        session.on_refused(1, now + again());
        assert_eq!(session.under_way, 0);
        // A line that was read meanwhile.
        assert!(!session.on_sent(1, 10, 20));
        assert_eq!(session.next(1, &entry(20), now), None);
        assert_eq!(session.next(1, &entry(20), now + again()), Some(Next::Ask));
    }
}
