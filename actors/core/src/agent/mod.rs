//! An agent: the person, the states of a voice session, and the phone that is registered.

pub mod machine;
pub mod state;

#[cfg(test)]
mod tests;
