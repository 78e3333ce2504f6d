//! The servers: each a process of its own.

mod desk;
pub mod gateway;
mod http;
mod link;
mod meta;
pub mod node;
mod process;
mod records;
mod sessions;
mod shard;
mod status;
mod tasks;
mod views;
mod wiring;
pub mod witness;
