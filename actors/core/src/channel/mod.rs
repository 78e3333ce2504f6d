//! A trunk's channel: one call slot, counted for SIP.

pub(crate) mod machine;
pub mod state;

#[cfg(test)]
mod tests;
