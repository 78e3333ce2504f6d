//! A recorded run of one shard, as bytes: what `tandem replay` steps through.
//!
//! ```text
//! header   `TDTRACE\n`  version u32  shard u16
//! record   length u32  crc u32  index u64  term u64  envelope
//! ```
//! Numbers are little-endian. The length is of what follows the crc, which is a CRC-32
//! (ISO-HDLC) of the same.

/// What this build writes and reads.
pub const VERSION: u32 = 1;
/// The longest record; no envelope comes near it.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

const MAGIC: &[u8; 8] = b"TDTRACE\n";
const HEADER_BYTES: usize = 14;
/// Length and crc.
const FRAME_BYTES: usize = 8;
/// Index and term.
const PLACE_BYTES: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub shard: u16,
    pub entries: Vec<Entry>,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    /// See [`wire`](crate::wire).
    pub envelope: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it is no trace: it does not begin with TDTRACE")]
    NotATrace,
    #[error("it is a trace of version {0}; this build reads version {VERSION}")]
    Version(u32),
    #[error("it is torn at byte {at}: {whole} whole entries stand before")]
    Torn { at: usize, whole: usize },
    #[error("it is corrupt at byte {at}: {whole} whole entries stand before")]
    Corrupt { at: usize, whole: usize },
}

impl Trace {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.shard.to_le_bytes());
        for entry in &self.entries {
            let mut body = entry.index.to_le_bytes().to_vec();
            body.extend(entry.term.to_le_bytes());
            body.extend(&entry.envelope);
            // Bounded by what a shard takes for a command.
            let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
            bytes.extend(len.to_le_bytes());
            bytes.extend(crc32fast::hash(&body).to_le_bytes());
            bytes.extend(body);
        }
        bytes
    }

    /// # Errors
    /// What is wrong with it, and where.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let header = bytes.get(..HEADER_BYTES).filter(|header| header.starts_with(MAGIC));
        let header = header.ok_or(Error::NotATrace)?;
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let shard = u16::from_le_bytes([header[12], header[13]]);
        let mut trace = Self { shard, entries: Vec::new() };
        let mut at = HEADER_BYTES;
        while at < bytes.len() {
            let whole = trace.entries.len();
            let torn = Error::Torn { at, whole };
            let corrupt = Error::Corrupt { at, whole };
            let Some(frame) = bytes.get(at..at + FRAME_BYTES) else { return Err(torn) };
            let len = u32_at(frame, 0) as usize;
            if !(PLACE_BYTES..=RECORD_BYTES_MAX).contains(&len) {
                return Err(corrupt);
            }
            let begin = at + FRAME_BYTES;
            let Some(body) = bytes.get(begin..begin + len) else { return Err(torn) };
            if crc32fast::hash(body) != u32_at(frame, 4) {
                return Err(corrupt);
            }
            let (place, envelope) = body.split_at(PLACE_BYTES);
            let (index, term) = (u64_at(place, 0), u64_at(place, 8));
            trace.entries.push(Entry { index, term, envelope: envelope.to_vec() });
            at = begin + len;
        }
        Ok(trace)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let entry = |index, fill| Entry { index, term: 3, envelope: vec![fill; 5] };
        Trace { shard: 7, entries: vec![entry(1, 0xaa), entry(2, 0xbb)] }
    }

    #[test]
    fn trace_reads_what_it_wrote() {
        assert_eq!(Trace::decode(&trace().encode()), Ok(trace()));
        let empty = Trace { shard: 1, entries: Vec::new() };
        assert_eq!(Trace::decode(&empty.encode()), Ok(empty));
    }

    #[test]
    fn trace_tells_foreign_torn_and_corrupt_apart() {
        let bytes = trace().encode();
        assert_eq!(Trace::decode(b"no trace at all"), Err(Error::NotATrace));
        assert_eq!(Trace::decode(&bytes[..5]), Err(Error::NotATrace));
        let mut newer = bytes.clone();
        newer[8] = 9;
        assert_eq!(Trace::decode(&newer), Err(Error::Version(9)));
        let second = HEADER_BYTES + FRAME_BYTES + PLACE_BYTES + 5;
        let torn = Error::Torn { at: second, whole: 1 };
        for len in second + 1..bytes.len() {
            assert_eq!(Trace::decode(&bytes[..len]), Err(torn.clone()), "{len} bytes");
        }
        let mut flipped = bytes;
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(Trace::decode(&flipped), Err(Error::Corrupt { at: second, whole: 1 }));
    }
}
