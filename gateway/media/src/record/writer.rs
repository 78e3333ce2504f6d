//! Recordings on disk. The only thread of the media plane that waits for the disk.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::board::{Board, Place};
use super::copies::holding;
use super::manifest::{self, Line, Manifest, copied_path, manifest_path, wav_path};
use super::timeline::{Chunk, FRAME_BYTES};
use super::verify::recover;
use super::wav::{FRAMES_PER_MS, HEADER_BYTES, bytes_of, header};
use crate::event::{Event, Gap, Held, Holding, Recorded};
use crate::limits::{HOLDINGS_EVERY_MS, HOLDINGS_MAX, RESUME_GAP_MS_MAX};
use crate::plan::CallKey;

const HASH_BLOCK_BYTES: usize = 256 * 1024;
/// How often an event that found no room is tried again.
const RETRY: Duration = Duration::from_millis(100);

pub enum Command {
    Begin {
        recording: u64,
        call: CallKey,
        at_ns: u64,
        unix_ms: u64,
    },
    Pause {
        recording: u64,
        at_frame: u64,
        paused: bool,
    },
    /// `missing_ms` of its audio found no room on the way here.
    Chunk {
        recording: u64,
        chunk: Chunk,
        missing_ms: u64,
    },
    Finish {
        recording: u64,
    },
}

pub struct Writer {
    dir: PathBuf,
    events: Sender<Event>,
    open: HashMap<u64, Recording>,
    /// A finished recording must be told, even if nobody listens just now.
    untold: VecDeque<Event>,
    /// When recordings that a crash left open are looked for; none once that is done.
    orphans_due: Option<Instant>,
    /// When running recordings are told of next.
    holdings_due: Instant,
    board: Arc<Board>,
}

struct Recording {
    call: CallKey,
    wav: File,
    lines: File,
    manifest: Manifest,
    /// Where the frames of this run begin: not at 0 if it was resumed.
    offset: u64,
    failed: bool,
}

impl Writer {
    pub fn new(
        dir: PathBuf,
        orphans_after: Duration,
        events: Sender<Event>,
        board: Arc<Board>,
    ) -> Self {
        let orphans_due = Some(Instant::now() + orphans_after);
        let holdings_due = Instant::now() + Duration::from_millis(HOLDINGS_EVERY_MS);
        let (open, untold) = (HashMap::new(), VecDeque::new());
        Self { dir, events, open, untold, orphans_due, holdings_due, board }
    }

    /// Ends when the recorder has gone, and finishes what is open.
    pub fn run(mut self, commands: &Receiver<Command>) {
        self.find_uncopied();
        loop {
            match commands.recv_timeout(RETRY) {
                Ok(command) => self.handle(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.orphans_due.is_some_and(|due| Instant::now() >= due) {
                self.orphans_due = None;
                self.finish_orphans();
            }
            if self.board.wants_more() {
                self.find_uncopied();
            }
            self.tell_holdings();
            self.tell();
        }
        let open: Vec<u64> = self.open.keys().copied().collect();
        for recording in open {
            self.finish(recording);
        }
        self.tell();
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Begin { recording, call, at_ns, unix_ms } => {
                // A mark that another gateway has all of it holds no more.
                let unmarked = std::fs::remove_file(copied_path(&self.dir, recording));
                if let Err(error) = unmarked.or_else(unless_missing) {
                    failed(recording, "can't be begun", &error);
                    return;
                }
                match Recording::open(&self.dir, recording, call, unix_ms) {
                    Ok(opened) => {
                        self.board.begin(recording, at_ns, opened.offset, opened.place());
                        self.open.insert(recording, opened);
                    }
                    Err(error) => failed(recording, "can't be begun", &error),
                }
            }
            Command::Chunk { recording, chunk, missing_ms } => {
                let Some(open) = self.open.get_mut(&recording) else { return };
                let written = open.append(&chunk, missing_ms).or_else(|error| {
                    // The hole reads as silence, whatever was written of it.
                    open.cut_tail().and(Err(error))
                });
                match written {
                    Ok(()) => open.failed = false,
                    Err(error) if !std::mem::replace(&mut open.failed, true) => {
                        failed(recording, "has a gap, its audio can't be written", &error);
                    }
                    Err(_) => {}
                }
                self.board.wrote(recording, open.place());
            }
            Command::Pause { recording, at_frame, paused } => {
                let Some(open) = self.open.get_mut(&recording) else { return };
                if let Err(error) = open.pause(at_frame, paused) {
                    failed(recording, "can't say that it is paused", &error);
                }
                self.board.wrote(recording, open.place());
            }
            Command::Finish { recording } => self.finish(recording),
        }
    }

    fn finish(&mut self, recording: u64) {
        let Some(mut open) = self.open.remove(&recording) else { return };
        let sealed = open.seal();
        self.board.end(recording, open.place(), sealed.is_ok());
        match sealed {
            Ok(hash) => {
                metrics::counter!("tandem_media_recordings_finished_total").increment(1);
                self.untold.push_back(Event::Recorded(Recorded {
                    call: open.call,
                    recording,
                    duration_ms: open.manifest.duration_ms(),
                    chunks: open.manifest.chunks,
                    gaps: open.manifest.gaps,
                    hash,
                    path: wav_path(&self.dir, recording),
                    pauses: open.manifest.pauses,
                    begun_unix_ms: open.manifest.begun_unix_ms.unwrap_or(0),
                }));
            }
            Err(error) => failed(recording, "can't be finished", &error),
        }
    }

    fn finish_orphans(&mut self) {
        let orphans = match manifest::unsealed(&self.dir) {
            Ok(orphans) => orphans,
            Err(error) => {
                tracing::error!(%error, "recordings that a crash left open can't be looked for");
                return;
            }
        };
        for (recording, call) in orphans {
            if self.open.contains_key(&recording) {
                continue;
            }
            // As if it went on where it ended: no gap.
            match Recording::open(&self.dir, recording, call, 0) {
                Ok(opened) => {
                    self.open.insert(recording, opened);
                    self.finish(recording);
                }
                Err(error) => failed(recording, "that a crash left open can't be finished", &error),
            }
        }
    }

    /// Those that another gateway may not have, for whoever copies.
    fn find_uncopied(&self) {
        if !self.board.is_wanted() {
            return;
        }
        let found = manifest::all(&self.dir).and_then(|all| {
            for recording in all {
                if self.open.contains_key(&recording)
                    || copied_path(&self.dir, recording).try_exists()?
                {
                    continue;
                }
                let Manifest { bytes, frames, sealed, .. } =
                    Manifest::read(&manifest_path(&self.dir, recording))?;
                self.board.found(recording, Place { bytes, frames }, sealed);
            }
            Ok(())
        });
        if let Err(error) = found {
            tracing::error!(%error, "TD0319 recordings that have no copy can't be looked for");
        }
    }

    /// All that run, in one event now and then.
    fn tell_holdings(&mut self) {
        if Instant::now() < self.holdings_due {
            return;
        }
        self.holdings_due = Instant::now() + Duration::from_millis(HOLDINGS_EVERY_MS);
        let running = |(id, open): (&u64, &Recording)| holding(*id, &open.manifest, Held::Running);
        let told: Vec<Holding> = self.open.iter().filter_map(running).collect();
        let parts = told.chunks(HOLDINGS_MAX).map(|part| Event::Recording(part.to_vec()));
        self.untold.extend(parts);
    }

    fn tell(&mut self) {
        while let Some(event) = self.untold.pop_front() {
            if let Err(crossbeam_channel::TrySendError::Full(event)) = self.events.try_send(event) {
                self.untold.push_front(event);
                return;
            }
        }
    }
}

impl Recording {
    /// A recording that is there already is gone on with: the time between is a gap.
    fn open(dir: &Path, recording: u64, call: CallKey, unix_ms: u64) -> io::Result<Self> {
        let manifest = recover(dir, recording)?;
        let open = |path: &Path| {
            OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)
        };
        let lines = open(&manifest_path(dir, recording))?;
        lines.set_len(manifest.bytes)?;
        let wav = open(&wav_path(dir, recording))?;
        let offset = match manifest.begun_unix_ms {
            Some(begun) => {
                let elapsed_ms = unix_ms.saturating_sub(begun);
                let recorded_ms = manifest.duration_ms();
                elapsed_ms.clamp(recorded_ms, recorded_ms + RESUME_GAP_MS_MAX) * FRAMES_PER_MS
            }
            None => 0,
        };
        let offset = offset.max(manifest.frames);
        let is_new = manifest.begun_unix_ms.is_none();
        let mut opened = Self { call, wav, lines, manifest, offset, failed: false };
        opened.cut_tail()?;
        opened.write_header()?;
        if is_new {
            let name = format!("{recording:016x}");
            let CallKey { tenant, call } = call;
            opened.add(&Line::Begun { recording: name, call, unix_ms, tenant })?;
        }
        Ok(opened)
    }

    fn place(&self) -> Place {
        Place { bytes: self.manifest.bytes, frames: self.manifest.frames }
    }

    /// Audio first, then the header that makes it part of the file, then the line that vouches
    /// for it: killed between any two, the file can be read.
    fn append(&mut self, chunk: &Chunk, missing_ms: u64) -> io::Result<()> {
        let at_frame = self.offset + chunk.at_frame;
        assert!(at_frame >= self.manifest.frames, "chunks come in order");
        let frames = (chunk.bytes.len() / FRAME_BYTES) as u64;
        self.wav.write_all_at(&chunk.bytes, HEADER_BYTES + bytes_of(at_frame))?;
        if at_frame > self.manifest.frames {
            // What is skipped in the file reads as zeros, which is silence.
            let from = self.manifest.frames;
            let gap = Gap {
                at_ms: from / FRAMES_PER_MS,
                len_ms: (at_frame - from).div_ceil(FRAMES_PER_MS),
            };
            self.add(&Line::Gap(gap))?;
        }
        let line = Line::Chunk {
            at_frame,
            frames,
            blake3: blake3::hash(&chunk.bytes).to_hex().to_string(),
        };
        self.add(&line)?;
        self.write_header()?;
        if missing_ms > 0 {
            let len_ms = missing_ms.min(frames / FRAMES_PER_MS);
            self.add(&Line::Gap(Gap { at_ms: at_frame / FRAMES_PER_MS, len_ms }))?;
        }
        Ok(())
    }

    /// Nothing stays in the file that no line vouches for: it would come to lie in a gap.
    fn cut_tail(&self) -> io::Result<()> {
        self.wav.set_len(HEADER_BYTES + bytes_of(self.manifest.frames))
    }

    fn pause(&mut self, at_frame: u64, paused: bool) -> io::Result<()> {
        let at_ms = (self.offset + at_frame) / FRAMES_PER_MS;
        match (paused, self.manifest.paused_at_ms) {
            (true, None) => self.add(&Line::Paused { at_ms }),
            (false, Some(from)) => self.add(&Line::Resumed { at_ms: at_ms.max(from) }),
            // A recording that was resumed by a later life of the process is paused already.
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }

    fn seal(&mut self) -> io::Result<[u8; 32]> {
        let duration_ms = self.manifest.duration_ms();
        if let Some(from) = self.manifest.paused_at_ms {
            self.add(&Line::Resumed { at_ms: duration_ms.max(from) })?;
        }
        self.write_header()?;
        self.cut_tail()?;
        self.wav.sync_data()?;
        let hash = self.hash()?;
        self.add(&Line::Sealed { duration_ms, blake3: hash.to_hex().to_string() })?;
        self.lines.sync_data()?;
        Ok(*hash.as_bytes())
    }

    fn hash(&mut self) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let mut block = vec![0; HASH_BLOCK_BYTES];
        self.wav.seek(SeekFrom::Start(0))?;
        loop {
            let read = self.wav.read(&mut block)?;
            if read == 0 {
                return Ok(hasher.finalize());
            }
            hasher.update(&block[..read]);
        }
    }

    /// Where the last whole line ends, so that one that was torn by a full disk is written over.
    fn add(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
        text.push(b'\n');
        self.lines.write_all_at(&text, self.manifest.bytes)?;
        self.manifest.add(line, text.len());
        Ok(())
    }

    fn write_header(&self) -> io::Result<()> {
        self.wav.write_all_at(&header(self.manifest.frames), 0)
    }
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn failed(recording: u64, what: &str, error: &io::Error) {
    metrics::counter!("tandem_media_recording_errors_total").increment(1);
    tracing::error!(recording = format!("{recording:016x}"), %error, "TD0320 the recording {what}");
}
