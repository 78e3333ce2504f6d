//! One file of the log: a header page, records, then what was there before.
//!
//! A file is filled with zeros once and used again after a purge, so that a synced append never
//! has to change the file's size. What a reader meets behind the last record is then zeros or
//! records of an earlier life, told apart by the segment's sequence number in every record.
//!
//! ```text
//! header   magic  crc  format  -  sequence  bytes  first_batch  previous_end  cluster   (4 KiB)
//! record   magic  crc  length  batch_start  sequence  batch  index  shard  kind  -  payload
//!          0      4    8       12           16        24     32     40     42       48
//! ```
//! All numbers are little-endian; records begin at multiples of 8; a crc covers what follows it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::{Error, Options};

/// `TDLG` and `TDRC`.
const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"TDLG");
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"TDRC");
pub const FORMAT_VERSION: u32 = 1;
/// A page of its own: no append ever touches it.
pub const HEADER_BYTES: u64 = 4096;
pub const RECORD_HEADER_BYTES: usize = 48;
const ALIGNMENT: usize = 8;
/// Where the header's fixed fields end and the cluster's name (length, text) begins.
const CLUSTER_AT: usize = 48;
pub const CLUSTER_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Entry = 1,
    Vote = 2,
    /// Entries from `index` on are void; the payload is empty.
    Truncate = 3,
    /// Entries up to this log id are no longer needed.
    Purge = 4,
    /// Entries up to this log id were committed when the batch was written.
    Committed = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Entry, Self::Vote, Self::Truncate, Self::Purge, Self::Committed]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub shard: u16,
    pub kind: Kind,
    pub index: u64,
    pub payload: Vec<u8>,
    /// Which append of its shard it was; not written.
    pub serial: u64,
}

impl Record {
    /// What it takes in a segment.
    pub fn bytes(&self) -> u64 {
        padded(RECORD_HEADER_BYTES + self.payload.len()) as u64
    }
}

/// The batch that a record was written with, and where that began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub number: u64,
    pub start: u64,
}

/// A record as it stands in a file.
#[derive(Clone, Debug)]
pub struct Found {
    pub record: Record,
    pub batch: Batch,
    pub offset: u64,
}

/// What a reader finds from the header on.
#[derive(Debug)]
pub struct Scan {
    pub found: Vec<Found>,
    /// The first byte behind the last good record of an unbroken row.
    pub end: u64,
    pub last: Batch,
    pub behind: Behind,
    pub bytes: Vec<u8>,
}

/// What stands behind the unbroken row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Zeros, or an earlier life.
    Unused,
    /// The rest of the last batch, in part: it was being written, and nobody was told that it is
    /// on the disk. The kernel may write the pages of one batch in any order, so good records
    /// behind the damage prove nothing as long as they are of this same batch.
    Torn,
    /// A batch began only after the one that is damaged here was synced: what is missing was
    /// acknowledged.
    Corrupt,
}

/// A record's place, to be read again.
#[derive(Clone)]
pub struct Place {
    pub file: Arc<dyn DiskFile>,
    pub sequence: u64,
    pub offset: u64,
    pub len: u32,
}

#[derive(Clone)]
pub struct Segment {
    pub name: String,
    pub path: PathBuf,
    pub sequence: u64,
    /// The number of the batch that it begins with, and where the segment before it ended: both
    /// were synced before this one came to be.
    pub first_batch: u64,
    pub previous_end: u64,
    pub file: Arc<dyn DiskFile>,
    pub bytes: u64,
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGNMENT)
}

/// Appends one record's bytes to a batch.
pub fn encode(into: &mut Vec<u8>, sequence: u64, batch: Batch, record: &Record) {
    let start = into.len();
    into.extend(RECORD_MAGIC.to_le_bytes());
    into.extend([0; 4]);
    // `Options::payload_bytes_max` and the segment's length bound both.
    into.extend((record.payload.len() as u32).to_le_bytes());
    into.extend((batch.start as u32).to_le_bytes());
    into.extend(sequence.to_le_bytes());
    into.extend(batch.number.to_le_bytes());
    into.extend(record.index.to_le_bytes());
    into.extend(record.shard.to_le_bytes());
    into.extend([record.kind as u8, 0, 0, 0, 0, 0]);
    into.extend(&record.payload);
    let crc = crc32fast::hash(&into[start + 8..]);
    into[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    into.resize(start + padded(into.len() - start), 0);
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// A good record of this life at `at`.
pub fn record_at(bytes: &[u8], at: usize, sequence: u64) -> Option<Found> {
    let header = bytes.get(at..at.checked_add(RECORD_HEADER_BYTES)?)?;
    if u32_at(header, 0) != RECORD_MAGIC || u64_at(header, 16) != sequence {
        return None;
    }
    let len = u32_at(header, 8) as usize;
    let whole = bytes.get(at..at + RECORD_HEADER_BYTES + len)?;
    if crc32fast::hash(&whole[8..]) != u32_at(header, 4) {
        return None;
    }
    let record = Record {
        shard: u16::from_le_bytes([header[40], header[41]]),
        kind: Kind::from_byte(header[42])?,
        index: u64_at(header, 32),
        payload: whole[RECORD_HEADER_BYTES..].to_vec(),
        serial: 0,
    };
    let batch = Batch { number: u64_at(header, 24), start: u64::from(u32_at(header, 12)) };
    Some(Found { record, batch, offset: at as u64 })
}

impl Place {
    /// `None` where the file has begun another life since.
    pub fn read(&self) -> io::Result<Option<Record>> {
        let mut bytes = vec![0; RECORD_HEADER_BYTES + self.len as usize];
        self.file.read_at(&mut bytes, self.offset)?;
        Ok(record_at(&bytes, 0, self.sequence).map(|found| found.record))
    }
}

/// What a segment's header says beside its own length.
pub struct Birth {
    pub sequence: u64,
    pub first_batch: u64,
    pub previous_end: u64,
}

impl Segment {
    /// A file of zeros that waits for its first life.
    pub fn fill(disk: &dyn Disk, name: &str, bytes: u64) -> io::Result<Self> {
        let draft = format!("{name}.new");
        let file = disk.create(&draft, bytes)?;
        disk.rename(&draft, name)?;
        disk.sync_names()?;
        Ok(Self {
            name: name.to_owned(),
            path: disk.path(name),
            sequence: 0,
            first_batch: 0,
            previous_end: 0,
            file,
            bytes,
        })
    }

    /// A filled or purged file begins a life; what it holds is stale from here on.
    pub fn begin(
        mut self,
        disk: &dyn Disk,
        name: &str,
        birth: &Birth,
        cluster: &str,
    ) -> io::Result<Self> {
        self.sequence = birth.sequence;
        self.first_batch = birth.first_batch;
        self.previous_end = birth.previous_end;
        let mut header = vec![0; HEADER_BYTES as usize];
        header[0..4].copy_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        header[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        header[24..32].copy_from_slice(&self.bytes.to_le_bytes());
        header[32..40].copy_from_slice(&self.first_batch.to_le_bytes());
        header[40..48].copy_from_slice(&self.previous_end.to_le_bytes());
        let text = cluster.as_bytes();
        header[CLUSTER_AT..CLUSTER_AT + 2].copy_from_slice(&(text.len() as u16).to_le_bytes());
        header[CLUSTER_AT + 2..CLUSTER_AT + 2 + text.len()].copy_from_slice(text);
        let crc = crc32fast::hash(&header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        self.file.write_at(&header, 0)?;
        self.file.sync()?;
        disk.rename(&self.name, name)?;
        disk.sync_names()?;
        self.name = name.to_owned();
        self.path = disk.path(name);
        Ok(self)
    }

    pub fn open(disk: &dyn Disk, name: &str, options: &Options) -> Result<Self, Error> {
        let path = disk.path(name);
        let broken = |what: String| Error::Header { path: path.clone(), what };
        let io = |error| Error::Io { path: path.clone(), error };
        let file = disk.open(name).map_err(io)?;
        let mut header = vec![0; HEADER_BYTES as usize];
        file.read_at(&mut header, 0).map_err(|_| broken("is too short".to_owned()))?;
        if u32_at(&header, 0) != SEGMENT_MAGIC {
            return Err(broken("is no log segment".to_owned()));
        }
        let version = u32_at(&header, 8);
        if version != FORMAT_VERSION {
            return Err(broken(format!(
                "has format version {version}; this build knows {FORMAT_VERSION}"
            )));
        }
        if crc32fast::hash(&header[8..]) != u32_at(&header, 4) {
            return Err(Error::Corrupt { path, offset: 0 });
        }
        let len = usize::from(u16::from_le_bytes([header[CLUSTER_AT], header[CLUSTER_AT + 1]]));
        let text = header.get(CLUSTER_AT + 2..CLUSTER_AT + 2 + len).unwrap_or_default();
        if text != options.cluster.as_bytes() {
            let found = String::from_utf8_lossy(text);
            let expected = &options.cluster;
            return Err(broken(format!("belongs to cluster {found}, not {expected}")));
        }
        Ok(Self {
            name: name.to_owned(),
            sequence: u64_at(&header, 16),
            bytes: u64_at(&header, 24),
            first_batch: u64_at(&header, 32),
            previous_end: u64_at(&header, 40),
            path,
            file,
        })
    }

    pub fn place(&self, offset: u64, len: usize) -> Place {
        Place { file: Arc::clone(&self.file), sequence: self.sequence, offset, len: len as u32 }
    }

    /// Reads every record of this life.
    pub fn scan(&self) -> io::Result<Scan> {
        let bytes = self.file.read_all()?;
        let mut end = HEADER_BYTES;
        let mut last = Batch { number: self.first_batch.saturating_sub(1), start: HEADER_BYTES };
        let mut rows = Vec::new();
        while let Some(found) = record_at(&bytes, end as usize, self.sequence) {
            let next = Batch { number: last.number + 1, start: end };
            let goes_on = !rows.is_empty() && found.batch == last;
            if !goes_on && found.batch != next {
                break;
            }
            last = found.batch;
            end += found.record.bytes();
            rows.push(found);
        }
        let behind = self.behind(&bytes, end, last);
        Ok(Scan { found: rows, end, last, behind, bytes })
    }

    fn behind(&self, bytes: &[u8], end: u64, last: Batch) -> Behind {
        let next = Batch { number: last.number + 1, start: end };
        let mut behind = Behind::Unused;
        let mut probe = end as usize;
        while probe + RECORD_HEADER_BYTES <= bytes.len() {
            let header = &bytes[probe..probe + RECORD_HEADER_BYTES];
            let of_this_life =
                u32_at(header, 0) == RECORD_MAGIC && u64_at(header, 16) == self.sequence;
            let Some(found) = of_this_life.then(|| record_at(bytes, probe, self.sequence)) else {
                probe += ALIGNMENT;
                continue;
            };
            behind = match found {
                Some(found) if found.batch != last && found.batch != next => {
                    return Behind::Corrupt;
                }
                Some(_) | None => Behind::Torn,
            };
            probe += ALIGNMENT;
        }
        behind
    }
}
