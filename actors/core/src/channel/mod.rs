//! A trunk's channel: one call slot, counted for SIP.

pub mod state;

#[cfg(test)]
mod tests;
