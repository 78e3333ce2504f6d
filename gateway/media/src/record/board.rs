//! How far each recording is on this disk, and how far on the other box's: what the writer tells
//! and who copies asks.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::custody::Standing;
use super::wav::FRAMES_PER_MS;
use crate::limits::RECORDINGS_BEHIND_MAX;

const NS_PER_MS: u64 = 1_000_000;

/// A place in a recording: bytes of its manifest, and the frames that these vouch for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub bytes: u64,
    pub frames: u64,
}

/// One recording that the other box has not all of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub written: Place,
    /// What the other box has on its disk.
    pub kept: Place,
    pub sealed: bool,
    /// While it runs: when, by the monotonic clock, which frame was heard.
    heard: Option<(u64, u64)>,
}

impl Entry {
    /// It is being recorded here.
    pub fn is_running(&self) -> bool {
        self.heard.is_some()
    }

    /// Audio that was heard and is not on two disks, in milliseconds.
    fn tail_ms(&self, now_ns: u64) -> u64 {
        match self.heard {
            Some((at_ns, frame)) => {
                let since = now_ns.saturating_sub(at_ns) / NS_PER_MS;
                since.saturating_sub(self.kept.frames.saturating_sub(frame) / FRAMES_PER_MS)
            }
            None => self.written.frames.saturating_sub(self.kept.frames) / FRAMES_PER_MS,
        }
    }
}

/// Shared by the writer's thread and whoever copies.
#[derive(Debug)]
pub struct Board {
    books: Mutex<Books>,
    /// False where there is no other box.
    wanted: bool,
}

#[derive(Debug, Default)]
struct Books {
    entries: BTreeMap<u64, Entry>,
    /// The folder has more than there was room for.
    left_out: bool,
}

impl Board {
    pub fn new(wanted: bool) -> Self {
        Self { books: Mutex::default(), wanted }
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// A recording begins at `frame`, which was heard at `at_ns`; so much of it is there already.
    pub fn begin(&self, recording: u64, at_ns: u64, frame: u64, written: Place) {
        self.enter(recording, written, |entry| {
            entry.heard = Some((at_ns, frame));
            entry.sealed = false;
        });
    }

    /// One that lies in the folder, and may not lie in the other's.
    pub fn found(&self, recording: u64, written: Place, sealed: bool) {
        self.enter(recording, written, |entry| entry.sealed = sealed);
    }

    fn enter(&self, recording: u64, written: Place, change: impl FnOnce(&mut Entry)) {
        if !self.wanted {
            return;
        }
        let mut books = self.books.lock();
        let known = books.entries.contains_key(&recording);
        if !known && books.entries.len() >= RECORDINGS_BEHIND_MAX {
            books.left_out = true;
            return;
        }
        let kept = Place::default();
        let entry = books.entries.entry(recording);
        let entry = entry.or_insert(Entry { written, kept, sealed: false, heard: None });
        entry.written = written;
        change(entry);
    }

    pub fn wrote(&self, recording: u64, written: Place) {
        if let Some(entry) = self.books.lock().entries.get_mut(&recording) {
            entry.written = written;
        }
    }

    /// Nothing more is heard.
    pub fn end(&self, recording: u64, written: Place, sealed: bool) {
        self.enter(recording, written, |entry| {
            entry.sealed = sealed;
            entry.heard = None;
        });
    }

    /// How far it is here.
    pub fn standing(&self, recording: u64) -> Standing {
        let books = self.books.lock();
        let entry = books.entries.get(&recording);
        let standing = |of: &Entry| Standing { frames: of.written.frames, sealed: of.sealed };
        entry.map_or_else(Standing::default, standing)
    }

    pub fn is_running(&self, recording: u64) -> bool {
        self.books.lock().entries.get(&recording).is_some_and(Entry::is_running)
    }

    /// It is the other's to send, or lies here no more.
    pub fn forget(&self, recording: u64) {
        self.books.lock().entries.remove(&recording);
    }

    /// The other box has so much. The tail that this ended, in milliseconds; and whether that is all.
    pub fn kept(&self, recording: u64, kept: Place, now_ns: u64) -> (u64, bool) {
        let mut books = self.books.lock();
        let Some(entry) = books.entries.get_mut(&recording) else { return (0, false) };
        let tail_ms = entry.tail_ms(now_ns);
        entry.kept = kept;
        let whole = entry.sealed && entry.written.bytes == kept.bytes;
        if whole {
            books.entries.remove(&recording);
        }
        (tail_ms, whole)
    }

    /// Recordings of which more is written here than is known to be there.
    pub fn behind(&self) -> Vec<(u64, Entry)> {
        let books = self.books.lock();
        let behind = books.entries.iter().filter(|(_, entry)| entry.written != entry.kept);
        behind.map(|(recording, entry)| (*recording, *entry)).collect()
    }

    /// The longest tail of all, in milliseconds.
    pub fn unsafe_tail_ms(&self, now_ns: u64) -> u64 {
        self.books.lock().entries.values().map(|entry| entry.tail_ms(now_ns)).max().unwrap_or(0)
    }

    /// Whether the folder is to be looked through again, now that there is room.
    pub fn wants_more(&self) -> bool {
        let mut books = self.books.lock();
        let wants = books.left_out && books.entries.len() < RECORDINGS_BEHIND_MAX / 2;
        books.left_out &= !wants;
        wants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn place(bytes: u64, ms: u64) -> Place {
        Place { bytes, frames: ms * FRAMES_PER_MS }
    }

    #[test]
    fn tail_grows_while_it_is_heard_and_ends_where_the_other_box_is() {
        let board = Board::new(true);
        board.begin(1, 10 * SECOND, 0, place(80, 0));
        board.wrote(1, place(180, 1_000));
        assert_eq!(board.unsafe_tail_ms(11 * SECOND + SECOND / 2), 1_500);
        assert_eq!(board.kept(1, place(180, 1_000), 11 * SECOND + SECOND / 2), (1_500, false));
        assert_eq!(board.unsafe_tail_ms(11 * SECOND + SECOND / 2), 500);
        assert!(board.behind().is_empty());
        board.end(1, place(300, 1_500), true);
        // It is silent by now: the tail is what is written.
        assert_eq!(board.unsafe_tail_ms(60 * SECOND), 500);
        assert_eq!(board.kept(1, place(300, 1_500), 60 * SECOND), (500, true));
        assert_eq!(board.unsafe_tail_ms(60 * SECOND), 0);
    }

    #[test]
    fn resumed_recording_is_behind_by_what_was_heard_since() {
        let board = Board::new(true);
        board.begin(1, 10 * SECOND, 8_000 * 60, place(80, 20_000));
        assert_eq!(board.unsafe_tail_ms(11 * SECOND), 1_000);
        board.kept(1, place(80, 20_000), 11 * SECOND);
        assert_eq!(board.unsafe_tail_ms(11 * SECOND), 1_000);
    }

    #[test]
    fn folder_is_looked_through_again_when_there_was_no_room() {
        let board = Board::new(true);
        for recording in 0..=RECORDINGS_BEHIND_MAX as u64 {
            board.found(recording, place(80, 0), true);
        }
        assert!(!board.wants_more());
        for recording in 0..RECORDINGS_BEHIND_MAX as u64 {
            board.kept(recording, place(80, 0), 0);
        }
        assert!(board.wants_more());
        assert!(!board.wants_more());
    }

    #[test]
    fn nothing_is_kept_in_mind_where_there_is_no_other_box() {
        let board = Board::new(false);
        board.begin(1, 0, 0, place(80, 0));
        assert_eq!((board.behind().len(), board.unsafe_tail_ms(SECOND)), (0, 0));
    }
}
