//! Why what lies on the disk can't be used, in one sentence, with what to do.

use std::io;
use std::path::PathBuf;

use crate::facts::{Facts, Moment};
use crate::limits;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} can't be read: {why}")]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("{path} is longer than {max} bytes", max = limits::PEM_BYTES_MAX)]
    TooLong { path: PathBuf },
    #[error("{path} holds no certificate in PEM")]
    NoCertificate { path: PathBuf },
    #[error("{path} holds no private key in PEM")]
    NoKey { path: PathBuf },
    #[error("{path} can't be used: {why}")]
    Unusable { path: PathBuf, why: String },
    #[error(
        "TD0464 the certificate of {} in {path} was good until {} only: \
         make a new one with `tandem ca issue`", facts.subject, facts.until
    )]
    Over { path: PathBuf, facts: Box<Facts> },
    #[error(
        "TD0465 the certificate of {} in {path} is good from {} on (until {}), and this \
         machine's clock says {now}: set the clock right", facts.subject, facts.from, facts.until
    )]
    NotYet { path: PathBuf, facts: Box<Facts>, now: Moment },
    #[error(
        "TD0466 the certificate of {} in {path} (until {}) is signed by {}, which is none of the \
         authorities in {roots} ({trusted}): bring both from the same cluster, or `tandem ca issue` a new one",
        facts.subject, facts.until, facts.issuer
    )]
    Foreign { path: PathBuf, facts: Box<Facts>, roots: PathBuf, trusted: String },
    #[error(
        "TD0469 the certificate in {path} is of {} and not of {name} (until {}): \
         bring the certificate of {name}", facts.subject, facts.until
    )]
    NotOurs { path: PathBuf, facts: Box<Facts>, name: String },
    #[error(
        "the key in {key} is not the one of the certificate in {path}: bring both from the same `tandem ca issue`"
    )]
    OtherKey { path: PathBuf, key: PathBuf },
}

impl Error {
    /// Whether it looks so while files are replaced one after the other.
    pub(crate) fn may_be_half_replaced(&self) -> bool {
        matches!(
            self,
            Self::NoCertificate { .. }
                | Self::NoKey { .. }
                | Self::OtherKey { .. }
                | Self::Foreign { .. }
        )
    }
}
