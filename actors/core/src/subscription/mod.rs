//! Subscriptions of agents' phones (RFC 6665): to a colleague's dialogs (RFC 4235), which light a
//! lamp, and to the own mailbox (RFC 3842).
//!
//! [`state`] is what is kept, [`machine`] what phones ask for, [`lamp`] what a colleague's phones do,
//! [`notify`] how it is told.

pub mod lamp;
pub mod machine;
pub mod notify;
pub mod state;

#[cfg(test)]
mod tests;
