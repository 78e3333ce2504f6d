//! What proves that a process is of the cluster: a certificate, its key, and the authorities that
//! it trusts, from files that may change while connections live.
//!
//! Read in this order: [`facts`] (what a certificate says), [`files`] (what lies on the disk),
//! [`judge`] (what it is worth at a moment), [`live`] (what holds now, and how it is renewed),
//! [`server`] and [`client`] (whoever connects takes what holds at that moment).
//!
//! The wall clock is read in [`live`] and by rustls, for certificates and for nothing else.

pub mod client;
mod error;
pub mod facts;
pub mod files;
pub mod identity;
pub mod judge;
pub mod limits;
pub mod live;
mod looks;
mod quiet;
pub mod server;
#[cfg(test)]
mod tests;
mod verifiers;

pub use client::{Connector, is_refusal};
pub use error::Error;
pub use facts::Facts;
pub use files::{Files, Texts};
pub use live::Live;

/// The name that every process of a cluster answers to, besides its own.
pub const CLUSTER_NAME: &str = "tandem";
