//! One connection of a phone.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tandem_sip::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::line::{Event, Over, Told};

type Outbox = mpsc::UnboundedReceiver<Vec<u8>>;

/// How a connection is opened.
pub(super) struct Dial {
    pub over: Over,
    pub bind: IpAddr,
    pub server: SocketAddr,
}

pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

pub(super) enum Wire {
    Bytes(Box<dyn Duplex>),
    Frames(Box<WebSocketStream<Box<dyn Duplex>>>),
}

/// Why nothing goes over a connection any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The peer has ended it, or the network.
    Broken,
    /// The phone is gone.
    Over,
}

impl Dial {
    /// With the address that it comes from.
    pub async fn open(&self) -> Result<(Wire, SocketAddr)> {
        let server = self.server;
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.bind, 0).into())?;
        let stream = socket.connect(server).await.with_context(|| format!("{server}"))?;
        let address = stream.local_addr()?;
        let stream: Box<dyn Duplex> = match &self.over {
            Over::Udp | Over::Tcp { .. } | Over::Ws => Box::new(stream),
            Over::Tls { roots } | Over::Wss { roots } => {
                let name = ServerName::IpAddress(server.ip().into());
                let connector = TlsConnector::from(Arc::new(config(roots)?));
                Box::new(connector.connect(name, stream).await.context("TLS")?)
            }
        };
        let wire = match self.over {
            Over::Udp | Over::Tcp { .. } | Over::Tls { .. } => Wire::Bytes(stream),
            Over::Ws | Over::Wss { .. } => {
                let mut request = format!("ws://{server}/").into_client_request()?;
                let protocol = HeaderValue::from_static("sip");
                request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
                let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
                Wire::Frames(Box::new(socket))
            }
        };
        Ok((wire, address))
    }
}

impl Wire {
    /// Brings messages both ways until one side ends it; what comes is said to be from `source`.
    pub async fn carry(&mut self, outbox: &mut Outbox, told: &Told, source: SocketAddr) -> Ended {
        match self {
            Self::Bytes(stream) => {
                let (read, write) = tokio::io::split(stream);
                tokio::select! {
                    ended = read_all(read, told, source) => ended,
                    ended = write_all(write, outbox) => ended,
                }
            }
            Self::Frames(socket) => {
                let (mut sink, mut frames) = socket.split();
                let write = async {
                    while let Some(bytes) = outbox.recv().await {
                        let Ok(text) = String::from_utf8(bytes) else { return Ended::Over };
                        if sink.send(Frame::text(text)).await.is_err() {
                            return Ended::Broken;
                        }
                    }
                    let _ = sink.close().await;
                    Ended::Over
                };
                let read = async {
                    while let Some(Ok(frame)) = frames.next().await {
                        if !(frame.is_text() || frame.is_binary()) {
                            continue;
                        }
                        let Ok(message) = tandem_sip::parse(&frame.into_data()) else { continue };
                        if told.send(Event::Message(Box::new(message), source)).is_err() {
                            return Ended::Over;
                        }
                    }
                    Ended::Broken
                };
                tokio::select! {
                    ended = read => ended,
                    ended = write => ended,
                }
            }
        }
    }
}

fn config(roots: &Path) -> Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots)? {
        store.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

async fn write_all(mut stream: impl AsyncWrite + Unpin, outbox: &mut Outbox) -> Ended {
    while let Some(bytes) = outbox.recv().await {
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return Ended::Broken;
        }
    }
    Ended::Over
}

async fn read_all(mut stream: impl AsyncRead + Unpin, told: &Told, source: SocketAddr) -> Ended {
    let mut read = Vec::new();
    loop {
        while let Some(message) = take(&mut read) {
            if told.send(Event::Message(Box::new(message), source)).is_err() {
                return Ended::Over;
            }
        }
        if !matches!(stream.read_buf(&mut read).await, Ok(more) if more > 0) {
            return Ended::Broken;
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
