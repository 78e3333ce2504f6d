//! The interactive voice response: a caller is led through a flow by prompts and keys.
//!
//! [`flow`] is what a tenant configures, [`state`] where one call stands in it, [`keys`] the order
//! in which keys were pressed, [`machine`] what happens.

pub mod flow;
pub mod keys;
pub(crate) mod machine;
pub mod state;

#[cfg(test)]
mod tests;
