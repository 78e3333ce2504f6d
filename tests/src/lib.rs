//! What the black-box tests, the demo and the benchmarks share: a cluster of real processes,
//! a client of its API, SIP phones with RTP.

pub mod api;
pub mod boxes;
pub mod carrier;
pub mod clients;
pub mod cluster;
pub mod hand;
pub mod house;
pub mod linear;
pub mod offer;
pub mod own_clock;
pub mod phone;
pub mod raw;
pub mod scene;
pub mod sipp;
pub mod watcher;
pub mod wire;

pub use api::Api;
pub use cluster::Cluster;
