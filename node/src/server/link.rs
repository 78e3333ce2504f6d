//! The link's server: gateways log in, events come up, effects go down; reads and operators'
//! commands are answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tandem_gateway::link::pb;
use tandem_gateway::link::pb::link_server::Link;
use tandem_pki::Live;
use tandem_pki::identity;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::lines::{Lines, TOLD_MAX};
use super::sessions::{DOWN_MAX, Session, Sessions};

/// The longest message of a gateway; a command is far shorter.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// A gateway whose host is gone is noticed at the second ping.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What the link asks of the node behind it.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    fn name(&self) -> &str;
    /// Who leads each shard, now and at each change.
    fn leading(&self) -> watch::Receiver<Vec<pb::Leading>>;
    /// What gateways cache, now and at each change.
    fn routing(&self) -> watch::Receiver<Vec<pb::Routing>>;
    /// Where gateways log in, now and at each change.
    fn nodes(&self) -> watch::Receiver<pb::Nodes>;
    /// A gateway has logged in: it gets what it has not done yet.
    fn on_session(&self, session: &Session);
    fn on_event(&self, session: &Session, event: pb::Event);
    fn on_done(&self, session: &Session, done: pb::Done);
    /// JSON; nothing where the one thing that was asked for is not there.
    async fn query(
        &self,
        kind: &str,
        params: BTreeMap<String, String>,
    ) -> Result<Option<Vec<u8>>, Status>;
    async fn execute(&self, request: pb::ExecuteRequest) -> Result<pb::ExecuteReply, Status>;
}

pub struct LinkServer {
    pub node: Arc<dyn Node>,
    pub sessions: Arc<Sessions>,
    pub lines: Arc<Lines>,
}

/// Serves gateways that prove to be of this cluster, until the process ends.
pub async fn listen(
    listener: TcpListener,
    link: LinkServer,
    certificates: Arc<Live>,
) -> anyhow::Result<()> {
    let service =
        pb::link_server::LinkServer::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .add_service(service)
        .serve_with_incoming(tandem_pki::server::incoming(listener, certificates))
        .await
        .context("the gateways' link failed")
}

type ToldStream = BoxStream<'static, Result<pb::Told, Status>>;
type DownStream = BoxStream<'static, Result<pb::Down, Status>>;

fn streamed<T: Send + 'static>(messages: mpsc::Receiver<T>) -> BoxStream<'static, T> {
    let next = async |mut messages: mpsc::Receiver<T>| {
        messages.recv().await.map(|message| (message, messages))
    };
    futures::stream::unfold(messages, next).boxed()
}

#[async_trait]
impl Link for LinkServer {
    type SessionStream = DownStream;
    type LinesStream = ToldStream;

    async fn lines(
        &self,
        request: Request<Streaming<pb::Ask>>,
    ) -> Result<Response<Self::LinesStream>, Status> {
        let (metadata, extensions, mut asks) = request.into_parts();
        let proven = Request::from_parts(metadata, extensions, ());
        let first = asks.message().await?;
        let first = first.ok_or_else(|| Status::failed_precondition("nothing was asked"))?;
        // Who is told that it holds a line must be who it says.
        identity::require(&proven, &first.process)?;
        let (reply, told) = mpsc::channel(TOLD_MAX);
        let nodes = self.node.nodes();
        tokio::spawn(Arc::clone(&self.lines).serve(first, asks, nodes, reply));
        Ok(Response::new(streamed(told)))
    }

    async fn session(
        &self,
        request: Request<Streaming<pb::Up>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut up = request.into_inner();
        let Some(pb::Up { body: Some(pb::up::Body::Hello(hello)) }) = up.message().await? else {
            return Err(Status::failed_precondition("the first message must be Hello"));
        };
        let (down, stream) = mpsc::channel(DOWN_MAX);
        let Some(session) = self.sessions.open(&hello, down.clone()) else {
            return Err(Status::already_exists("a later life of this gateway is logged in"));
        };
        drop(down);
        tracing::info!(
            gateway = %session.gateway,
            incarnation = session.incarnation,
            "logged in"
        );
        tokio::spawn(serve(Arc::clone(&self.node), Arc::clone(&self.sessions), session, up));
        Ok(Response::new(streamed(stream)))
    }

    async fn query(
        &self,
        request: Request<pb::QueryRequest>,
    ) -> Result<Response<pb::QueryReply>, Status> {
        let pb::QueryRequest { kind, params } = request.into_inner();
        let found = self.node.query(&kind, params.into_iter().collect()).await?;
        Ok(Response::new(match found {
            Some(json) => pb::QueryReply { found: true, json },
            None => pb::QueryReply::default(),
        }))
    }

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<pb::ExecuteReply>, Status> {
        Ok(Response::new(self.node.execute(request.into_inner()).await?))
    }
}

/// Until the gateway goes, does not keep up or logs in anew.
async fn serve(
    node: Arc<dyn Node>,
    sessions: Arc<Sessions>,
    session: Session,
    mut up: Streaming<pb::Up>,
) {
    let mut leading = node.leading();
    let mut routing = node.routing();
    session.send(pb::down::Body::Welcome(pb::Welcome {
        node: node.name().to_owned(),
        version: crate::VERSION.to_owned(),
    }));
    // What holds now is told first, whether it is new or not.
    leading.mark_changed();
    routing.mark_changed();
    node.on_session(&session);
    let why = loop {
        tokio::select! {
            () = session.cut() => break "cut".to_owned(),
            Ok(()) = routing.changed() => {
                let now = routing.borrow_and_update().clone();
                for routing in now {
                    session.send(pb::down::Body::Routing(routing));
                }
            }
            Ok(()) = leading.changed() => {
                let now = leading.borrow_and_update().clone();
                for leading in now {
                    session.send(pb::down::Body::Leading(leading));
                }
            }
            message = up.message() => match message {
                Ok(Some(pb::Up { body: Some(body) })) => match body {
                    pb::up::Body::Event(event) => node.on_event(&session, event),
                    pb::up::Body::Done(done) => node.on_done(&session, done),
                    pb::up::Body::Hello(_) => break "said Hello twice".to_owned(),
                },
                // A message of a later version, which this one can do without.
                Ok(Some(pb::Up { body: None })) => {}
                Ok(None) => break "hung up".to_owned(),
                Err(status) => break status.to_string(),
            },
        }
    };
    tracing::info!(gateway = %session.gateway, why, "is logged out");
    sessions.close(&session);
}

#[cfg(test)]
mod tests;
