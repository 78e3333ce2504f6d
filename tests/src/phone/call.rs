//! What a phone is told, what it sees of its calls, and what it complains about.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tandem_media::endpoint::Endpoint;
use tandem_sip::Request;
use tandem_sip::dialog::Dialog;
use tokio::time::Instant;

#[derive(Clone)]
pub struct Options {
    /// Extension or caller number.
    pub user: String,
    pub password: String,
    /// The service address that the phone talks to.
    pub server: SocketAddr,
    /// Where the phone itself lives.
    pub bind: IpAddr,
    pub incoming: Incoming,
    /// What the phone plays, so that a listener can tell who is heard.
    pub tone_hz: u32,
    /// Calls with SRTP and not without. A key that is offered is used by any phone.
    pub srtp: bool,
    /// In whose name it registers and calls; none: the service address.
    pub domain: Option<String>,
}

/// What the phone does with a call that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    Answer {
        after_ms: u64,
    },
    /// Rings and is not picked up.
    Ring,
    /// Is heard at once (183 with SDP) and not picked up.
    Announce,
    Reject {
        status: u16,
    },
    /// Sends it to another extension (302).
    Move {
        to: u16,
    },
}

/// How a call ended, seen from the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    ByPeer,
    ByMe {
        status: u16,
    },
    Refused {
        status: u16,
    },
    Cancelled,
    /// The peer never answered.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEnd {
    Live,
    Over(Ended),
}

/// Something that a correct peer never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A second INVITE transaction for a call that has one.
    SecondTransaction { call_id: String },
    /// A request whose CSeq did not grow.
    CseqNotHigher { call_id: String, had: u32, got: u32 },
    /// Two 200s to one INVITE that differ.
    AnswerChanged { call_id: String },
}

/// One call as the phone sees it.
pub struct Call {
    pub call_id: String,
    pub incoming: bool,
    /// Who calls or is called.
    pub peer: String,
    pub ringing: bool,
    pub answered_at: Option<Instant>,
    pub invited_at: Instant,
    pub end: CallEnd,
    /// It has hung up: the dialog is over for it, whether anybody hears of that or not (RFC 3261 §15.1.1).
    pub(super) left: bool,
    pub media: Option<Arc<Endpoint>>,
    /// What came of a transfer that the phone asked for: statuses, in order (RFC 3420).
    pub notified: Vec<u16>,
    /// What was described before the answer: SDPs, in order.
    pub previews: Vec<String>,
    /// The requests that came to it, in order.
    pub heard: Vec<Request>,
    pub(super) dialog: Option<Dialog>,
    pub invite: Request,
    pub(super) local_tag: String,
    pub(super) answer: Option<Vec<u8>>,
    pub(super) repeat: Option<Repeat>,
    pub(super) remote_cseq: u32,
    pub(super) acked: Option<Vec<u8>>,
}

/// A 200 of ours that waits for its ACK (RFC 3261 §13.3.1.4).
pub(super) struct Repeat {
    pub next: Instant,
    pub interval_ms: u64,
    pub destination: SocketAddr,
}

impl Call {
    /// The SDP of the INVITE.
    pub fn offer(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.invite.body)
    }

    /// The SDP of the answer that came to it.
    pub fn answered(&self) -> String {
        let text = String::from_utf8_lossy(self.answer.as_deref().unwrap_or_default());
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}
