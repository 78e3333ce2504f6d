//! SIP over connections on a service address: TCP and TLS (RFC 3261 §18, §26.2.1), WebSockets
//! (RFC 7118).
//!
//! [`framer`] cuts messages out of bytes, `websocket` takes them from frames, `inlet` judges them, `connection` is the task of one
//! connection, `table` what is known of all, `doors` opens and accepts them. [`Streams`] is for
//! whoever sends: it never waits. A peer that does not take what is sent to it is closed.

mod connection;
mod doors;
pub mod framer;
mod handshake;
mod inlet;
mod table;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Type};
use tandem_lease::Fence;
use tandem_sip::{ConnectionId, Proof, Ticket, Transport, Way};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::admission::Sources;
use crate::error::Error;
use crate::limits;
use crate::tls::Tls;
use table::{Counts, End, Outgoing, Place, Table};

pub use doors::Listener;

/// Bounds that a test makes smaller.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub accepted_max: usize,
    pub accepted_per_source_max: usize,
    pub handshakes_max: usize,
    pub handshakes_per_source_max: usize,
    pub handshake: Duration,
    pub first_message: Duration,
    pub message: Duration,
    pub idle: Duration,
    pub ping: Duration,
    pub unsent_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            accepted_max: limits::ACCEPTED_MAX,
            accepted_per_source_max: limits::ACCEPTED_PER_SOURCE_MAX,
            handshakes_max: limits::HANDSHAKES_MAX,
            handshakes_per_source_max: limits::HANDSHAKES_PER_SOURCE_MAX,
            handshake: Duration::from_millis(limits::HANDSHAKE_MS_MAX),
            first_message: Duration::from_millis(limits::FIRST_MESSAGE_MS_MAX),
            message: Duration::from_millis(limits::MESSAGE_MS_MAX),
            idle: Duration::from_millis(limits::IDLE_MS_MAX),
            ping: Duration::from_millis(limits::PING_MS),
            unsent_bytes_max: limits::UNSENT_BYTES_MAX,
        }
    }
}

/// Where connections are accepted. What is not named is neither accepted nor opened.
#[derive(Clone, Debug)]
pub struct Ports {
    pub tcp: SocketAddr,
    pub tls: Option<(SocketAddr, Arc<Tls>)>,
    pub ws: Option<SocketAddr>,
    pub wss: Option<(SocketAddr, Arc<Tls>)>,
    /// Pages whose scripts may open a WebSocket; any, where none is named.
    pub origins: Arc<[String]>,
}

/// A request that did not arrive, or of which nobody can say that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undelivered {
    pub ticket: Ticket,
    /// It was tried on a connection that we had opened: to open another is of no use.
    pub opened: bool,
}

/// What connections tell of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Undelivered(Undelivered),
    /// One that the peer has opened is gone; what was undelivered has been told before.
    Closed {
        remote: SocketAddr,
        connection: ConnectionId,
    },
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    local: SocketAddr,
    bounds: Bounds,
    /// What TLS of ours is opened with.
    tls: Option<(SocketAddr, Arc<Tls>)>,
    table: Mutex<Table>,
    sources: Mutex<Sources>,
    /// Connections that are accepted and have yet to agree on TLS or a WebSocket.
    handshakes: Mutex<Counts>,
}

/// A connection to be opened.
#[derive(Debug)]
struct Open {
    end: End,
    place: Place,
}

/// Sends over connections; as many as there are may be written to at once.
#[derive(Clone, Debug)]
pub struct Streams {
    shared: Arc<Shared>,
    opens: mpsc::Sender<Open>,
}

/// Listens for TCP alone. Must be called within a tokio runtime.
///
/// # Errors
/// Why the address can't be bound, in one sentence.
pub fn bind(address: SocketAddr, bounds: Bounds) -> Result<(Streams, Listener), Error> {
    let ports = Ports { tcp: address, tls: None, ws: None, wss: None, origins: Arc::default() };
    bind_all(ports, bounds, &Life { number: 0, fence: Arc::new(Fence::none()), follows: false })
}

/// In which life of its line a gateway serves an address.
#[derive(Clone, Debug)]
pub struct Life {
    /// No connection has the number of one of an earlier life.
    pub number: u64,
    pub fence: Arc<Fence>,
    /// It was another process's before. A listener can't be shared as a datagram's socket can: where that one is
    /// stopped and not dead, its ports are bound when it lets go of them.
    pub follows: bool,
}

/// Listens on all ports. Must be called within a tokio runtime.
///
/// # Errors
/// Why an address can't be bound, in one sentence.
pub fn bind_all(ports: Ports, bounds: Bounds, life: &Life) -> Result<(Streams, Listener), Error> {
    let mut listening = Vec::new();
    let mut listen_as = |address: SocketAddr, kind: doors::Kind| {
        let (listener, local) = match listen(address) {
            Ok((listener, local)) => (Some(listener), local),
            Err(Error::Busy(_)) if life.follows => (None, address),
            Err(error) => return Err(error),
        };
        listening.push(doors::Port { listener, local, kind });
        Ok(local)
    };
    let local = listen_as(ports.tcp, doors::Kind::Tcp)?;
    let mut secure = None;
    if let Some((address, tls)) = ports.tls {
        let local = listen_as(address, doors::Kind::Tls(Arc::clone(&tls)))?;
        secure = Some((local, tls));
    }
    if let Some(address) = ports.ws {
        listen_as(address, doors::Kind::Ws(Arc::clone(&ports.origins)))?;
    }
    if let Some((address, tls)) = ports.wss {
        listen_as(address, doors::Kind::Wss(tls, ports.origins))?;
    }
    let shared = Arc::new(Shared {
        local,
        bounds,
        tls: secure,
        table: Mutex::new(Table::new(first_number(life.number), Arc::clone(&life.fence))),
        sources: Mutex::new(Sources::new(Instant::now())),
        handshakes: Mutex::default(),
    });
    let (to_listener, opens) = mpsc::channel(limits::OPENS_WAITING_MAX);
    let streams = Streams { shared: Arc::clone(&shared), opens: to_listener };
    Ok((streams, Listener::new(listening, shared, opens)))
}

pub(crate) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let open = || -> io::Result<(TcpListener, SocketAddr)> {
        let socket =
            socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier life may linger.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(limits::BACKLOG_MAX)?;
        let listener = TcpListener::from_std(socket.into())?;
        let local = listener.local_addr()?;
        Ok((listener, local))
    };
    open().map_err(|source| Error::of_bind(address, source))
}

/// Behind every number of an earlier life: lives are numbered by the milliseconds in which they begin,
/// and none has opened a million connections a millisecond.
fn first_number(life: u64) -> u64 {
    life << 20
}

impl Streams {
    /// Where TCP is accepted.
    pub fn local(&self) -> SocketAddr {
        self.shared.local
    }

    /// Where TLS is accepted.
    pub fn local_tls(&self) -> Option<SocketAddr> {
        self.shared.tls.as_ref().map(|(local, _)| *local)
    }

    /// Puts a message on its way: over the connection that is named, else over one to the address
    /// where it may be opened, else over a new one. Never by another transport: what is meant for
    /// TLS goes in no clear.
    ///
    /// # Errors
    /// Where there is none and none can be opened; of a message with a ticket.
    pub fn send(
        &self,
        bytes: Vec<u8>,
        way: &Way,
        ticket: Option<Ticket>,
    ) -> Result<(), Undelivered> {
        let failed = |opened| {
            metrics::counter!("tandem_sip_send_failures_total").increment(1);
            ticket.map_or(Ok(()), |ticket| Err(Undelivered { ticket, opened }))
        };
        let mut table = self.shared.table.lock();
        let known = table.find(way);
        let Some(id) = known.or_else(|| self.open(&mut table, way)) else { return failed(true) };
        let outgoing = Outgoing { bytes: Bytes::from(bytes), ticket };
        match table.put(id, outgoing, &self.shared.bounds) {
            Ok(()) => Ok(()),
            Err(_) => failed(true),
        }
    }

    fn open(&self, table: &mut Table, way: &Way) -> Option<ConnectionId> {
        let (remote, transport) = (way.open?, way.carrier.transport());
        let proof = match transport {
            Transport::Tcp => Proof::Address,
            Transport::Tls if self.shared.tls.is_some() => way.proof.clone(),
            // Nobody opens a connection to a browser (RFC 7118 §5.2.2).
            Transport::Tls | Transport::Ws | Transport::Wss => return None,
            Transport::Udp | Transport::Other(_) => return None,
        };
        if table.opened() >= limits::OPENED_MAX
            || table.opened_to(remote.ip()) >= limits::OPENED_PER_ADDRESS_MAX
        {
            return None;
        }
        let permit = self.opens.try_reserve().ok()?;
        let end = End { transport, remote, accepted: false, proof };
        let place = table.insert(end.clone());
        let id = place.id;
        permit.send(Open { end, place });
        Some(id)
    }
}
