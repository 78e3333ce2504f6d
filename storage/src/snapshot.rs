//! A shard's rows on their way from one node to another, never whole in memory.
//!
//! Whoever sends reads them part by part, from one moment's view. Whoever receives puts the parts
//! into a file, each with its checksum, and takes them in once all are there and synced. A row of
//! Raft's own names the file meanwhile, so that a node that dies in the middle begins again with
//! it when it starts: there is no state between the old and the new one.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::parts::{Cut, Digest, digest_of};
use crate::proto;
use crate::raft::{ShardId, SnapshotMeta};
use crate::state::{Error, Row, State};

/// A longer part than this nobody has sent.
pub const PART_BYTES_MAX: usize = 64 << 20;
pub(crate) const MAGIC: [u8; 8] = *b"TDSNAP\0\x01";
/// Length and checksum.
pub(crate) const PART_HEADER_BYTES: usize = 8;

/// What consensus carries.
pub enum Snapshot {
    /// Made here: the rows are read when they are sent, and may be later than it was made.
    Here(Here),
    Received(Received),
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(here) => write!(f, "rows of {}", here.shard),
            Self::Received(received) => write!(f, "rows in {}", received.path.display()),
        }
    }
}

pub struct Here {
    pub(crate) state: State,
    pub(crate) shard: ShardId,
}

/// What is sent, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Moment(SnapshotMeta),
    /// An encoded `tandem.storage.v1.Snapshot`.
    Rows(Vec<u8>),
    /// One that the other has.
    Known(Digest),
    End {
        rows: u64,
    },
}

impl Here {
    /// Gives every part of one moment to `take`, until that has enough, of those that are `known` to the other
    /// their names alone. Blocks as long as the disk and `take` do. Who keeps no rows is sent none.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn read(
        &self,
        with_rows: bool,
        known: &HashSet<Digest>,
        take: &mut dyn FnMut(Part) -> bool,
    ) -> Result<(), Error> {
        let view = self.state.view();
        view.check(self.shard)?;
        let (last_log_id, last_membership) = view.applied(self.shard)?;
        if !take(Part::Moment(SnapshotMeta { last_log_id, last_membership })) {
            return Ok(());
        }
        let count = Cell::new(0);
        if with_rows {
            let rows = view.rows(self.shard, &[], &[])?;
            for part in Cut::new(rows.inspect(|_| count.set(count.get() + 1))) {
                let part = part?;
                let digest = digest_of(&part);
                let is_known = known.contains(&digest);
                let part = if is_known { Part::Known(digest) } else { Part::Rows(part) };
                if !take(part) {
                    return Ok(());
                }
            }
        }
        take(Part::End { rows: count.get() });
        Ok(())
    }
}

pub fn checksum(rows: &[u8]) -> u32 {
    crc32fast::hash(rows)
}

fn rows_from(part: &[u8]) -> io::Result<Vec<Row>> {
    let part = proto::Snapshot::decode(part).map_err(io::Error::other)?;
    let row =
        |row: proto::snapshot::Row| Row { family: row.family, key: row.key, value: row.value };
    Ok(part.rows.into_iter().map(row).collect())
}

fn broken(path: &Path, what: &str) -> io::Error {
    let why = format!("the snapshot at {} {what}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A snapshot that is coming in. Where it breaks off, what has come is left for the next one.
pub struct Incoming {
    path: PathBuf,
    left: PathBuf,
    file: Option<BufWriter<File>>,
    rows: u64,
}

impl Incoming {
    pub(crate) fn create(path: PathBuf, left: PathBuf) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(&path)?;
        let mut incoming = Self { path, left, file: Some(BufWriter::new(file)), rows: 0 };
        incoming.write(&MAGIC)?;
        Ok(incoming)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or_else(|| broken(&self.path, "is finished"))?;
        file.write_all(bytes)
    }

    /// # Errors
    /// Rows that are none, or what the disk says.
    pub fn put(&mut self, part: &[u8]) -> io::Result<()> {
        if part.is_empty() || part.len() > PART_BYTES_MAX {
            return Err(broken(&self.path, "came with a part that is empty or too long"));
        }
        self.rows += rows_from(part)?.len() as u64;
        self.write(&(part.len() as u32).to_le_bytes())?;
        self.write(&checksum(part).to_le_bytes())?;
        self.write(part)
    }

    /// All is there, and on the disk.
    ///
    /// # Errors
    /// Where rows are missing, or what the disk says.
    pub fn finish(mut self, rows: u64) -> io::Result<Received> {
        if self.rows != rows {
            let what = format!("has {} rows; {rows} were sent", self.rows);
            return Err(broken(&self.path, &what));
        }
        let count = rows.to_le_bytes();
        self.write(&0_u32.to_le_bytes())?;
        self.write(&checksum(&count).to_le_bytes())?;
        self.write(&count)?;
        let file = self.file.take().ok_or_else(|| broken(&self.path, "is finished"))?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        if self.left.try_exists()? {
            remove(&self.left);
        }
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Received { path: self.path.clone(), needed: false })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        // What of it is torn shows by its checksum.
        let kept = self.rows > 0 && file.into_inner().is_ok();
        if !kept || fs::rename(&self.path, &self.left).is_err() {
            remove(&self.path);
        }
    }
}

/// A whole snapshot of another node in a file, which is gone with it unless it is being taken in.
pub struct Received {
    path: PathBuf,
    pub(crate) needed: bool,
}

impl Received {
    /// One that was being taken in when the node died.
    pub(crate) fn again(path: PathBuf) -> Self {
        Self { path, needed: true }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }

    /// Part by part; whatever was damaged since is an error in its place.
    ///
    /// # Errors
    /// What the disk says.
    pub fn parts(&self) -> io::Result<Parts> {
        let mut file = BufReader::new(File::open(&self.path)?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(broken(&self.path, "is none, or of another build"));
        }
        Ok(Parts { path: self.path.clone(), file, rows: 0, done: false })
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if !self.needed {
            remove(&self.path);
        }
    }
}

pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "TD0208 a snapshot's file can't be removed");
    }
}

pub struct Parts {
    path: PathBuf,
    file: BufReader<File>,
    rows: u64,
    done: bool,
}

impl Parts {
    fn part(&mut self) -> io::Result<Option<Vec<Row>>> {
        let mut header = [0; PART_HEADER_BYTES];
        self.file.read_exact(&mut header)?;
        let [a, b, c, d, e, f, g, h] = header;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let sum = u32::from_le_bytes([e, f, g, h]);
        if len > PART_BYTES_MAX {
            return Err(broken(&self.path, "has a part that is too long"));
        }
        let last = len == 0;
        let mut bytes = vec![0; if last { size_of::<u64>() } else { len }];
        self.file.read_exact(&mut bytes)?;
        if checksum(&bytes) != sum {
            return Err(broken(&self.path, "has a part with another checksum"));
        }
        if !last {
            let rows = rows_from(&bytes)?;
            self.rows += rows.len() as u64;
            return Ok(Some(rows));
        }
        if self.rows.to_le_bytes().as_slice() != bytes {
            return Err(broken(&self.path, "lacks rows"));
        }
        Ok(None)
    }
}

impl Iterator for Parts {
    type Item = io::Result<Vec<Row>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let part = self.part().transpose();
        self.done = !matches!(part, Some(Ok(_)));
        part
    }
}
