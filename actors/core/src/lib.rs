//! The domain, pure: no I/O, no clock, no randomness. Time and seeds come with each command.
//!
//! Read in this order: [`ids`], [`config`], [`command`] (what may happen), [`effect`] (what the
//! outside sees), [`deadline`]; then the entities [`channel`], [`call`], [`agent`], [`queue`],
//! [`ivr`], [`gateway`], [`trunk`], [`subscription`],
//! [`message`]; then [`world`], which dispatches, and [`invariants`], which hold; [`log_time`] is where a
//! command has its time from.

pub mod agent;
pub mod answered;
pub mod call;
pub mod cdr;
pub mod changes;
pub mod channel;
pub mod command;
pub mod config;
pub mod deadline;
pub mod demo;
pub mod draft;
pub mod effect;
pub mod gateway;
pub mod ids;
pub mod invariants;
pub mod ivr;
pub mod leases;
pub mod limits;
pub mod log_time;
pub mod message;
pub mod query;
pub mod queue;
mod rng;
pub mod rows;
pub mod subscription;
pub mod survival;
pub mod time;
pub mod trace;
pub mod trunk;
pub mod view;
pub mod wire;
pub mod world;

#[cfg(test)]
mod tests;

/// Generated from `proto/tandem/core/v1/core.proto`.
#[allow(clippy::all)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/tandem.core.v1.rs"));
}

pub use rng::tenant_of;
pub use rows::FAMILIES;
pub use world::{Applied, Meta, Rejection, Reply, World};
