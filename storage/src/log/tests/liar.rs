//! A disk over another one that does what disks do: it keeps what was written in a cache until it is
//! synced, loses or tears that when the power goes, says that it has synced what it has not, refuses.
//! Whatever it does follows from a seed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::disk::{Disk, DiskFile};
use super::super::segment::HEADER_BYTES;

/// What is written whole or not at all, save for the one that was under the head.
pub const SECTOR_BYTES: usize = 512;

/// A splitmix: the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    None,
    /// ENOSPC where anything new is made.
    Full,
    /// EROFS.
    ReadOnly,
    /// EIO in the middle of a write.
    Write,
    /// EIO of a sync. What was to be synced counts as clean from then on, as in Linux: the next sync
    /// succeeds without it.
    Sync,
    /// EIO where the folder is synced.
    Names,
    /// A sync succeeds, and some of what it was about never reaches the disk.
    Lies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// Of what was not synced nothing is there.
    Clean,
    /// Up to a byte in the middle of it.
    Torn,
    /// Any sectors.
    Reordered,
}

/// What the writer has written in one go behind a header.
#[derive(Clone, Debug)]
pub struct Batch {
    pub blob: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// The disk said that it has it.
    pub synced: bool,
}

/// What an honest disk would have, to compare.
#[derive(Default)]
pub struct Journal {
    pub batches: Vec<Batch>,
    /// Newest header of each blob.
    pub headers: BTreeMap<u64, Vec<u8>>,
    /// Recovery's writes are no batches.
    pub recording: bool,
}

pub struct Liar {
    below: Arc<dyn Disk>,
    names: Mutex<Names>,
    shared: Arc<Shared>,
}

pub struct Shared {
    pub trouble: Mutex<Trouble>,
    pub random: Mutex<Random>,
    pub journal: Mutex<Journal>,
}

#[derive(Default)]
struct Names {
    blobs: u64,
    /// As the log sees them.
    now: BTreeMap<String, u64>,
    /// As they would be found after a power cut.
    durable: BTreeMap<String, u64>,
    /// In the order in which they came; journals of file systems keep it.
    pending: Vec<Change>,
    open: BTreeMap<u64, Arc<LiarFile>>,
}

#[derive(Clone)]
enum Change {
    Make(String, u64),
    Rename(String, String),
    Remove(String),
}

fn change(names: &mut BTreeMap<String, u64>, change: &Change) {
    match change {
        Change::Make(name, blob) => {
            names.insert(name.clone(), *blob);
        }
        Change::Rename(from, to) => {
            if let Some(blob) = names.remove(from) {
                names.insert(to.clone(), blob);
            }
        }
        Change::Remove(name) => {
            names.remove(name);
        }
    }
}

pub struct LiarFile {
    blob: u64,
    below: Arc<dyn DiskFile>,
    /// By sector.
    cache: Mutex<BTreeMap<usize, Sector>>,
    shared: Arc<Shared>,
}

struct Sector {
    bytes: Vec<u8>,
    /// Not so where the disk has lost it and nobody knows.
    dirty: bool,
}

impl Liar {
    pub fn new(below: Arc<dyn Disk>, seed: u64) -> Self {
        let shared = Shared {
            trouble: Mutex::default(),
            random: Mutex::new(Random(seed)),
            journal: Mutex::default(),
        };
        Self { below, names: Mutex::default(), shared: Arc::new(shared) }
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The machine is as after a power cut: caches are empty, and names are those that were synced, with
    /// some of those that were not.
    pub fn cut(&self, how: PowerCut) {
        let mut names = self.names.lock();
        let mut random = self.shared.random.lock();
        let kept = random.below(names.pending.len() as u64 + 1) as usize;
        let Names { durable, pending, now, open, .. } = &mut *names;
        for pending in pending.drain(..).take(kept) {
            change(durable, &pending);
        }
        now.clone_from(durable);
        for file in open.values() {
            file.cut(how, &mut random);
        }
    }

    /// Damages one bit that is on the disk.
    pub fn flip(&self, name: &str, at: u64, bit: u8) {
        let names = self.names.lock();
        let Some(file) = names.now.get(name).and_then(|blob| names.open.get(blob)) else { return };
        let mut byte = [0];
        if file.below.read_at(&mut byte, at).is_ok() {
            file.below.write_at(&[byte[0] ^ (1 << bit)], at).unwrap();
            file.below.sync().unwrap();
        }
    }

    /// The file of a blob under the name `name`, as a reader sees it.
    pub fn seen(&self, name: &str) -> Option<(u64, Vec<u8>)> {
        let names = self.names.lock();
        let blob = *names.now.get(name)?;
        Some((blob, names.open.get(&blob)?.read_all().unwrap()))
    }

    pub fn live(&self) -> Vec<String> {
        let names = self.names.lock();
        names.now.keys().filter(|name| name.ends_with(".seg")).cloned().collect()
    }

    fn may(&self, what: &[Trouble]) -> io::Result<()> {
        let trouble = *self.shared.trouble.lock();
        if !what.contains(&trouble) {
            return Ok(());
        }
        Err(match trouble {
            Trouble::Full => io::ErrorKind::StorageFull.into(),
            Trouble::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
            Trouble::None | Trouble::Write | Trouble::Sync | Trouble::Names | Trouble::Lies => {
                io::Error::from_raw_os_error(libc::EIO)
            }
        })
    }

    fn note(&self, names: &mut Names, noted: Change) {
        change(&mut names.now, &noted);
        names.pending.push(noted);
    }
}

impl Disk for Liar {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.lock().now.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.may(&[Trouble::Full, Trouble::ReadOnly, Trouble::Write, Trouble::Sync])?;
        let mut names = self.names.lock();
        names.blobs += 1;
        let blob = names.blobs;
        let below = self.below.create(&format!("{blob}"), bytes)?;
        let (cache, shared) = (Mutex::default(), Arc::clone(&self.shared));
        let file = Arc::new(LiarFile { blob, below, cache, shared });
        names.open.insert(blob, Arc::clone(&file));
        self.note(&mut names, Change::Make(name.to_owned(), blob));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let names = self.names.lock();
        let file = names.now.get(name).and_then(|blob| names.open.get(blob)).cloned();
        Ok(file.ok_or(io::ErrorKind::NotFound)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.may(&[Trouble::ReadOnly])?;
        self.note(&mut self.names.lock(), Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may(&[Trouble::ReadOnly])?;
        self.note(&mut self.names.lock(), Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.may(&[Trouble::Sync, Trouble::Names])?;
        let Names { durable, pending, .. } = &mut *self.names.lock();
        for pending in pending.drain(..) {
            change(durable, &pending);
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.below.path(name)
    }

    fn has_threads(&self) -> bool {
        false
    }
}

impl LiarFile {
    fn at(sector: usize) -> u64 {
        (sector * SECTOR_BYTES) as u64
    }

    fn put(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut cache = self.cache.lock();
        let mut done = 0;
        while done < bytes.len() {
            let at = offset as usize + done;
            let (sector, within) = (at / SECTOR_BYTES, at % SECTOR_BYTES);
            let len = (SECTOR_BYTES - within).min(bytes.len() - done);
            let cached = match cache.entry(sector) {
                Entry::Occupied(cached) => cached.into_mut(),
                Entry::Vacant(free) => {
                    let mut bytes = vec![0; SECTOR_BYTES];
                    self.below.read_at(&mut bytes, Self::at(sector))?;
                    free.insert(Sector { bytes, dirty: true })
                }
            };
            cached.bytes[within..within + len].copy_from_slice(&bytes[done..done + len]);
            cached.dirty = true;
            done += len;
        }
        Ok(())
    }

    fn cut(&self, how: PowerCut, random: &mut Random) {
        let cache = std::mem::take(&mut *self.cache.lock());
        let dirty: Vec<_> = cache.into_iter().filter(|(_, cached)| cached.dirty).collect();
        // Sectors are kept in their order, which is that of a batch.
        let whole = random.below(dirty.len() as u64 + 1) as usize;
        for (at, (sector, cached)) in dirty.into_iter().enumerate() {
            let len = match how {
                PowerCut::Clean => 0,
                PowerCut::Torn if at < whole => SECTOR_BYTES,
                PowerCut::Torn if at == whole => random.below(SECTOR_BYTES as u64) as usize,
                PowerCut::Torn => 0,
                PowerCut::Reordered if random.one_in(2) => SECTOR_BYTES,
                PowerCut::Reordered => 0,
            };
            self.below.write_at(&cached.bytes[..len], Self::at(sector)).unwrap();
        }
        self.below.sync().unwrap();
    }
}

impl DiskFile for LiarFile {
    fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = self.below.read_all()?;
        for (sector, cached) in &*self.cache.lock() {
            let at = sector * SECTOR_BYTES;
            bytes[at..at + SECTOR_BYTES].copy_from_slice(&cached.bytes);
        }
        Ok(bytes)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let all = self.read_all()?;
        let at = offset as usize;
        let found = all.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let trouble = *self.shared.trouble.lock();
        if trouble == Trouble::ReadOnly {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let mut journal = self.shared.journal.lock();
        if offset == 0 {
            journal.headers.insert(self.blob, bytes.to_vec());
        } else if journal.recording && offset >= HEADER_BYTES {
            let (blob, bytes) = (self.blob, bytes.to_vec());
            journal.batches.push(Batch { blob, offset, bytes, synced: false });
        }
        if trouble == Trouble::Write {
            let some = self.shared.random.lock().below(bytes.len() as u64) as usize;
            self.put(&bytes[..some], offset)?;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.put(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let trouble = *self.shared.trouble.lock();
        let mut cache = self.cache.lock();
        if trouble == Trouble::Sync {
            cache.values_mut().for_each(|cached| cached.dirty = false);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut random = self.shared.random.lock();
        let loses = trouble == Trouble::Lies && random.one_in(2);
        let mut kept = BTreeMap::new();
        for (sector, mut cached) in std::mem::take(&mut *cache) {
            if !cached.dirty || (loses && random.one_in(2)) {
                cached.dirty = false;
                kept.insert(sector, cached);
            } else {
                self.below.write_at(&cached.bytes, Self::at(sector))?;
            }
        }
        *cache = kept;
        self.below.sync()?;
        for batch in &mut self.shared.journal.lock().batches {
            batch.synced |= batch.blob == self.blob;
        }
        Ok(())
    }
}
