//! Where a copy and its original part. A gateway that died had a little more of a recording than its copy;
//! another went on from the copy: up to there both are the same, and need not be sent again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::manifest::{ASIDE, Manifest, manifest_path, wav_path};
use super::wav::{HEADER_BYTES, bytes_of, header};
use crate::limits::COPY_MARKS_MAX;
use crate::sys;

/// An end of a line of a manifest, and the BLAKE3 of all up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub bytes: u64,
    pub hash: [u8; 32],
}

/// The last ends of lines, the last one first.
pub fn last(dir: &Path, recording: u64) -> io::Result<Vec<Mark>> {
    let manifest = std::fs::read(manifest_path(dir, recording))?;
    let lines: Vec<&[u8]> = manifest.split_inclusive(|byte| *byte == b'\n').collect();
    let first = lines.len().saturating_sub(COPY_MARKS_MAX);
    let (mut hasher, mut bytes, mut marks) = (blake3::Hasher::new(), 0, Vec::new());
    for (at, line) in lines.into_iter().enumerate().filter(|(_, line)| line.ends_with(b"\n")) {
        hasher.update(line);
        bytes += line.len() as u64;
        if at >= first {
            marks.push(Mark { bytes, hash: *hasher.finalize().as_bytes() });
        }
    }
    marks.reverse();
    Ok(marks)
}

/// The furthest of them up to which the manifest that lies here is the same.
pub fn common(dir: &Path, recording: u64, marks: &[Mark]) -> io::Result<Option<Mark>> {
    let manifest = std::fs::read(manifest_path(dir, recording))?;
    let mut marks = marks.to_vec();
    marks.sort_by_key(|mark| mark.bytes);
    let (mut hasher, mut at, mut same) = (blake3::Hasher::new(), 0, None);
    for mark in marks {
        let end = usize::try_from(mark.bytes).unwrap_or(usize::MAX);
        let Some(next) = manifest.get(at..end) else { break };
        hasher.update(next);
        // Where they differ at one, they differ at all that follow.
        if *hasher.finalize().as_bytes() != mark.hash {
            break;
        }
        (at, same) = (end, Some(mark));
    }
    Ok(same)
}

/// How much audio was put aside, in frames; none where the manifest does not begin so.
///
/// What follows the mark is nowhere else: it lies beside from now on, by itself.
pub fn cut_back(dir: &Path, recording: u64, mark: &Mark) -> io::Result<Option<u64>> {
    let lines = OpenOptions::new().read(true).write(true).open(manifest_path(dir, recording))?;
    let mut manifest = Vec::new();
    (&lines).read_to_end(&mut manifest)?;
    let split = usize::try_from(mark.bytes).ok().filter(|bytes| *bytes <= manifest.len());
    let Some((kept, rest)) = split.map(|bytes| manifest.split_at(bytes)) else { return Ok(None) };
    let whole = Manifest::parse(&manifest);
    let kept_manifest = Manifest::parse(kept);
    if *blake3::hash(kept).as_bytes() != mark.hash || kept_manifest.bytes != mark.bytes {
        return Ok(None);
    }
    let wav = OpenOptions::new().read(true).write(true).open(wav_path(dir, recording))?;
    let frames = whole.frames.saturating_sub(kept_manifest.frames);
    if frames > 0 {
        put_rest_aside(dir, recording, rest, &wav, (kept_manifest.frames, frames))?;
    }
    // The manifest first: audio that no line vouches for is cut off wherever it is found.
    lines.set_len(mark.bytes)?;
    wav.set_len(HEADER_BYTES + bytes_of(kept_manifest.frames))?;
    wav.write_all_at(&header(kept_manifest.frames), 0)?;
    Ok(Some(frames))
}

fn put_rest_aside(
    dir: &Path,
    recording: u64,
    lines: &[u8],
    mut wav: &File,
    (from, frames): (u64, u64),
) -> io::Result<()> {
    let aside = dir.join(ASIDE);
    std::fs::create_dir_all(&aside)?;
    let stamp = sys::realtime_ns();
    std::fs::write(aside.join(format!("{stamp}-{recording:016x}.manifest")), lines)?;
    let mut rest = File::create_new(aside.join(format!("{stamp}-{recording:016x}.wav")))?;
    rest.write_all(&header(frames))?;
    wav.seek(SeekFrom::Start(HEADER_BYTES + bytes_of(from)))?;
    io::copy(&mut wav.take(bytes_of(frames)), &mut rest)?;
    rest.sync_data()
}
