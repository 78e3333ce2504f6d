//! Where a copy and its original part. A gateway that died had a little more of a recording than its copy;
//! another went on from the copy: up to there both are the same, and need not be sent again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::copies::Error;
use super::custody::Standing;
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

/// What there is of a recording in parts: up to the mark, and behind it.
struct Parted {
    kept: Manifest,
    /// Lines.
    rest: Vec<u8>,
    /// Of audio, that the rest vouches for.
    frames: u64,
}

/// Whether it may be cut back, for who is so far.
///
/// # Errors
/// Why not; or the disk's.
pub fn check(dir: &Path, recording: u64, mark: &Mark, theirs: Standing) -> Result<(), Error> {
    part(dir, recording, mark, theirs).map(|_| ())
}

fn part(dir: &Path, recording: u64, mark: &Mark, theirs: Standing) -> Result<Parted, Error> {
    let mut manifest = std::fs::read(manifest_path(dir, recording))?;
    let whole = Manifest::parse(&manifest);
    let bytes = usize::try_from(mark.bytes).unwrap_or(usize::MAX);
    let same = manifest.get(..bytes).ok_or(Error::Another)?;
    let kept = Manifest::parse(same);
    if *blake3::hash(same).as_bytes() != mark.hash || kept.bytes != mark.bytes {
        return Err(Error::Another);
    }
    let frames = whole.frames.saturating_sub(kept.frames);
    let ours = Standing { frames: whole.frames, sealed: whole.sealed };
    if frames > 0 && !ours.may_lose(theirs) {
        return Err(Error::Ours);
    }
    Ok(Parted { kept, rest: manifest.split_off(bytes), frames })
}

/// How much audio was put aside, in frames: it is nowhere else, and lies beside from now on, by itself.
///
/// # Errors
/// What does not begin so, or is whole; or the disk's.
pub fn cut_back(dir: &Path, recording: u64, mark: &Mark, theirs: Standing) -> Result<u64, Error> {
    let Parted { kept, rest, frames } = part(dir, recording, mark, theirs)?;
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let (lines, wav) = (open(&manifest_path(dir, recording))?, open(&wav_path(dir, recording))?);
    if frames > 0 {
        put_rest_aside(dir, recording, &rest, &wav, (kept.frames, frames))?;
    }
    // The manifest first: audio that no line vouches for is cut off wherever it is found.
    lines.set_len(mark.bytes)?;
    wav.set_len(HEADER_BYTES + bytes_of(kept.frames))?;
    wav.write_all_at(&header(kept.frames), 0)?;
    Ok(frames)
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
