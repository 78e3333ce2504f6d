//! The gateway process: it owns sockets, transactions and media, and obeys the leaders.
//!
//! Read in this order: [`options`] is what it is started with, [`link`] its way to the nodes,
//! [`lines`] which lines it serves, [`line`] one of them, `obituaries` what supervisors tell, [`copies`] how recordings come to be on two boxes, [`task`] the one task that does what `tandem_control` decides, [`trace`] what is kept of each
//! call for a day, [`backend`] what its API asks, [`run`] the wiring.
//!
//! What tells about connections of SIP: `tandem_sip_connections` (how many there are),
//! `tandem_sip_connections_total` by the side that opened and the transport,
//! `tandem_sip_connections_refused_total` and `tandem_sip_connections_closed_total` by reason,
//! `tandem_sip_tls_handshakes_total` by side and result, and
//! `tandem_sip_certificate_reloads_total` by result.

pub mod backend;
pub mod copies;
pub mod limits;
pub mod line;
pub mod lines;
pub mod link;
pub mod media;
mod obituaries;
pub mod options;
pub mod run;
mod seen;
pub mod task;
#[cfg(test)]
mod tests;
pub mod trace;

pub use lines::SERVED;
pub use options::{Certificates, Error, Node, Options, Peer, Render, SipTls, WebSocket};
/// How lines get their addresses.
pub use tandem_address::{Hook, Way};
/// The names of the prompts that a gateway with this folder can play.
pub use tandem_media::{music, prompts};

pub use run::run;
/// The socket buffer that it asks the kernel for.
pub use tandem_wire::limits::SOCKET_BUFFER_BYTES;
