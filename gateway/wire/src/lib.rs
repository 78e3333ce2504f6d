//! SIP over the network: sockets, admission, and the step from bytes to messages.
//!
//! Read in this order: [`Received`] is what comes out, [`intake`] is its way to the handler, [`admission`] and it
//! say which ones are let in, [`udp`] and [`stream`] are the transports: both hand over the same [`Received`].
//! [`tls`] is what TLS is done with.

pub mod admission;
mod error;
pub mod intake;
pub mod limits;
mod received;
mod refusal;
pub mod stream;
mod stun;
pub mod tls;
pub mod udp;
mod verifiers;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use received::Received;
pub use stream::{Bounds, Life, Listener, Ports, Report, Streams, Undelivered};
pub use tls::Tls;
pub use udp::Socket;
