//! What a phone talks over: datagrams, or one connection with TLS or a WebSocket.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tandem_sip::{Message, Transport};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What the phone shall talk over.
#[derive(Clone, Debug)]
pub enum Over {
    Udp,
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

pub(super) enum Line {
    Udp { socket: UdpSocket, datagram: Vec<u8> },
    Stream(Stream),
}

pub(super) struct Stream {
    server: SocketAddr,
    transport: Transport,
    /// What it calls itself, where it has no address (RFC 7118 §5).
    name: Option<String>,
    writer: mpsc::UnboundedSender<Vec<u8>>,
    inbox: Inbox,
}

type Inbox = mpsc::UnboundedReceiver<Message>;

impl Line {
    /// The line and the phone's own address.
    pub async fn open(over: &Over, bind: IpAddr, server: SocketAddr) -> Result<(Self, SocketAddr)> {
        match over {
            Over::Udp => {
                let socket = UdpSocket::bind((bind, 0)).await?;
                let address = socket.local_addr()?;
                Ok((Self::Udp { socket, datagram: vec![0; DATAGRAM_BYTES_MAX] }, address))
            }
            Over::Tls { roots } => {
                let (stream, address) = connect(bind, server).await?;
                let stream = secure(stream, roots, server).await?;
                let (read, write) = tokio::io::split(stream);
                let (line, outbox, told) = Stream::new(server, Transport::Tls);
                tokio::spawn(write_all(write, outbox));
                tokio::spawn(read_all(read, told));
                Ok((Self::Stream(line), address))
            }
            Over::Ws => {
                let (stream, address) = connect(bind, server).await?;
                let line = Stream::over_frames(server, Transport::Ws, stream).await?;
                Ok((Self::Stream(line), address))
            }
            Over::Wss { roots } => {
                let (stream, address) = connect(bind, server).await?;
                let stream = secure(stream, roots, server).await?;
                let line = Stream::over_frames(server, Transport::Wss, stream).await?;
                Ok((Self::Stream(line), address))
            }
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
        match self {
            Self::Udp { .. } => None,
            Self::Stream(stream) if stream.name.is_some() => Some("ws"),
            Self::Stream(_) => Some("tls"),
        }
    }

    pub async fn send(&self, bytes: &[u8], to: SocketAddr) {
        // A lost datagram is UDP's right: the transactions repeat it. A connection that is gone is
        // what a test will notice.
        match self {
            Self::Udp { socket, .. } => drop(socket.send_to(bytes, to).await),
            Self::Stream(stream) => drop(stream.writer.send(bytes.to_vec())),
        }
    }

    /// The next message and where it came from. For ever, where the connection is gone.
    pub async fn next(&mut self) -> (Message, SocketAddr) {
        match self {
            Self::Udp { socket, datagram } => loop {
                if let Ok((len, source)) = socket.recv_from(datagram).await
                    && let Ok(message) = tandem_sip::parse(&datagram[..len])
                {
                    return (message, source);
                }
            },
            Self::Stream(stream) => match stream.inbox.recv().await {
                Some(message) => (message, stream.server),
                None => std::future::pending().await,
            },
        }
    }
}

type Outbox = mpsc::UnboundedReceiver<Vec<u8>>;

impl Stream {
    fn new(
        server: SocketAddr,
        transport: Transport,
    ) -> (Self, Outbox, mpsc::UnboundedSender<Message>) {
        let (writer, outbox) = mpsc::unbounded_channel();
        let (told, inbox) = mpsc::unbounded_channel();
        let socket = matches!(transport, Transport::Ws | Transport::Wss);
        let name = socket.then(|| format!("{:012x}.invalid", rand::random::<u64>() >> 16));
        (Self { server, transport, name, writer, inbox }, outbox, told)
    }

    async fn over_frames<S>(server: SocketAddr, transport: Transport, stream: S) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut request = format!("ws://{server}/").into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        let (mut sink, mut source) = socket.split();
        let (line, mut outbox, told) = Self::new(server, transport);
        tokio::spawn(async move {
            while let Some(bytes) = outbox.recv().await {
                let Ok(text) = String::from_utf8(bytes) else { return };
                if sink.send(Frame::text(text)).await.is_err() {
                    return;
                }
            }
            let _ = sink.close().await;
        });
        tokio::spawn(async move {
            while let Some(Ok(frame)) = source.next().await {
                if !(frame.is_text() || frame.is_binary()) {
                    continue;
                }
                let Ok(message) = tandem_sip::parse(&frame.into_data()) else { continue };
                if told.send(message).is_err() {
                    return;
                }
            }
        });
        Ok(line)
    }
}

async fn connect(bind: IpAddr, server: SocketAddr) -> Result<(TcpStream, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((bind, 0).into())?;
    let stream = socket.connect(server).await.with_context(|| format!("{server}"))?;
    let address = stream.local_addr()?;
    Ok((stream, address))
}

async fn secure(
    stream: TcpStream,
    roots: &PathBuf,
    server: SocketAddr,
) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::IpAddress(server.ip().into());
    let connector = TlsConnector::from(Arc::new(config(roots)?));
    connector.connect(name, stream).await.context("TLS")
}

fn config(roots: &PathBuf) -> Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots)? {
        store.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

async fn write_all(
    mut stream: impl AsyncWrite + Unpin,
    mut outbox: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    while let Some(bytes) = outbox.recv().await {
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn read_all(mut stream: impl AsyncRead + Unpin, told: mpsc::UnboundedSender<Message>) {
    let mut read = Vec::new();
    loop {
        while let Some(message) = take(&mut read) {
            if told.send(message).is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut read).await, Ok(more) if more > 0) {
            return;
        }
    }
}

/// The first message, where it is whole (RFC 3261 §18.3).
fn take(read: &mut Vec<u8>) -> Option<Message> {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let body = tandem_sip::body_length(&read[..head]).ok()??;
    if read.len() < head + body {
        return None;
    }
    let bytes: Vec<u8> = read.drain(..head + body).collect();
    tandem_sip::parse(&bytes).ok()
}
