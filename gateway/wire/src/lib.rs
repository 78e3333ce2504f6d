//! SIP over the network: sockets, admission, and the step from bytes to messages.
//!
//! Read in this order: [`Received`] is what comes out, [`admission`] says which ones
//! are let in, [`udp`] is the one transport so far. Others (TCP, TLS, WebSocket) will hand over
//! the same [`Received`].

pub mod admission;
pub mod limits;
mod received;
mod refusal;
pub mod udp;

#[cfg(test)]
mod tests;

pub use received::Received;
pub use udp::{Error, Socket};
