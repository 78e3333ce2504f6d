//! A recording that runs: its audio and its manifest, appended chunk by chunk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::board::Place;
use super::manifest::{Line, Manifest, manifest_path, wav_path};
use super::timeline::{Chunk, FRAME_BYTES};
use super::verify::recover;
use super::wav::{FRAMES_PER_MS, HEADER_BYTES, bytes_of, header};
use crate::event::Gap;
use crate::limits::RESUME_GAP_MS_MAX;
use crate::plan::CallKey;

const HASH_BLOCK_BYTES: usize = 256 * 1024;

/// The files of a recording that is open.
pub struct Recording {
    pub call: CallKey,
    wav: File,
    lines: File,
    pub manifest: Manifest,
    /// Where the frames of this run begin: not at 0 if it was resumed.
    pub offset: u64,
    pub failed: bool,
}

impl Recording {
    /// A recording that is there already is gone on with: the time between is a gap. What is known of it need
    /// not be read again.
    pub fn open(
        dir: &Path,
        recording: u64,
        call: CallKey,
        unix_ms: u64,
        known: Option<Manifest>,
    ) -> io::Result<Self> {
        let manifest = known.map_or_else(|| recover(dir, recording), Ok)?;
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

    pub fn place(&self) -> Place {
        Place { bytes: self.manifest.bytes, frames: self.manifest.frames }
    }

    /// Audio first, then the header that makes it part of the file, then the line that vouches
    /// for it: killed between any two, the file can be read.
    pub fn append(&mut self, chunk: &Chunk, missing_ms: u64) -> io::Result<()> {
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
    pub fn cut_tail(&self) -> io::Result<()> {
        self.wav.set_len(HEADER_BYTES + bytes_of(self.manifest.frames))
    }

    pub fn pause(&mut self, at_frame: u64, paused: bool) -> io::Result<()> {
        let at_ms = (self.offset + at_frame) / FRAMES_PER_MS;
        match (paused, self.manifest.paused_at_ms) {
            (true, None) => self.add(&Line::Paused { at_ms }),
            (false, Some(from)) => self.add(&Line::Resumed { at_ms: at_ms.max(from) }),
            // A recording that was resumed by a later life of the process is paused already.
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }

    pub fn seal(&mut self) -> io::Result<[u8; 32]> {
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
