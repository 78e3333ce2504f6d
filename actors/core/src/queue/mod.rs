//! A queue: who waits, in which order, and to whom the head is offered.

pub mod machine;
pub mod state;

#[cfg(test)]
mod tests;
