//! Why an address can't be brought here, or away.

use std::io;
use std::net::IpAddr;
use std::process::ExitStatus;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this host has no interface {0}")]
    NoInterface(String),
    #[error("{address} can't be put on {interface}: the process lacks CAP_NET_ADMIN")]
    MayNot { interface: String, address: IpAddr },
    #[error("{address} can't be put on {interface}: {source}")]
    Put { interface: String, address: IpAddr, source: io::Error },
    #[error("{address} can't be taken from {interface}: {source}")]
    TakeAway { interface: String, address: IpAddr, source: io::Error },
    #[error("the addresses of {interface} can't be listed: {source}")]
    List { interface: String, source: io::Error },
    #[error("the command {command} can't be started: {source}")]
    Start { command: String, source: io::Error },
    #[error("the command {command} {action} failed: {status}")]
    Failed { command: String, action: &'static str, status: ExitStatus },
    #[error("the command {command} {action} was killed, for it was not done within {limit:?}")]
    Hung { command: String, action: &'static str, limit: Duration },
}
