//! The gateway over real sockets, with nodes that are played.

mod calls;
mod edge;
mod harness;
mod leaders;
mod load;
mod mutants;
#[path = "../../../actors/sip/src/tests/mutate.rs"]
mod mutate;
mod outbound;
mod tcp;
mod tls;
