//! The gateway over real sockets, with nodes that are played.

mod calls;
mod edge;
mod harness;
mod leaders;
mod lines;
mod load;
mod outbound;
mod tcp;
mod tls;
