//! SIP over TCP on a service address (RFC 3261 §18).
//!
//! [`framer`] cuts messages out of bytes, `connection` is the task of one connection, `table` what is
//! known of all. [`Streams`] is for whoever sends: it never waits. A peer that does not take what
//! is sent to it is closed.

mod connection;
pub mod framer;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};
use tandem_sip::{ConnectionId, Ticket, Way};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::admission::Sources;
use crate::error::Error;
use crate::limits;
use crate::received::Received;
use connection::{Connection, Reason};
use table::{Outgoing, Place, Table};

/// Bounds that a test makes smaller.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub accepted_max: usize,
    pub accepted_per_source_max: usize,
    pub first_message: Duration,
    pub message: Duration,
    pub idle: Duration,
    pub unsent_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            accepted_max: limits::ACCEPTED_MAX,
            accepted_per_source_max: limits::ACCEPTED_PER_SOURCE_MAX,
            first_message: Duration::from_millis(limits::FIRST_MESSAGE_MS_MAX),
            message: Duration::from_millis(limits::MESSAGE_MS_MAX),
            idle: Duration::from_millis(limits::IDLE_MS_MAX),
            unsent_bytes_max: limits::UNSENT_BYTES_MAX,
        }
    }
}

/// A request that did not arrive, or of which nobody can say that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undelivered {
    pub ticket: Ticket,
    /// It was tried on a connection that we had opened: to open another is of no use.
    pub opened: bool,
}

/// What all connections of one address share.
#[derive(Debug)]
struct Shared {
    local: SocketAddr,
    bounds: Bounds,
    table: Mutex<Table>,
    sources: Mutex<Sources>,
}

/// A connection to be opened.
#[derive(Debug)]
struct Open {
    to: SocketAddr,
    place: Place,
}

/// Sends over connections; as many as there are may be written to at once.
#[derive(Clone, Debug)]
pub struct Streams {
    shared: Arc<Shared>,
    opens: mpsc::Sender<Open>,
}

/// Accepts connections, opens them, and owns their tasks: they end with it.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    shared: Arc<Shared>,
    opens: mpsc::Receiver<Open>,
}

/// Listens on an address. Must be called within a tokio runtime.
///
/// # Errors
/// Why the address can't be bound, in one sentence.
pub fn bind(address: SocketAddr, bounds: Bounds) -> Result<(Streams, Listener), Error> {
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
    let (listener, local) = open().map_err(|source| Error::of_bind(address, source))?;
    let shared = Arc::new(Shared {
        local,
        bounds,
        table: Mutex::new(Table::new(first_number())),
        sources: Mutex::new(Sources::new(Instant::now())),
    });
    let (to_listener, opens) = mpsc::channel(limits::OPENS_WAITING_MAX);
    let streams = Streams { shared: Arc::clone(&shared), opens: to_listener };
    Ok((streams, Listener { listener, shared, opens }))
}

/// Behind every number of an earlier life: none has opened a million connections a millisecond.
fn first_number() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default() << 20
}

impl Streams {
    pub fn local(&self) -> SocketAddr {
        self.shared.local
    }

    /// Puts a message on its way: over the connection that is named, else over one to the address
    /// where it may be opened, else over a new one.
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
        let to = way.open?;
        if table.opened() >= limits::OPENED_MAX
            || table.opened_to(to.ip()) >= limits::OPENED_PER_ADDRESS_MAX
        {
            return None;
        }
        let permit = self.opens.try_reserve().ok()?;
        let place = table.insert(to, false);
        let id = place.id;
        permit.send(Open { to, place });
        Some(id)
    }
}

impl Listener {
    /// Until the handler is gone.
    ///
    /// # Errors
    /// None today: a socket that can't accept for a while can again.
    pub async fn run(
        mut self,
        handler: mpsc::Sender<Received>,
        reports: mpsc::Sender<Undelivered>,
    ) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = handler.closed() => return Ok(()),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, remote)) => {
                        if let Some(place) = self.admit(remote) {
                            let connection = self.connection(place, remote, true, &handler, &reports);
                            tasks.spawn(connection.serve(stream));
                        }
                    }
                    Err(error) => {
                        metrics::counter!("tandem_sip_connections_refused_total", "reason" => "system")
                            .increment(1);
                        tracing::warn!(%error, "a connection can't be accepted");
                        sleep(Duration::from_millis(limits::ACCEPT_AGAIN_MS)).await;
                    }
                },
                Some(Open { to, place }) = self.opens.recv() => {
                    let connection = self.connection(place, to, false, &handler, &reports);
                    let from = self.shared.local;
                    tasks.spawn(async move {
                        let limit = Duration::from_millis(limits::CONNECT_MS_MAX);
                        match timeout(limit, connect(from, to)).await {
                            Ok(Ok(stream)) => connection.serve(stream).await,
                            Ok(Err(error)) => {
                                tracing::debug!(%to, %error, "no connection");
                                connection.end(Reason::Unreachable).await;
                            }
                            Err(_) => connection.end(Reason::Unreachable).await,
                        }
                    });
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// A place in the table; `None` where there is none for this peer. What was accepted is then
    /// dropped, which closes it.
    fn admit(&self, remote: SocketAddr) -> Option<Place> {
        let mut table = self.shared.table.lock();
        let bounds = &self.shared.bounds;
        let reason = if table.accepted() >= bounds.accepted_max {
            "all"
        } else if table.accepted_from(remote.ip()) >= bounds.accepted_per_source_max {
            "source"
        } else {
            metrics::counter!("tandem_sip_connections_total", "side" => "peer").increment(1);
            return Some(table.insert(remote, true));
        };
        metrics::counter!("tandem_sip_connections_refused_total", "reason" => reason).increment(1);
        None
    }

    fn connection(
        &self,
        place: Place,
        remote: SocketAddr,
        accepted: bool,
        handler: &mpsc::Sender<Received>,
        reports: &mpsc::Sender<Undelivered>,
    ) -> Connection {
        Connection {
            shared: Arc::clone(&self.shared),
            place,
            remote,
            accepted,
            handler: handler.clone(),
            reports: reports.clone(),
        }
    }
}

/// From the service address, so that the peer knows whom it talks to.
async fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(from.ip(), 0))?;
    let stream = socket.connect(to).await?;
    metrics::counter!("tandem_sip_connections_total", "side" => "gateway").increment(1);
    Ok(stream)
}

/// Small messages at once, and probes, so that a dead host is noticed.
fn tune(stream: &TcpStream) {
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(limits::PROBE_AFTER_S))
        .with_interval(Duration::from_secs(limits::PROBE_EVERY_S))
        .with_retries(limits::PROBES_MAX);
    let tuned =
        stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&probes));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection is not tuned");
    }
}
