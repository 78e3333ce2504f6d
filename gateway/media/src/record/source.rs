//! What is sent to the other box, read from the files: the disk is the queue, so that a box that
//! was away for an hour costs no memory.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::manifest::{Line, manifest_path, wav_path};
use super::timeline::FRAME_BYTES;
use super::wav::{HEADER_BYTES, bytes_of};
use crate::limits::{CHUNK_FRAMES, LINE_BYTES_MAX};

/// One line of a manifest, with the audio that it vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where the line begins in the manifest.
    pub at: u64,
    pub line: Vec<u8>,
    pub audio: Vec<u8>,
}

/// Whole lines from `from` to `to`, as many as have about `bytes_max` together, one at least.
pub fn read(
    dir: &Path,
    recording: u64,
    from: u64,
    to: u64,
    bytes_max: usize,
) -> io::Result<Vec<Item>> {
    let mut lines = File::open(manifest_path(dir, recording))?;
    let wav = File::open(wav_path(dir, recording))?;
    lines.seek(SeekFrom::Start(from))?;
    let mut lines = BufReader::new(lines.take(to.saturating_sub(from)));
    let mut items = Vec::new();
    let mut at = from;
    let mut total = 0;
    while total < bytes_max {
        let mut line = Vec::new();
        let bytes = lines.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") || bytes > LINE_BYTES_MAX {
            break;
        }
        let parsed: Line = serde_json::from_slice(&line).map_err(io::Error::other)?;
        let audio = audio_of(&wav, &parsed)?;
        total += bytes + audio.len();
        items.push(Item { at, line, audio });
        at += bytes as u64;
    }
    Ok(items)
}

/// What a line vouches for, as it lies in the file: nothing for most.
pub fn audio_of(wav: &File, line: &Line) -> io::Result<Vec<u8>> {
    let Line::Chunk { at_frame, frames, .. } = line else { return Ok(Vec::new()) };
    let frames = usize::try_from(*frames).ok().filter(|frames| *frames <= CHUNK_FRAMES);
    let frames = frames.ok_or_else(|| io::Error::other("a chunk is too long"))?;
    let mut audio = vec![0; frames * FRAME_BYTES];
    wav.read_exact_at(&mut audio, HEADER_BYTES + bytes_of(*at_frame))?;
    Ok(audio)
}

/// BLAKE3 of the first `bytes` of the manifest; none where it is shorter. Each chunk's line has the
/// hash of its audio, so that this one vouches for all of it up to there.
pub fn prefix_hash(dir: &Path, recording: u64, bytes: u64) -> io::Result<Option<[u8; 32]>> {
    let lines = File::open(manifest_path(dir, recording))?;
    let mut hasher = blake3::Hasher::new();
    let read = io::copy(&mut lines.take(bytes), &mut hasher)?;
    Ok((read == bytes).then(|| *hasher.finalize().as_bytes()))
}
