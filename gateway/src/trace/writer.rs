//! The one thread that writes segments. A disk that fails costs the trace and nothing else.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::record::{Body, Record};
use super::segments::{self, SEGMENT_BYTES_MAX, Segment};
use super::{Options, mask};

/// What is buffered reaches the file after so long, or when there is so much of it.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
const BUFFER_BYTES_MAX: usize = 256 * 1024;
/// The budget is kept by dropping whole segments, so there are at least so many.
const SEGMENTS_MIN: u64 = 4;

pub enum Order {
    Note(Record),
    /// Everything before is in the files; which there are.
    Flush(oneshot::Sender<io::Result<Vec<Segment>>>),
}

pub struct Writer {
    options: Options,
    /// Oldest first; the last is written to.
    segments: VecDeque<Segment>,
    file: Option<File>,
    buffer: Vec<u8>,
    failing: bool,
}

impl Writer {
    /// # Errors
    /// Why the folder can't be used.
    pub fn open(options: Options) -> io::Result<Self> {
        fs::create_dir_all(&options.dir)?;
        let segments = segments::list(&options.dir)?.into();
        Ok(Self { options, segments, file: None, buffer: Vec::new(), failing: false })
    }

    /// Until whoever hands over is gone.
    pub fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            let wait = if self.buffer.is_empty() { Duration::from_secs(60) } else { FLUSH_AFTER };
            match inbox.recv_timeout(wait) {
                Ok(Order::Note(mut record)) => {
                    // Here, and not where it was seen: the control task has better things to do.
                    if let Body::Sip { bytes, .. } = &mut record.body {
                        *bytes = mask::message(bytes);
                    }
                    record.append(&mut self.buffer);
                    if self.buffer.len() >= BUFFER_BYTES_MAX {
                        self.write();
                    }
                }
                Ok(Order::Flush(reply)) => {
                    self.write();
                    // Who asked may have stopped waiting.
                    let _ = reply.send(Ok(self.segments.iter().cloned().collect()));
                }
                Err(RecvTimeoutError::Timeout) => self.write(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.write();
    }

    fn write(&mut self) {
        let result = self.try_write();
        let (failed, before) = (result.is_err(), self.failing);
        self.failing = failed;
        if let Err(error) = result {
            metrics::counter!("tandem_trace_write_failures_total").increment(1);
            self.file = None;
            self.buffer.clear();
            if !before {
                let dir = self.options.dir.display();
                tracing::warn!(%error, %dir, "TD0317 calls are not traced: the disk refuses");
            }
        }
    }

    fn try_write(&mut self) -> io::Result<()> {
        self.drop_old()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = self.segments.back().is_none_or(|last| last.bytes >= self.segment_bytes_max());
        if full || self.file.is_none() {
            self.begin_segment()?;
        }
        if let (Some(file), Some(segment)) = (&mut self.file, self.segments.back_mut()) {
            file.write_all(&self.buffer)?;
            segment.bytes += self.buffer.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }

    /// A life never goes on with a segment of another: its end may be torn.
    fn begin_segment(&mut self) -> io::Result<()> {
        let after = self.segments.back().map_or(0, |last| last.begun_ms + 1);
        let begun_ms = unix_ms().max(after);
        let path = segments::path_of(&self.options.dir, begun_ms);
        self.file = Some(OpenOptions::new().create_new(true).append(true).open(&path)?);
        self.segments.push_back(Segment { begun_ms, path, bytes: 0 });
        Ok(())
    }

    fn segment_bytes_max(&self) -> u64 {
        SEGMENT_BYTES_MAX.min(self.options.bytes_max / SEGMENTS_MIN)
    }

    /// Segments that are too old, and the oldest where there is too much. A segment is too old
    /// when the next was begun too long ago.
    fn drop_old(&mut self) -> io::Result<()> {
        let oldest_ms = unix_ms().saturating_sub(self.options.age_ms_max);
        loop {
            let held: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
            let over = held + self.buffer.len() as u64 > self.options.bytes_max;
            let aged = self.segments.get(1).is_some_and(|next| next.begun_ms < oldest_ms);
            let drops = (over || aged) && self.segments.len() > 1;
            let Some(oldest) = self.segments.front().filter(|_| drops) else { return Ok(()) };
            match fs::remove_file(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => drop(self.segments.pop_front()),
            }
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
