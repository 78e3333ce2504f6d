//! Audio files: what a folder has of them, and one as samples of telephony.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const RATE_HZ: u32 = 8_000;
const WIDE_HZ: u32 = 16_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't be read: {0}")]
    Read(#[from] hound::Error),
    #[error(
        "must be WAV, 8000 or 16000 Hz, mono, 16-bit PCM; it has {rate} Hz, {channels} channels, \
         {bits} bits"
    )]
    Format { rate: u32, channels: u16, bits: u16 },
    #[error("is longer than {seconds} s")]
    TooLong { seconds: usize },
}

/// A folder's WAV files by their names without the ending; none where there are more than `max`.
///
/// # Errors
/// The folder can't be read.
pub fn files(folder: &Path, max: usize) -> io::Result<Option<BTreeMap<String, PathBuf>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_wav = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("wav"));
        if let (true, Some(name)) = (is_wav, path.file_stem().and_then(|name| name.to_str())) {
            files.insert(name.to_owned(), path);
        }
        if files.len() > max {
            return Ok(None);
        }
    }
    Ok(Some(files))
}

/// At 8000 Hz, whatever the file has.
///
/// # Errors
/// It isn't telephony's kind of WAV, or has more than `samples_max` samples at 8000 Hz.
pub fn read(file: impl Read, samples_max: usize) -> Result<Vec<i16>, Error> {
    let mut reader = hound::WavReader::new(file)?;
    let spec = reader.spec();
    let pcm = spec.sample_format == hound::SampleFormat::Int && spec.bits_per_sample == 16;
    if !matches!(spec.sample_rate, RATE_HZ | WIDE_HZ) || spec.channels != 1 || !pcm {
        return Err(Error::Format {
            rate: spec.sample_rate,
            channels: spec.channels,
            bits: spec.bits_per_sample,
        });
    }
    let times = (spec.sample_rate / RATE_HZ) as usize;
    let most = samples_max * times;
    let samples: Vec<i16> = reader.samples::<i16>().take(most + 1).collect::<Result<_, _>>()?;
    match samples.len() {
        count if count > most => Err(Error::TooLong { seconds: samples_max / RATE_HZ as usize }),
        _ => Ok(if times == 2 { halved(&samples) } else { samples }),
    }
}

/// Every second sample, after a half-band filter: what lies above 4 kHz would fold back.
fn halved(samples: &[i16]) -> Vec<i16> {
    /// The taps at the odd distances from the middle (a sinc under a Blackman window); those at even ones are 0.
    const TAPS: [f64; 6] = [0.309_5, -0.082_1, 0.030_6, -0.010_1, 0.002_3, -0.000_2];
    let at = |place: isize| {
        usize::try_from(place)
            .ok()
            .and_then(|place| samples.get(place))
            .map_or(0.0, |s| f64::from(*s))
    };
    let filtered = (0..samples.len()).step_by(2).map(|middle| {
        let middle = middle as isize;
        let sides = (0_isize..).zip(TAPS).map(|(n, tap)| {
            let far = 2 * n + 1;
            tap * (at(middle - far) + at(middle + far))
        });
        0.5 * at(middle) + sides.sum::<f64>()
    });
    filtered.map(|s| s.clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16).collect()
}

/// Files for tests.
#[cfg(test)]
pub mod made {
    use std::path::Path;

    pub fn sine(hz: f64, rate: u32, count: u32) -> Vec<i16> {
        let wave = |at: u32| (std::f64::consts::TAU * hz * f64::from(at) / f64::from(rate)).sin();
        (0..count).map(|at| (wave(at) * 8_000.0) as i16).collect()
    }

    pub fn write(path: &Path, rate: u32, channels: u16, samples: &[i16]) {
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::made::{sine, write};
    use super::*;

    #[test]
    fn file_of_another_rate_is_refused_with_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("music.wav");
        let read = || read(std::fs::File::open(&path).unwrap(), 8_000).map(|it| it.len());
        write(&path, 8_000, 1, &[0; 800]);
        assert_eq!(read().ok(), Some(800));
        write(&path, 44_100, 1, &[0; 800]);
        assert!(read().is_err_and(|error| error.to_string().contains("44100")));
    }

    #[test]
    fn nothing_of_above_four_kilohertz_folds_back() {
        let high = halved(&sine(6_500.0, 16_000, 16_000));
        let low = halved(&sine(1_000.0, 16_000, 16_000));
        let power = |samples: &[i16]| samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
        assert!(power(&high) < power(&low) / 1_000.0);
    }
}
