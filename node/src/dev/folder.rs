//! The folder of a cluster on one machine: what lies where, and what is made on the first start.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The admin token: 32 random bytes, hex.
const TOKEN_BYTES: usize = 32;

#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Makes the folder where it is missing; its path is absolute from here on.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|error| {
            anyhow::anyhow!("the folder {} can't be made: {error}", dir.display())
        })?;
        let root = dir
            .canonicalize()
            .with_context(|| format!("the folder {} can't be found", dir.display()))?;
        Ok(Self { root })
    }

    /// For a client of a cluster that runs there: makes nothing.
    pub fn existing(dir: &Path) -> Result<Self> {
        let root = dir.canonicalize().map_err(|error| {
            anyhow::anyhow!("the folder {} can't be opened: {error}", dir.display())
        })?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn processes(&self) -> PathBuf {
        self.root.join("processes.json")
    }

    pub fn token(&self) -> PathBuf {
        self.root.join("admin.token")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// For phones and trunks, so anybody may read it.
    pub fn sip_ca(&self) -> PathBuf {
        self.root.join("sip-ca.pem")
    }

    pub fn data(&self, process: &str) -> PathBuf {
        self.root.join("data").join(process)
    }

    pub fn process_config(&self, process: &str) -> PathBuf {
        self.root.join("conf").join(format!("{process}.toml"))
    }

    /// The tenant as it was given last, passwords as digests.
    pub fn tenant(&self) -> PathBuf {
        self.root.join("conf").join("tenant.toml")
    }

    /// What a process said on standard error since its last start.
    pub fn stderr(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.stderr"))
    }

    pub fn socket(&self) -> PathBuf {
        self.root.join("dev.sock")
    }

    pub fn make(&self) -> Result<()> {
        for dir in [self.logs(), self.pki(), self.root.join("data"), self.root.join("conf")] {
            fs::create_dir_all(&dir).map_err(|error| {
                anyhow::anyhow!("the folder {} can't be made: {error}", dir.display())
            })?;
        }
        for dir in [self.pki(), self.root.join("conf")] {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).with_context(|| {
                format!("the folder {} can't be closed to others", dir.display())
            })?;
        }
        Ok(())
    }

    /// Held for as long as the supervisor lives; the kernel lets go of it when it dies.
    pub fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| anyhow::anyhow!("{} can't be written: {error}", path.display()))?;
        // SAFETY: flock(2) on a descriptor that lives as long as `file`.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() == ErrorKind::WouldBlock {
                bail!("a cluster already runs in {}", self.root.display());
            }
            bail!("{} can't be locked: {error}", path.display());
        }
        Ok(file)
    }

    /// The admin token, made on the first start.
    pub fn ensure_token(&self) -> Result<String> {
        let path = self.token();
        match fs::read_to_string(&path) {
            Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => bail!("the token file {} can't be read: {error}", path.display()),
        }
        let token = random_hex(TOKEN_BYTES)?;
        write_private(&path, format!("{token}\n").as_bytes())?;
        Ok(token)
    }
}

/// Replaces a file in one step, so that no reader ever sees half of it.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let refused =
        |error: std::io::Error| anyhow::anyhow!("{} can't be written: {error}", path.display());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .map_err(refused)?;
    file.write_all(bytes).map_err(refused)?;
    fs::rename(&new, path).map_err(refused)
}

/// A file that only its owner may read.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, 0o600)
}

pub fn random_hex(bytes: usize) -> Result<String> {
    use std::io::Read as _;
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .context("/dev/urandom gives no random bytes")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
