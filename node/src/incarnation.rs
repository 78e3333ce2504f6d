//! The number of a process's life. Events, obituaries and connections of an earlier life are told
//! by it, so it grows with each start, even where the wall clock was set back between two.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::dev::folder;

/// In a data folder, or a supervisor's.
pub const FILE: &str = "incarnation";

pub struct Incarnations {
    file: PathBuf,
    last: u64,
}

impl Incarnations {
    /// `file` keeps what was given last; it is made where it is missing.
    pub fn open(file: PathBuf) -> Self {
        let last = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "is no incarnation: left aside");
                0
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "can't be read");
                0
            }
        };
        Self { file, last }
    }

    /// Milliseconds since 1970, or one more than the last.
    pub fn next(&mut self) -> u64 {
        self.after(unix_ms())
    }

    fn after(&mut self, unix_ms: u64) -> u64 {
        self.last = unix_ms.max(self.last.saturating_add(1));
        if let Err(error) = self.keep() {
            tracing::warn!(
                error = format!("{error:#}"),
                "TD0412 the number of this start can't be kept: if the wall clock is set back before the \
                 next one, peers take that for an earlier life and don't hear it"
            );
        }
        self.last
    }

    fn keep(&self) -> Result<()> {
        let folder = self.file.parent().context("a file is in a folder")?;
        std::fs::create_dir_all(folder)?;
        folder::replace(&self.file, format!("{}\n", self.last).as_bytes(), 0o600)
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_life_is_later_though_the_wall_clock_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data").join(FILE);
        assert_eq!(Incarnations::open(file.clone()).after(7_200_000), 7_200_000);
        let mut back = Incarnations::open(file.clone());
        assert_eq!([back.after(3_600_000), back.after(3_600_001)], [7_200_001, 7_200_002]);
        assert_eq!(Incarnations::open(file).after(8_000_000), 8_000_000);
    }

    #[test]
    fn file_that_is_damaged_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        std::fs::write(&file, "many").unwrap();
        assert_eq!(Incarnations::open(file.clone()).after(5), 5);
        assert_eq!(Incarnations::open(file).after(0), 6);
    }
}
