//! A trunk outward: where calls of ours go out, in which order its peers are tried, and which of
//! them are left alone for a while.

pub(crate) mod health;
pub mod numbers;
pub mod outward;
pub(crate) mod routing;
pub mod state;

#[cfg(test)]
mod tests;
