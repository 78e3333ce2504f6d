//! The servers: each a process of its own.

mod clock;
mod desk;
mod disk;
mod drains;
pub mod gateway;
mod hashes;
mod hosts;
mod http;
mod leases;
mod lines;
mod link;
mod members;
mod meta;
mod moves;
pub mod node;
mod place;
pub mod process;
mod put;
mod recordings;
mod records;
mod replica;
mod sessions;
pub mod shard;
#[cfg(test)]
mod solo;
mod status;
mod stored;
mod tasks;
mod tenants;
mod views;
mod wiring;
pub mod witness;
