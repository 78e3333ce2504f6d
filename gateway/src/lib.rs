//! The gateway process: it owns sockets, transactions and media, and obeys the leaders.
//!
//! Read in this order: [`options`] is what it is started with, [`link`] its way to the nodes,
//! [`sip`] what it knows of SIP, [`control`] the one task that joins them, [`backend`] what its
//! API asks, [`run`] the wiring.

pub mod backend;
pub mod control;
pub mod limits;
pub mod link;
pub mod media;
pub mod options;
pub mod run;
pub mod sip;
#[cfg(test)]
mod tests;

pub use options::{Error, Node, Options, Peer, Render, Tls};
pub use run::run;
