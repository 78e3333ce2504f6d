//! How a shard's rows are cut into parts: by what they are, not by how many came before, so that two nodes
//! with the same rows have the same parts of them, and only what differs is sent (content-defined chunking:
//! Muthitacharoen, Chen, Mazières, "A Low-bandwidth Network File System", SOSP 2001).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use prost::Message as _;

use crate::proto;
use crate::snapshot::{MAGIC, PART_BYTES_MAX, PART_HEADER_BYTES, checksum};
use crate::state::{Error, Row};

/// A part is no shorter, but the last.
const PART_BYTES_MIN: usize = 64 << 10;
/// A part is longer only by its last row.
pub const PART_BYTES: usize = 256 << 10;
/// One key in so many ends a part that is long enough.
const KEYS_A_PART: u32 = 128;
const DIGEST_BYTES: usize = 16;

/// Names a part by its bytes (BLAKE3, cut).
pub type Digest = [u8; DIGEST_BYTES];

pub fn digest_of(part: &[u8]) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(&blake3::hash(part).as_bytes()[..DIGEST_BYTES]);
    digest
}

/// Takes rows in their order and gives parts, encoded as `tandem.storage.v1.Snapshot`.
#[derive(Default)]
pub struct Cutter {
    part: proto::Snapshot,
    bytes: usize,
}

impl Cutter {
    /// The part that this row ends.
    pub fn add(&mut self, row: Row) -> Option<Vec<u8>> {
        let Row { family, key, value } = row;
        self.bytes += family.len() + key.len() + value.len();
        let is_last = crc32fast::hash(&key).is_multiple_of(KEYS_A_PART);
        self.part.rows.push(proto::snapshot::Row { family, key, value });
        let ends = self.bytes >= PART_BYTES || (is_last && self.bytes >= PART_BYTES_MIN);
        if ends { self.rest() } else { None }
    }

    /// What no row has ended.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        let part = std::mem::take(self).part;
        (!part.rows.is_empty()).then(|| part.encode_to_vec())
    }
}

/// The parts of rows in their order.
pub struct Cut<R> {
    rows: R,
    cutter: Cutter,
}

impl<R: Iterator<Item = Result<Row, Error>>> Cut<R> {
    pub fn new(rows: R) -> Self {
        Self { rows, cutter: Cutter::default() }
    }
}

impl<R: Iterator<Item = Result<Row, Error>>> Iterator for Cut<R> {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        for row in self.rows.by_ref() {
            match row {
                Ok(row) => {
                    if let Some(part) = self.cutter.add(row) {
                        return Some(Ok(part));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
        self.cutter.rest().map(Ok)
    }
}

/// What came of a snapshot that broke off: whole parts in a file.
pub struct Left {
    file: File,
    /// Offset and length of each.
    places: HashMap<Digest, (u64, usize)>,
}

impl Left {
    /// Parts up to the first that is torn. None where there is no such file.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut places = HashMap::new();
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || magic != MAGIC {
            return Ok(None);
        }
        let mut at = MAGIC.len() as u64;
        while let Some(part) = next_part(&mut file) {
            let offset = at + PART_HEADER_BYTES as u64;
            places.insert(digest_of(&part), (offset, part.len()));
            at = offset + part.len() as u64;
        }
        Ok(Some(Self { file, places }))
    }

    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.places.keys()
    }

    /// None where it is not there, or not any more what it was.
    pub fn find(&mut self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        let Some((offset, len)) = self.places.get(digest).copied() else { return Ok(None) };
        self.file.seek(SeekFrom::Start(offset))?;
        let mut part = vec![0; len];
        self.file.read_exact(&mut part)?;
        Ok((digest_of(&part) == *digest).then_some(part))
    }
}

/// None at the end, or where what follows is torn.
fn next_part(file: &mut File) -> Option<Vec<u8>> {
    let mut header = [0; PART_HEADER_BYTES];
    file.read_exact(&mut header).ok()?;
    let [a, b, c, d, e, f, g, h] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len == 0 || len > PART_BYTES_MAX {
        return None;
    }
    let mut part = vec![0; len];
    file.read_exact(&mut part).ok()?;
    (checksum(&part) == u32::from_le_bytes([e, f, g, h])).then_some(part)
}

/// The parts that a node has: of a snapshot that broke off, and of its own rows.
pub struct Own<R> {
    left: Option<Left>,
    rows: Cut<R>,
}

impl<R: Iterator<Item = Result<Row, Error>>> Own<R> {
    pub fn new(left: Option<Left>, rows: R) -> Self {
        Self { left, rows: Cut::new(rows) }
    }

    /// Parts are asked for in the order of their rows. None where it has no such part.
    ///
    /// # Errors
    /// What RocksDB or the disk says.
    pub fn find(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        if let Some(left) = &mut self.left {
            let found = left.find(digest).map_err(Error::Left)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        for part in self.rows.by_ref() {
            let part = part?;
            if digest_of(&part) == *digest {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }
}
