//! The audio description of one SDP body (RFC 8866) as a value, so that replicas never parse
//! bytes from the network: the gateway parses, commands carry this, `compose` makes the text.

use std::net::IpAddr;

use crate::srtp::Crypto;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// G.711 μ-law, static payload type 0.
    Pcmu,
    /// G.711 A-law, static payload type 8.
    Pcma,
    /// G.722 at 64 kbit/s, static payload type 9. Its RTP clock is 8 kHz by a mistake that stays
    /// (RFC 3551 §4.5.2).
    G722,
    /// Its RTP clock is 48 kHz, whatever it carries (RFC 7587 §4.1); its payload type is dynamic.
    Opus,
    /// Static payload type 18. It is passed from leg to leg and never ended here.
    G729,
}

/// RFC 8866 §6.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Payload {
    /// RTP payload type, 0–127.
    pub number: u8,
    pub codec: Codec,
    /// `a=fmtp` as it was said, of the codecs that have any: what the side that says it wants to be
    /// sent.
    pub fmtp: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audio {
    /// `c=` of the audio section, or of the session.
    pub address: IpAddr,
    /// RTP port; 0 means refused or disabled.
    pub port: u16,
    /// The codecs of ours that were named, in the order of preference. Others are left out.
    pub payloads: Vec<Payload>,
    /// Payload type of `telephone-event/8000` (RFC 4733).
    pub telephone_event: Option<u8>,
    /// Payload type of `telephone-event/48000`, which goes with Opus: events share the clock of their
    /// audio (RFC 4733 §2.1).
    pub telephone_event_wide: Option<u8>,
    pub direction: Direction,
    pub ptime_ms: Option<u16>,
    /// `o=` session id and version (RFC 8866 §5.2).
    pub session_id: u64,
    pub session_version: u64,
    /// Keys for SRTP (RFC 4568), the preferred one first; one in an answer.
    pub crypto: Vec<Crypto>,
    /// `RTP/SAVP`: in the clear nothing is said. Without it a key is an offer that the peer may
    /// leave (RFC 8643).
    pub secure: bool,
    /// The other sections of the description.
    pub beside: Beside,
}

/// The sections that stand beside the audio and are of no use to us. Each answer refuses them in
/// their places, and they keep those for as long as the session lasts (RFC 3264 §6, §8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Beside {
    pub before: Vec<Section>,
    pub after: Vec<Section>,
}

/// What an `m=` line says of a section, but its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Section {
    pub media: String,
    pub protocol: String,
    /// The first of its formats; a refused section names one, whichever (RFC 3264 §6).
    pub format: String,
}
