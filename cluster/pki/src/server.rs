//! Connections of whoever proves to be of the cluster.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use rustls::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::live::Live;
use crate::{client, limits};

/// For tonic's `serve_with_incoming`, without a TLS configuration of its own. The listener is closed
/// when it is dropped.
pub fn incoming(
    listener: TcpListener,
    live: Arc<Live>,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let accepting = Accepting { listener, live, handshakes: JoinSet::new() };
    futures::stream::unfold(accepting, |mut accepting| async move {
        let stream = accepting.next().await;
        Some((Ok(stream), accepting))
    })
}

struct Accepting {
    listener: TcpListener,
    live: Arc<Live>,
    handshakes: JoinSet<Option<TlsStream<TcpStream>>>,
}

impl Accepting {
    async fn next(&mut self) -> TlsStream<TcpStream> {
        loop {
            let room = self.handshakes.len() < limits::HANDSHAKES_MAX;
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(stream)) = done {
                        return stream;
                    }
                }
                accepted = self.listener.accept(), if room => match accepted {
                    Ok((stream, peer)) => {
                        self.handshakes.spawn(handshake(stream, peer, Arc::clone(&self.live)));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection was not accepted");
                        sleep(Duration::from_millis(limits::ACCEPT_AGAIN_MS)).await;
                    }
                },
            }
        }
    }
}

async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    live: Arc<Live>,
) -> Option<TlsStream<TcpStream>> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY");
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&live.current().server));
    let within = Duration::from_millis(limits::HANDSHAKE_MS_MAX);
    match timeout(within, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a handshake failed");
            tell(&error, peer, &live);
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "a handshake took too long");
            None
        }
    }
}

/// Of a certificate that we refuse the verifier has told.
fn tell(error: &io::Error, peer: SocketAddr, live: &Live) {
    let address = peer.ip().to_string();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    if matches!(inner, Some(Error::NoCertificatesPresented)) {
        live.complaints().refused(&format!("{address} shows no certificate"));
    }
    if let Some(why) = client::refusal(error) {
        live.complaints().apart(&address, why);
    }
}
