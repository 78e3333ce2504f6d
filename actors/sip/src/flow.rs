//! Where a message came from, whatever carried it (RFC 5626 §2 calls it a flow).

use std::net::SocketAddr;

use crate::message::Transport;

/// A way to one peer. Over UDP it is the pair of addresses; a connection will add its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub transport: Transport,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

impl Flow {
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { transport: Transport::Udp, local, remote }
    }

    /// Whether the transport itself repeats what was lost (RFC 3261 §17).
    pub fn is_reliable(&self) -> bool {
        self.transport.is_reliable()
    }
}
