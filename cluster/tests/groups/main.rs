//! Groups of real voters, each with its own disk and socket, in one process. One binary: each would make openraft's code
//! anew for itself.

mod cluster;
mod common;
mod disk;
mod members;
mod mending;
mod pulse;
mod rotation;
mod upkeep;
