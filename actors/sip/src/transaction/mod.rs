//! The four transaction machines of RFC 3261 §17, with RFC 6026.
//!
//! Plain data driven by messages and time: `handle_*` takes an input, the [`Output`]s say what to
//! do, `deadline` when `handle_timeout` is next due. A late `handle_timeout` repeats once, not once
//! for each interval that was missed. Each machine gives a `snapshot`, with which another process
//! can `adopt` it.

mod client;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;

pub use client::{InviteClient, NonInviteClient};
pub use server::{InviteServer, NonInviteServer};
pub use snapshot::{
    InviteClientSnapshot, InviteClientStage, InviteServerSnapshot, InviteServerStage,
    NonInviteClientSnapshot, NonInviteClientStage, NonInviteServerSnapshot, NonInviteServerStage,
};

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
    /// Timer B or F, or the transport failed: nothing final came and nothing will.
    TimedOut,
    /// Timer H, or 64·T1 after a 2xx: no ACK came. Or the transport failed before the ACK of a
    /// failure, or before any answer.
    NoAck,
    /// 64·T1 after a reliable 1xx: no PRACK came (RFC 3262 §3).
    NoPrack,
}

/// The beginning of every branch of RFC 3261's kind (§8.1.1.7).
const COOKIE: &str = "z9hG4bK";

/// What names a transaction: a server's by its requests (RFC 3261 §17.2.3), a client's by its
/// responses (§17.1.3). An ACK of a failure has its INVITE's.
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
        let branch = via.branch().filter(|branch| is_unique(branch))?;
        let method = match request.method {
            crate::Method::Ack => crate::Method::Invite.as_str(),
            ref method => method.as_str(),
        };
        Some(Self { branch: branch.to_owned(), sent_by: via.sent_by(), method: method.to_owned() })
    }

    /// The client transaction that a response belongs to. `None` where its topmost Via has no
    /// branch of ours.
    pub fn of_response(response: &crate::Response) -> Option<Self> {
        let via = response.headers.top_via()?;
        let branch = via.branch().filter(|branch| is_unique(branch))?;
        Some(Self {
            branch: branch.to_owned(),
            sent_by: via.sent_by(),
            method: response.headers.cseq.method.as_str().to_owned(),
        })
    }
}

/// The cookie compares without case (RFC 3261 §7.3.1); alone it names nothing.
fn is_unique(branch: &str) -> bool {
    branch.len() > COOKIE.len()
        && branch.get(..COOKIE.len()).is_some_and(|start| start.eq_ignore_ascii_case(COOKIE))
}
