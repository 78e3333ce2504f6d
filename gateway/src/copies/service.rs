//! The server of other gateways' copies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tandem_media::record::custody::Standing;
use tandem_media::record::manifest::{Manifest, manifest_path};
use tandem_media::record::source;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::keeper::Order;
use super::pb;
use super::pb::copies_server::{Copies, CopiesServer};
use crate::limits;
use crate::obituaries::Obituaries;
use crate::obituaries::pb::control_server::ControlServer;
use crate::options::{Certificates, Error};

pub struct Service {
    pub orders: mpsc::Sender<Order>,
    pub sessions: AtomicU64,
    /// Originals first.
    pub folders: [PathBuf; 2],
}

/// Serves gateways that prove to be of this cluster, and its supervisors.
///
/// # Errors
/// What fails later than the listener.
pub async fn listen(
    listener: TcpListener,
    service: Service,
    obituaries: Obituaries,
    tls: Option<Arc<Certificates>>,
) -> Result<(), Error> {
    let alive = Some(std::time::Duration::from_millis(limits::KEEP_ALIVE_MS));
    let mut server = Server::builder().http2_keepalive_interval(alive);
    let server =
        server.add_service(CopiesServer::new(service)).add_service(ControlServer::new(obituaries));
    let served = match tls {
        Some(tls) => server.serve_with_incoming(tandem_pki::server::incoming(listener, tls)).await,
        None => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server.serve_with_incoming(incoming).await
        }
    };
    served.map_err(Error::Copies)
}

#[tonic::async_trait]
impl Copies for Service {
    type CopyStream = BoxStream<'static, Result<pb::Down, Status>>;
    type FetchStream = BoxStream<'static, Result<pb::Item, Status>>;

    async fn copy(
        &self,
        request: Request<Streaming<pb::Up>>,
    ) -> Result<Response<Self::CopyStream>, Status> {
        let mut up = request.into_inner();
        let Some(pb::Up { body: Some(pb::up::Body::Hello(hello)) }) = up.message().await? else {
            return Err(Status::failed_precondition("the first message must be Hello"));
        };
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (reply, down) = mpsc::channel(limits::COPIES_REPLIES_MAX);
        let orders = self.orders.clone();
        tracing::info!(gateway = hello.gateway, "sends its recordings");
        tokio::spawn(async move {
            serve(session, up, &orders, reply).await;
            tracing::info!(gateway = hello.gateway, "sends its recordings no more");
            // It can only fail when the gateway ends.
            let _ = orders.send(Order::Over { session }).await;
        });
        Ok(Response::new(ReceiverStream::new(down).boxed()))
    }

    async fn fetch(
        &self,
        request: Request<pb::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let recording = request.into_inner().recording;
        let (items, stream) = mpsc::channel(limits::FETCH_ITEMS_MAX);
        let folders = self.folders.clone();
        tokio::task::spawn_blocking(move || {
            let Some(dir) = folders.iter().find(|dir| manifest_path(dir, recording).exists())
            else {
                let _ = items.blocking_send(Err(Status::not_found("it is not here")));
                return;
            };
            for item in all_of(dir, recording) {
                if items.blocking_send(item).is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream).boxed()))
    }
}

/// Until the other gateway goes. Nothing is read of it while the keeper is busy.
async fn serve(
    session: u64,
    mut up: Streaming<pb::Up>,
    orders: &mpsc::Sender<Order>,
    reply: super::keeper::Reply,
) {
    while let Some(Ok(pb::Up { body })) = up.next().await {
        let reply = reply.clone();
        let order = match body {
            Some(pb::up::Body::Ask(ask)) => {
                let pb::Ask { recording, frames, sealed } = ask;
                let theirs = Standing { frames, sealed };
                Order::Ask { session, recording, theirs, reply }
            }
            Some(pb::up::Body::CutBack(pb::CutBack { recording, mark, frames, sealed })) => {
                let Some(mark) = mark.and_then(super::sender::mark_of) else { continue };
                let theirs = Standing { frames, sealed };
                Order::CutBack { session, recording, mark, theirs, reply }
            }
            Some(pb::up::Body::Item(item)) => Order::Put { session, item, reply },
            // Hello again, or a message of a later version.
            Some(pb::up::Body::Hello(_)) | None => continue,
        };
        if orders.send(order).await.is_err() {
            return;
        }
    }
}

/// The lines of one recording, read a few at a time.
fn all_of(dir: &Path, recording: u64) -> impl Iterator<Item = Result<pb::Item, Status>> + use<> {
    let dir = dir.to_owned();
    let length = Manifest::read(&manifest_path(&dir, recording)).map_or(0, |known| known.bytes);
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= length {
            return None;
        }
        let read = source::read(&dir, recording, at, length, limits::COPY_TURN_BYTES_MAX);
        let items = match read {
            Ok(items) if !items.is_empty() => items,
            Ok(_) => return None,
            Err(error) => {
                at = length;
                return Some(vec![Err(Status::data_loss(error.to_string()))]);
            }
        };
        at = items.last().map_or(length, |item| item.at + item.line.len() as u64);
        let item = |item: source::Item| {
            let source::Item { at, line, audio } = item;
            Ok(pb::Item { recording, at, line, audio })
        };
        Some(items.into_iter().map(item).collect())
    })
    .flatten()
}
