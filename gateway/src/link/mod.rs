//! The link to the nodes: see `proto/tandem/link/v1/link.proto`.

pub mod client;
pub mod dialer;
pub mod session;

/// Generated messages, client and server.
#[allow(clippy::all)]
pub mod pb {
    tonic::include_proto!("tandem.link.v1");
}
