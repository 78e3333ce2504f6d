//! The in-memory twin of the log: the very same writer and recovery, without their thread, over a
//! disk that forgets what was not synced and may tear what was being written.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::log::disk::{Disk, DiskFile};
use crate::log::{Error, Log, Operation, Options, SEGMENT_BYTES_MIN, ShardLog, Stats, Writer};
use crate::raft::ShardId;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// Segments of the twin are short, so that simulations use them up.
const SEGMENT_BYTES: u64 = 16 * SEGMENT_BYTES_MIN;

/// When what was appended is written and synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// At once, each operation by itself.
    Auto,
    /// All together, when [`MemoryLog::sync`] is called.
    Told,
}

/// A node's log in memory. Deterministic: no thread, no clock.
#[derive(Clone)]
pub struct MemoryLog {
    log: Log,
    disk: Arc<MemoryDisk>,
    twin: Arc<Twin>,
    options: Options,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new(Sync::Auto)
    }
}

impl MemoryLog {
    pub fn new(sync: Sync) -> Self {
        let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
        match Self::open(Arc::default(), options, sync) {
            Ok(log) => log,
            Err(error) => unreachable!("an empty disk in memory can be opened: {error}"),
        }
    }

    /// # Errors
    /// What is wrong with the disk or the options.
    pub fn open(disk: Arc<MemoryDisk>, options: Options, sync: Sync) -> Result<Self, Error> {
        let (log, writer) = Log::open_on(Arc::clone(&disk) as Arc<dyn Disk>, options.clone())?;
        let (log, twin) = Twin::drive(log, writer, sync);
        Ok(Self { log, disk, twin, options })
    }

    pub fn shard(&self, shard: ShardId) -> ShardLog {
        self.log.shard(shard)
    }

    /// As the log on a disk: health, stats, pins.
    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn stats(&self) -> Stats {
        self.log.stats()
    }

    pub fn disk(&self) -> &Arc<MemoryDisk> {
        &self.disk
    }

    pub fn set_sync(&self, sync: Sync) {
        self.twin.inner.lock().sync = sync;
    }

    /// Writes, syncs and acknowledges what waits, in one batch.
    pub fn sync(&self) {
        self.twin.sync();
    }

    /// The machine loses its power: what was not synced is gone, and what comes back up is read
    /// from what is left. Handles of before are of a dead process and see nothing of this.
    ///
    /// # Errors
    /// What recovery finds.
    pub fn crash(&self) -> Result<Self, Error> {
        self.reopen(self.disk.after_crash(None))
    }

    /// As [`Self::crash`], but of what was written and not synced, any sectors may have reached
    /// the disk: `seed` decides which.
    ///
    /// # Errors
    /// What recovery finds.
    pub fn crash_torn(&self, seed: u64) -> Result<Self, Error> {
        self.reopen(self.disk.after_crash(Some(seed)))
    }

    fn reopen(&self, disk: MemoryDisk) -> Result<Self, Error> {
        let sync = self.twin.inner.lock().sync;
        Self::open(Arc::new(disk), self.options.clone(), sync)
    }
}

/// The way of operations to a writer that has no thread.
pub(crate) struct Twin {
    inner: Mutex<Inner>,
}

struct Inner {
    writer: Writer,
    waiting: Vec<Operation>,
    sync: Sync,
}

impl Inner {
    fn commit(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if !waiting.is_empty() {
            self.writer.commit(waiting);
        }
    }
}

impl Twin {
    pub fn drive(log: Log, writer: Writer, sync: Sync) -> (Log, Arc<Self>) {
        let inner = Inner { writer, waiting: Vec::new(), sync };
        let twin = Arc::new(Self { inner: Mutex::new(inner) });
        let queue = log.queue().twin(Arc::clone(&twin));
        (log.with_queue(queue), twin)
    }

    pub fn sync(&self) {
        self.inner.lock().commit();
    }

    pub fn submit(&self, operation: Operation) {
        let mut inner = self.inner.lock();
        inner.waiting.push(operation);
        match inner.sync {
            Sync::Auto => inner.commit(),
            Sync::Told => {}
        }
    }
}

/// What the disk does instead of what it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Nothing new can be made.
    Full,
    /// Writes fail.
    ReadOnly,
    /// Writes reach the cache, and no sync succeeds: what a crash in this very moment leaves.
    LosesPower,
}

/// Files in memory, each with what is synced and what is not.
#[derive(Default)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    fault: Arc<Mutex<Fault>>,
}

struct MemoryFile {
    content: Mutex<Content>,
    fault: Arc<Mutex<Fault>>,
}

#[derive(Clone)]
struct Content {
    synced: Vec<u8>,
    current: Vec<u8>,
    /// Numbers of the sectors that differ, perhaps.
    dirty: BTreeSet<usize>,
}

impl MemoryDisk {
    pub fn set_fault(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }

    /// Names of the files, in order.
    pub fn names(&self) -> Vec<String> {
        self.files.lock().keys().cloned().collect()
    }

    /// Damages one byte that is on the disk.
    pub fn flip(&self, name: &str, offset: usize) {
        if let Some(file) = self.files.lock().get(name) {
            let mut content = file.content.lock();
            content.current[offset] ^= 0xff;
            content.synced[offset] ^= 0xff;
        }
    }

    /// A file as a reader sees it.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.files.lock().get(name).map(|file| file.content.lock().current.clone())
    }

    fn after_crash(&self, torn: Option<u64>) -> Self {
        let fault = Arc::<Mutex<Fault>>::default();
        let mut random = torn.map(Random);
        let files = self.files.lock();
        let survive = |(name, file): (&String, &Arc<MemoryFile>)| {
            let content = file.content.lock();
            let mut left = content.synced.clone();
            if let Some(random) = &mut random {
                for sector in content.dirty.iter().filter(|_| random.coin()) {
                    let at = sector * SECTOR_BYTES..left.len().min((sector + 1) * SECTOR_BYTES);
                    left[at.clone()].copy_from_slice(&content.current[at]);
                }
            }
            let content = Content { current: left.clone(), synced: left, dirty: BTreeSet::new() };
            let content = Mutex::new(content);
            (name.clone(), Arc::new(MemoryFile { content, fault: Arc::clone(&fault) }))
        };
        let files = files.iter().map(survive).collect();
        Self { files: Mutex::new(files), fault }
    }

    fn file(&self, name: &str) -> io::Result<Arc<MemoryFile>> {
        self.files.lock().get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A xorshift: good enough to choose sectors, and the same everywhere.
struct Random(u64);

impl Random {
    fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) & 1 == 1
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        match *self.fault.lock() {
            Fault::Full => return Err(io::ErrorKind::StorageFull.into()),
            Fault::ReadOnly => return Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Fault::None | Fault::LosesPower => {}
        }
        let zeros = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        let content = Content { synced: zeros.clone(), current: zeros, dirty: BTreeSet::new() };
        let file = MemoryFile { content: Mutex::new(content), fault: Arc::clone(&self.fault) };
        let file = Arc::new(file);
        self.files.lock().insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from)?;
        let mut files = self.files.lock();
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new("memory").join(name)
    }

    fn has_threads(&self) -> bool {
        false
    }
}

impl DiskFile for MemoryFile {
    fn read_all(&self) -> io::Result<Vec<u8>> {
        Ok(self.content.lock().current.clone())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.content.lock();
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let from = content.current.get(from..from.saturating_add(into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if *self.fault.lock() == Fault::ReadOnly {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let mut content = self.content.lock();
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let to = from.saturating_add(bytes.len());
        let into = content.current.get_mut(from..to).ok_or(io::ErrorKind::StorageFull)?;
        into.copy_from_slice(bytes);
        content.dirty.extend(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if *self.fault.lock() == Fault::LosesPower {
            return Err(io::Error::other("the power is gone"));
        }
        let mut content = self.content.lock();
        let Content { synced, current, dirty } = &mut *content;
        for sector in std::mem::take(dirty) {
            let at = sector * SECTOR_BYTES..current.len().min((sector + 1) * SECTOR_BYTES);
            synced[at.clone()].copy_from_slice(&current[at]);
        }
        Ok(())
    }
}
