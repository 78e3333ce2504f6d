//! What tests do to the disk under a running log: it stands still for a while, or fails for good.
//!
//! A disk that forgets, tears and lies needs a power cut to show it: see `log/tests/liar.rs`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::log::disk::{Disk, DiskFile};

/// A longer stall is cut to this: nobody forgets a disk that stands still.
pub const STALL_MS_MAX: u64 = 60_000;

/// A handle on what goes wrong; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Now {
    stalls_until: Option<Instant>,
    fails: bool,
}

impl Faults {
    /// What is written from now on waits until `ms` from now.
    pub fn stall(&self, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms.min(STALL_MS_MAX));
        self.set(|now| now.stalls_until = Some(until));
    }

    /// Nothing is written or synced any more: an I/O error, as of a disk that has died.
    pub fn fail(&self) {
        self.set(|now| now.fails = true);
    }

    fn set(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.shared.now.lock());
        self.shared.changed.notify_all();
    }

    /// Returns when the disk may be written to.
    fn pass(&self) -> io::Result<()> {
        let mut now = self.shared.now.lock();
        loop {
            if now.fails {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            match now.stalls_until {
                Some(until) if until > Instant::now() => {
                    self.shared.changed.wait_until(&mut now, until);
                }
                Some(_) | None => return Ok(()),
            }
        }
    }

    pub(crate) fn over(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(Troubled { disk, faults: self.clone() })
    }
}

struct Troubled {
    disk: Arc<dyn Disk>,
    faults: Faults,
}

struct TroubledFile {
    file: Arc<dyn DiskFile>,
    faults: Faults,
}

impl Troubled {
    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(TroubledFile { file, faults: self.faults.clone() })
    }
}

impl Disk for Troubled {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.pass()?;
        Ok(self.file(self.disk.create(name, bytes)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.disk.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.pass()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.pass()?;
        self.disk.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.faults.pass()?;
        self.disk.sync_names()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }

    fn has_threads(&self) -> bool {
        self.disk.has_threads()
    }
}

impl DiskFile for TroubledFile {
    fn read_all(&self) -> io::Result<Vec<u8>> {
        self.file.read_all()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.faults.pass()?;
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.pass()?;
        self.file.sync()
    }
}
