//! Where a node keeps what it must not forget: the Raft log, the state, the format of its folder.
//!
//! Read in this order: [`raft`] (what consensus is about), [`log`] (segments, one writer),
//! [`state`] and [`machine`] (rows), `damage` (to them), [`snapshot`] (their way to another node), [`witness`],
//! [`format`](mod@format), [`memory`] (the twin), [`faults`] (for tests), [`wire`] (encodings).

mod damage;
pub mod faults;
pub mod format;
pub mod log;
pub mod machine;
pub mod memory;
pub mod parts;
pub mod raft;
pub mod snapshot;
pub mod state;
#[cfg(test)]
mod tests;
pub mod wire;
pub mod witness;

/// Generated from `proto/tandem/storage/v1/log.proto`.
#[allow(clippy::all)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/tandem.storage.v1.rs"));
}
