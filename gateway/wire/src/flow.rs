//! Where a message came from, whatever carried it (RFC 5626 §2 calls it a flow).

use std::net::SocketAddr;
use std::time::Instant;

use tandem_sip::{Message, Transport};

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

/// A message as the handler gets it. In a request the topmost Via says where it came from
/// (RFC 3261 §18.2.1, RFC 3581 §4).
#[derive(Clone, Debug)]
pub struct Received {
    pub at: Instant,
    pub flow: Flow,
    pub message: Message,
}
