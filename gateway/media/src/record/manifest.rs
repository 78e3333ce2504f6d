//! The file beside each recording that says what lies in it: one JSON value a line, only appended.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::event::Gap;

/// A line that seals is shorter than this.
const SEALED_BYTES_MAX: u64 = 256;

/// Where the parts of a recording lie in the recordings' folder.
///
/// `0123456789abcdef.wav`: RIFF/WAVE, PCM, 8000 Hz, 16 bits, two channels (left: caller, right:
/// agent), a header of 44 bytes. `0123456789abcdef.manifest`: its manifest.
pub fn wav_path(dir: &Path, recording: u64) -> PathBuf {
    dir.join(format!("{recording:016x}.wav"))
}

pub fn manifest_path(dir: &Path, recording: u64) -> PathBuf {
    dir.join(format!("{recording:016x}.manifest"))
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Begun {
        recording: String,
        call: u64,
        unix_ms: u64,
    },
    /// The audio from `at_frame` on; the hash is BLAKE3 of its bytes.
    Chunk {
        at_frame: u64,
        frames: u64,
        blake3: String,
    },
    Gap(Gap),
    /// The recording is whole. One that is resumed has more lines after this, and another.
    Sealed {
        duration_ms: u64,
        blake3: String,
    },
}

/// What a manifest says so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub call: Option<u64>,
    pub begun_unix_ms: Option<u64>,
    pub frames: u64,
    pub chunks: u32,
    pub gaps: Vec<Gap>,
    pub sealed: bool,
    /// Bytes of whole lines; what follows is torn.
    pub bytes: u64,
}

impl Manifest {
    /// Of a file that isn't there: empty.
    pub fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Lines up to the first that is torn or unknown.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut manifest = Self::default();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = line.ends_with(b"\n");
            let Some(parsed) = whole.then(|| serde_json::from_slice::<Line>(line).ok()).flatten()
            else {
                break;
            };
            manifest.bytes += line.len() as u64;
            manifest.add(&parsed);
        }
        manifest
    }

    pub fn add(&mut self, line: &Line) {
        self.sealed = false;
        match line {
            Line::Begun { call, unix_ms, .. } => {
                self.call = Some(*call);
                self.begun_unix_ms = Some(*unix_ms);
            }
            Line::Chunk { at_frame, frames, .. } => {
                self.frames = self.frames.max(at_frame.saturating_add(*frames));
                self.chunks = self.chunks.saturating_add(1);
            }
            Line::Gap(gap) => push_gap(&mut self.gaps, *gap),
            Line::Sealed { .. } => self.sealed = true,
        }
    }
}

/// Recordings that were begun and not sealed, with their calls.
pub fn unsealed(dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let recording = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
        let Some(recording) = recording.filter(|id| path == manifest_path(dir, *id)) else {
            continue;
        };
        if is_sealed(&path)? {
            continue;
        }
        if let Manifest { call: Some(call), sealed: false, .. } = Manifest::read(&path)? {
            found.push((recording, call));
        }
    }
    Ok(found)
}

/// By its last bytes: most are sealed, and need not be read whole.
fn is_sealed(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(SEALED_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(SEALED_BYTES_MAX).read_to_end(&mut end)?;
    let last = end.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
    Ok(matches!(serde_json::from_slice(last), Ok(Line::Sealed { .. })))
}

/// Past the limit, the last gap grows over all that follow.
fn push_gap(gaps: &mut Vec<Gap>, gap: Gap) {
    if gaps.len() < crate::limits::GAPS_MAX {
        gaps.push(gap);
    } else if let Some(last) = gaps.last_mut() {
        last.len_ms = (gap.at_ms + gap.len_ms).saturating_sub(last.at_ms);
    }
}
