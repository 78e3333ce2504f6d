//! A SIP phone of our own: registers, calls, answers, hangs up; strict about what it sees, so
//! that a second transaction or a CSeq that goes backwards is found by the peer itself.

mod agent;
mod call;
mod exchange;
mod handle;
mod line;
mod wire;

pub use call::{Call, CallEnd, Ended, Incoming, Options, Violation};
pub use handle::{Phone, SPACING_MS_MAX};
pub use line::Over;
