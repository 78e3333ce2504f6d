//! One thing that was seen, and its bytes on the disk.
//!
//! ```text
//! frame   length u32  crc u32  at u64  call u64  dialog u64  body
//! ```
//! Numbers are little-endian. The length is of what follows the crc, which is a CRC-32 (ISO-HDLC)
//! of the same. `call` is 0 where none is known yet; `dialog` is a hash of the Call-ID, 0 where
//! there is none: a search reads only the bodies that it needs. A body is of
//! `proto/tandem/trace/v1/trace.proto`.

use std::net::SocketAddr;

use prost::Message as _;
use tandem_core::ids::CallId;
use tandem_sip::Transport;

/// Generated from `proto/tandem/trace/v1/trace.proto`.
#[allow(clippy::all)]
mod proto {
    tonic::include_proto!("tandem.trace.v1");
}

/// The longest frame: a message of SIP and its names.
pub const FRAME_BYTES_MAX: usize = tandem_sip::MESSAGE_BYTES_MAX + 4_096;

const LENGTH_AND_CRC: usize = 8;
const NAMES: usize = 24;

#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Microseconds since the Unix epoch, by this gateway's clock.
    pub at_us: u64,
    pub call: Option<CallId>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Sip {
        direction: Direction,
        transport: Transport,
        local: SocketAddr,
        peer: SocketAddr,
        call_id: String,
        /// As it went over the wire, but for what is masked.
        bytes: Vec<u8>,
    },
    /// What the cluster decided, or the media plane told.
    Effect {
        /// Of the dialog that it is about.
        call_id: Option<String>,
        what: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Received,
    Sent,
}

/// What a search reads of a frame before its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    pub at_us: u64,
    /// 0: not known.
    pub call: u64,
    /// 0: none.
    pub dialog: u64,
}

impl Record {
    pub fn call_id(&self) -> Option<&str> {
        match &self.body {
            Body::Sip { call_id, .. } => Some(call_id),
            Body::Effect { call_id, .. } => call_id.as_deref(),
        }
    }

    /// A frame behind what `to` holds.
    pub fn append(&self, to: &mut Vec<u8>) {
        let body = self.body.to_proto().encode_to_vec();
        let mut rest = Vec::with_capacity(NAMES + body.len());
        rest.extend(self.at_us.to_le_bytes());
        rest.extend(self.call.map_or(0, |call| call.0).to_le_bytes());
        rest.extend(self.call_id().map_or(0, dialog_hash).to_le_bytes());
        rest.extend(body);
        // Bounded by what SIP takes for a message.
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        to.extend(length.to_le_bytes());
        to.extend(crc32fast::hash(&rest).to_le_bytes());
        to.extend(rest);
    }
}

/// Never 0.
pub fn dialog_hash(call_id: &str) -> u64 {
    let hash = blake3::hash(call_id.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first).max(1)
}

/// The frames of a segment, up to its end or the first that is torn.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = (Names, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_at_checked(LENGTH_AND_CRC)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if !(NAMES..=FRAME_BYTES_MAX).contains(&length) {
            return None;
        }
        let (frame, after) = after.split_at_checked(length)?;
        if crc32fast::hash(frame) != crc {
            return None;
        }
        rest = after;
        let (names, body) = frame.split_at(NAMES);
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&names[at..at + 8]);
            u64::from_le_bytes(number)
        };
        Some((Names { at_us: number(0), call: number(8), dialog: number(16) }, body))
    })
}

/// The record of a frame; none where a later version wrote what this one can't read.
pub fn read(names: Names, body: &[u8]) -> Option<Record> {
    let call = (names.call != 0).then_some(CallId(names.call));
    let body = Body::from_proto(proto::Body::decode(body).ok()?)?;
    Some(Record { at_us: names.at_us, call, body })
}

impl Body {
    fn to_proto(&self) -> proto::Body {
        let body = match self {
            Self::Sip { direction, transport, local, peer, call_id, bytes } => {
                proto::body::Body::Sip(proto::Sip {
                    sent: *direction == Direction::Sent,
                    transport: transport.as_str().to_owned(),
                    local: local.to_string(),
                    peer: peer.to_string(),
                    call_id: call_id.clone(),
                    bytes: bytes.clone(),
                })
            }
            Self::Effect { call_id, what } => proto::body::Body::Effect(proto::Effect {
                call_id: call_id.clone(),
                what: what.clone(),
            }),
        };
        proto::Body { body: Some(body) }
    }

    fn from_proto(body: proto::Body) -> Option<Self> {
        Some(match body.body? {
            proto::body::Body::Sip(sip) => Self::Sip {
                direction: if sip.sent { Direction::Sent } else { Direction::Received },
                transport: Transport::from(sip.transport.as_str()),
                local: sip.local.parse().ok()?,
                peer: sip.peer.parse().ok()?,
                call_id: sip.call_id,
                bytes: sip.bytes,
            },
            proto::body::Body::Effect(effect) => {
                Self::Effect { call_id: effect.call_id, what: effect.what }
            }
        })
    }
}

/// Method of the CSeq, and Call-ID, of a message that we composed: its headers have their long
/// names.
pub fn names_of(bytes: &[u8]) -> Option<(&str, &str)> {
    let (mut method, mut call_id) = (None, None);
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || (method.is_some() && call_id.is_some()) {
            break;
        }
        if let Some(value) = line.strip_prefix(b"CSeq: ") {
            method = std::str::from_utf8(value).ok()?.split(' ').nth(1);
        } else if let Some(value) = line.strip_prefix(b"Call-ID: ") {
            call_id = std::str::from_utf8(value).ok();
        }
    }
    Some((method?, call_id?))
}
