//! Reading the log at start: what is stale is passed over, what is torn is cut, what is corrupt
//! stops the node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use prost::Message as _;

use super::disk::Disk;
use super::segment::{Behind, Found, HEADER_BYTES, Kind, Record, Segment};
use super::tail::Tail;
use super::{BATCH_BYTES_MAX, Error, Options, PAYLOAD_SEGMENT_SHARE};
use crate::{proto, wire};

pub const LIVE: &str = "seg";
pub const SPARE: &str = "spare";

/// What was found; the writer goes on from here.
#[derive(Default)]
pub struct Recovered {
    /// In the order of their sequence; the last one is written on.
    pub live: VecDeque<Live>,
    pub spare: Vec<Segment>,
    pub tails: BTreeMap<u16, Tail>,
    pub end: End,
    /// The last vote, purge and commit of each shard.
    pub small: BTreeMap<(u16, Kind), Record>,
}

/// A segment that may still be needed.
pub struct Live {
    pub segment: Segment,
    /// The highest entry of each shard in it.
    pub highest: BTreeMap<u16, u64>,
}

#[derive(Clone, Copy, Debug)]
pub struct End {
    pub offset: u64,
    /// The last batch that was written.
    pub batch: u64,
}

impl Default for End {
    fn default() -> Self {
        Self { offset: HEADER_BYTES, batch: 0 }
    }
}

pub fn name_of(sequence: u64) -> String {
    format!("{sequence:016x}.{LIVE}")
}

pub fn recover(disk: &Arc<dyn Disk>, options: &Options) -> Result<Recovered, Error> {
    let folder = |error| Error::Io { path: disk.path(""), error };
    let mut names = disk.list().map_err(folder)?;
    names.sort();
    let mut recovered = Recovered::default();
    let mut segments = Vec::new();
    for name in names {
        match name.rsplit_once('.') {
            Some((_, LIVE)) => {
                let segment = Segment::open(disk.as_ref(), &name, options)?;
                // The header of an earlier life: that of this one never reached the disk.
                if name != name_of(segment.sequence) {
                    return Err(Error::Corrupt { path: segment.path, offset: 0 });
                }
                segments.push(segment);
            }
            Some((_, SPARE)) => recovered.spare.extend(spare(disk.as_ref(), &name, options)),
            // A file that was being filled when the process died.
            Some((_, "new")) => disk.remove(&name).map_err(folder)?,
            Some(_) | None => {}
        }
    }
    // Whoever died may have renamed a file and not seen it done: what is written to it from here on
    // counts, so its name must stay.
    disk.sync_names().map_err(folder)?;
    for pair in segments.windows(2) {
        let (before, after) = (pair[0].sequence, pair[1].sequence);
        if after != before + 1 {
            return Err(Error::Gap { path: disk.path(&name_of(before + 1)), before, after });
        }
    }
    let followers: Vec<Option<u64>> =
        segments.iter().skip(1).map(|next| Some(next.previous_end)).chain([None]).collect();
    for (segment, must_end) in segments.into_iter().zip(followers) {
        recovered.read(segment, must_end)?;
    }
    for tail in recovered.tails.values_mut() {
        tail.settle().map_err(|error| Error::Record { path: disk.path(""), error })?;
    }
    Ok(recovered)
}

/// A purged file; one that is too short or can't be opened is no loss.
fn spare(disk: &dyn Disk, name: &str, options: &Options) -> Option<Segment> {
    let file = disk.open(name).ok()?;
    let mut last = [0];
    file.read_at(&mut last, options.segment_bytes.checked_sub(1)?).ok()?;
    Some(Segment {
        name: name.to_owned(),
        path: disk.path(name),
        sequence: 0,
        first_batch: 0,
        previous_end: 0,
        file,
        bytes: options.segment_bytes,
    })
}

impl Recovered {
    /// Takes in one segment; `must_end` is where its successor says that it ends.
    fn read(&mut self, segment: Segment, must_end: Option<u64>) -> Result<(), Error> {
        let path = segment.path.clone();
        let io = |error| Error::Io { path: path.clone(), error };
        let scan = segment.scan().map_err(io)?;
        let corrupt = match must_end {
            // Synced as a whole before its successor came to be.
            Some(must_end) => scan.end != must_end,
            None => scan.behind == Behind::Corrupt,
        };
        if corrupt {
            return Err(Error::Corrupt { path, offset: scan.end });
        }
        if must_end.is_none() {
            if scan.behind == Behind::Torn {
                tracing::warn!(file = %path.display(), at = scan.end, "a torn record is cut");
                // The batch that is torn was no longer than this.
                let room = segment.bytes.saturating_sub(scan.end);
                let len = room.min(BATCH_BYTES_MAX + segment.bytes / PAYLOAD_SEGMENT_SHARE);
                segment.file.write_at(&vec![0; len as usize], scan.end).map_err(io)?;
            }
            // The last batch may be in the page cache only, even after a sync that failed: it is
            // about to be counted as stored, so it is written and synced once more.
            let start = scan.last.start.min(scan.end);
            segment
                .file
                .write_at(&scan.bytes[start as usize..scan.end as usize], start)
                .and_then(|()| segment.file.sync())
                .map_err(io)?;
            self.end = End { offset: scan.end, batch: scan.last.number };
        }
        let mut highest = BTreeMap::new();
        for found in scan.found {
            if found.record.kind == Kind::Entry {
                let seen = highest.entry(found.record.shard).or_insert(found.record.index);
                *seen = (*seen).max(found.record.index);
            }
            self.replay(&segment, found)
                .map_err(|error| Error::Record { path: path.clone(), error })?;
        }
        self.live.push_back(Live { segment, highest });
        Ok(())
    }

    fn replay(&mut self, segment: &Segment, found: Found) -> Result<(), wire::Error> {
        let record = found.record;
        let tail = self.tails.entry(record.shard).or_default();
        let bytes = record.payload.as_slice();
        match record.kind {
            Kind::Entry => {
                let entry = wire::entry_from(proto::Entry::decode(bytes)?)?;
                tail.truncate_from(record.index);
                let serial = tail.push(entry, bytes.len())?;
                tail.place(record.index, serial, segment.place(found.offset, bytes.len()));
            }
            Kind::Vote => tail.vote = Some(wire::vote_from(proto::Vote::decode(bytes)?)),
            Kind::Truncate => tail.truncate_from(record.index),
            Kind::Purge => tail.purge(wire::log_id_from(proto::LogId::decode(bytes)?)),
            Kind::Committed => {
                tail.committed = Some(wire::log_id_from(proto::LogId::decode(bytes)?));
            }
        }
        if matches!(record.kind, Kind::Vote | Kind::Purge | Kind::Committed) {
            self.small.insert((record.shard, record.kind), record);
        }
        Ok(())
    }
}
