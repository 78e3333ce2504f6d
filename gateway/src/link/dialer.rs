//! A connection with each node that there is: those that the configuration names, and those that joined
//! since, of whom any node tells.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Clients, Dial, Heard};
use super::pb;
use crate::limits;
use crate::options::{Certificates, Error, Node};

pub struct Dialer {
    tls: Option<Arc<Certificates>>,
    clients: Clients,
    heard: mpsc::Sender<Heard>,
    known: BTreeSet<(String, SocketAddr)>,
    /// In the order of their places.
    names: Vec<String>,
    connections: JoinSet<()>,
}

impl Dialer {
    /// Starts a connection with each of the nodes; they end with it.
    ///
    /// # Errors
    /// Where an address or the certificates are of no use.
    pub fn start(
        nodes: &[Node],
        tls: Option<Arc<Certificates>>,
        clients: Clients,
        heard: mpsc::Sender<Heard>,
    ) -> Result<Self, Error> {
        let (known, names) = (BTreeSet::new(), Vec::new());
        let connections = JoinSet::new();
        let mut dialer = Self { tls, clients, heard, known, names, connections };
        nodes.iter().try_for_each(|node| dialer.dial(node))?;
        Ok(dialer)
    }

    fn dial(&mut self, node: &Node) -> Result<(), Error> {
        if !self.known.insert((node.name.clone(), node.address)) {
            return Ok(());
        }
        let at = self.names.len();
        if at >= limits::NODES_MAX {
            tracing::error!(node = node.name, "TD0453 too many nodes to log in to");
            return Ok(());
        }
        self.names.push(node.name.clone());
        let dial = Dial::new(at, node, self.tls.as_ref())?;
        self.connections.spawn(dial.keep(Arc::clone(&self.clients), self.heard.clone()));
        Ok(())
    }

    /// Of the nodes, by their places.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Nodes that there are by now.
    pub fn learn(&mut self, told: pb::Nodes) {
        for node in told.nodes {
            let Ok(address) = node.address.parse() else { continue };
            let node = Node { name: node.name, address };
            if let Err(error) = self.dial(&node) {
                tracing::error!(node = node.name, %error, "TD0454 a node can't be logged in to");
            }
        }
    }
}
