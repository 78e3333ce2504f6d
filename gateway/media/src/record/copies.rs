//! Copies of other gateways' recordings: lines of their manifests and the audio of these, appended
//! as they come. File for file, a copy is byte by byte what it is a copy of.
//!
//! What counts is what [`Copies::sync`] has said: that is on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::board::Place;
use super::manifest::{self, Line, Manifest, manifest_path, wav_path};
use super::timeline::FRAME_BYTES;
use super::verify::{file_hash, hash_up_to, recover};
use super::wav::{HEADER_BYTES, bytes_of, header};
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
    #[error("the copy can't be written: {0}")]
    Disk(#[from] io::Error),
}

/// How far a copy is, and the BLAKE3 of its manifest up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    pub place: Place,
    pub hash: [u8; 32],
}

pub struct Copies {
    dir: PathBuf,
    open: BTreeMap<u64, Copy>,
    /// Written since the last sync.
    unsynced: BTreeSet<u64>,
}

struct Copy {
    wav: File,
    lines: File,
    manifest: Manifest,
    /// Over the manifest.
    hasher: blake3::Hasher,
}

impl Copies {
    /// # Errors
    /// The folder can't be used.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, open: BTreeMap::new(), unsynced: BTreeSet::new() })
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
        Ok(Have { place, hash: *copy.hasher.finalize().as_bytes() })
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
        let batch: Vec<u64> = std::mem::take(&mut self.unsynced).into_iter().collect();
        // All writing is begun before any is awaited: one commit of the file system's journal has
        // them all.
        for copy in batch.iter().filter_map(|recording| self.open.get(recording)) {
            sys::begin_writing(&copy.wav);
            sys::begin_writing(&copy.lines);
        }
        let mut done = Vec::new();
        for recording in batch {
            let Some(copy) = self.open.get(&recording) else { continue };
            let synced = copy.synced(&self.dir, recording);
            if synced.as_ref().map_or(true, |synced| synced.whole.is_some()) {
                self.open.remove(&recording);
            }
            if matches!(synced, Err(Error::Damaged))
                && let Err(error) = self.put_aside(recording)
            {
                tracing::error!(%error, "TD0324 a damaged copy can't be put aside");
            }
            done.push((recording, synced));
        }
        done
    }

    /// Closes it; what was not synced is asked for again.
    pub fn close(&mut self, recording: u64) {
        self.unsynced.remove(&recording);
        self.open.remove(&recording);
    }

    /// What there is of copies that nobody goes on with.
    ///
    /// # Errors
    /// The disk's.
    pub fn cut(&mut self, recording: u64) -> io::Result<Option<Holding>> {
        self.close(recording);
        let manifest = recover(&self.dir, recording)?;
        if manifest.sealed || manifest.chunks == 0 {
            return Ok(None);
        }
        let hash = hash_up_to(&wav_path(&self.dir, recording), manifest.frames)?;
        Ok(holding(recording, &manifest, Held::Cut { hash }))
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

    fn put_aside(&mut self, recording: u64) -> io::Result<()> {
        self.close(recording);
        let aside = self.dir.join("aside");
        std::fs::create_dir_all(&aside)?;
        let stamp = sys::realtime_ns();
        for path in [manifest_path(&self.dir, recording), wav_path(&self.dir, recording)] {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            std::fs::rename(&path, aside.join(format!("{stamp}-{name}")))?;
        }
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
        let lines = open(&manifest_path(dir, recording))?;
        lines.set_len(manifest.bytes)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&lines)?;
        let wav = open(&wav_path(dir, recording))?;
        // Nothing stays that no line vouches for: it would come to lie in a gap.
        if wav.metadata()?.len() > HEADER_BYTES {
            wav.set_len(HEADER_BYTES + bytes_of(manifest.frames))?;
        }
        Ok(Self { wav, lines, manifest, hasher })
    }

    fn synced(&self, dir: &Path, recording: u64) -> Result<Synced, Error> {
        self.wav.sync_data()?;
        self.lines.sync_data()?;
        let Manifest { bytes, frames, sealed, .. } = self.manifest;
        let mut whole = None;
        if sealed {
            if file_hash(&wav_path(dir, recording))? != self.manifest.hash {
                return Err(Error::Damaged);
            }
            let hash = self.manifest.hash.clone();
            whole = holding(recording, &self.manifest, Held::Whole { hash });
        }
        Ok(Synced { place: Place { bytes, frames }, whole })
    }
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
