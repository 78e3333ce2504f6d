//! Why what lies on the disk can't be used, in one sentence, with what to do.

use std::io;
use std::path::PathBuf;

use crate::facts::Moment;
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
        "TD0464 the certificate of {subject} in {path} was good until {until} only: \
         make a new one with `tandem ca issue`"
    )]
    Over { path: PathBuf, subject: String, until: Moment },
    #[error(
        "TD0465 the certificate of {subject} in {path} is good from {from} on (until {until}), and this \
         machine's clock says {now}: set the clock right"
    )]
    NotYet { path: PathBuf, subject: String, from: Moment, until: Moment, now: Moment },
    #[error(
        "TD0466 the certificate of {subject} in {path} (until {until}) is signed by {issuer}, which is none of the \
         authorities in {roots} ({trusted}): bring both from the same cluster, or `tandem ca issue` a new one"
    )]
    Foreign {
        path: PathBuf,
        subject: String,
        until: Moment,
        issuer: String,
        roots: PathBuf,
        trusted: String,
    },
    #[error(
        "TD0469 the certificate in {path} is of {subject} and not of {name} (until {until}): \
         bring the certificate of {name}"
    )]
    NotOurs { path: PathBuf, subject: String, name: String, until: Moment },
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
