//! The deterministic simulator of the pure core: the machines of `actors/core`, the outbox and the
//! takeover rules, under a scheduler that plays consensus, nodes, gateways, carriers, phones and
//! agents. No async runtime, no sockets, no clock: one seed, one run.
//!
//! Read in this order: [`plan`] (what a seed decides beforehand), [`simulation`] (the loop),
//! [`event`]; then who plays: [`consensus`], [`node`], [`links`], [`gateway`], [`leases`], [`network`],
//! [`peer`]; then what must hold: [`watch`], which asks the files `inv_*`, one property each, and
//! [`liveness`]; then how it is used: [`plant`], [`shrink`], [`record`], [`batch`].

#[macro_use]
pub mod violation;

pub mod batch;
pub mod consensus;
pub mod coverage;
pub mod desk;
pub mod digest;
pub mod draws;
pub mod event;
pub mod faults;
pub mod gateway;
mod inv_acknowledged;
mod inv_clock;
mod inv_consult;
mod inv_core;
mod inv_deadlines;
mod inv_early_media;
mod inv_fence;
mod inv_flows;
mod inv_keys;
mod inv_offers;
mod inv_order;
mod inv_outbox;
mod inv_outward;
mod inv_pairs;
mod inv_pickups;
mod inv_quality;
mod inv_records;
mod inv_reliable;
mod inv_resources;
mod inv_time;
mod inv_transfers;
mod inv_transitions;
mod inv_vip;
mod inv_watchers;
pub mod leases;
pub mod limits;
pub mod links;
pub mod liveness;
mod names;
pub mod network;
pub mod node;
pub mod options;
pub mod packet;
pub mod peer;
pub mod plan;
pub mod plant;
mod planted;
pub mod random;
pub mod record;
pub mod schedule;
pub mod shrink;
pub mod simulation;
pub mod trace;
pub mod transactions;
pub mod watch;
mod words;

pub use options::{Options, Outcome};
pub use plant::Plant;
pub use simulation::Simulation;
pub use violation::Violation;
