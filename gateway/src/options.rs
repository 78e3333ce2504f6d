//! What a gateway is started with, and why it may not start.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use tandem_http::TokenHash;
pub use tandem_pki::Live as Certificates;
pub use tandem_wire::tls::Files as SipTls;
use tokio::sync::Notify;

use crate::line::Spec;
use crate::trace;

/// Gives the Prometheus text exposition of the process.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Everything that a gateway must know before it starts.
#[derive(Clone)]
pub struct Options {
    /// The process's name, for instance `gateway-a`.
    pub name: String,
    /// Grows with each start.
    pub incarnation: u64,
    pub version: String,
    /// The service address for SIP.
    pub vip: SocketAddr,
    /// How this host gets the address of a line that is served here.
    pub way: tandem_address::Way,
    /// Where RTP is received; the address of `vip` as a rule.
    pub media_ip: IpAddr,
    /// Where the HTTP API listens.
    pub api: SocketAddr,
    pub nodes: Vec<Node>,
    /// The other gateways, which may hold the other copy of a recording.
    pub peers: Vec<Peer>,
    /// Where other gateways send their recordings; none: no copies are taken.
    pub copies: Option<SocketAddr>,
    /// The gateway, one of `peers`, that has the copies of this one's recordings.
    pub copy_to: Option<String>,
    /// `None` only in tests.
    pub tls: Option<Arc<Certificates>>,
    /// SIP over TLS; without it the gateway serves and opens none.
    pub sip_tls: Option<SipTls>,
    /// SIP over WebSocket; without it none is served.
    pub websocket: Option<WebSocket>,
    /// Told when the files of `sip_tls` shall be read anew at once.
    pub reload: Arc<Notify>,
    /// Recordings lie in its folder `recordings`.
    pub data_dir: PathBuf,
    pub token: TokenHash,
    /// Pairs of RTP and RTCP ports to bind, and where they are taken from.
    pub rtp_pairs: usize,
    pub rtp_ports: RangeInclusive<u16>,
    /// Threads that carry RTP.
    pub media_workers: usize,
    /// A folder with lists of music; without it a melody of our own.
    pub music: Option<PathBuf>,
    /// A folder of prompts, NAME.wav, before those that are built in.
    pub prompts: Option<PathBuf>,
    pub metrics: Render,
    /// Bytes of disk for what calls said, which is kept for a day at most.
    pub trace_bytes_max: u64,
}

impl Options {
    pub fn recordings(&self) -> PathBuf {
        self.data_dir.join("recordings")
    }

    /// The lines that this process may serve, its own first.
    pub fn lines(&self) -> Vec<Spec> {
        let own = Spec { name: self.name.clone(), vip: self.vip, media_ip: self.media_ip };
        let of =
            |peer: &Peer| Spec { name: peer.name.clone(), vip: peer.vip, media_ip: peer.vip.ip() };
        std::iter::once(own).chain(self.peers.iter().map(of)).collect()
    }

    pub fn trace(&self) -> trace::Options {
        let dir = self.data_dir.join("trace");
        trace::Options { bytes_max: self.trace_bytes_max, ..trace::Options::new(dir) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its certificate carries this name.
    pub name: String,
    pub address: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// The service address of its line, which this process serves where that one can't.
    pub vip: SocketAddr,
    pub api: SocketAddr,
    /// Where it takes copies of recordings.
    pub copies: Option<SocketAddr>,
}

/// Which WebSockets are served, and whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSocket {
    pub ws: bool,
    /// Where `sip_tls` is, too.
    pub wss: bool,
    /// Pages whose scripts may connect; any, where none is named.
    pub origins: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("SIP can't be served: {0}")]
    Sip(#[from] tandem_wire::Error),
    #[error("SIP over TLS can't be served: {0}")]
    SipTls(#[from] tandem_wire::tls::Error),
    #[error("the API can't be served: {address} {why}")]
    Api { address: SocketAddr, why: String },
    #[error("copies of recordings can't be taken: {address} {why}")]
    CopiesAddress { address: SocketAddr, why: String },
    #[error("the folder of copies can't be used: {0}")]
    CopiesFolder(std::io::Error),
    #[error("copies of recordings: {0}")]
    Copies(tonic::transport::Error),
    #[error("the API failed: {0}")]
    ApiFailed(std::io::Error),
    #[error("media can't be served: {0}")]
    Media(String),
    #[error("media can't be served: other programs have the ports {0:?}")]
    BusyPorts(BTreeSet<u16>),
    #[error("node {name} can't be reached by its address: {source}")]
    Node { name: String, source: tonic::transport::Error },
    #[error("the trace's folder {dir} can't be used: {why}", dir = dir.display())]
    Trace { dir: PathBuf, why: std::io::Error },
    #[error("the folder {dir} can't be written: {why}", dir = dir.display())]
    Served { dir: PathBuf, why: std::io::Error },
    #[error("{0}")]
    Address(#[from] tandem_address::Error),
    #[error("the thread of addresses can't be started: {0}")]
    Addresses(std::io::Error),
    #[error("the control task ended: {0}")]
    Control(String),
}
