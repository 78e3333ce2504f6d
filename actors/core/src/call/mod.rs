//! A call joins legs: the conversation, and each party's connection within it.

pub mod early;
pub mod early_media;
pub(crate) mod early_offer;
pub mod leg;
pub mod protection;
pub mod reliable;
pub mod session_timer;
pub mod state;

pub(crate) mod attended;
pub(crate) mod codecs;
pub(crate) mod connect;
pub(crate) mod consult;
pub(crate) mod credentials;
pub(crate) mod ending;
pub(crate) mod glare;
pub(crate) mod identity;
pub(crate) mod inbound;
pub(crate) mod indialog;
pub(crate) mod media;
pub(crate) mod originate;
pub(crate) mod outbound;
pub(crate) mod outside;
pub(crate) mod phones;
pub(crate) mod pickup;
pub(crate) mod probe;
pub(crate) mod progress;
pub(crate) mod reason;
pub(crate) mod recording;
pub(crate) mod redirect;
pub mod refused;
pub(crate) mod transfer;
pub(crate) mod transferee;
pub(crate) mod unreached;

#[cfg(test)]
mod tests;
