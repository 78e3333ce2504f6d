//! Connections to whoever proves to be of the cluster, and by which name.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use crate::live::Live;

const HTTPS: u16 = 443;

/// For tonic's `connect_with_connector` with an address of the scheme `http`: the TLS is done here,
/// with the certificates of the moment.
#[derive(Clone, Debug)]
pub struct Connector {
    live: Arc<Live>,
    name: String,
}

impl Connector {
    /// `name`: what the certificate of who listens must answer to.
    pub fn new(live: Arc<Live>, name: &str) -> Self {
        Self { live, name: name.to_owned() }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Link>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { live, name } = self.clone();
        Box::pin(async move { connect(&uri, live, name).await.map(TokioIo::new) })
    }
}

async fn connect(uri: &Uri, live: Arc<Live>, name: String) -> io::Result<Link> {
    let no_address = || io::Error::new(io::ErrorKind::InvalidInput, "no address");
    let host = uri.host().ok_or_else(no_address)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(HTTPS);
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let no_name = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let server = ServerName::try_from(name).map_err(no_name)?;
    let address = format!("{host}:{port}");
    let connector = TlsConnector::from(live.calling(&address));
    let told = Told { live, address };
    let connected = connector.connect(server, stream).await;
    let stream = connected.inspect_err(|error| told.of(error))?;
    Ok(Link { stream, told })
}

/// What the other side says of our certificate comes after the handshake (RFC 8446 §4.4.2), when the
/// first bytes are read.
pub struct Link {
    stream: TlsStream<TcpStream>,
    told: Told,
}

struct Told {
    live: Arc<Live>,
    address: String,
}

impl Told {
    fn of(&self, error: &io::Error) {
        if let Some(why) = refusal(error) {
            self.live.complaints().apart(&self.address, why);
        }
    }
}

/// Whether a connection has failed for certificates; then the log says whose, and why.
pub fn is_refusal(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::InvalidCertificate(_))) || refusal(error).is_some()
}

/// What an alert of the other side says of our certificate (RFC 8446 §6.2), in a sentence.
pub(crate) fn refusal(error: &io::Error) -> Option<&'static str> {
    let Error::AlertReceived(alert) = error.get_ref()?.downcast_ref::<Error>()? else {
        return None;
    };
    match alert {
        AlertDescription::CertificateExpired => {
            Some("it says that our certificate is over or not yet good")
        }
        AlertDescription::UnknownCA => Some("it does not trust the authority of our certificate"),
        AlertDescription::BadCertificate => Some("it can't use our certificate"),
        AlertDescription::CertificateRequired | AlertDescription::CertificateUnknown => {
            Some("it refuses our certificate")
        }
        AlertDescription::DecryptError => Some("it does not believe our certificate's signature"),
        _ => None,
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read {
            self.told.of(error);
        }
        read
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
