//! A session with each node that there is: those that the configuration names, and those that joined
//! since, of whom any node tells.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Clients, Dial, Input};
use super::pb;
use crate::limits;
use crate::options::{Certificates, Error, Node};

pub struct Dialer {
    tls: Option<Arc<Certificates>>,
    hello: pb::Hello,
    clients: Clients,
    control: mpsc::Sender<Input>,
    known: BTreeSet<(String, SocketAddr)>,
    learn: mpsc::Sender<pb::Nodes>,
    learned: mpsc::Receiver<pb::Nodes>,
    sessions: JoinSet<()>,
}

/// A place for each node that there may be.
pub fn places() -> Clients {
    Arc::new((0..limits::NODES_MAX).map(|_| ArcSwapOption::empty()).collect())
}

impl Dialer {
    /// Starts a session with each of the nodes.
    ///
    /// # Errors
    /// Where an address or the certificates are of no use.
    pub fn start(
        nodes: &[Node],
        tls: Option<Arc<Certificates>>,
        hello: pb::Hello,
        clients: Clients,
        control: mpsc::Sender<Input>,
    ) -> Result<Self, Error> {
        let (learn, learned) = mpsc::channel(limits::NODES_MAX);
        let (known, sessions) = (BTreeSet::new(), JoinSet::new());
        let mut dialer = Self { tls, hello, clients, control, known, learn, learned, sessions };
        nodes.iter().try_for_each(|node| dialer.dial(node))?;
        Ok(dialer)
    }

    fn dial(&mut self, node: &Node) -> Result<(), Error> {
        if !self.known.insert((node.name.clone(), node.address)) {
            return Ok(());
        }
        let at = self.known.len() - 1;
        if at >= limits::NODES_MAX {
            tracing::error!(node = node.name, "TD0453 too many nodes to log in to");
            return Ok(());
        }
        let dial = Dial::new(at, node, self.tls.as_ref(), self.hello.clone())?;
        let (clients, control) = (Arc::clone(&self.clients), self.control.clone());
        self.sessions.spawn(dial.keep(clients, control, self.learn.clone()));
        Ok(())
    }

    /// Logs in to whom it is told of, until it is dropped.
    pub async fn run(mut self) {
        while let Some(told) = self.learned.recv().await {
            for node in told.nodes {
                let Ok(address) = node.address.parse() else { continue };
                let node = Node { name: node.name, address };
                if let Err(error) = self.dial(&node) {
                    tracing::error!(node = node.name, %error, "TD0454 a node can't be logged in to");
                }
            }
        }
    }
}
