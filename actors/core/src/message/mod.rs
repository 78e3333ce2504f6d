//! Texts between agents' phones (MESSAGE, RFC 3428): each is sent on at once, to the phone that a call
//! would ring first, and its answer is given back. None is kept.

pub mod machine;
pub mod state;

#[cfg(test)]
mod tests;
