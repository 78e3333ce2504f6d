//! What a data folder is and whose: written once, checked at every start.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use crate::log::{self, AMNESIA, Log};

/// Raised when what lies in the folder changes in a way that older builds can't read.
///
/// 2: INVITEs and the counts of gateways are rows of their own, free ports are none.
/// 3: keys of a tenant's rows begin with its seat.
pub const FORMAT_VERSION: u32 = 4;
const FORMAT_FILE: &str = "DATA_FORMAT";
const LOCK_FILE: &str = "LOCK";
/// Says that there was a log: a folder that lost it must not pass for a new one.
const LOG_FILE: &str = "LOG_BEGUN";
/// Which replica the folder is of.
const REPLICA_FILE: &str = "REPLICA";
/// In [`LOG_FILE`]: the log is of the replica that [`REPLICA_FILE`] names.
const OF_A_REPLICA: &str = "of a replica\n";
pub const NAME_BYTES_MAX: usize = 255;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("data folder {dir} can't be used: {error}", dir = dir.display())]
    Io { dir: PathBuf, error: io::Error },
    #[error("data folder {dir} is in use by another process", dir = dir.display())]
    Locked { dir: PathBuf },
    #[error(
        "data folder {dir} has format version {found}; this build knows {FORMAT_VERSION}",
        dir = dir.display()
    )]
    Version { dir: PathBuf, found: String },
    #[error(
        "data folder {dir} belongs to {what} {found}, not {expected}", dir = dir.display()
    )]
    Foreign { dir: PathBuf, what: &'static str, found: String, expected: String },
    #[error(
        "TD0424 data folder {dir} had a log, which is gone: what this voter has acknowledged and \
         whom it voted for is forgotten; {AMNESIA}", dir = dir.display()
    )]
    LogGone { dir: PathBuf },
    #[error(
        "TD0455 data folder {dir} no longer says of which replica its log is: bring its file \
         {REPLICA_FILE} back, or give it an empty folder and say `tandem cluster replace`",
        dir = dir.display()
    )]
    ReplicaGone { dir: PathBuf },
    #[error("{what} {name:?} can't be a name: one line of 1 to {NAME_BYTES_MAX} bytes")]
    Name { what: &'static str, name: String },
}

/// An open folder; its lock is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    pub path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens the folder of `node` of `cluster`, or makes it.
    ///
    /// # Errors
    /// Where it is another's, of an unknown format, in use, or can't be written.
    pub fn open(dir: &Path, cluster: &str, node: &str) -> Result<Self, Error> {
        for (what, name) in [("cluster", cluster), ("node", node)] {
            let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
            if !fits || name.trim() != name || name.contains(['\n', '\r']) {
                return Err(Error::Name { what, name: name.to_owned() });
            }
        }
        let io = |error| Error::Io { dir: dir.to_owned(), error };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock = File::create(dir.join(LOCK_FILE)).map_err(io)?;
        // SAFETY: flock(2) on a descriptor that we own.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            return Err(match error.kind() {
                io::ErrorKind::WouldBlock => Error::Locked { dir: dir.to_owned() },
                _ => io(error),
            });
        }
        let path = dir.join(FORMAT_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => check(dir, &String::from_utf8_lossy(&bytes), cluster, node)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = format!("version {FORMAT_VERSION}\ncluster {cluster}\nnode {node}\n");
                write_once(dir, &path, &text).map_err(io)?;
            }
            Err(error) => return Err(io(error)),
        }
        Ok(Self { path: dir.to_owned(), _lock: lock })
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// What [`DataDir::set_replica`] wrote last; nothing in a folder that is new, or of earlier versions.
    ///
    /// # Errors
    /// Where it can't be read, or is gone: its log must not pass for another replica's.
    pub fn replica(&self) -> Result<Option<String>, Error> {
        let written = self.read(REPLICA_FILE)?;
        if written.is_none() && self.read(LOG_FILE)?.as_deref() == Some(OF_A_REPLICA) {
            return Err(Error::ReplicaGone { dir: self.path.clone() });
        }
        Ok(written)
    }

    fn read(&self, file: &str) -> Result<Option<String>, Error> {
        match std::fs::read_to_string(self.path.join(file)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::Io { dir: self.path.clone(), error }),
        }
    }

    /// Whole or not at all.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn set_replica(&self, text: &str) -> Result<(), Error> {
        write_once(&self.path, &self.path.join(REPLICA_FILE), text)
            .map_err(|error| Error::Io { dir: self.path.clone(), error })
    }

    /// Whether there ever was a log in it.
    ///
    /// # Errors
    /// Where that can't be told.
    pub fn has_begun(&self) -> Result<bool, Error> {
        let io = |error| Error::Io { dir: self.path.clone(), error };
        Ok(self.path.join(LOG_FILE).try_exists().map_err(io)?
            || log::exists(&self.log()).map_err(io)?)
    }

    /// Opens the log in it.
    ///
    /// # Errors
    /// What is wrong with the log; or there was one, and nothing is left of it.
    pub fn open_log(&self, options: log::Options) -> Result<Log, OpenLog> {
        let (dir, path) = (&self.path, self.path.join(LOG_FILE));
        let io = |error| Error::Io { dir: dir.clone(), error };
        let begun = self.read(LOG_FILE)?;
        if begun.is_some() && !log::exists(&self.log()).map_err(io)? {
            return Err(Error::LogGone { dir: dir.clone() }.into());
        }
        let of = if self.replica()?.is_some() { OF_A_REPLICA } else { "" };
        let log = Log::open(&self.log(), options)?;
        if begun.as_deref() != Some(of) {
            write_once(dir, &path, of).map_err(io)?;
        }
        Ok(log)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenLog {
    #[error(transparent)]
    Folder(#[from] Error),
    #[error(transparent)]
    Log(#[from] log::Error),
}

/// Whether a process has it open.
pub fn is_locked(dir: &Path) -> bool {
    let Ok(lock) = File::open(dir.join(LOCK_FILE)) else { return false };
    // SAFETY: flock(2) on a descriptor that we own, which lets go of the lock when it is closed.
    let held = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } != 0;
    held && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// Whose folder it is: cluster and node. Nothing is made or locked.
///
/// # Errors
/// Where it is no data folder, or of an unknown format.
pub fn owner(dir: &Path) -> Result<(String, String), Error> {
    let text = std::fs::read(dir.join(FORMAT_FILE))
        .map_err(|error| Error::Io { dir: dir.to_owned(), error })?;
    let text = String::from_utf8_lossy(&text);
    check_version(dir, &text)?;
    Ok((value(&text, "cluster"), value(&text, "node")))
}

fn value(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.unwrap_or("(none)").to_owned()
}

fn check_version(dir: &Path, text: &str) -> Result<(), Error> {
    let found = value(text, "version");
    if found == FORMAT_VERSION.to_string() {
        return Ok(());
    }
    Err(Error::Version { dir: dir.to_owned(), found })
}

fn check(dir: &Path, text: &str, cluster: &str, node: &str) -> Result<(), Error> {
    check_version(dir, text)?;
    for (what, expected) in [("cluster", cluster), ("node", node)] {
        let found = value(text, what);
        if found != expected {
            let expected = expected.to_owned();
            return Err(Error::Foreign { dir: dir.to_owned(), what, found, expected });
        }
    }
    Ok(())
}

/// Whole or not at all, also over a power loss.
fn write_once(dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()
}
