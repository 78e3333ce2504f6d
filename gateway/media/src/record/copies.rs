//! Copies of other gateways' recordings: lines of their manifests and the audio of these, appended
//! as they come. File for file, a copy is byte by byte what it is a copy of.
//!
//! What counts is what [`Copies::sync`] has said: that is on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::board::Place;
use super::custody::Standing;
use super::manifest::{self, Line, Manifest, manifest_path, wav_path};
use super::marks::{self, Mark};
use super::source;
use super::timeline::FRAME_BYTES;
use super::verify::{hash_of, hash_up_to, recover};
use super::wav::{FRAMES_PER_MS, HEADER_BYTES, bytes_of, header};
use crate::event::{Held, Holding};
use crate::limits::{COPIES_OPEN_MAX, LINE_BYTES_MAX};
use crate::sys;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Who sends asks again where to go on.
    #[error("the next line goes at {expected}, not at {at}")]
    NotNext { expected: u64, at: u64 },
    #[error("the audio is not what its line says")]
    Damaged,
    #[error("a line can't be read")]
    Unreadable,
    #[error("more than {COPIES_OPEN_MAX} recordings are copied at once")]
    TooMany,
    /// Who sends has no more to say about it.
    #[error("it goes on here, or there is as much of it here")]
    Ours,
    /// Who sends asks again.
    #[error("it is being written here")]
    Busy,
    #[error("the copy does not begin so")]
    Another,
    #[error("the copy can't be written: {0}")]
    Disk(#[from] io::Error),
}

/// How far a copy is, the BLAKE3 of its manifest up to there, and up to the ends of its last lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Have {
    pub place: Place,
    pub hash: [u8; 32],
    pub marks: Vec<Mark>,
}

pub struct Copies {
    dir: PathBuf,
    open: BTreeMap<u64, Copy>,
    /// Written since the last sync.
    unsynced: BTreeSet<u64>,
}

struct Copy {
    wav: Arc<File>,
    lines: Arc<File>,
    manifest: Manifest,
    /// Over the manifest.
    hasher: blake3::Hasher,
}

impl Copies {
    /// # Errors
    /// The folder can't be used.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        Ok(Self::new(dir))
    }

    /// In a folder that is there when the first is asked for.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: BTreeMap::new(), unsynced: BTreeSet::new() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How far the copy is. One that a crash has left open is read again first, and ends with its
    /// last whole chunk.
    ///
    /// # Errors
    /// The disk's.
    pub fn have(&mut self, recording: u64) -> Result<Have, Error> {
        let copy = self.copy(recording)?;
        let place = Place { bytes: copy.manifest.bytes, frames: copy.manifest.frames };
        let hash = *copy.hasher.finalize().as_bytes();
        let marks = marks::last(&self.dir, recording)?;
        Ok(Have { place, hash, marks })
    }

    /// Its original went on from there without what follows here.
    ///
    /// # Errors
    /// The copy has no such beginning; or the disk's.
    pub fn cut_back(
        &mut self,
        recording: u64,
        mark: &Mark,
        theirs: Standing,
    ) -> Result<Have, Error> {
        self.close(recording);
        let frames = marks::cut_back(&self.dir, recording, mark, theirs)?;
        if frames > 0 {
            let (recording, ms) = (format!("{recording:016x}"), frames / FRAMES_PER_MS);
            tracing::warn!(
                recording,
                ms,
                "TD0327 the end of a recording is put aside: it went on without it elsewhere"
            );
            metrics::counter!("tandem_recording_ends_put_aside_total").increment(1);
        }
        self.have(recording)
    }

    /// Appends a line with its audio. One that begins a manifest begins the copy anew: what was
    /// there is put aside, for it may be all that is left of something.
    ///
    /// # Errors
    /// What does not follow, or is not what it says; or the disk's.
    pub fn put(&mut self, recording: u64, at: u64, line: &[u8], audio: &[u8]) -> Result<(), Error> {
        if line.len() > LINE_BYTES_MAX || !line.ends_with(b"\n") {
            return Err(Error::Unreadable);
        }
        let parsed: Line = serde_json::from_slice(line).map_err(|_| Error::Unreadable)?;
        if at == 0 && self.copy(recording)?.manifest.bytes > 0 {
            self.put_aside(recording)?;
        }
        let copy = self.copy(recording)?;
        if at != copy.manifest.bytes {
            return Err(Error::NotNext { expected: copy.manifest.bytes, at });
        }
        match &parsed {
            Line::Chunk { at_frame, frames, blake3 } => {
                let right = bytes_of(*frames) == audio.len() as u64
                    && *at_frame >= copy.manifest.frames
                    && audio.len().is_multiple_of(FRAME_BYTES)
                    && blake3::hash(audio).to_hex().as_str() == blake3;
                if !right {
                    return Err(Error::Damaged);
                }
                copy.wav.write_all_at(audio, HEADER_BYTES + bytes_of(*at_frame))?;
                copy.wav.write_all_at(&header(at_frame + frames), 0)?;
            }
            Line::Begun { .. } => copy.wav.write_all_at(&header(0), 0)?,
            Line::Sealed { .. } => {
                copy.wav.set_len(HEADER_BYTES + bytes_of(copy.manifest.frames))?;
            }
            Line::Gap(_) | Line::Paused { .. } | Line::Resumed { .. } => {}
        }
        copy.lines.write_all_at(line, at)?;
        copy.manifest.add(&parsed, line.len());
        copy.hasher.update(line);
        self.unsynced.insert(recording);
        Ok(())
    }

    /// Everything that was put is on the disk when this returns: each copy with how far it is, or
    /// why not. One that is whole by now is read again and checked against its seal.
    pub fn sync(&mut self) -> Vec<(u64, Result<Synced, Error>)> {
        let batch = self.begin_sync();
        let wait = |unsynced: Unsynced| {
            let synced = unsynced.wait();
            self.end_sync(unsynced.recording, &synced);
            (unsynced.recording, synced)
        };
        batch.into_iter().map(wait).collect()
    }

    /// All writing is begun before any is awaited: one commit of the file system's journal has them
    /// all.
    pub(super) fn begin_sync(&mut self) -> Vec<Unsynced> {
        let batch = std::mem::take(&mut self.unsynced);
        let unsynced = |recording: u64| {
            let copy = self.open.get(&recording)?;
            sys::begin_writing(&*copy.wav);
            sys::begin_writing(&*copy.lines);
            let (wav, lines) = (Arc::clone(&copy.wav), Arc::clone(&copy.lines));
            Some(Unsynced { recording, wav, lines, manifest: copy.manifest.clone() })
        };
        batch.into_iter().filter_map(unsynced).collect()
    }

    pub(super) fn end_sync(&mut self, recording: u64, synced: &Result<Synced, Error>) {
        if synced.as_ref().map_or(true, |synced| synced.whole.is_some()) {
            self.open.remove(&recording);
        }
        if matches!(synced, Err(Error::Damaged))
            && let Err(error) = self.put_aside(recording)
        {
            tracing::error!(%error, "TD0324 a damaged copy can't be put aside");
        }
    }

    /// Closes it; what was not synced is asked for again.
    pub fn close(&mut self, recording: u64) {
        self.release(recording);
    }

    /// The same, with what its manifest says, where it was open.
    pub(super) fn release(&mut self, recording: u64) -> Option<Manifest> {
        self.unsynced.remove(&recording);
        self.open.remove(&recording).map(|copy| copy.manifest)
    }

    pub(super) fn is_open(&self, recording: u64) -> bool {
        self.open.contains_key(&recording)
    }

    /// What there is of a copy that nobody goes on with.
    ///
    /// # Errors
    /// The disk's.
    pub fn cut(&mut self, recording: u64) -> io::Result<Option<Holding>> {
        self.close(recording);
        cut(&self.dir, recording)
    }

    /// Copies that are not whole.
    ///
    /// # Errors
    /// The disk's.
    pub fn unsealed(&self) -> io::Result<Vec<u64>> {
        Ok(manifest::unsealed(&self.dir)?.into_iter().map(|(recording, _)| recording).collect())
    }

    fn copy(&mut self, recording: u64) -> Result<&mut Copy, Error> {
        if !self.open.contains_key(&recording) {
            if self.open.len() >= COPIES_OPEN_MAX {
                return Err(Error::TooMany);
            }
            let copy = Copy::open(&self.dir, recording)?;
            self.open.insert(recording, copy);
        }
        self.open.get_mut(&recording).ok_or(Error::TooMany)
    }

    pub(super) fn put_aside(&mut self, recording: u64) -> io::Result<()> {
        self.close(recording);
        manifest::put_aside(&self.dir, recording)?;
        let recording = format!("{recording:016x}");
        tracing::error!(recording, "TD0312 the copy of a recording is another than its original");
        metrics::counter!("tandem_recording_copies_put_aside_total").increment(1);
        Ok(())
    }
}

/// A copy that is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub place: Place,
    /// All of it is here.
    pub whole: Option<Holding>,
}

impl Copy {
    fn open(dir: &Path, recording: u64) -> io::Result<Self> {
        let manifest = recover(dir, recording)?;
        let open = |path: &Path| {
            OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)
        };
        let lines = Arc::new(open(&manifest_path(dir, recording))?);
        lines.set_len(manifest.bytes)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&*lines)?;
        let wav = Arc::new(open(&wav_path(dir, recording))?);
        // Nothing stays that no line vouches for: it would come to lie in a gap.
        if wav.metadata()?.len() > HEADER_BYTES {
            wav.set_len(HEADER_BYTES + bytes_of(manifest.frames))?;
        }
        Ok(Self { wav, lines, manifest, hasher })
    }
}

/// What was written of a copy, and is to be awaited while other copies are written.
pub(super) struct Unsynced {
    pub recording: u64,
    wav: Arc<File>,
    lines: Arc<File>,
    manifest: Manifest,
}

impl Unsynced {
    pub fn wait(&self) -> Result<Synced, Error> {
        self.wav.sync_data()?;
        self.lines.sync_data()?;
        let Manifest { bytes, frames, sealed, .. } = self.manifest;
        let mut whole = None;
        if sealed {
            if hash_of(&self.wav)? != self.manifest.hash {
                return Err(Error::Damaged);
            }
            let hash = self.manifest.hash.clone();
            whole = holding(self.recording, &self.manifest, Held::Whole { hash });
        }
        Ok(Synced { place: Place { bytes, frames }, whole })
    }
}

/// How far one is that nobody writes.
pub(super) fn have_in(dir: &Path, recording: u64) -> io::Result<Have> {
    let Manifest { bytes, frames, .. } = recover(dir, recording)?;
    let hash = source::prefix_hash(dir, recording, bytes)?;
    let hash = hash.ok_or_else(|| io::Error::other("the manifest is shorter than it was"))?;
    let mut marks = marks::last(dir, recording)?;
    // What a power cut tore is not there.
    marks.retain(|mark| mark.bytes <= bytes);
    Ok(Have { place: Place { bytes, frames }, hash, marks })
}

/// What a copy comes to that ends where it is. None of one that is whole, or has no audio.
pub(super) fn cut(dir: &Path, recording: u64) -> io::Result<Option<Holding>> {
    let manifest = recover(dir, recording)?;
    if manifest.sealed || manifest.chunks == 0 {
        return Ok(None);
    }
    let hash = hash_up_to(&wav_path(dir, recording), manifest.frames)?;
    Ok(holding(recording, &manifest, Held::Cut { hash }))
}

/// None where the manifest does not say of which call it is.
pub fn holding(recording: u64, manifest: &Manifest, state: Held) -> Option<Holding> {
    Some(Holding {
        call: manifest.call?,
        recording,
        duration_ms: manifest.duration_ms(),
        chunks: manifest.chunks,
        gaps: manifest.gaps.clone(),
        pauses: manifest.pauses_so_far(),
        begun_unix_ms: manifest.begun_unix_ms.unwrap_or(0),
        state,
    })
}
