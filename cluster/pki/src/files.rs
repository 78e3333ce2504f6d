//! PEM files: a certificate, its key, and the authorities that are trusted.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::facts::Facts;
use crate::{Error, limits};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The authorities that are trusted; while they change, the old and the new one.
    pub ca: PathBuf,
    /// The certificate that we show, and what leads from it to an authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What such files hold. Keys are never logged.
#[derive(Clone)]
pub struct Texts {
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Texts { .. }")
    }
}

/// What was read of the files.
#[derive(Debug)]
pub struct Material {
    pub files: Files,
    pub authorities: Vec<CertificateDer<'static>>,
    /// Never empty; our own is the first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Material {
    /// # Errors
    /// Which file holds nothing of use.
    pub fn read(files: &Files) -> Result<Self, Error> {
        let texts = Texts {
            ca: read(&files.ca)?,
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
        };
        Self::of(files.clone(), &texts)
    }

    /// # Errors
    /// As above.
    pub fn of(files: Files, texts: &Texts) -> Result<Self, Error> {
        let key = PrivateKeyDer::from_pem_slice(texts.key.as_bytes())
            .map_err(|_| Error::NoKey { path: files.key.clone() })?;
        Ok(Self {
            authorities: certificates(&files.ca, &texts.ca)?,
            chain: certificates(&files.certificate, &texts.certificate)?,
            key,
            files,
        })
    }

    /// # Errors
    /// Where the file holds something else.
    pub fn facts(&self) -> Result<Facts, Error> {
        let path = &self.files.certificate;
        let none = || Error::NoCertificate { path: path.clone() };
        self.chain.first().and_then(Facts::of).ok_or_else(none)
    }

    /// # Errors
    /// As above.
    pub fn authorities(&self) -> Result<Vec<Facts>, Error> {
        let none = || Error::NoCertificate { path: self.files.ca.clone() };
        self.authorities.iter().map(|it| Facts::of(it).ok_or_else(none)).collect()
    }
}

/// # Errors
/// Where it can't be read, or is far too long.
pub fn read(path: &Path) -> Result<String, Error> {
    let unreadable = |why| Error::Unreadable { path: path.to_owned(), why };
    if std::fs::metadata(path).map_err(unreadable)?.len() > limits::PEM_BYTES_MAX {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// All certificates of a PEM text; `path` is where it is from.
///
/// # Errors
/// Where there is none, or half of one.
pub fn certificates(path: &Path, text: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let none = || Error::NoCertificate { path: path.to_owned() };
    let read = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    read.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(none)
}

/// What tells one content of a file from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Files {
    pub fn stamps(&self) -> [Option<Stamp>; 3] {
        [&self.ca, &self.certificate, &self.key].map(|path| Stamp::of(path))
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let of = |file: Metadata| Self {
            device: file.dev(),
            inode: file.ino(),
            length: file.len(),
            changed: (file.mtime(), file.mtime_nsec()),
        };
        std::fs::metadata(path).ok().map(of)
    }
}
