//! Who has a recording on this box: the writer, that records it, or the keeper, to whom another box sends
//! it. A process that takes over a dead one's calls goes on with its own copy of their recordings; the dead
//! one, when it is back, has no more than the beginning of what goes on elsewhere.
//!
//! So files move between two folders, whole and under a lock: from the copies to the recordings where one
//! goes on here, and back where another box goes on. Who has more goes on: [`Standing::judge`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::board::Board;
use super::copies::{self, Copies, Error, Have, Synced};
use super::manifest::{self, Manifest, copied_path, manifest_path, mend, move_files};
use super::marks::{self, Mark};
use super::source::prefix_hash;
use super::verify::recover;
use crate::event::Holding;
use crate::limits::COPIES_OPEN_MAX;

/// Where copies of other gateways' recordings lie within the recordings' folder.
const COPIES: &str = "copies";

/// How far somebody is with a recording, the lesser first; of two that end together the sealed one is more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    pub frames: u64,
    pub sealed: bool,
}

/// What becomes of another box's question where there is some of the recording here, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is more of it there: what lies here becomes its copy.
    Take,
    /// There is as much of it here: theirs becomes the copy.
    Ours,
    /// It can't be said yet, and will be: one that runs gets longer, what a crash has left is sealed.
    Wait,
}

impl Standing {
    /// Of what is here, whether it runs or not. Nothing that is sealed gives way to what is not: a process that has lost
    /// its line, or stood still, may not know it yet, and have recorded silence for longer.
    pub fn judge(self, runs: bool, theirs: Self) -> Verdict {
        if theirs > self {
            return if runs { Verdict::Wait } else { Verdict::Take };
        }
        if theirs.sealed && !self.sealed { Verdict::Wait } else { Verdict::Ours }
    }

    /// Whether what is here may be cut back to where both part: a sealed one by a longer sealed one alone.
    pub(super) fn may_lose(self, theirs: Self) -> bool {
        !self.sealed || (theirs.sealed && theirs > self)
    }
}

/// Shared by the threads of the writer and of the keeper. What takes long (a sync, the hash of a file) is
/// done without the lock, so that neither waits for the other's disk.
pub struct Custody {
    own: PathBuf,
    copies_dir: PathBuf,
    board: Arc<Board>,
    books: Mutex<Books>,
}

struct Books {
    copies: Copies,
    /// The writer has them open.
    here: BTreeMap<u64, Hold>,
    /// Another box, that is so far, was told how far these are, which lie in the own folder, and may go on.
    offered: BTreeMap<u64, Standing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Records,
    /// For a moment: what a crash has left.
    Seals,
}

impl Custody {
    /// Of a recordings' folder.
    pub fn new(own: PathBuf, board: Arc<Board>) -> Self {
        let copies_dir = copies_in(&own);
        let books = Books {
            copies: Copies::new(copies_dir.clone()),
            here: BTreeMap::new(),
            offered: BTreeMap::new(),
        };
        Self { own, copies_dir, board, books: Mutex::new(books) }
    }

    /// The writer begins it. What its own folder has less of than the copies', or nothing, it goes on with from
    /// there: what the copy's manifest says, where that was moved.
    ///
    /// # Errors
    /// The disk's: the writer goes on with what its own folder has.
    pub fn take_over(&self, recording: u64) -> io::Result<Option<Manifest>> {
        let mut books = self.books.lock();
        books.here.insert(recording, Hold::Records);
        books.offered.remove(&recording);
        let known = books.copies.release(recording);
        mend(&self.own, &self.copies_dir, recording)?;
        mend(&self.copies_dir, &self.own, recording)?;
        let copy = match known {
            // Each of its chunks was looked at when it came.
            Some(known) => known,
            None => recover(&self.copies_dir, recording)?,
        };
        if copy.bytes == 0 {
            return Ok(None);
        }
        let own = recover(&self.own, recording)?;
        if own.bytes > 0 && own.frames >= copy.frames {
            self.drop_beginning(recording, copy.bytes)?;
            return Ok(None);
        }
        if own.bytes > 0 {
            manifest::put_aside(&self.own, recording)?;
        }
        move_files(&self.copies_dir, &self.own, recording)?;
        Ok(Some(copy))
    }

    /// The writer wants to seal one that nobody goes on with. False where another does by now.
    ///
    /// # Errors
    /// The disk's.
    pub fn hold(&self, recording: u64) -> io::Result<bool> {
        let mut books = self.books.lock();
        mend(&self.copies_dir, &self.own, recording)?;
        let is_here = manifest_path(&self.own, recording).try_exists()?;
        if is_here {
            books.here.insert(recording, Hold::Seals);
            books.offered.remove(&recording);
        }
        Ok(is_here)
    }

    /// The writer has closed it.
    pub fn leave(&self, recording: u64) {
        self.books.lock().here.remove(&recording);
    }

    /// Another box goes on with it, or has more of it: what lies here is no more than a copy's beginning.
    ///
    /// # Errors
    /// The disk's.
    pub fn yield_to_other(&self, recording: u64) -> io::Result<()> {
        let mut books = self.books.lock();
        if books.here.contains_key(&recording) {
            return Ok(());
        }
        self.become_copy(&mut books, recording)
    }

    /// The folder of copies is there from now on.
    ///
    /// # Errors
    /// The disk's.
    pub fn open_copies(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.copies_dir)
    }

    /// Copies that are not whole. What a crash left between two folders is put right first.
    ///
    /// # Errors
    /// The disk's.
    pub fn unsealed(&self) -> io::Result<Vec<u64>> {
        let books = self.books.lock();
        for recording in manifest::all(&self.copies_dir)? {
            mend(&self.copies_dir, &self.own, recording)?;
        }
        books.copies.unsealed()
    }

    /// How far the copy is, or what will be the copy, for another box that is so far itself.
    ///
    /// # Errors
    /// It is this box's to tell of; or the disk's.
    pub fn have(&self, recording: u64, theirs: Standing) -> Result<Have, Error> {
        let mut books = self.books.lock();
        let hold = books.here.get(&recording).copied();
        if books.copies.is_open(recording) {
            return books.copies.have(recording);
        }
        mend(&self.copies_dir, &self.own, recording)?;
        let Manifest { bytes, frames, sealed, .. } = self.own_manifest(recording)?;
        let runs = match hold {
            None if bytes == 0 => return books.copies.have(recording),
            None => false,
            Some(Hold::Records) => true,
            Some(Hold::Seals) => return Err(Error::Busy),
        };
        match (Standing { frames, sealed }).judge(runs, theirs) {
            Verdict::Ours => Err(Error::Ours),
            Verdict::Wait => Err(Error::Busy),
            Verdict::Take if books.offered.len() >= COPIES_OPEN_MAX => Err(Error::TooMany),
            Verdict::Take => {
                books.offered.insert(recording, theirs);
                Ok(copies::have_in(&self.own, recording)?)
            }
        }
    }

    /// As [`Copies::put`].
    ///
    /// # Errors
    /// It is this box's to tell of; or what [`Copies::put`] says.
    pub fn put(&self, recording: u64, at: u64, line: &[u8], audio: &[u8]) -> Result<(), Error> {
        let mut books = self.books.lock();
        if let Some((own, theirs)) = self.offered(&books, recording)? {
            let Manifest { bytes, frames, sealed, .. } = own;
            if at < bytes && !(Standing { frames, sealed }).may_lose(theirs) {
                return Err(Error::Ours);
            }
            self.become_copy(&mut books, recording)?;
        }
        books.copies.put(recording, at, line, audio)
    }

    /// As [`Copies::cut_back`].
    ///
    /// # Errors
    /// It is this box's to tell of; or what [`Copies::cut_back`] says.
    pub fn cut_back(&self, recording: u64, mark: &Mark, theirs: Standing) -> Result<Have, Error> {
        let mut books = self.books.lock();
        if self.offered(&books, recording)?.is_some() {
            marks::check(&self.own, recording, mark, theirs)?;
            self.become_copy(&mut books, recording)?;
        }
        books.copies.cut_back(recording, mark, theirs)
    }

    /// As [`Copies::sync`].
    pub fn sync(&self) -> Vec<(u64, Result<Synced, Error>)> {
        let unsynced = self.books.lock().copies.begin_sync();
        let waited: Vec<_> =
            unsynced.iter().map(|unsynced| (unsynced.recording, unsynced.wait())).collect();
        let mut books = self.books.lock();
        let judge = |(recording, synced)| {
            // It was taken over meanwhile.
            if !books.copies.is_open(recording) {
                return (recording, Err(Error::Busy));
            }
            books.copies.end_sync(recording, &synced);
            (recording, synced)
        };
        waited.into_iter().map(judge).collect()
    }

    pub fn close(&self, recording: u64) {
        self.books.lock().copies.close(recording);
    }

    /// As [`Copies::cut`]; nothing of one that goes on here.
    ///
    /// # Errors
    /// The disk's.
    pub fn cut(&self, recording: u64) -> io::Result<Option<Holding>> {
        let begin = |mut books: parking_lot::MutexGuard<'_, Books>| {
            books.copies.close(recording);
            books.offered.remove(&recording);
            !books.here.contains_key(&recording)
        };
        if !begin(self.books.lock()) {
            return Ok(None);
        }
        let cut = copies::cut(&self.copies_dir, recording);
        // What was read while it moved is of no use.
        if begin(self.books.lock()) { cut } else { Ok(None) }
    }

    /// What lies in the own folder and was offered; none where there is but a copy.
    fn offered(
        &self,
        books: &Books,
        recording: u64,
    ) -> Result<Option<(Manifest, Standing)>, Error> {
        if books.here.contains_key(&recording) {
            return Err(Error::Busy);
        }
        if books.copies.is_open(recording) {
            return Ok(None);
        }
        let own = self.own_manifest(recording)?;
        if own.bytes == 0 {
            return Ok(None);
        }
        let theirs = books.offered.get(&recording).ok_or(Error::Busy)?;
        Ok(Some((own, *theirs)))
    }

    fn own_manifest(&self, recording: u64) -> io::Result<Manifest> {
        Manifest::read(&manifest_path(&self.own, recording))
    }

    fn become_copy(&self, books: &mut Books, recording: u64) -> io::Result<()> {
        // Whoever sends does not read what moves.
        self.board.forget(recording);
        books.offered.remove(&recording);
        std::fs::create_dir_all(&self.copies_dir)?;
        mend(&self.own, &self.copies_dir, recording)?;
        let own = self.own_manifest(recording)?;
        if own.bytes == 0 {
            return Ok(());
        }
        books.copies.close(recording);
        let copy = Manifest::read(&manifest_path(&self.copies_dir, recording))?;
        if copy.bytes > 0 && copy.frames >= own.frames {
            manifest::put_aside(&self.own, recording)?;
        } else {
            if copy.bytes > 0 {
                manifest::put_aside(&self.copies_dir, recording)?;
            }
            move_files(&self.own, &self.copies_dir, recording)?;
        }
        manifest::remove_if_there(&copied_path(&self.own, recording))
    }

    /// A copy that says nothing but what the own recording says up to there.
    fn drop_beginning(&self, recording: u64, bytes: u64) -> io::Result<()> {
        let copy = prefix_hash(&self.copies_dir, recording, bytes)?;
        if copy.is_some() && copy == prefix_hash(&self.own, recording, bytes)? {
            manifest::remove_files(&self.copies_dir, recording)?;
        }
        Ok(())
    }
}

/// Where copies of other gateways' recordings lie.
pub fn copies_in(recordings: &Path) -> PathBuf {
    recordings.join(COPIES)
}
