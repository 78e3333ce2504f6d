//! Recordings on disk. The only thread of the media plane that waits for the disk.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::manifest::{self, Line, Manifest, manifest_path, wav_path};
use super::timeline::{Chunk, FRAME_BYTES};
use crate::event::{Event, Gap, Recorded};
use crate::limits::{RESUME_GAP_MS_MAX, SAMPLES_PER_MS};

const HEADER_BYTES: u64 = 44;
const HASH_BLOCK_BYTES: usize = 256 * 1024;
/// How often an event that found no room is tried again.
const RETRY: Duration = Duration::from_millis(100);
const FRAMES_PER_MS: u64 = SAMPLES_PER_MS as u64;

pub enum Command {
    Begin {
        recording: u64,
        call: u64,
        unix_ms: u64,
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
}

struct Recording {
    call: u64,
    wav: File,
    lines: File,
    manifest: Manifest,
    /// Where the frames of this run begin: not at 0 if it was resumed.
    offset: u64,
    failed: bool,
}

impl Writer {
    pub fn new(dir: PathBuf, orphans_after: Duration, events: Sender<Event>) -> Self {
        let orphans_due = Some(Instant::now() + orphans_after);
        Self { dir, events, open: HashMap::new(), untold: VecDeque::new(), orphans_due }
    }

    /// Ends when the recorder has gone, and finishes what is open.
    pub fn run(mut self, commands: &Receiver<Command>) {
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
            Command::Begin { recording, call, unix_ms } => {
                match Recording::open(&self.dir, recording, call, unix_ms) {
                    Ok(opened) => {
                        self.open.insert(recording, opened);
                    }
                    Err(error) => failed(recording, "can't be begun", &error),
                }
            }
            Command::Chunk { recording, chunk, missing_ms } => {
                if let Some(open) = self.open.get_mut(&recording)
                    && let Err(error) = open.append(&chunk, missing_ms)
                    && !std::mem::replace(&mut open.failed, true)
                {
                    failed(recording, "has a gap, its audio can't be written", &error);
                }
            }
            Command::Finish { recording } => self.finish(recording),
        }
    }

    fn finish(&mut self, recording: u64) {
        let Some(mut open) = self.open.remove(&recording) else { return };
        match open.seal() {
            Ok(hash) => {
                metrics::counter!("tandem_media_recordings_finished_total").increment(1);
                self.untold.push_back(Event::Recorded(Recorded {
                    call: open.call,
                    recording,
                    duration_ms: open.manifest.frames / FRAMES_PER_MS,
                    chunks: open.manifest.chunks,
                    gaps: open.manifest.gaps,
                    hash,
                    path: wav_path(&self.dir, recording),
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
    fn open(dir: &Path, recording: u64, call: u64, unix_ms: u64) -> io::Result<Self> {
        let path = manifest_path(dir, recording);
        let mut manifest = Manifest::read(&path)?;
        let open = |path: &Path| {
            OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)
        };
        let mut lines = open(&path)?;
        lines.set_len(manifest.bytes)?;
        lines.seek(SeekFrom::End(0))?;
        let wav = open(&wav_path(dir, recording))?;
        let offset = match manifest.begun_unix_ms {
            Some(begun) => {
                let elapsed_ms = unix_ms.saturating_sub(begun);
                let recorded_ms = manifest.frames / FRAMES_PER_MS;
                elapsed_ms.clamp(recorded_ms, recorded_ms + RESUME_GAP_MS_MAX) * FRAMES_PER_MS
            }
            None => {
                let name = format!("{recording:016x}");
                let begun = Line::Begun { recording: name, call, unix_ms };
                write_line(&mut lines, &begun)?;
                manifest.add(&begun);
                0
            }
        };
        let offset = offset.max(manifest.frames);
        let opened = Self { call, wav, lines, manifest, offset, failed: false };
        opened.write_header()?;
        Ok(opened)
    }

    /// Audio first, then the header that makes it part of the file, then the line that vouches
    /// for it: killed between any two, the file can be read.
    fn append(&mut self, chunk: &Chunk, missing_ms: u64) -> io::Result<()> {
        let at_frame = self.offset + chunk.at_frame;
        assert!(at_frame >= self.manifest.frames, "chunks come in order");
        let frames = (chunk.bytes.len() / FRAME_BYTES) as u64;
        self.wav.write_all_at(&chunk.bytes, HEADER_BYTES + at_frame * FRAME_BYTES as u64)?;
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

    fn seal(&mut self) -> io::Result<[u8; 32]> {
        self.write_header()?;
        self.wav.set_len(HEADER_BYTES + self.manifest.frames * FRAME_BYTES as u64)?;
        self.wav.sync_data()?;
        let hash = self.hash()?;
        self.add(&Line::Sealed {
            duration_ms: self.manifest.frames / FRAMES_PER_MS,
            blake3: hash.to_hex().to_string(),
        })?;
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

    fn add(&mut self, line: &Line) -> io::Result<()> {
        write_line(&mut self.lines, line)?;
        self.manifest.add(line);
        Ok(())
    }

    fn write_header(&self) -> io::Result<()> {
        self.wav.write_all_at(&header(self.manifest.frames), 0)
    }
}

fn write_line(lines: &mut File, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
    text.push(b'\n');
    lines.write_all(&text)
}

/// RIFF/WAVE, PCM, two channels, 8000 Hz, 16 bits. The sizes stop at what 32 bits can say: 37 h.
fn header(frames: u64) -> [u8; HEADER_BYTES as usize] {
    let data =
        u32::try_from(frames * FRAME_BYTES as u64).unwrap_or(u32::MAX - 36).min(u32::MAX - 36);
    let mut header = [0; HEADER_BYTES as usize];
    header[0..4].copy_from_slice(b"RIFF");
    header[4..8].copy_from_slice(&(data + 36).to_le_bytes());
    header[8..16].copy_from_slice(b"WAVEfmt ");
    header[16..20].copy_from_slice(&16_u32.to_le_bytes());
    header[20..22].copy_from_slice(&1_u16.to_le_bytes());
    header[22..24].copy_from_slice(&2_u16.to_le_bytes());
    header[24..28].copy_from_slice(&8000_u32.to_le_bytes());
    header[28..32].copy_from_slice(&(8000 * FRAME_BYTES as u32).to_le_bytes());
    header[32..34].copy_from_slice(&(FRAME_BYTES as u16).to_le_bytes());
    header[34..36].copy_from_slice(&16_u16.to_le_bytes());
    header[36..40].copy_from_slice(b"data");
    header[40..44].copy_from_slice(&data.to_le_bytes());
    header
}

fn failed(recording: u64, what: &str, error: &io::Error) {
    metrics::counter!("tandem_media_recording_errors_total").increment(1);
    tracing::error!(recording = format!("{recording:016x}"), %error, "the recording {what}");
}
