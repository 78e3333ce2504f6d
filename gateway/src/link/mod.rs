//! The link to the nodes: see `proto/tandem/link/v1/link.proto`.

/// Generated messages, client and server.
pub mod pb {
    tonic::include_proto!("tandem.link.v1");
}
