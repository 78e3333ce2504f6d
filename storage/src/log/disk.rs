//! What the log asks of a file system, so that the twin (`crate::memory`) can run the very same
//! writer and recovery over a disk that forgets.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Zeros are written in pieces of this length.
const FILL_BYTES: usize = 1 << 20;

/// One folder.
pub trait Disk: Send + Sync {
    fn list(&self) -> io::Result<Vec<String>>;
    /// A file of zeros, synced; one of that name is replaced.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// What was made, renamed or removed so far stays so.
    fn sync_names(&self) -> io::Result<()>;
    /// As a person knows it.
    fn path(&self, name: &str) -> PathBuf;
    /// Files may be filled on a thread of their own.
    fn has_threads(&self) -> bool;
}

/// Of one call. A kernel that is not preemptible leaves a call only at its end: 64 MiB at once held a
/// core for 160 ms, and callers heard nothing meanwhile.
const READ_BYTES_MAX: usize = 1 << 20;

pub trait DiskFile: Send + Sync {
    fn read_all(&self) -> io::Result<Vec<u8>>;
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that isn't UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(true).open(self.path(name))?;
        let zeros = vec![0; FILL_BYTES];
        let mut at = 0;
        while at < bytes {
            let len = (bytes - at).min(FILL_BYTES as u64);
            file.write_all_at(&zeros[..len as usize], at)?;
            at += len;
        }
        file.sync_all()?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn has_threads(&self) -> bool {
        true
    }
}

impl DiskFile for File {
    fn read_all(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        let mut offset = 0;
        for piece in bytes.chunks_mut(READ_BYTES_MAX) {
            self.read_exact_at(piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(bytes)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    /// `fdatasync`: the file was filled once, so that its size never changes.
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
