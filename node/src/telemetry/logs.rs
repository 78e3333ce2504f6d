//! One log file a process, rotated by size: a full disk must never be the log's doing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Older files beside the one that is written: `NAME.log.1` is the newest of them.
const OLD_FILES_MAX: u32 = 3;
/// Lines that may wait for the disk; further ones are dropped and counted by the appender.
const LINES_MAX: usize = 16_384;
/// What is logged unless `TANDEM_LOG` says otherwise. The libraries' own chatter is left out.
const FILTER_DEFAULT: &str = "info,openraft=warn,h2=warn,hyper=warn,tower=warn,rustls=warn";

/// Writes the log of this process to `DIR/NAME.log`. Keep the guard until the end: dropping it
/// writes what is left. Panics are logged, too.
pub fn start(dir: &Path, name: &str) -> Result<WorkerGuard> {
    fs::create_dir_all(dir)
        .map_err(|error| anyhow::anyhow!("the folder {} can't be made: {error}", dir.display()))?;
    let path = dir.join(format!("{name}.log"));
    let rotating = Rotating::open(path.clone())
        .map_err(|error| anyhow::anyhow!("the log {} can't be written: {error}", path.display()))?;
    let (writer, guard) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(rotating);
    let filter = std::env::var("TANDEM_LOG")
        .ok()
        .and_then(|filter| EnvFilter::try_new(filter).ok())
        .unwrap_or_else(|| EnvFilter::new(FILTER_DEFAULT));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("the log can't be started: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(
            thread = std::thread::current().name().unwrap_or("?"),
            backtrace = %std::backtrace::Backtrace::capture(),
            "{panic}"
        );
    }));
    Ok(guard)
}

struct Rotating {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Rotating {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let old = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..OLD_FILES_MAX).rev() {
            if old(number).exists() {
                fs::rename(old(number), old(number + 1))?;
            }
        }
        fs::rename(&self.path, old(1))?;
        *self = Self::open(self.path.clone())?;
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes >= FILE_BYTES_MAX {
            self.rotate()?;
        }
        let written = self.file.write(bytes)?;
        self.bytes += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_keeps_a_bounded_number_of_files_when_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-a.log");
        let mut log = Rotating::open(path.clone()).unwrap();
        for _ in 0..OLD_FILES_MAX + 3 {
            log.bytes = FILE_BYTES_MAX;
            log.write_all(b"line\n").unwrap();
        }
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 1 + usize::try_from(OLD_FILES_MAX).unwrap());
        assert_eq!(fs::read_to_string(path).unwrap(), "line\n");
    }
}
