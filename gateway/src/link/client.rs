//! One connection with each node, kept alive for ever, and what is asked over it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tandem_pki::Connector;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::pb;
use super::pb::link_client::LinkClient;
use crate::limits;
use crate::options::{Certificates, Error, Node};

pub type Client = LinkClient<Channel>;
/// The client of each node, while there is a connection. A node is named by its place.
pub type Clients = Arc<Vec<watch::Sender<Option<Client>>>>;

/// A place for each node that there may be.
pub fn places() -> Clients {
    Arc::new((0..limits::NODES_MAX).map(|_| watch::channel(None).0).collect())
}

/// What nodes say about the process itself.
#[derive(Debug)]
pub enum Heard {
    Connected {
        node: usize,
        asks: mpsc::Sender<pb::Ask>,
    },
    /// By the node's life of that number.
    Told {
        node: usize,
        incarnation: u64,
        body: pb::told::Body,
    },
}

/// How one node is reached.
pub struct Dial {
    pub node: usize,
    pub name: String,
    way: Way,
}

impl Dial {
    /// # Errors
    /// Where the address is of no use.
    pub fn new(at: usize, node: &Node, tls: Option<&Arc<Certificates>>) -> Result<Self, Error> {
        let bad = |source| Error::Node { name: node.name.clone(), source };
        let way = Way::to(&node.name, node.address, tls).map_err(bad)?;
        Ok(Self { node: at, name: node.name.clone(), way })
    }

    /// Until nobody hears of it any more.
    pub async fn keep(self, clients: Clients, heard: mpsc::Sender<Heard>) {
        let mut wait_ms = limits::CONNECT_WAIT_MS_MIN;
        while !heard.is_closed() {
            match self.connection(&clients, &heard).await {
                Ok(()) => wait_ms = limits::CONNECT_WAIT_MS_MIN,
                Err(why) => tracing::debug!(node = %self.name, why, "no connection"),
            }
            if let Some(place) = clients.get(self.node) {
                place.send_replace(None);
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(limits::CONNECT_WAIT_MS_MAX);
        }
    }

    /// One connection. `Ok` where the node had told something, so that the next attempt comes soon.
    async fn connection(
        &self,
        clients: &Clients,
        heard: &mpsc::Sender<Heard>,
    ) -> Result<(), String> {
        let channel = self.way.connect().await.map_err(|error| because(&error))?;
        let client =
            LinkClient::new(channel).max_decoding_message_size(limits::LINK_MESSAGE_BYTES_MAX);
        let (asks, asked) = mpsc::channel(limits::ASKS_MAX);
        let node = self.node;
        let say = async |what| heard.send(what).await.map_err(|_| "the gateway ends".to_owned());
        say(Heard::Connected { node, asks }).await?;
        let stream = client.clone().lines(ReceiverStream::new(asked)).await;
        let mut told = stream.map_err(|status| status.message().to_owned())?.into_inner();
        if let Some(place) = clients.get(node) {
            place.send_replace(Some(client));
        }
        tracing::info!(node = %self.name, "connected");
        let mut has_told = false;
        let why = loop {
            match told.next().await {
                Some(Ok(pb::Told { body: Some(body), incarnation })) => {
                    has_told = true;
                    say(Heard::Told { node, incarnation, body }).await?;
                }
                // A message of a later version, which this one can do without.
                Some(Ok(pb::Told { body: None, .. })) => {}
                Some(Err(status)) => break status.message().to_owned(),
                None => break "the node hung up".to_owned(),
            }
        };
        tracing::info!(node = %self.name, why, "disconnected");
        if has_told { Ok(()) } else { Err(why) }
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
        address: std::net::SocketAddr,
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
