//! The actors: on the leader of a shard, one for each live entity, supervised.
//!
//! Read in this order: [`tenants`] (those of one group, and how they move), [`replica`] (the world of one,
//! and what is released), [`ports`] (consensus, link and clock as traits), [`time`] (the log's), [`actor`]
//! (one entity), [`supervisor`] (start, restart, quarantine), [`shard`] (leadership, routing, deadlines).

pub mod actor;
pub mod limits;
pub mod ports;
pub mod proposer;
pub mod replica;
pub mod shard;
pub mod supervisor;
mod survival;
pub mod tenants;
#[cfg(test)]
mod tests;
pub mod time;

pub use ports::{Clock, Committed, Consensus, Leadership, Link, ProposeError, Verdict};
pub use replica::Replica;
pub use shard::ShardRuntime;
pub use tenants::{TenantLog, Tenants};
pub use time::LogClock;
