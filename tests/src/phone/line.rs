//! What a phone talks over: datagrams, or one connection with TLS.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tandem_sip::{Message, Transport};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What the phone shall talk over.
#[derive(Clone, Debug)]
pub enum Over {
    Udp,
    /// To a server that one of these roots vouches for.
    Tls {
        roots: PathBuf,
    },
}

pub(super) enum Line {
    Udp { socket: UdpSocket, datagram: Vec<u8> },
    Stream { server: SocketAddr, writer: mpsc::UnboundedSender<Vec<u8>>, inbox: Inbox },
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
                let socket = TcpSocket::new_v4()?;
                socket.bind((bind, 0).into())?;
                let stream = socket.connect(server).await.context("the gateway's port of TLS")?;
                let address = stream.local_addr()?;
                let name = ServerName::IpAddress(server.ip().into());
                let connector = TlsConnector::from(Arc::new(config(roots)?));
                let stream = connector.connect(name, stream).await.context("TLS")?;
                let (read, write) = tokio::io::split(stream);
                let (writer, outbox) = mpsc::unbounded_channel();
                let (told, inbox) = mpsc::unbounded_channel();
                tokio::spawn(write_all(write, outbox));
                tokio::spawn(read_all(read, told));
                Ok((Self::Stream { server, writer, inbox }, address))
            }
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Udp { .. } => Transport::Udp,
            Self::Stream { .. } => Transport::Tls,
        }
    }

    /// Of the phone's Contact.
    pub fn uri_param(&self) -> Option<&'static str> {
        match self {
            Self::Udp { .. } => None,
            Self::Stream { .. } => Some("tls"),
        }
    }

    pub async fn send(&self, bytes: &[u8], to: SocketAddr) {
        // A lost datagram is UDP's right: the transactions repeat it. A connection that is gone is
        // what a test will notice.
        match self {
            Self::Udp { socket, .. } => drop(socket.send_to(bytes, to).await),
            Self::Stream { writer, .. } => drop(writer.send(bytes.to_vec())),
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
            Self::Stream { inbox, server, .. } => match inbox.recv().await {
                Some(message) => (message, *server),
                None => std::future::pending().await,
            },
        }
    }
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
