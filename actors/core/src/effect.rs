//! What the outside sees: decided in `handle`, replicated, then done by a gateway.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_sip::sdp::Codec;
use tandem_sip::srtp::{Key, Suite};
use tandem_sip::{Carrier, Request, Response};

use crate::cdr::Side;
use crate::command::TransactionKey;
use crate::config::Country;
use crate::ids::{CallId, EntityId, GatewayId, LegId, MusicId, PromptId, RecordingId};

/// Shard, log index and ordinal within the entry: the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectId {
    pub shard: u16,
    pub index: u64,
    pub ordinal: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    pub id: EffectId,
    /// Whose actor performs it.
    pub entity: EntityId,
    /// Who does it.
    pub gateway: GatewayId,
    pub body: Body,
}

/// A closed list; each is idempotent at the gateway, so doing it again after a takeover is safe.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Answer a server transaction. A 2xx to an INVITE is repeated until its ACK.
    Respond { transaction: TransactionKey, response: Arc<Response> },
    /// Start a client transaction, or send an ACK. The branch of the topmost Via names it.
    Send { request: Arc<Request>, destination: SocketAddr, carrier: Carrier },
    /// Tell a subscription's phone what is so now. One at a time waits for its answer; of several
    /// behind it the newest is sent. Done once it is answered, or another has taken its place.
    Notify { request: Arc<Request>, destination: SocketAddr, carrier: Carrier },
    /// The media that a call shall have from now on, whole: the gateway reconciles.
    Media(MediaPlan),
}

/// What one call's media shall be. A later version replaces an earlier one; no legs release all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPlan {
    pub call: CallId,
    /// Grows with each plan of the call.
    pub version: u64,
    pub legs: Vec<MediaLeg>,
    pub recording: Option<RecordingPlan>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaLeg {
    pub leg: LegId,
    /// The granted local RTP port.
    pub port: u16,
    /// Where the peer wants its RTP; none until its SDP is known, or while it is on hold.
    pub remote: Option<SocketAddr>,
    pub codec: Codec,
    /// RTP payload type as negotiated with this peer.
    pub payload: u8,
    pub telephone_event: Option<u8>,
    /// Its events are counted at 48 kHz.
    pub events_wide: bool,
    pub ssrc: u32,
    pub source: Source,
    /// Whose leg it is, for reports; none in a plan of before roles were told.
    pub role: Option<Side>,
    /// None: in the clear.
    pub keys: Option<MediaKeys>,
}

/// SRTP (RFC 3711): what we send is protected by the one, what the peer sends by the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaKeys {
    pub suite: Suite,
    pub ours: Key,
    pub theirs: Key,
    /// How far both had come at least: a gateway that begins goes on behind it.
    pub rollover: Rollover,
}

/// How often the sequence numbers of a leg's SRTP have gone round, in quarters: the packet index of RFC 3711 §3.3.1 by
/// 2^14.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollover {
    pub sent: u32,
    pub received: u32,
}

/// What the peer of a leg hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Silence,
    /// Of a list; none: what callers hear whose queue names none.
    Music(Option<MusicId>),
    /// The ringing tone of the country.
    Ringback(Country),
    /// The peer itself.
    Echo,
    /// Another leg of the same call.
    Leg(LegId),
    /// Other legs of the same call together.
    Mix(Vec<LegId>),
    Prompt(Prompt),
}

/// A prompt, played once. The gateway reports its end by the name of the play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    pub prompt: PromptId,
    /// Unique in the call: whoever plays this already goes on where it is.
    pub play: u64,
    /// Where a gateway begins that has not played this yet.
    pub offset_ms: u64,
    /// The first key of the peer stops it, before anybody else has heard of the key.
    pub barge_in: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingPlan {
    pub id: RecordingId,
    /// The caller, left channel.
    pub left: LegId,
    /// The agent, right channel.
    pub right: LegId,
    /// In a conference the right channel is what the caller hears, whoever speaks.
    pub mixed: bool,
    /// Silence is recorded instead.
    pub paused: bool,
}
