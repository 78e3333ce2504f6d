//! The state of a node's shards: rows in RocksDB, one column family a kind, written without its
//! WAL. The log is the truth behind the last flush; `atomic_flush` keeps the families in step, so
//! that a restart finds rows and applied log id of one moment, and openraft applies the rest again.

mod out;
mod taking;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prost::Message as _;
use rocksdb::perf::get_memory_usage_stats;
use rocksdb::properties::TOTAL_SST_FILES_SIZE;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, Direction, Env,
    IteratorMode, Options as RocksOptions, ReadOptions, WriteBatch, WriteOptions,
};
use tokio::sync::watch;

use crate::raft::{LogId, ShardId, StoredMembership};
use crate::snapshot::Here;
use crate::{damage, proto, wire};

/// Raft's own: what a shard has applied, by its number; and the snapshot that it is taking in.
const RAFT: &str = "raft";
/// Behind it stands the shard. Its length tells such a key from the other kind.
const TAKING_IN: &[u8] = b"taking in ";
/// The same of a shard whose rows are not to be used.
const OUT: &[u8] = b"out ";
/// Of snapshots that come in.
const RECEIVED: &str = "received";
/// Behind it in the name: of a snapshot that broke off. One a shard, no longer than a snapshot.
const LEFT: &str = ".left";
const WRITE_BUFFER_BYTES_DEFAULT: usize = 16 << 20;
/// Memtables of all families together, beyond which RocksDB flushes.
const WRITE_BUFFERS_BYTES_MAX: usize = 64 << 20;
/// Blocks of files that were read, of all families together.
const CACHE_BYTES_MAX: usize = 32 << 20;
/// RocksDB's info logs that are kept.
const INFO_LOGS_MAX: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the state store: {0}")]
    Rocks(#[from] rocksdb::Error),
    #[error("the state store: row of {0}: {1}")]
    Row(ShardId, wire::Error),
    #[error("the state store has no family {0:?}: it was written by a newer build")]
    Family(String),
    #[error(
        "the state store's folder {path} has tables and no CURRENT to say which count",
        path = path.display()
    )]
    Headless { path: PathBuf },
    #[error("the state of {0} can't be read: {1}")]
    Machine(ShardId, String),
    #[error("the state store's folder {path}: {error}", path = path.display())]
    Folder { path: PathBuf, error: io::Error },
    #[error("the state of {0} is half taken in: {1}; restore this node from another")]
    HalfTaken(ShardId, io::Error),
    #[error("what is left of a snapshot that broke off: {0}")]
    Left(io::Error),
    #[error("the rows of {0} here are not what its group has: nobody may have them")]
    Out(ShardId),
    #[error("a state in memory takes no snapshot of another node")]
    InMemory,
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error.to_string())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put {
        family: &'static str,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Delete {
        family: &'static str,
        key: Vec<u8>,
    },
    /// Every key that begins so.
    DeleteUnder {
        family: &'static str,
        prefix: Vec<u8>,
    },
}

impl Change {
    /// No value deletes.
    pub fn of(family: &'static str, key: Vec<u8>, value: Option<Vec<u8>>) -> Self {
        match value {
            Some(value) => Self::Put { family, key, value },
            None => Self::Delete { family, key },
        }
    }
}

/// Of each key only what comes of it in the end: entries that are stored together write some rows one after
/// the other, and nobody sees what was between them. What is deleted by prefix stays where it is, for all
/// before it is gone by it.
pub(crate) fn latest(mut changes: Vec<Change>) -> Vec<Change> {
    let mut seen = HashSet::with_capacity(changes.len());
    let mut keeps: Vec<bool> = changes
        .iter()
        .rev()
        .map(|change| match change {
            Change::Put { family, key, .. } | Change::Delete { family, key } => {
                seen.insert((*family, key.as_slice()))
            }
            Change::DeleteUnder { .. } => true,
        })
        .collect();
    changes.retain(|_| keeps.pop().unwrap_or(true));
    changes
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub family: String,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The kinds of rows; a kind that exists is never taken away.
    pub families: &'static [&'static str],
    pub write_buffer_bytes: usize,
}

impl Options {
    pub const fn new(families: &'static [&'static str]) -> Self {
        Self { families, write_buffer_bytes: WRITE_BUFFER_BYTES_DEFAULT }
    }
}

impl From<&'static [&'static str]> for Options {
    fn from(families: &'static [&'static str]) -> Self {
        Self::new(families)
    }
}

/// One a node, for all its shards; cloning it is cheap.
#[derive(Clone)]
pub struct State {
    db: Arc<DB>,
    families: &'static [&'static str],
    seen: Arc<Mutex<Seen>>,
    /// The shards that are out, and since which entry.
    outs: Arc<watch::Sender<BTreeMap<ShardId, u64>>>,
    cache: Cache,
    /// Where snapshots of other nodes are put; none in memory.
    received: Option<PathBuf>,
    arrivals: Arc<AtomicU64>,
}

/// Whether RocksDB may hold a writer up while memtables or files wait for the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

#[derive(Default)]
struct Seen {
    /// The last applied log id of each shard that is in the memtables or on the disk.
    written: BTreeMap<ShardId, LogId>,
    flushed: BTreeMap<ShardId, LogId>,
    /// Shards that a snapshot was made of, or installed, in this life.
    snapshots: BTreeSet<ShardId>,
}

fn key_of(shard: ShardId, key: &[u8]) -> Vec<u8> {
    let mut whole = shard.0.to_be_bytes().to_vec();
    whole.extend_from_slice(key);
    whole
}

fn taking_in(shard: ShardId) -> Vec<u8> {
    [TAKING_IN, &shard.0.to_be_bytes()].concat()
}

fn applied_of(log_id: Option<&LogId>, membership: &StoredMembership) -> proto::Applied {
    proto::Applied {
        log_id: log_id.map(wire::log_id),
        membership: Some(wire::stored_membership(membership)),
    }
}

fn applied_from(applied: proto::Applied) -> Result<(Option<LogId>, StoredMembership), wire::Error> {
    let membership = match applied.membership {
        Some(stored) => wire::stored_membership_from(stored)?,
        None => StoredMembership::default(),
    };
    Ok((applied.log_id.map(wire::log_id_from), membership))
}

/// The first key behind all those that begin so; behind the highest there is none.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut next = prefix.get(..=last)?.to_vec();
    *next.last_mut()? += 1;
    Some(next)
}

impl State {
    /// # Errors
    /// What RocksDB says of the folder.
    pub fn open(dir: &Path, options: impl Into<Options>) -> Result<Self, Error> {
        Self::open_with(dir, options.into(), None)
    }

    /// Nothing of it reaches a disk, and all is gone when the last handle is.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn in_memory(options: impl Into<Options>) -> Result<Self, Error> {
        Self::open_with(Path::new("/state"), options.into(), Some(&Env::mem_env()?))
    }

    fn open_with(dir: &Path, options: Options, env: Option<&Env>) -> Result<Self, Error> {
        let mut rocks = RocksOptions::default();
        rocks.create_if_missing(true);
        rocks.create_missing_column_families(true);
        rocks.set_atomic_flush(true);
        rocks.set_write_buffer_size(options.write_buffer_bytes);
        rocks.set_db_write_buffer_size(WRITE_BUFFERS_BYTES_MAX);
        rocks.set_keep_log_file_num(INFO_LOGS_MAX);
        rocks.set_compression_type(rocksdb::DBCompressionType::Lz4);
        rocks.set_max_background_jobs(2);
        if env.is_none() {
            damage::check_head(dir)?;
        }
        let cache = Cache::new_lru_cache(CACHE_BYTES_MAX);
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&cache);
        rocks.set_block_based_table_factory(&tables);
        if let Some(env) = env {
            rocks.set_env(env);
        }
        let names = options.families.iter().copied().chain([RAFT]);
        let descriptors = names.map(|name| ColumnFamilyDescriptor::new(name, rocks.clone()));
        let db = DB::open_cf_descriptors(&rocks, dir, descriptors)?;
        let state = Self {
            db: Arc::new(db),
            families: options.families,
            seen: Arc::default(),
            outs: Arc::default(),
            cache,
            received: env.is_none().then(|| dir.join(RECEIVED)),
            arrivals: Arc::default(),
        };
        state.take_in_again()?;
        state.find_outs()?;
        let mut seen = Seen::default();
        for row in state.db.iterator_cf(state.family(RAFT)?, IteratorMode::Start) {
            let (key, _) = row?;
            let Ok(shard) = <[u8; 2]>::try_from(&*key) else { continue };
            let shard = ShardId(u16::from_be_bytes(shard));
            if let (Some(applied), _) = state.view().applied(shard)? {
                seen.written.insert(shard, applied);
                seen.flushed.insert(shard, applied);
            }
        }
        *state.seen.lock() = seen;
        Ok(state)
    }

    /// The shards that have applied anything.
    pub(crate) fn shards(&self) -> Vec<ShardId> {
        self.seen.lock().written.keys().copied().collect()
    }

    /// A shard's rows, to be sent.
    pub fn here(&self, shard: ShardId) -> Here {
        Here { state: self.clone(), shard }
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, Error> {
        self.db.cf_handle(name).ok_or_else(|| Error::Family(name.to_owned()))
    }

    /// The rows as they are now, and stay for this reader.
    pub fn view(&self) -> View<'_> {
        View { state: self, snapshot: self.db.snapshot() }
    }

    /// What a shard has applied, as far as it survived.
    ///
    /// # Errors
    /// Where the row can't be read.
    pub fn applied(&self, shard: ShardId) -> Result<(Option<LogId>, StoredMembership), Error> {
        self.view().applied(shard)
    }

    /// What of a shard survives a restart: only the log behind it may be purged.
    pub fn flushed_index(&self, shard: ShardId) -> Option<u64> {
        self.seen.lock().flushed.get(&shard).map(|id| id.index)
    }

    /// The changes of some entries and what they come to, in one batch. Waits where RocksDB makes
    /// writers wait for the disk.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn write(
        &self,
        shard: ShardId,
        changes: &[Change],
        log_id: Option<&LogId>,
        membership: &StoredMembership,
    ) -> Result<(), Error> {
        self.commit(self.batch(shard, changes)?, shard, log_id, membership, Wait::Yes)
    }

    /// The same where it takes no waiting. False where it would: nothing is written then.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn write_at_once(
        &self,
        shard: ShardId,
        changes: &[Change],
        log_id: Option<&LogId>,
        membership: &StoredMembership,
    ) -> Result<bool, Error> {
        let batch = self.batch(shard, changes)?;
        match self.commit(batch, shard, log_id, membership, Wait::No) {
            Err(Error::Rocks(error)) if error.kind() == rocksdb::ErrorKind::Incomplete => Ok(false),
            written => written.map(|()| true),
        }
    }

    fn batch(&self, shard: ShardId, changes: &[Change]) -> Result<WriteBatch, Error> {
        let mut batch = WriteBatch::default();
        for change in changes {
            match change {
                Change::Put { family, key, value } => {
                    batch.put_cf(self.family(family)?, key_of(shard, key), value);
                }
                Change::Delete { family, key } => {
                    batch.delete_cf(self.family(family)?, key_of(shard, key));
                }
                Change::DeleteUnder { family, prefix } => {
                    self.delete_under(&mut batch, family, &key_of(shard, prefix))?;
                }
            }
        }
        Ok(batch)
    }

    fn delete_under(&self, batch: &mut WriteBatch, name: &str, prefix: &[u8]) -> Result<(), Error> {
        let family = self.family(name)?;
        if let Some(end) = behind(prefix) {
            batch.delete_range_cf(family, prefix, &end);
            return Ok(());
        }
        // No key is behind those of the highest shard.
        let view = self.view();
        for row in view.iterate(family, prefix) {
            batch.delete_cf(family, row?.0);
        }
        Ok(())
    }

    fn commit(
        &self,
        mut batch: WriteBatch,
        shard: ShardId,
        log_id: Option<&LogId>,
        membership: &StoredMembership,
        wait: Wait,
    ) -> Result<(), Error> {
        let applied = applied_of(log_id, membership);
        batch.put_cf(self.family(RAFT)?, shard.0.to_be_bytes(), applied.encode_to_vec());
        self.write_unlogged(batch, wait)?;
        if let Some(log_id) = log_id {
            self.seen.lock().written.insert(shard, *log_id);
        }
        Ok(())
    }

    /// Everything written is on the disk. Blocks for as long as that takes.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn flush(&self) -> Result<(), Error> {
        let families = self
            .families
            .iter()
            .copied()
            .chain([RAFT])
            .map(|name| self.family(name))
            .collect::<Result<Vec<_>, _>>()?;
        // Taken before: what is written meanwhile may or may not be flushed with it.
        let written = self.seen.lock().written.clone();
        let mut options = rocksdb::FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options)?;
        let mut seen = self.seen.lock();
        for (shard, id) in written {
            let flushed = seen.flushed.entry(shard).or_insert(id);
            *flushed = (*flushed).max(id);
        }
        Ok(())
    }

    /// Tells what RocksDB holds in memory.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn show_memory(&self) -> Result<(), Error> {
        let used = get_memory_usage_stats(Some(&[&self.db]), Some(&[&self.cache]))?;
        for (part, bytes) in [
            ("memtables", used.mem_table_total),
            ("readers", used.mem_table_readers_total),
            ("cache", used.cache_total),
        ] {
            metrics::gauge!("tandem_state_memory_bytes", "part" => part).set(bytes as f64);
        }
        Ok(())
    }

    /// Bytes of its files. What memory holds still is at most [`WRITE_BUFFERS_BYTES_MAX`] more.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn disk_bytes(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        for name in self.families.iter().copied().chain([RAFT]) {
            let of = self.db.property_int_value_cf(self.family(name)?, TOTAL_SST_FILES_SIZE)?;
            bytes += of.unwrap_or(0);
        }
        Ok(bytes)
    }

    /// # Errors
    /// What RocksDB says.
    pub fn get(&self, shard: ShardId, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.db.get_cf(self.family(family)?, key_of(shard, key))?)
    }

    /// Rows of one family whose keys begin with `under`, from the highest key down, those below
    /// `before` where it is given; `take` is given what follows `under`, and says when to stop.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn scan_down(
        &self,
        shard: ShardId,
        family: &str,
        under: &[u8],
        before: Option<&[u8]>,
        mut take: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        for row in self.rows_down(shard, family, under, before)? {
            let (key, value) = row?;
            if !take(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    /// The same, one after the other.
    ///
    /// # Errors
    /// What RocksDB says, at once or in the place of a row.
    pub fn rows_down(
        &self,
        shard: ShardId,
        family: &str,
        under: &[u8],
        before: Option<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<KeyValue, Error>> + use<'_>, Error> {
        let prefix = key_of(shard, under);
        let upper = match before {
            Some(key) => Some([prefix.as_slice(), key].concat()),
            None => behind(&prefix),
        };
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(prefix.as_slice());
        if let Some(upper) = upper {
            options.set_iterate_upper_bound(upper);
        }
        let rows = self.db.iterator_cf_opt(self.family(family)?, options, IteratorMode::End);
        Ok(rows.map(move |row| {
            let (key, value) = row?;
            Ok((key.get(prefix.len()..).unwrap_or_default().to_vec(), value.to_vec()))
        }))
    }

    /// One page of a family, from the highest key below `before` down, and where the next begins.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn page_down(
        &self,
        shard: ShardId,
        family: &str,
        before: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<Page, Error> {
        let mut page = Page::default();
        self.scan_down(shard, family, &[], before, |key, value| {
            if page.rows.len() == rows_max {
                page.next = page.rows.last().map(|(key, _)| key.clone());
                return false;
            }
            page.rows.push((key.to_vec(), value.to_vec()));
            true
        })?;
        Ok(page)
    }

    fn write_unlogged(&self, batch: WriteBatch, wait: Wait) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        options.set_no_slowdown(wait == Wait::No);
        Ok(self.db.write_opt(batch, &options)?)
    }

    pub(crate) fn offer_snapshot(&self, shard: ShardId) {
        self.seen.lock().snapshots.insert(shard);
    }

    pub(crate) fn offers_snapshot(&self, shard: ShardId) -> bool {
        self.seen.lock().snapshots.contains(&shard)
    }
}

/// A key, without what all of them begin with, and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// Rows from the highest key down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// The cursor (`before`) of the next page, where there is one.
    pub next: Option<Vec<u8>>,
}

/// The rows of one moment.
pub struct View<'a> {
    state: &'a State,
    snapshot: rocksdb::Snapshot<'a>,
}

impl View<'_> {
    /// What a shard has applied.
    ///
    /// # Errors
    /// Where the row can't be read.
    pub fn applied(&self, shard: ShardId) -> Result<(Option<LogId>, StoredMembership), Error> {
        let family = self.state.family(RAFT)?;
        let Some(bytes) = self.snapshot.get_cf(family, shard.0.to_be_bytes())? else {
            return Ok((None, StoredMembership::default()));
        };
        let row = |error: wire::Error| Error::Row(shard, error);
        let applied = proto::Applied::decode(bytes.as_slice()).map_err(|e| row(e.into()))?;
        applied_from(applied).map_err(row)
    }

    /// Every row of a shard whose key begins with `under`, but those of the families `without`, family
    /// by family, each in the order of its keys, which are given without `under`.
    ///
    /// # Errors
    /// What RocksDB says, at once or in the place of a row.
    pub fn rows(
        &self,
        shard: ShardId,
        under: &[u8],
        without: &[&str],
    ) -> Result<impl Iterator<Item = Result<Row, Error>> + use<'_>, Error> {
        let families = self.state.families.iter().filter(|name| !without.contains(name));
        let families = families.map(|name| Ok((*name, self.state.family(name)?)));
        let families = families.collect::<Result<Vec<_>, Error>>()?;
        let prefix = key_of(shard, under);
        Ok(families.into_iter().flat_map(move |(name, family)| {
            let len = prefix.len();
            self.iterate(family, &prefix).map(move |row| {
                let (key, value) = row?;
                let key = key.get(len..).unwrap_or_default().to_vec();
                Ok(Row { family: name.to_owned(), key, value: value.to_vec() })
            })
        }))
    }

    /// In the order of keys.
    fn iterate(&self, family: &ColumnFamily, prefix: &[u8]) -> rocksdb::DBIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(prefix);
        if let Some(end) = behind(prefix) {
            options.set_iterate_upper_bound(end);
        }
        let mode = IteratorMode::From(prefix, Direction::Forward);
        self.snapshot.iterator_cf_opt(family, options, mode)
    }
}
