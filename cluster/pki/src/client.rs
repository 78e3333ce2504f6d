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
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTPS))).await?;
    stream.set_nodelay(true)?;
    let no_name = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let server = ServerName::try_from(name.clone()).map_err(no_name)?;
    let connector = TlsConnector::from(Arc::clone(&live.current().client));
    let told = Told { live, name };
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
    name: String,
}

impl Told {
    fn of(&self, error: &io::Error) {
        if let Some(why) = refusal(error) {
            self.live.complaints().of_server(&format!("{}: {why}", self.name));
        }
    }
}

/// What an alert of the other side, or its silence, says of our certificate or its own, in a sentence.
pub(crate) fn refusal(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let said = match error {
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it says that our certificate is over or not yet good"
        }
        Error::AlertReceived(AlertDescription::UnknownCA) => {
            "it does not trust the authority of our certificate"
        }
        Error::AlertReceived(AlertDescription::BadCertificate) => "it can't use our certificate",
        Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::CertificateUnknown,
        ) => "it refuses our certificate",
        Error::AlertReceived(AlertDescription::DecryptError) => {
            "it does not believe our certificate's signature"
        }
        Error::NoCertificatesPresented => "it shows no certificate",
        _ => return None,
    };
    Some(said.to_owned())
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
