//! Prompts by name: those of a folder, before those that are built in. Read once, into both laws, so
//! that playing one copies bytes.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use crate::g711::{self, Law};
use crate::limits::{PROMPT_SAMPLES_MAX, PROMPTS_MAX, PROMPTS_SAMPLES_MAX, SAMPLES_PER_MS};
use crate::tones::{self, Piece};
use crate::wav;

/// What the demo tenant's flows play.
const BUILT_IN: [(&str, &[u8]); 3] = [
    ("menu", include_bytes!("../prompts/menu.wav")),
    ("notice", include_bytes!("../prompts/notice.wav")),
    ("goodbye", include_bytes!("../prompts/goodbye.wav")),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the prompts' folder {path} can't be read: {error}", path = path.display())]
    Folder { path: PathBuf, error: std::io::Error },
    #[error("the prompt {name} {error}")]
    File { name: String, error: wav::Error },
    #[error(
        "there are more prompts than are kept: {PROMPTS_MAX}, {max} s together",
        max = PROMPTS_SAMPLES_MAX / 8000
    )]
    TooMany,
}

/// Which of an engine's prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptRef(u32);

#[derive(Debug, Default)]
pub struct Prompts {
    by_name: BTreeMap<String, PromptRef>,
    clips: Vec<Clip>,
}

/// Audio that is played once.
#[derive(Debug)]
pub struct Clip {
    linear: Box<[i16]>,
    ulaw: Box<[u8]>,
    alaw: Box<[u8]>,
}

/// The names that a flow may use: those of a folder's files, and those that are built in.
///
/// # Errors
/// The folder can't be read.
pub fn names(folder: Option<&Path>) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.extend(tones::clips().map(|(name, _)| name));
    names.extend(files(folder)?.into_keys());
    Ok(names)
}

impl Prompts {
    /// A file that is no prompt is left out, and told of in the log: its flow goes on without it.
    ///
    /// # Errors
    /// The folder can't be read, or holds too much.
    pub fn load(folder: Option<&Path>) -> Result<Self, Error> {
        let mut prompts = Self::default();
        for (name, bytes) in BUILT_IN {
            let unreadable = |error| Error::File { name: name.to_owned(), error };
            let samples = wav::read(Cursor::new(bytes), PROMPT_SAMPLES_MAX).map_err(unreadable)?;
            prompts.add(name, samples)?;
        }
        for (name, samples) in tones::clips() {
            prompts.add(&name, samples)?;
        }
        for (name, path) in files(folder)? {
            let unreadable = |error| Error::Folder { path: path.clone(), error };
            let file = std::fs::File::open(&path).map_err(unreadable)?;
            match wav::read(std::io::BufReader::new(file), PROMPT_SAMPLES_MAX) {
                Ok(samples) => prompts.add(&name, samples)?,
                Err(error) => {
                    let error = Error::File { name, error };
                    tracing::error!(%error, "TD0308 a prompt is left out");
                }
            }
        }
        Ok(prompts)
    }

    fn add(&mut self, name: &str, samples: Vec<i16>) -> Result<(), Error> {
        let kept: usize = self.clips.iter().map(Clip::samples).sum();
        if self.clips.len() >= PROMPTS_MAX || kept + samples.len() > PROMPTS_SAMPLES_MAX {
            return Err(Error::TooMany);
        }
        let at = PromptRef(u32::try_from(self.clips.len()).unwrap_or(u32::MAX));
        self.by_name.insert(name.to_owned(), at);
        self.clips.push(Clip::new(&samples));
        Ok(())
    }

    pub fn find(&self, name: &str) -> Option<PromptRef> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn clip(&self, prompt: PromptRef) -> Option<&Clip> {
        self.clips.get(prompt.0 as usize)
    }
}

impl Clip {
    fn new(samples: &[i16]) -> Self {
        Self {
            linear: samples.into(),
            ulaw: g711::encode(Law::Mu, samples).into_boxed_slice(),
            alaw: g711::encode(Law::A, samples).into_boxed_slice(),
        }
    }

    pub fn samples(&self) -> usize {
        self.ulaw.len()
    }

    pub fn duration_ms(&self) -> u64 {
        self.samples() as u64 / u64::from(SAMPLES_PER_MS)
    }
}

/// Silence is behind the end.
impl Piece for Clip {
    fn fill(&self, law: Law, at: u64, out: &mut [u8]) {
        let codes = if law == Law::Mu { &self.ulaw } else { &self.alaw };
        play_once(codes, g711::silence(law), at, out);
    }

    fn fill_linear(&self, at: u64, out: &mut [i16]) {
        play_once(&self.linear, 0, at, out);
    }
}

fn play_once<T: Copy>(piece: &[T], silence: T, at: u64, out: &mut [T]) {
    let from = usize::try_from(at).map_or(piece.len(), |at| at.min(piece.len()));
    let count = out.len().min(piece.len() - from);
    out[..count].copy_from_slice(&piece[from..from + count]);
    out[count..].fill(silence);
}

/// The folder's WAV files by the names of prompts.
fn files(folder: Option<&Path>) -> Result<BTreeMap<String, PathBuf>, Error> {
    let Some(folder) = folder else { return Ok(BTreeMap::new()) };
    let unreadable = |error| Error::Folder { path: folder.to_owned(), error };
    let files = wav::files(folder, PROMPTS_MAX).map_err(unreadable)?;
    files.ok_or(Error::TooMany)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tones;
    use crate::wav::made::{sine, write};

    fn decoded(clip: &Clip) -> Vec<i16> {
        clip.ulaw.iter().map(|code| g711::linear(Law::Mu)[usize::from(*code)]).collect()
    }

    #[test]
    fn prompts_of_the_demo_tenant_are_built_in() {
        let prompts = Prompts::load(None).unwrap();
        let lasts = |name: &str| prompts.clip(prompts.find(name).unwrap()).unwrap().duration_ms();
        assert!((3_000..=4_500).contains(&lasts("menu")), "{}", lasts("menu"));
        assert!((4_500..=5_500).contains(&lasts("notice")), "{}", lasts("notice"));
        assert!(lasts("goodbye") <= 2_000);
        assert_eq!(prompts.find("no_such"), None);
    }

    #[test]
    fn folders_prompts_go_before_those_built_in_and_what_is_none_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("menu.wav"), 8_000, 1, &sine(440.0, 8_000, 800));
        write(&dir.path().join("wide.WAV"), 16_000, 1, &sine(1_000.0, 16_000, 16_000));
        write(&dir.path().join("stereo.wav"), 8_000, 2, &[0; 1_600]);
        std::fs::write(dir.path().join("text.wav"), "no audio").unwrap();
        std::fs::write(dir.path().join("readme.txt"), "no prompt").unwrap();
        let prompts = Prompts::load(Some(dir.path())).unwrap();
        let clip = |name: &str| prompts.clip(prompts.find(name).unwrap()).unwrap();
        assert_eq!(clip("menu").samples(), 800);
        assert_eq!(clip("wide").samples(), 8_000);
        let wide = decoded(clip("wide"));
        assert!(tones::share_at(&wide[1_000..], 1_000.0) > 0.95);
        assert_eq!((prompts.find("stereo"), prompts.find("text")), (None, None));
        let names = names(Some(dir.path())).unwrap();
        assert!(["menu", "notice", "wide", "stereo"].iter().all(|n| names.contains(&(*n).into())));
        assert!(Prompts::load(Some(&dir.path().join("absent"))).is_err());
    }

    #[test]
    fn clip_is_silent_behind_its_end() {
        let clip = Clip::new(&[8_000; 200]);
        let mut out = [0; 160];
        clip.fill(Law::A, 100, &mut out);
        assert!(out[..100].iter().all(|code| *code == out[0]) && out[0] != 0xd5);
        assert!(out[100..].iter().all(|code| *code == 0xd5));
        clip.fill(Law::Mu, u64::MAX, &mut out);
        assert_eq!(out, [0xff; 160]);
    }
}
