//! The log as something to look at: nothing of its folder is changed, and the node may be running.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile, Folder};
use super::recovery::recover;
use super::{Error, Options};
use crate::raft::{Entry, ShardId};

/// One shard's entries, as far as they are not purged.
pub struct History {
    pub entries: Vec<Entry>,
    /// Up to here they are known to be committed; the truth may be a little further.
    pub committed: u64,
}

/// Reads what the log in `dir` of `cluster` holds of a shard.
///
/// # Errors
/// A corrupt or foreign file, or what the disk says.
pub fn read(dir: &Path, cluster: &str, shard: ShardId) -> Result<History, Error> {
    let io = |error| Error::Io { path: dir.to_owned(), error };
    // Opening the folder would make it.
    dir.metadata().map_err(io)?;
    let disk: Arc<dyn Disk> = Arc::new(Untouched(Folder::open(dir).map_err(io)?));
    let options = Options { cluster: cluster.to_owned(), ..Options::default() };
    let mut recovered = recover(&disk, &options)?;
    let tail = recovered.tails.remove(&shard.0).unwrap_or_default();
    let held = tail.range(&.., usize::MAX).map_err(io)?;
    let mut entries = Vec::with_capacity(held.len());
    for held in held {
        // A node that runs may have used a segment again since.
        entries.extend(held.read().map_err(io)?);
    }
    Ok(History { entries, committed: tail.committed.map_or(0, |id| id.index) })
}

/// Takes every change for done and does none.
struct Untouched(Folder);

impl Disk for Untouched {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str, _bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::Error::other(format!("{name} would have to be made")))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = std::fs::File::open(self.0.path(name))?;
        Ok(Arc::new(ReadOnly(file)))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn has_threads(&self) -> bool {
        self.0.has_threads()
    }
}

struct ReadOnly(std::fs::File);

impl DiskFile for ReadOnly {
    fn read_all(&self) -> io::Result<Vec<u8>> {
        self.0.read_all()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(into, offset)
    }

    /// What recovery writes is what it has read, or zeros behind the end: nobody reads it back.
    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
