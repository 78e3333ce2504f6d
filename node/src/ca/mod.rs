//! A cluster's own authority: what makes and signs the certificates of its processes. `tandem ca`
//! is for operators, `tandem dev` does the same for itself.
//!
//! [`authority`] makes and signs, [`folder`] is where it all lies, [`rotation`] is the way from one
//! authority to the next.

pub mod authority;
pub mod folder;
pub mod rotation;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Validity};
