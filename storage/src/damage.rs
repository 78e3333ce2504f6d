//! A state whose files are damaged: found before anybody reads a row of it, put aside, begun anew.

use std::fs;
use std::path::Path;

use crate::state::{Error, Options, State};

/// Where a damaged state is put, in the place of the one before.
const ASIDE: &str = "damaged";

impl Error {
    /// Files are damaged or missing, which another disk or a later build would not help.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Rocks(error) => match error.kind() {
                rocksdb::ErrorKind::Corruption => true,
                // Of all that can go wrong with a file only the file that is not there is damage.
                rocksdb::ErrorKind::IOError => error.as_ref().contains("No such file"),
                _ => false,
            },
            Self::Row(..) | Self::Headless { .. } | Self::HalfTaken(..) => true,
            Self::Family(_)
            | Self::Machine(..)
            | Self::Folder { .. }
            | Self::Left(_)
            | Self::Out(_)
            | Self::InMemory => false,
        }
    }
}

/// RocksDB would take a folder without `CURRENT` for a new one, and remove what lies there.
pub(crate) fn check_head(dir: &Path) -> Result<(), Error> {
    let folder = |error| Error::Folder { path: dir.to_owned(), error };
    if !dir.exists() || dir.join("CURRENT").exists() {
        return Ok(());
    }
    for file in fs::read_dir(dir).map_err(folder)? {
        let name = file.map_err(folder)?.file_name();
        if name.to_string_lossy().ends_with(".sst") {
            return Err(Error::Headless { path: dir.to_owned() });
        }
    }
    Ok(())
}

impl State {
    /// Opens it and reads every row that the machine will, which is not in the families `without`.
    /// Where files are damaged or missing they are put aside, and an empty state takes their place:
    /// every row is in the log, or with another node.
    ///
    /// # Errors
    /// What RocksDB says beyond that.
    pub fn open_or_begin(
        dir: &Path,
        options: impl Into<Options>,
        without: &[&str],
    ) -> Result<Self, Error> {
        let options = options.into();
        let damage = match Self::open(dir, options).and_then(|state| state.checked(without)) {
            Ok(state) => return Ok(state),
            Err(error) if error.is_damage() => error,
            Err(error) => return Err(error),
        };
        let aside = dir.with_extension(ASIDE);
        tracing::error!(
            path = %dir.display(), aside = %aside.display(),
            "TD0425 the state is damaged, and is made again from the log and another node: {damage}"
        );
        metrics::counter!("tandem_state_damaged_total").increment(1);
        let folder = |error| Error::Folder { path: dir.to_owned(), error };
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(folder)?;
        }
        fs::rename(dir, &aside).map_err(folder)?;
        Self::open(dir, options)
    }

    fn checked(self, without: &[&str]) -> Result<Self, Error> {
        for shard in self.shards() {
            for row in self.view().rows(shard, &[], without)? {
                row?;
            }
        }
        Ok(self)
    }
}
