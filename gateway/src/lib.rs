//! The gateway process: it owns sockets, transactions and media, and obeys the leaders.
//!
//! Read in this order: [`options`] is what it is started with, [`link`] its way to the nodes,
//! [`task`] the one task that does what `tandem_control` decides, [`backend`] what its API asks,
//! [`run`] the wiring.
//!
//! What tells about connections of SIP: `tandem_sip_connections` (how many there are),
//! `tandem_sip_connections_total` by the side that opened, `tandem_sip_connections_refused_total` and
//! `tandem_sip_connections_closed_total` by reason.

pub mod backend;
pub mod limits;
pub mod link;
pub mod media;
pub mod options;
pub mod run;
pub mod task;
#[cfg(test)]
mod tests;

/// The names of the prompts that a gateway with this folder can play.
pub use tandem_media::prompts;

pub use options::{Error, Node, Options, Peer, Render, Tls};
pub use run::run;
