//! One session with each node, kept alive for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::StreamExt as _;
use tandem_pki::Connector;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::pb;
use super::pb::link_client::LinkClient;
use crate::limits;
use crate::options::{Certificates, Error, Node};

pub type Client = LinkClient<Channel>;
/// The connected client of each node, for reads and operators' commands.
pub type Clients = Arc<Vec<ArcSwapOption<Client>>>;

/// What sessions tell the control task. A node is named by its place in the options.
#[derive(Debug)]
pub enum Input {
    Connected { node: usize, up: mpsc::Sender<pb::Up> },
    Down { node: usize, body: pb::down::Body },
    Disconnected { node: usize },
}

/// How one node is reached.
pub struct Dial {
    pub node: usize,
    pub name: String,
    way: Way,
    hello: pb::Hello,
}

impl Dial {
    /// # Errors
    /// Where the address is of no use.
    pub fn new(
        at: usize,
        node: &Node,
        tls: Option<&Arc<Certificates>>,
        hello: pb::Hello,
    ) -> Result<Self, Error> {
        let bad = |source| Error::Node { name: node.name.clone(), source };
        let way = Way::to(&node.name, node.address, tls).map_err(bad)?;
        Ok(Self { node: at, name: node.name.clone(), way, hello })
    }

    /// Until the control task is gone.
    pub async fn keep(
        self,
        clients: Clients,
        control: mpsc::Sender<Input>,
        learn: mpsc::Sender<pb::Nodes>,
    ) {
        let mut wait_ms = limits::CONNECT_WAIT_MS_MIN;
        while !control.is_closed() {
            match self.session(&clients, &control, &learn).await {
                Ok(()) => wait_ms = limits::CONNECT_WAIT_MS_MIN,
                Err(why) => tracing::debug!(node = %self.name, why, "no session"),
            }
            if let Some(slot) = clients.get(self.node) {
                slot.store(None);
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(limits::CONNECT_WAIT_MS_MAX);
        }
    }

    /// One session. `Ok` where the node had welcomed us, so that the next attempt comes soon.
    async fn session(
        &self,
        clients: &Clients,
        control: &mpsc::Sender<Input>,
        learn: &mpsc::Sender<pb::Nodes>,
    ) -> Result<(), String> {
        let channel = self.way.connect().await.map_err(|error| because(&error))?;
        let client =
            LinkClient::new(channel).max_decoding_message_size(limits::LINK_MESSAGE_BYTES_MAX);
        let (up, messages) = mpsc::channel(limits::UP_MAX);
        let hello = pb::Up { body: Some(pb::up::Body::Hello(self.hello.clone())) };
        up.try_send(hello).map_err(|error| error.to_string())?;
        let stream = client.clone().session(ReceiverStream::new(messages)).await;
        let mut down = stream.map_err(|status| status.message().to_owned())?.into_inner();
        if let Some(slot) = clients.get(self.node) {
            slot.store(Some(Arc::new(client)));
        }
        let node = self.node;
        let say =
            async |input| control.send(input).await.map_err(|_| "the gateway ends".to_owned());
        say(Input::Connected { node, up }).await?;
        tracing::info!(node = %self.name, "session opened");
        let mut welcomed = false;
        let why = loop {
            match down.next().await {
                Some(Ok(pb::Down { body: Some(pb::down::Body::Nodes(nodes)) })) => {
                    // Nobody wants to know where nodes are given once and for all.
                    let _ = learn.send(nodes).await;
                }
                Some(Ok(pb::Down { body: Some(body) })) => {
                    welcomed |= matches!(body, pb::down::Body::Welcome(_));
                    say(Input::Down { node, body }).await?;
                }
                // A message of a later version, which this one can do without.
                Some(Ok(pb::Down { body: None })) => {}
                Some(Err(status)) => break status.message().to_owned(),
                None => break "the node hung up".to_owned(),
            }
        };
        tracing::info!(node = %self.name, why, "session closed");
        say(Input::Disconnected { node }).await?;
        if welcomed { Ok(()) } else { Err(why) }
    }
}

/// To a process of the cluster that proves its name.
#[derive(Clone)]
pub(crate) struct Way {
    endpoint: Endpoint,
    tls: Option<Connector>,
}

impl Way {
    pub fn to(
        name: &str,
        address: SocketAddr,
        tls: Option<&Arc<Certificates>>,
    ) -> Result<Self, tonic::transport::Error> {
        // The connector does the TLS, so that the scheme says nothing of it.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(Duration::from_millis(limits::CONNECT_MS_MAX))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_millis(limits::KEEP_ALIVE_MS))
            .keep_alive_timeout(Duration::from_millis(limits::KEEP_ALIVE_ANSWER_MS_MAX))
            .keep_alive_while_idle(true);
        let tls = tls.map(|certificates| Connector::new(Arc::clone(certificates), name));
        Ok(Self { endpoint, tls })
    }

    /// With the certificates of the moment.
    pub async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        match &self.tls {
            Some(tls) => self.endpoint.connect_with_connector(tls.clone()).await,
            None => self.endpoint.connect().await,
        }
    }
}

/// An error with what caused it: tonic's own text says only "transport error".
fn because(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
