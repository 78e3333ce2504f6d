//! What a phone talks over: datagrams, or one connection that it opens again when it is gone, as any good user agent does.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use tandem_sip::{Message, Transport};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::wire::{self, Dial, Ended, Wire};

const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Before a connection is opened again; doubled while that fails.
const BACK_OFF_MS_MIN: u64 = 50;
const BACK_OFF_MS_MAX: u64 = 1_000;
/// A listener whose process stands still takes a connection and says nothing.
const OPEN_MS_MAX: u64 = 2_000;

/// What the phone shall talk over.
#[derive(Clone, Debug)]
pub enum Over {
    Udp,
    Tcp {
        /// Where its Contact and Via say, as most desk phones do.
        listens: bool,
    },
    /// To a server that one of these roots vouches for.
    Tls {
        roots: PathBuf,
    },
    /// As a script in a browser does, which has no address of its own.
    Ws,
    Wss {
        roots: PathBuf,
    },
}

/// What a line brings.
pub(super) enum Event {
    Message(Box<Message>, SocketAddr),
    /// The connection was gone, and there is another.
    Back,
}

pub(super) enum Line {
    Udp { socket: UdpSocket, datagram: Vec<u8> },
    Stream(Stream),
}

type Outbox = mpsc::UnboundedReceiver<Vec<u8>>;
type Writer = mpsc::UnboundedSender<Vec<u8>>;
pub(super) type Told = mpsc::UnboundedSender<Event>;
/// Connections that the server has opened, by where they come from.
type Opened = Arc<Mutex<BTreeMap<SocketAddr, Writer>>>;

pub(super) struct Stream {
    transport: Transport,
    /// What it calls itself, where it has no address (RFC 7118 §5).
    name: Option<String>,
    writer: Writer,
    inbox: mpsc::UnboundedReceiver<Event>,
    opened: Opened,
    away: Arc<AtomicBool>,
}

impl Line {
    /// The line and the phone's own address. That stays, whatever connections come and go.
    pub async fn open(over: &Over, bind: IpAddr, server: SocketAddr) -> Result<(Self, SocketAddr)> {
        let (transport, listens) = match over {
            Over::Udp => {
                let socket = UdpSocket::bind((bind, 0)).await?;
                let address = socket.local_addr()?;
                return Ok((Self::Udp { socket, datagram: vec![0; DATAGRAM_BYTES_MAX] }, address));
            }
            Over::Tcp { listens } => (Transport::Tcp, *listens),
            Over::Tls { .. } => (Transport::Tls, false),
            Over::Ws => (Transport::Ws, false),
            Over::Wss { .. } => (Transport::Wss, false),
        };
        let dial = Dial { over: over.clone(), bind, server };
        let (wire, mut address) = dial.open().await?;
        let (writer, outbox) = mpsc::unbounded_channel();
        let (told, inbox) = mpsc::unbounded_channel();
        let away = Arc::new(AtomicBool::new(false));
        let opened = Opened::default();
        if listens {
            let listener = TcpListener::bind((bind, 0)).await?;
            address = listener.local_addr()?;
            tokio::spawn(accept(listener, told.clone(), Arc::clone(&opened)));
        }
        tokio::spawn(keep(dial, wire, outbox, told, Arc::clone(&away)));
        let socket = matches!(transport, Transport::Ws | Transport::Wss);
        let name = socket.then(|| format!("{:012x}.invalid", rand::random::<u64>() >> 16));
        Ok((Self::Stream(Stream { transport, name, writer, inbox, opened, away }), address))
    }

    /// Where this is set, a connection that is gone stays gone.
    pub fn away(&self) -> Arc<AtomicBool> {
        match self {
            Self::Udp { .. } => Arc::default(),
            Self::Stream(stream) => Arc::clone(&stream.away),
        }
    }

    /// The name in the place of an address.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Udp { .. } => None,
            Self::Stream(stream) => stream.name.as_deref(),
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Udp { .. } => Transport::Udp,
            Self::Stream(stream) => stream.transport.clone(),
        }
    }

    /// Of the phone's Contact.
    pub fn uri_param(&self) -> Option<&'static str> {
        match self.transport() {
            Transport::Udp | Transport::Other(_) => None,
            Transport::Tcp => Some("tcp"),
            Transport::Tls => Some("tls"),
            Transport::Ws | Transport::Wss => Some("ws"),
        }
    }

    /// To whoever has opened a connection from there; else to the server.
    pub async fn send(&self, bytes: &[u8], to: SocketAddr) {
        // A lost datagram is UDP's right: the transactions repeat it. What is said while there is no connection waits
        // for the next; what was written to one that is gone is lost.
        match self {
            Self::Udp { socket, .. } => drop(socket.send_to(bytes, to).await),
            Self::Stream(stream) => {
                let opened = stream.opened.lock().get(&to).cloned();
                drop(opened.as_ref().unwrap_or(&stream.writer).send(bytes.to_vec()));
            }
        }
    }

    /// What comes next.
    pub async fn next(&mut self) -> Event {
        match self {
            Self::Udp { socket, datagram } => loop {
                if let Ok((len, source)) = socket.recv_from(datagram).await
                    && let Ok(message) = tandem_sip::parse(&datagram[..len])
                {
                    return Event::Message(Box::new(message), source);
                }
            },
            Self::Stream(stream) => match stream.inbox.recv().await {
                Some(event) => event,
                None => std::future::pending().await,
            },
        }
    }
}

/// The one connection to the server, and the next, and so on, until the phone is gone.
async fn keep(dial: Dial, mut wire: Wire, mut outbox: Outbox, told: Told, away: Arc<AtomicBool>) {
    while wire.carry(&mut outbox, &told, dial.server).await == Ended::Broken {
        match again(&dial, &outbox, &away).await {
            Some(next) => wire = next,
            None => break,
        }
        if told.send(Event::Back).is_err() {
            return;
        }
    }
    while outbox.recv().await.is_some() {}
}

async fn again(dial: &Dial, outbox: &Outbox, away: &AtomicBool) -> Option<Wire> {
    let mut back_off_ms = BACK_OFF_MS_MIN;
    while !away.load(Ordering::Relaxed) && !outbox.is_closed() {
        sleep(Duration::from_millis(back_off_ms)).await;
        if let Ok(Ok((wire, _))) = timeout(Duration::from_millis(OPEN_MS_MAX), dial.open()).await {
            return Some(wire);
        }
        back_off_ms = (2 * back_off_ms).min(BACK_OFF_MS_MAX);
    }
    None
}

/// Connections that come to the phone's Contact.
async fn accept(listener: TcpListener, told: Told, opened: Opened) {
    loop {
        let (stream, source) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => return,
            },
            () = told.closed() => return,
        };
        let (writer, mut outbox) = mpsc::unbounded_channel();
        opened.lock().insert(source, writer);
        let (told, opened) = (told.clone(), Arc::clone(&opened));
        tokio::spawn(async move {
            let mut wire = wire::Wire::Bytes(Box::new(stream));
            tokio::select! {
                _ = wire.carry(&mut outbox, &told, source) => {}
                () = told.closed() => {}
            }
            opened.lock().remove(&source);
        });
    }
}
