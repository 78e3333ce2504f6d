//! The file beside each recording that says what lies in it: one JSON value a line, only appended.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::wav::FRAMES_PER_MS;
use crate::event::Gap;
use crate::plan::CallKey;
use crate::sys;

/// A line that seals is shorter than this.
const SEALED_BYTES_MAX: u64 = 256;
/// Where in a folder of recordings lies what was put aside.
pub const ASIDE: &str = "aside";

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
        /// Absent in those of the first tenant.
        #[serde(default, skip_serializing_if = "is_first")]
        tenant: u16,
    },
    /// The audio from `at_frame` on; the hash is BLAKE3 of its bytes.
    Chunk {
        at_frame: u64,
        frames: u64,
        blake3: String,
    },
    Gap(Gap),
    /// From here on nothing is recorded, because somebody said so: silence of the same length.
    Paused {
        at_ms: u64,
    },
    Resumed {
        at_ms: u64,
    },
    /// The recording is whole. One that is resumed has more lines after this, and another.
    Sealed {
        duration_ms: u64,
        blake3: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_first(tenant: &u16) -> bool {
    *tenant == 0
}

/// What a manifest says so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub call: Option<CallKey>,
    pub begun_unix_ms: Option<u64>,
    pub frames: u64,
    pub chunks: u32,
    pub gaps: Vec<Gap>,
    /// Those that are over.
    pub pauses: Vec<Gap>,
    pub paused_at_ms: Option<u64>,
    pub sealed: bool,
    /// BLAKE3 of the sealed file, hex.
    pub hash: String,
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

    /// With the one that lasts, up to where the audio is.
    pub fn pauses_so_far(&self) -> Vec<Gap> {
        let mut pauses = self.pauses.clone();
        if let Some(at_ms) = self.paused_at_ms {
            push_gap(&mut pauses, Gap { at_ms, len_ms: self.duration_ms().saturating_sub(at_ms) });
        }
        pauses
    }

    pub fn duration_ms(&self) -> u64 {
        self.frames / FRAMES_PER_MS
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
            manifest.add(&parsed, line.len());
        }
        manifest
    }

    /// Takes in a line of so many bytes.
    pub fn add(&mut self, line: &Line, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.sealed = false;
        match line {
            Line::Begun { call, unix_ms, tenant, .. } => {
                self.call = Some(CallKey { tenant: *tenant, call: *call });
                self.begun_unix_ms = Some(*unix_ms);
            }
            Line::Chunk { at_frame, frames, .. } => {
                self.frames = self.frames.max(at_frame.saturating_add(*frames));
                self.chunks = self.chunks.saturating_add(1);
            }
            Line::Gap(gap) => push_gap(&mut self.gaps, *gap),
            Line::Paused { at_ms } => self.paused_at_ms = Some(*at_ms),
            Line::Resumed { at_ms } => {
                if let Some(from) = self.paused_at_ms.take() {
                    let len_ms = at_ms.saturating_sub(from);
                    push_gap(&mut self.pauses, Gap { at_ms: from, len_ms });
                }
            }
            Line::Sealed { blake3, .. } => {
                self.sealed = true;
                self.hash.clone_from(blake3);
            }
        }
    }
}

/// The recordings of a folder.
pub fn all(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let recording = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
        found.extend(recording.filter(|id| path == manifest_path(dir, *id)));
    }
    Ok(found)
}

/// Recordings that were begun and not sealed, with their calls.
pub fn unsealed(dir: &Path) -> io::Result<Vec<(u64, CallKey)>> {
    let mut found = Vec::new();
    for recording in all(dir)? {
        let path = manifest_path(dir, recording);
        if is_sealed(&path)? {
            continue;
        }
        if let Manifest { call: Some(call), sealed: false, .. } = Manifest::read(&path)? {
            found.push((recording, call));
        }
    }
    Ok(found)
}

/// The mark beside a recording that another gateway has all of.
pub fn copied_path(dir: &Path, recording: u64) -> PathBuf {
    dir.join(format!("{recording:016x}.copied"))
}

/// Both files of a recording go to another folder of the same file system. The audio first: a manifest of
/// before would not agree, and be found out. A crash between the two is made good by [`mend`].
pub fn move_files(from: &Path, to: &Path, recording: u64) -> io::Result<()> {
    for path in [wav_path, manifest_path] {
        std::fs::rename(path(from, recording), path(to, recording))?;
    }
    Ok(())
}

/// A move that a crash has cut in two is done to its end.
pub fn mend(from: &Path, to: &Path, recording: u64) -> io::Result<()> {
    let (left, wanted) = (manifest_path(from, recording), manifest_path(to, recording));
    let is_cut = left.try_exists()?
        && !wav_path(from, recording).try_exists()?
        && wav_path(to, recording).try_exists()?
        && !wanted.try_exists()?;
    if is_cut { std::fs::rename(left, wanted) } else { Ok(()) }
}

/// The audio last, as what no line vouches for.
pub fn remove_files(dir: &Path, recording: u64) -> io::Result<()> {
    remove_if_there(&manifest_path(dir, recording))?;
    remove_if_there(&wav_path(dir, recording))
}

pub fn remove_if_there(path: &Path) -> io::Result<()> {
    unless_missing(std::fs::remove_file(path))
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Into a folder of `dir` that nobody reads but people: it may be all that is left of something.
pub fn put_aside(dir: &Path, recording: u64) -> io::Result<()> {
    let aside = dir.join(ASIDE);
    std::fs::create_dir_all(&aside)?;
    let stamp = sys::realtime_ns();
    for path in [manifest_path(dir, recording), wav_path(dir, recording)] {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        unless_missing(std::fs::rename(&path, aside.join(format!("{stamp}-{name}"))))?;
    }
    Ok(())
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
