//! What the sockets hand over.

use std::time::Instant;

use tandem_sip::{Flow, Message};

/// A message as the handler gets it. In a request the topmost Via says where it came from
/// (RFC 3261 §18.2.1, RFC 3581 §4).
#[derive(Clone, Debug)]
pub struct Received {
    pub at: Instant,
    pub flow: Flow,
    pub message: Message,
}
