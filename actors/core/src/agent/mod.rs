//! An agent: the person, the states of a voice session, and the phones that are registered.

pub mod binding;
pub mod machine;
pub mod registrar;
pub mod state;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod registrar_tests;
