//! Why an address can't be served.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is in use by another program")]
    Busy(SocketAddr),
    #[error("{0} is no address of this machine")]
    NoSuchAddress(SocketAddr),
    #[error("{0} may not be bound by this user")]
    NotAllowed(SocketAddr),
    #[error("{address} can't be bound: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("the socket of {address} failed: {source}")]
    Socket { address: SocketAddr, source: io::Error },
}

impl Error {
    pub(crate) fn of_bind(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::AddrInUse => Self::Busy(address),
            ErrorKind::AddrNotAvailable => Self::NoSuchAddress(address),
            ErrorKind::PermissionDenied => Self::NotAllowed(address),
            _ => Self::Bind { address, source },
        }
    }
}
