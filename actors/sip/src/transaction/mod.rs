//! The four transaction machines of RFC 3261 §17, with RFC 6026.
//!
//! Plain data driven by messages and time: `handle_*` takes an input, the [`Output`]s say what to
//! do, `deadline` when `handle_timeout` is next due. Each is `Clone`: another process can go on
//! with a copy.

mod client;
mod server;
#[cfg(test)]
mod tests;

pub use client::{InviteClient, NonInviteClient};
pub use server::{InviteServer, NonInviteServer};

/// Round-trip estimate (RFC 3261 §17.1.1.1), milliseconds.
pub const T1_MS: u64 = 500;
/// The longest retransmission interval of non-INVITE requests and INVITE responses.
pub const T2_MS: u64 = 4_000;
/// The longest that a message stays in the network.
pub const T4_MS: u64 = 5_000;
/// Timers B, F, H, L, M.
pub const GIVE_UP_MS: u64 = 64 * T1_MS;
/// Timer D over an unreliable transport: at least 32 s.
pub const TIMER_D_MS: u64 = 32_000;

/// What a machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Put these bytes on the wire, to the transaction's peer.
    Transmit(Vec<u8>),
    ToUser(Event),
}

/// What the transaction's user is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A response that the user has not seen.
    Response(Box<crate::Response>),
    /// Timer B or F: nothing final came.
    TimedOut,
    /// Timer H, or 64·T1 after a 2xx: no ACK came.
    NoAck,
}

/// What names a server transaction (RFC 3261 §17.2.3). An ACK of a failure has its INVITE's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub branch: String,
    pub sent_by: String,
    pub method: String,
}

impl Key {
    /// `None` where the topmost Via has no branch of RFC 3261's kind (an RFC 2543 peer).
    pub fn of(request: &crate::Request) -> Option<Self> {
        let via = request.headers.top_via()?;
        let branch = via.branch().filter(|branch| branch.starts_with("z9hG4bK"))?;
        let method = match request.method {
            crate::Method::Ack => crate::Method::Invite.as_str(),
            ref method => method.as_str(),
        };
        Some(Self {
            branch: branch.to_owned(),
            sent_by: via.sent_by(),
            method: method.to_owned(),
        })
    }
}
