//! The one that writes: it gathers what waits into one write and one sync, then completes all of
//! it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use prost::Message as _;
use tokio::sync::mpsc;

use super::disk::Disk;
use super::queue::{Operation, Pin, Shared};
use super::recovery::{End, LIVE, Live, Recovered, SPARE, name_of};
use super::segment::{Batch, Birth, HEADER_BYTES, Kind, Record, Segment, encode};
use super::{BATCH_BYTES_MAX, BATCH_OPS_MAX, Durability, Options, SPARE_SEGMENTS_MAX};
use crate::raft::ShardId;
use crate::wire;

pub struct Writer {
    disk: Arc<dyn Disk>,
    options: Options,
    log: Recovered,
    shared: Arc<Shared>,
    /// Fills a spare segment meanwhile, so that appends needn't wait for zeros.
    filler: Option<JoinHandle<io::Result<Segment>>>,
    fills: u64,
    /// Used again for every batch.
    buffer: Vec<u8>,
    failed: Option<(io::ErrorKind, String)>,
}

/// Where a record of a batch begins in the buffer.
struct Written<'a> {
    record: &'a Record,
    operation: usize,
    at: usize,
}

impl Writer {
    pub fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        log: Recovered,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let mode = options.durability.name();
        metrics::gauge!("tandem_log_durability", "mode" => mode).set(1.0);
        let mut writer = Self {
            disk,
            options,
            log,
            shared,
            filler: None,
            fills: 0,
            buffer: Vec::new(),
            failed: None,
        };
        writer.retire_segments()?;
        if writer.log.live.is_empty() {
            writer.add_segment()?;
        }
        writer.show();
        Ok(writer)
    }

    /// Until the last handle is gone.
    pub fn run(mut self, mut operations: mpsc::Receiver<Operation>) {
        while let Some(first) = operations.blocking_recv() {
            let mut bytes = first.bytes();
            let mut batch = vec![first];
            while bytes < BATCH_BYTES_MAX && batch.len() < BATCH_OPS_MAX {
                let Ok(operation) = operations.try_recv() else { break };
                bytes += operation.bytes();
                batch.push(operation);
            }
            self.commit(batch);
        }
    }

    /// Writes, syncs and completes.
    pub fn commit(&mut self, batch: Vec<Operation>) {
        self.shared.begin();
        let result = match &self.failed {
            Some((kind, why)) => Err(io::Error::new(*kind, why.clone())),
            None => self.write(&batch),
        };
        self.shared.end();
        if let (Err(error), None) = (&result, &self.failed) {
            // What a failed sync left on the disk is not known: nothing more is promised.
            let path = self.disk.path("");
            let why = format!("the log at {} can't be written: {error}", path.display());
            tracing::error!(code = "TD0206", "{why}");
            metrics::counter!("tandem_log_failures_total").increment(1);
            self.failed = Some((error.kind(), why.clone()));
            self.shared.fail(why);
        }
        for operation in batch {
            operation.done.complete(match (&result, &self.failed) {
                (Ok(()), _) => Ok(()),
                (Err(_), Some((kind, why))) => Err(io::Error::new(*kind, why.clone())),
                (Err(error), None) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }

    fn write(&mut self, batch: &[Operation]) -> io::Result<()> {
        let records: Vec<(usize, &Record)> = batch
            .iter()
            .enumerate()
            .flat_map(|(at, operation)| operation.records.iter().map(move |record| (at, record)))
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        let noted = std::mem::take(&mut *self.shared.committed.lock());
        let noted: Vec<Record> = noted
            .into_iter()
            .map(|(shard, log_id)| Record {
                shard,
                kind: Kind::Committed,
                index: log_id.index,
                payload: wire::log_id(&log_id).encode_to_vec(),
                serial: 0,
            })
            .collect();
        // Behind the entries, so that a torn batch rather loses the note than what it is about.
        let nobody = batch.len();
        let mut rest = records;
        rest.extend(noted.iter().map(|record| (nobody, record)));
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            let done = self.write_some(batch, rest)?;
            rest = &rest[done..];
        }
        if batch.iter().flat_map(|operation| &operation.records).any(|r| r.kind == Kind::Purge) {
            self.retire_segments()?;
        }
        let operations = batch.len() as u64;
        self.shared.stats.lock().operations += operations;
        metrics::histogram!("tandem_log_batch_ops").record(operations as f64);
        self.show();
        Ok(())
    }

    /// One write and one sync of as many records as a batch and the segment take; says how many.
    fn write_some(
        &mut self,
        operations: &[Operation],
        records: &[(usize, &Record)],
    ) -> io::Result<usize> {
        let must = records.first().map_or(0, |(_, record)| record.bytes());
        if self.log.end.offset + must > self.room() {
            self.add_segment()?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let batch = Batch { number: self.log.end.batch + 1, start: self.log.end.offset };
        let sequence = self.sequence();
        if batch.start == HEADER_BYTES {
            // A segment begins with what only an older one says so far, so that that can go.
            for record in self.log.small.values() {
                encode(&mut buffer, sequence, batch, record);
            }
        }
        let room = self.room().saturating_sub(batch.start);
        let mut written = Vec::with_capacity(records.len());
        for (operation, record) in records {
            let at = buffer.len();
            if at as u64 + record.bytes() > room || at as u64 >= BATCH_BYTES_MAX {
                break;
            }
            written.push(Written { record, operation: *operation, at });
            encode(&mut buffer, sequence, batch, record);
        }
        if written.is_empty() {
            return Err(io::Error::other("a segment is too short for what it must hold"));
        }
        self.put(&buffer, batch)?;
        self.note(operations, &written, batch);
        self.buffer = buffer;
        Ok(written.len())
    }

    fn put(&mut self, buffer: &[u8], batch: Batch) -> io::Result<()> {
        let Some(live) = self.log.live.back() else {
            return Err(io::Error::other("the log has no segment"));
        };
        live.segment.file.write_at(buffer, batch.start)?;
        let begun = Instant::now();
        if self.options.durability == Durability::Fsync {
            live.segment.file.sync()?;
        }
        let took = begun.elapsed();
        self.log.end = End { offset: batch.start + buffer.len() as u64, batch: batch.number };
        metrics::histogram!("tandem_log_batch_bytes").record(buffer.len() as f64);
        metrics::counter!("tandem_log_writes_total").increment(1);
        let mut stats = self.shared.stats.lock();
        stats.writes += 1;
        stats.bytes += buffer.len() as u64;
        if self.options.durability == Durability::Fsync {
            metrics::histogram!("tandem_log_fsync_seconds").record(took.as_secs_f64());
            self.shared.syncs.lock().record(took, begun + took);
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            stats.syncs += 1;
            stats.sync_us_sum = stats.sync_us_sum.saturating_add(us);
            stats.sync_us_max = stats.sync_us_max.max(us);
        }
        Ok(())
    }

    /// What was written is remembered where it is needed.
    fn note(&mut self, operations: &[Operation], written: &[Written<'_>], batch: Batch) {
        let Some(live) = self.log.live.back_mut() else { return };
        for Written { record, operation, at } in written {
            match record.kind {
                Kind::Entry => {
                    let seen = live.highest.entry(record.shard).or_insert(record.index);
                    *seen = (*seen).max(record.index);
                    let tail = operations.get(*operation).and_then(|o| o.tail.as_ref());
                    if let Some(tail) = tail {
                        let place =
                            live.segment.place(batch.start + *at as u64, record.payload.len());
                        tail.lock().place(record.index, record.serial, place);
                    }
                }
                Kind::Vote | Kind::Purge | Kind::Committed => {
                    self.log.small.insert((record.shard, record.kind), (*record).clone());
                }
                Kind::Truncate => {}
            }
        }
    }

    fn sequence(&self) -> u64 {
        self.log.live.back().map_or(0, |live| live.segment.sequence)
    }

    fn room(&self) -> u64 {
        self.log.live.back().map_or(0, |live| live.segment.bytes)
    }

    fn add_segment(&mut self) -> io::Result<()> {
        let sequence = self.sequence() + 1;
        let segment = match self.log.spare.pop() {
            Some(spare) => spare,
            None => self.filled()?,
        };
        let birth = Birth {
            sequence,
            first_batch: self.log.end.batch + 1,
            previous_end: self.log.end.offset,
        };
        let (disk, cluster) = (self.disk.as_ref(), &self.options.cluster);
        let segment = segment.begin(disk, &name_of(sequence), &birth, cluster)?;
        self.log.live.push_back(Live { segment, highest: BTreeMap::new() });
        self.log.end.offset = HEADER_BYTES;
        if self.log.spare.is_empty() {
            self.fill_ahead();
        }
        Ok(())
    }

    fn spare_name(&mut self) -> String {
        self.fills += 1;
        format!("fill-{:08x}-{:04x}.{SPARE}", self.sequence(), self.fills)
    }

    /// The segment that is being filled, or one filled now.
    fn filled(&mut self) -> io::Result<Segment> {
        if let Some(filler) = self.filler.take() {
            return filler.join().map_err(|_| io::Error::other("filling a segment panicked"))?;
        }
        let name = self.spare_name();
        Segment::fill(self.disk.as_ref(), &name, self.options.segment_bytes)
    }

    fn fill_ahead(&mut self) {
        if self.filler.is_some() || !self.disk.has_threads() {
            return;
        }
        let (disk, bytes) = (Arc::clone(&self.disk), self.options.segment_bytes);
        let name = self.spare_name();
        let fill = move || Segment::fill(disk.as_ref(), &name, bytes);
        // Without a thread the next segment is filled when it is needed.
        self.filler = std::thread::Builder::new().name("log-filler".to_owned()).spawn(fill).ok();
    }

    /// Oldest first, so that no gap comes to be: a segment goes when all its entries are purged.
    fn retire_segments(&mut self) -> io::Result<()> {
        if self.log.end.offset == HEADER_BYTES {
            // Votes and purges are repeated with the first batch, which isn't there yet.
            return Ok(());
        }
        let mut retired = false;
        while self.log.live.len() > 1 && self.pins().is_empty() {
            let Some(live) = self.log.live.pop_front() else { break };
            let mut segment = live.segment;
            // A file of another length comes from other options.
            let fits = segment.bytes == self.options.segment_bytes;
            if fits && self.log.spare.len() < SPARE_SEGMENTS_MAX {
                let name = segment.name.replace(LIVE, SPARE);
                self.disk.rename(&segment.name, &name)?;
                segment.name = name;
                self.log.spare.push(segment);
            } else {
                self.disk.remove(&segment.name)?;
            }
            retired = true;
        }
        if retired {
            // Before one of them begins another life.
            self.disk.sync_names()?;
        }
        Ok(())
    }

    fn purged(&self, shard: u16) -> Option<u64> {
        self.log.small.get(&(shard, Kind::Purge)).map(|record| record.index)
    }

    /// What the oldest segment is still needed for.
    fn pins(&self) -> Vec<Pin> {
        if self.log.live.len() < 2 {
            return Vec::new();
        }
        let oldest = self.log.live.front().into_iter().flat_map(|live| &live.highest);
        oldest
            .filter(|(shard, highest)| self.purged(**shard).is_none_or(|at| at < **highest))
            .map(|(shard, highest)| Pin { shard: ShardId(*shard), index: *highest })
            .collect()
    }

    fn show(&self) {
        *self.shared.pins.lock() = self.pins();
        let mut stats = self.shared.stats.lock();
        stats.segments_live = self.log.live.len() as u64;
        stats.segments_spare = self.log.spare.len() as u64;
        let live = self.log.live.iter().map(|live| live.segment.bytes).sum::<u64>();
        let spare = self.log.spare.iter().map(|spare| spare.bytes).sum::<u64>();
        let filling = self.filler.as_ref().map_or(0, |_| self.options.segment_bytes);
        stats.disk_bytes = live + spare + filling;
        metrics::gauge!("tandem_log_segments").set(stats.segments_live as f64);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(filler) = self.filler.take() {
            // A file that was filled for nothing is found and used at the next start.
            let _ = filler.join();
        }
    }
}
