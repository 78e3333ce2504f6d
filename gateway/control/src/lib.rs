//! What a gateway does, pure: no socket, no clock, no task. Messages of peers and of nodes go in
//! with the time, and what is to be sent comes out. The gateway process performs it; the simulator
//! plays the same code.
//!
//! Read in this order: [`link`] is what nodes and gateway say to each other, [`Output`] what a
//! gateway does, [`ledger`] keeps events until they count, `shard` what is known of one leader,
//! [`sip`] what the gateway knows of SIP, [`carriers`] what it says by itself, [`Control`] what joins
//! them.

mod admission;
pub mod carriers;
mod control;
mod effects;
pub mod ledger;
pub mod limits;
pub mod link;
mod nodes;
mod notifying;
mod proofs;
mod requests;
mod responses;
mod shard;
pub mod sip;
mod tenants;
#[cfg(test)]
mod tests;

pub use control::{Control, Identity, Output, Sizes, Status};
pub use ledger::Verdict;
