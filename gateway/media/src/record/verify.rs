//! Is what lies on the disk what was recorded? And how far, where a crash has left it open?

use std::fs::File;
use std::io;
use std::path::Path;

use super::manifest::{Line, Manifest, manifest_path, wav_path};
use super::source::audio_of;
use super::wav::{FRAMES_PER_MS, HEADER_BYTES, bytes_of};

/// What was found of one recording in one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub manifest: Manifest,
    /// Chunks whose audio is not what it was: their numbers, from 1, and places.
    pub damaged: Vec<Damage>,
    /// Sealed, with all chunks right, and yet not the file that was sealed.
    pub wrong_hash: bool,
    /// Bytes of the manifest that follow its last whole line.
    pub torn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    pub chunk: u32,
    pub at_ms: u64,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.damaged.is_empty() && !self.wrong_hash && !(self.manifest.sealed && self.torn > 0)
    }
}

/// Reads all of it again. `None`: there is none here.
pub fn verify(dir: &Path, recording: u64) -> io::Result<Option<Verdict>> {
    let path = manifest_path(dir, recording);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let manifest = Manifest::parse(&bytes);
    let whole = usize::try_from(manifest.bytes).unwrap_or(bytes.len()).min(bytes.len());
    let mut verdict =
        Verdict { torn: (bytes.len() - whole) as u64, manifest, ..Verdict::default() };
    let wav = File::open(wav_path(dir, recording));
    let mut chunk = 0;
    each_chunk(&bytes[..whole], |line, _| {
        let Line::Chunk { at_frame, .. } = line else { return true };
        chunk += 1;
        if !wav.as_ref().is_ok_and(|wav| is_right(wav, line)) {
            verdict.damaged.push(Damage { chunk, at_ms: at_frame / FRAMES_PER_MS });
        }
        true
    });
    if verdict.manifest.sealed && verdict.damaged.is_empty() {
        let hash = file_hash(&wav_path(dir, recording))?;
        verdict.wrong_hash = hash != verdict.manifest.hash;
    }
    Ok(Some(verdict))
}

/// The manifest up to the last chunk whose audio is there. What a power cut took from the files
/// can only be their ends, in any order.
pub fn recover(dir: &Path, recording: u64) -> io::Result<Manifest> {
    let bytes = match std::fs::read(manifest_path(dir, recording)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Manifest::default()),
        Err(error) => return Err(error),
    };
    let manifest = Manifest::parse(&bytes);
    let whole = usize::try_from(manifest.bytes).unwrap_or(bytes.len()).min(bytes.len());
    let wav = match File::open(wav_path(dir, recording)) {
        Ok(wav) => wav,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Manifest::default()),
        Err(error) => return Err(error),
    };
    let mut good = whole;
    each_chunk(&bytes[..whole], |line, at| {
        let right = is_right(&wav, line);
        if !right {
            good = at;
        }
        right
    });
    Ok(if good == whole { manifest } else { Manifest::parse(&bytes[..good]) })
}

/// Each line with its place, until `visit` has enough.
fn each_chunk(manifest: &[u8], mut visit: impl FnMut(&Line, usize) -> bool) {
    let mut at = 0;
    for text in manifest.split_inclusive(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(text) else { return };
        if !visit(&line, at) {
            return;
        }
        at += text.len();
    }
}

fn is_right(wav: &File, line: &Line) -> bool {
    let Line::Chunk { blake3, .. } = line else { return true };
    audio_of(wav, line).is_ok_and(|audio| blake3::hash(&audio).to_hex().as_str() == blake3)
}

/// BLAKE3 of a whole file, hex.
pub fn file_hash(path: &Path) -> io::Result<String> {
    hash_of(&File::open(path)?)
}

/// The same of one that is open.
pub fn hash_of(mut file: &File) -> io::Result<String> {
    use std::io::{Seek as _, SeekFrom};
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// BLAKE3 of the file as it would be if it ended with so many frames, hex.
pub fn hash_up_to(path: &Path, frames: u64) -> io::Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(HEADER_BYTES))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&super::wav::header(frames));
    hasher.update_reader(file.take(bytes_of(frames)))?;
    Ok(hasher.finalize().to_hex().to_string())
}
