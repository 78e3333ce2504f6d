//! Where connections come in and go out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tandem_sip::{Carrier, Flow, Proof, Transport};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream as Called;
use tokio_rustls::server::TlsStream as Accepted;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::WebSocketStream;

use super::connection::{Connection, Reason};
use super::handshake::{self, Handshake};
use super::table::{End, Place};
use super::{Open, Report, Shared, websocket};
use crate::error::Error;
use crate::intake::Intake;
use crate::limits;
use crate::tls::Tls;

/// One address that is listened on.
#[derive(Debug)]
pub struct Port {
    /// None: another process has it still.
    pub listener: Option<TcpListener>,
    pub local: SocketAddr,
    pub kind: Kind,
}

/// What is spoken there.
#[derive(Clone, Debug)]
pub enum Kind {
    Tcp,
    Tls(Arc<Tls>),
    /// With the origins that may come in.
    Ws(Arc<[String]>),
    Wss(Arc<Tls>, Arc<[String]>),
}

/// Accepts connections, opens them, and owns their tasks: they end with it.
#[derive(Debug)]
pub struct Listener {
    ports: Vec<Port>,
    shared: Arc<Shared>,
    opens: mpsc::Receiver<Open>,
}

/// What the task of a connection is given.
#[derive(Clone)]
struct Doors {
    shared: Arc<Shared>,
    handler: Intake,
    reports: mpsc::Sender<Report>,
}

impl Listener {
    pub(super) fn new(ports: Vec<Port>, shared: Arc<Shared>, opens: mpsc::Receiver<Open>) -> Self {
        Self { ports, shared, opens }
    }

    /// Until the handler is gone.
    ///
    /// # Errors
    /// None today: a socket that can't accept for a while can again.
    pub async fn run(self, handler: Intake, reports: mpsc::Sender<Report>) -> Result<(), Error> {
        let doors = Doors { shared: self.shared, handler, reports };
        let mut loops = JoinSet::new();
        for port in self.ports {
            loops.spawn(doors.clone().accept(port));
        }
        loops.spawn(doors.clone().open(self.opens));
        // All connections are tasks of the loops, which end with this.
        doors.handler.closed().await;
        Ok(())
    }
}

/// Once whoever has it lets go of it.
async fn listen_late(address: SocketAddr) -> TcpListener {
    tracing::warn!(%address, "TD0340 another process still listens there: connections have to wait");
    loop {
        if let Ok((listener, _)) = super::listen(address) {
            tracing::info!(%address, "connections are accepted");
            return listener;
        }
        sleep(Duration::from_millis(limits::LISTEN_AGAIN_MS)).await;
    }
}

impl Doors {
    async fn accept(self, port: Port) {
        let mut tasks = JoinSet::new();
        let listener = match &port.listener {
            Some(listener) => listener,
            None => &listen_late(port.local).await,
        };
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => self.take(&mut tasks, &port, stream, remote),
                    Err(error) => {
                        count_refused("system");
                        tracing::warn!(%error, "a connection can't be accepted");
                        sleep(Duration::from_millis(limits::ACCEPT_AGAIN_MS)).await;
                    }
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// What is not taken is dropped, which closes it.
    fn take(&self, tasks: &mut JoinSet<()>, port: &Port, stream: TcpStream, remote: SocketAddr) {
        tune(&stream);
        let local = port.local;
        match &port.kind {
            Kind::Tcp => {
                if let Some(place) = self.admit(Transport::Tcp, remote) {
                    let carrier = Carrier::Tcp { connection: Some(place.id) };
                    let connection =
                        self.connection(place, Flow::over(carrier, local, remote), true);
                    let (read, write) = stream.into_split();
                    tasks.spawn(connection.serve(read, write));
                }
            }
            Kind::Tls(_) | Kind::Ws(_) | Kind::Wss(..) => {
                match Handshake::begin(&self.shared, remote.ip()) {
                    Ok(handshake) => {
                        let (doors, kind) = (self.clone(), port.kind.clone());
                        tasks.spawn(doors.agree(handshake, kind, stream, local, remote));
                    }
                    Err(reason) => count_refused(reason),
                }
            }
        }
    }

    /// Handshakes, and then the connection. Until they are done nothing is known of the peer, and
    /// nothing kept.
    async fn agree(
        self,
        handshake: Handshake,
        kind: Kind,
        stream: TcpStream,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        match kind {
            Kind::Tcp => {}
            Kind::Ws(origins) => {
                let Some(socket) = self.upgrade(stream, origins, remote).await else { return };
                drop(handshake);
                let Some(place) = self.admit(Transport::Ws, remote) else { return };
                let carrier = Carrier::Ws { connection: Some(place.id) };
                let flow = Flow::over(carrier, local, remote);
                self.connection(place, flow, true).serve_frames(socket).await;
            }
            Kind::Tls(tls) => {
                let Some((stream, names)) = self.secure(&tls, stream, remote).await else { return };
                drop(handshake);
                let Some(place) = self.admit(Transport::Tls, remote) else { return };
                let carrier = Carrier::Tls { connection: Some(place.id) };
                let flow = Flow { names, ..Flow::over(carrier, local, remote) };
                let (read, write) = tokio::io::split(stream);
                self.connection(place, flow, true).serve(read, write).await;
            }
            Kind::Wss(tls, origins) => {
                let Some((stream, names)) = self.secure(&tls, stream, remote).await else { return };
                let Some(socket) = self.upgrade(stream, origins, remote).await else { return };
                drop(handshake);
                let Some(place) = self.admit(Transport::Wss, remote) else { return };
                let carrier = Carrier::Wss { connection: Some(place.id) };
                let flow = Flow { names, ..Flow::over(carrier, local, remote) };
                self.connection(place, flow, true).serve_frames(socket).await;
            }
        }
    }

    async fn upgrade<S>(
        &self,
        stream: S,
        origins: Arc<[String]>,
        remote: SocketAddr,
    ) -> Option<WebSocketStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limit = self.shared.bounds.handshake;
        let ended = timeout(limit, websocket::upgrade(stream, origins)).await;
        let result = match &ended {
            Ok(Ok(_)) => "ok",
            Ok(Err(error)) => websocket::word(error),
            Err(_) => "slow",
        };
        metrics::counter!("tandem_sip_websocket_handshakes_total", "result" => result).increment(1);
        match ended {
            Ok(Ok(socket)) => Some(socket),
            Ok(Err(error)) => {
                tracing::debug!(%remote, %error, "no WebSocket");
                None
            }
            Err(_) => None,
        }
    }

    /// TLS, and what the peer has proven to be called.
    async fn secure(
        &self,
        tls: &Tls,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> Option<(Accepted<TcpStream>, Arc<[String]>)> {
        let current = tls.current();
        let acceptor = TlsAcceptor::from(Arc::clone(&current.server));
        let limit = self.shared.bounds.handshake;
        let ended = timeout(limit, acceptor.accept(stream)).await;
        handshake::count("peer", &ended);
        match ended {
            Ok(Ok(stream)) => {
                let names = current.names_of(stream.get_ref().1.peer_certificates());
                Some((stream, names))
            }
            Ok(Err(error)) => {
                tracing::debug!(%remote, %error, "no TLS");
                None
            }
            Err(_) => None,
        }
    }

    /// A place in the table; `None` where there is none for this peer.
    fn admit(&self, transport: Transport, remote: SocketAddr) -> Option<Place> {
        let mut table = self.shared.table.lock();
        let bounds = &self.shared.bounds;
        let reason = if table.accepted() >= bounds.accepted_max {
            "all"
        } else if table.accepted_from(remote.ip()) >= bounds.accepted_per_source_max {
            "source"
        } else {
            count_opened("peer", &transport);
            let end = End { transport, remote, accepted: true, proof: Proof::Nothing };
            return Some(table.insert(end));
        };
        drop(table);
        count_refused(reason);
        None
    }

    fn connection(&self, place: Place, flow: Flow, accepted: bool) -> Connection {
        Connection {
            shared: Arc::clone(&self.shared),
            place,
            flow,
            accepted,
            handler: self.handler.clone(),
            reports: self.reports.clone(),
        }
    }

    async fn open(self, mut opens: mpsc::Receiver<Open>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                Some(Open { end, place }) = opens.recv() => {
                    tasks.spawn(self.clone().call(end, place));
                }
                Some(_) = tasks.join_next() => {}
                else => return,
            }
        }
    }

    async fn call(self, end: End, place: Place) {
        let id = Some(place.id);
        let (carrier, local) = match (&end.transport, &self.shared.tls) {
            (Transport::Tls, Some((local, _))) => (Carrier::Tls { connection: id }, *local),
            _ => (Carrier::Tcp { connection: id }, self.shared.local),
        };
        let connection = self.connection(place, Flow::over(carrier, local, end.remote), false);
        let limit = Duration::from_millis(limits::CONNECT_MS_MAX);
        let stream = match timeout(limit, connect(local, &end)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(to = %end.remote, %error, "no connection");
                return connection.end(Reason::Unreachable).await;
            }
            Err(_) => return connection.end(Reason::Unreachable).await,
        };
        if !carrier.is_secure() {
            let (read, write) = stream.into_split();
            return connection.serve(read, write).await;
        }
        match self.call_securely(&end, stream).await {
            Ok(stream) => {
                let (read, write) = tokio::io::split(stream);
                connection.serve(read, write).await;
            }
            Err(reason) => connection.end(reason).await,
        }
    }

    async fn call_securely(
        &self,
        end: &End,
        stream: TcpStream,
    ) -> Result<Called<TcpStream>, Reason> {
        let tls = self.shared.tls.as_ref().map(|(_, tls)| tls.current());
        let client = tls.and_then(|tls| tls.client(end.remote, &end.proof));
        let Some((config, name)) = client else {
            tracing::warn!(to = %end.remote, "TD0306 no roots to verify a TLS server by");
            return Err(Reason::Unproven);
        };
        let connecting = TlsConnector::from(config).connect(name, stream);
        let ended = timeout(self.shared.bounds.handshake, connecting).await;
        handshake::count("gateway", &ended);
        match ended {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::info!(to = %end.remote, proof = ?end.proof, %error, "no TLS");
                let unproven = handshake::is_unproven(&error);
                Err(if unproven { Reason::Unproven } else { Reason::Unreachable })
            }
            Err(_) => Err(Reason::Unreachable),
        }
    }
}

fn count_refused(reason: &'static str) {
    metrics::counter!("tandem_sip_connections_refused_total", "reason" => reason).increment(1);
}

fn count_opened(side: &'static str, transport: &Transport) {
    let transport = transport.as_str().to_ascii_lowercase();
    metrics::counter!("tandem_sip_connections_total", "side" => side, "transport" => transport)
        .increment(1);
}

/// From the service address, so that the peer knows whom it talks to.
async fn connect(from: SocketAddr, end: &End) -> io::Result<TcpStream> {
    let socket = if end.remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(from.ip(), 0))?;
    let stream = socket.connect(end.remote).await?;
    count_opened("gateway", &end.transport);
    tune(&stream);
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
