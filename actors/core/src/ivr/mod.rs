//! The interactive voice response: a caller is led through a flow by prompts and keys.
//!
//! [`flow`] is what a tenant configures, [`tones`] what every tenant has, [`state`] where one call stands in it, [`keys`] the order
//! in which keys were pressed, [`machine`] what happens.

pub mod flow;
pub mod keys;
pub(crate) mod machine;
pub mod state;
pub mod tones;

#[cfg(test)]
mod tests;
