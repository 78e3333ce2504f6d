//! SIP as values and sans-IO machines: no socket, no clock, no randomness.
//!
//! Read in this order: [`message`] and [`uri`] are the values, [`parse`] and [`text`] their two
//! directions, [`sdp`] what an audio description says, [`srtp`] its keys, [`offer_answer`] whose turn it is,
//! [`dialog`] what outlives a transaction, [`transaction`] the machines of RFC 3261 §17,
//! [`digest`] who may register, [`reason`] why calls end, [`wire`] how all of it is written down.

pub mod dialog;
pub mod digest;
pub mod event;
pub mod flow;
pub mod message;
pub mod multipart;
pub mod offer_answer;
pub mod outbound;
mod parse;
pub mod protobuf;
pub mod reason;
pub mod reliable;
pub mod replaces;
mod scan;
mod sdp_text;
mod sdp_value;
pub mod session_expires;
pub mod srtp;
mod text;
pub mod time;
pub mod transaction;
pub mod uri;
mod uri_text;
pub mod wire;

#[cfg(test)]
mod tests;

/// Generated from `proto/tandem/sip/v1/sip.proto`.
#[allow(clippy::all)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/tandem.sip.v1.rs"));
}

/// Audio descriptions (RFC 8866) and offer/answer (RFC 3264).
pub mod sdp {
    pub use crate::sdp_text::{
        Agreed, Error, TELEPHONE_EVENT, TELEPHONE_EVENT_WIDE, negotiate, negotiate_beside, offer,
    };
    pub use crate::sdp_value::{Audio, Beside, Codec, Direction, Payload, Section};
}

pub use flow::{
    Carrier, ConnectionId, Flow, Proof, Ticket, UDP_REQUEST_BYTES_MAX, Way, invalid, name_of,
    tls_port, ws_port, wss_port,
};
pub use message::{CSeq, Header, Headers, Message, Method, Request, Response, Transport, Via};
pub use parse::{
    Error as ParseError, HEADERS_MAX, Kind as ParseErrorKind, MESSAGE_BYTES_MAX, body_length, parse,
};
pub use text::{host, reason_phrase, response_destination, stamp_source, stream_destination};
pub use time::Millis;
pub use uri::{NameAddr, Param, Scheme, Uri};
pub use uri_text::Error as UriError;
