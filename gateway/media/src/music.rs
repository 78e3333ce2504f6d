//! Music on hold: lists of files, each played round and round, and a melody of our own for who has none.
//!
//! The WAV files of a folder, in the order of their names, are the list that has no name: what callers hear
//! whose queue says nothing else. Each folder in it is a further list, by its name.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use crate::limits::{MUSIC_FILES_MAX, MUSIC_LIST_SAMPLES_MAX, MUSIC_LISTS_MAX, MUSIC_SAMPLES_MAX};
use crate::tones::{Loop, SAMPLE_RATE_HZ};
use crate::wav;

const LEVEL: f64 = 2600.0;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the music's folder {path} can't be read: {error}", path = path.display())]
    Folder { path: PathBuf, error: io::Error },
    #[error("the music's folder has more than {MUSIC_LISTS_MAX} lists")]
    Lists,
    #[error("the list of music in {path} has more than {MUSIC_FILES_MAX} files", path = path.display())]
    Files { path: PathBuf },
    #[error(
        "the list of music in {path} is longer than {max} s",
        path = path.display(), max = MUSIC_LIST_SAMPLES_MAX / 8000
    )]
    ListTooLong { path: PathBuf },
    #[error(
        "the lists of music are longer than {max} s together", max = MUSIC_SAMPLES_MAX / 8000
    )]
    TooMuch,
}

/// Which of an engine's lists; the one without a name, unless it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MusicRef(u32);

pub struct Music {
    by_name: BTreeMap<String, MusicRef>,
    /// The first is the one without a name.
    lists: Vec<Loop>,
}

/// The lists' names that a queue may use.
///
/// # Errors
/// The folder can't be read.
pub fn names(folder: Option<&Path>) -> Result<Vec<String>, Error> {
    Ok(lists(folder)?.into_keys().collect())
}

impl Music {
    /// A file that is no music is left out, and told of in the log; a list without any is the one without
    /// a name.
    ///
    /// # Errors
    /// The folder can't be read, or holds too much.
    pub fn load(folder: Option<&Path>) -> Result<Self, Error> {
        let own = folder.map(samples).transpose()?.filter(|own| !own.is_empty());
        let first = own.unwrap_or_else(melody);
        let mut kept = first.len();
        let mut music = Self { by_name: BTreeMap::new(), lists: vec![Loop::new(&first)] };
        for (name, path) in lists(folder)? {
            let list = samples(&path)?;
            kept += list.len();
            if kept > MUSIC_SAMPLES_MAX {
                return Err(Error::TooMuch);
            }
            let mut at = MusicRef::default();
            if !list.is_empty() {
                at = MusicRef(u32::try_from(music.lists.len()).unwrap_or(u32::MAX));
                music.lists.push(Loop::new(&list));
            }
            music.by_name.insert(name, at);
        }
        Ok(music)
    }

    pub fn find(&self, name: &str) -> Option<MusicRef> {
        self.by_name.get(name).copied()
    }

    pub fn list(&self, list: MusicRef) -> &Loop {
        self.lists.get(list.0 as usize).unwrap_or(&self.lists[0])
    }
}

/// The folders that are lists, by their names.
fn lists(folder: Option<&Path>) -> Result<BTreeMap<String, PathBuf>, Error> {
    let Some(folder) = folder else { return Ok(BTreeMap::new()) };
    let unreadable = |error| Error::Folder { path: folder.to_owned(), error };
    let mut lists = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        // What begins with a dot is no list: so do those of version control.
        if let Some(name) = name.filter(|name| !name.starts_with('.') && path.is_dir()) {
            lists.insert(name.to_owned(), path);
        }
        if lists.len() > MUSIC_LISTS_MAX {
            return Err(Error::Lists);
        }
    }
    Ok(lists)
}

/// Of all the files of a list, one after the other.
fn samples(folder: &Path) -> Result<Vec<i16>, Error> {
    let unreadable = |error| Error::Folder { path: folder.to_owned(), error };
    let files = wav::files(folder, MUSIC_FILES_MAX).map_err(unreadable)?;
    let mut list = Vec::new();
    for path in files.ok_or_else(|| Error::Files { path: folder.to_owned() })?.into_values() {
        let file = std::fs::File::open(&path).map_err(unreadable)?;
        let left = MUSIC_LIST_SAMPLES_MAX - list.len();
        match wav::read(BufReader::new(file), left) {
            Ok(samples) => list.extend(samples),
            Err(wav::Error::TooLong { .. }) => {
                return Err(Error::ListTooLong { path: folder.to_owned() });
            }
            Err(error @ (wav::Error::Read(_) | wav::Error::Format { .. })) => {
                let path = path.display();
                tracing::error!("TD0325 a piece of music is left out: {path} {error}");
            }
        }
    }
    Ok(list)
}

/// Eight bars of four slow chords under a plain tune: written for this project.
fn melody() -> Vec<i16> {
    // Frequencies stay above 250 Hz, where a telephone is heard well.
    const CHORDS: [[f64; 3]; 4] = [
        [261.63, 329.63, 392.00],
        [293.66, 349.23, 440.00],
        [261.63, 349.23, 440.00],
        [293.66, 392.00, 493.88],
    ];
    const TUNE: [f64; 32] = [
        659.26, 587.33, 523.25, 587.33, 698.46, 659.26, 587.33, 523.25, 523.25, 587.33, 698.46,
        880.00, 783.99, 698.46, 587.33, 493.88, 523.25, 659.26, 783.99, 659.26, 698.46, 880.00,
        698.46, 587.33, 698.46, 659.26, 587.33, 523.25, 493.88, 587.33, 493.88, 523.25,
    ];
    const NOTE_SAMPLES: usize = 4000;
    const CHORD_SAMPLES: usize = 4 * NOTE_SAMPLES;
    let mut samples = Vec::with_capacity(TUNE.len() * NOTE_SAMPLES);
    for at in 0..TUNE.len() * NOTE_SAMPLES {
        let chord = CHORDS[(at / CHORD_SAMPLES) % CHORDS.len()];
        let pad: f64 =
            chord.iter().map(|hz| (TAU * hz * at as f64 / SAMPLE_RATE_HZ).sin()).sum::<f64>() / 3.0
                * swell(at % CHORD_SAMPLES, CHORD_SAMPLES);
        let within = at % NOTE_SAMPLES;
        let hz = TUNE[at / NOTE_SAMPLES];
        let seconds = within as f64 / SAMPLE_RATE_HZ;
        let tune =
            (TAU * hz * seconds).sin() * (-4.0 * seconds).exp() * swell(within, NOTE_SAMPLES);
        samples.push(((0.7 * pad + tune) * LEVEL) as i16);
    }
    samples
}

/// Fades in and out over 10 ms, so that no note clicks.
fn swell(at: usize, of: usize) -> f64 {
    let edge = at.min(of - 1 - at) as f64 / 80.0;
    edge.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::g711::Law;
    use crate::tones::{Piece, share_at};
    use crate::wav::made;

    fn write(path: &Path, rate: u32, hz: f64, ms: u32) {
        made::write(path, rate, 1, &made::sine(hz, rate, ms * rate / 1000));
    }

    fn heard(list: &Loop, from_ms: u64) -> Vec<i16> {
        let mut samples = vec![0; 800];
        list.fill_linear(from_ms * 8, &mut samples);
        samples
    }

    #[test]
    fn list_plays_its_files_in_the_order_of_their_names_and_begins_again() {
        let dir = tempfile::tempdir().unwrap();
        let brand = dir.path().join("brand");
        std::fs::create_dir(&brand).unwrap();
        write(&brand.join("2.WAV"), 16_000, 900.0, 300);
        write(&brand.join("1.wav"), 8_000, 500.0, 200);
        write(&brand.join("0.wav"), 44_100, 700.0, 100);
        std::fs::write(brand.join("3.wav"), "no audio").unwrap();
        std::fs::write(brand.join("notes.txt"), "no music").unwrap();
        let music = Music::load(Some(dir.path())).unwrap();
        let list = music.list(music.find("brand").unwrap());
        assert_eq!(list.samples(), 500 * 8);
        for (from_ms, hz) in [(50, 500.0), (250, 900.0), (550, 500.0)] {
            assert!(share_at(&heard(list, from_ms), hz) > 0.9, "{hz} Hz at {from_ms} ms");
        }
    }

    #[test]
    fn folders_own_files_are_what_everybody_hears_whose_queue_names_no_list() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("own.wav"), 8_000, 700.0, 400);
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        let music = Music::load(Some(dir.path())).unwrap();
        assert!(share_at(&heard(music.list(MusicRef::default()), 100), 700.0) > 0.9);
        let empty = music.find("empty").unwrap();
        assert!(share_at(&heard(music.list(empty), 100), 700.0) > 0.9, "better than silence");
        assert_eq!(music.find("missing"), None);
        assert_eq!(names(Some(dir.path())).unwrap(), ["empty"]);
    }

    #[test]
    fn without_a_folder_there_is_a_melody_that_is_audible_and_never_clips() {
        let music = Music::load(None).unwrap();
        let list = music.list(MusicRef::default());
        let mut codes = vec![0; list.samples()];
        list.fill(Law::Mu, 0, &mut codes);
        let loudest = codes
            .iter()
            .map(|code| crate::g711::linear(Law::Mu)[usize::from(*code)].unsigned_abs())
            .max();
        assert!(loudest.is_some_and(|loudest| (1_500..12_000).contains(&loudest)), "{loudest:?}");
    }

    #[test]
    fn list_that_is_too_long_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("long");
        std::fs::create_dir(&long).unwrap();
        for piece in 0..7 {
            write(&long.join(format!("{piece}.wav")), 8_000, 500.0, 300_000);
        }
        let refused = Music::load(Some(dir.path())).err().map(|error| error.to_string());
        assert!(refused.as_ref().is_some_and(|text| text.contains("long")), "{refused:?}");
        let missing = Music::load(Some(&dir.path().join("missing"))).err();
        assert!(matches!(missing, Some(Error::Folder { .. })), "{missing:?}");
    }
}
