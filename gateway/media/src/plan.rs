//! What the media of one call shall be: declared whole, replicated by others, reconciled here.

use std::fmt;
use std::net::SocketAddr;

use tandem_sip::sdp::Codec;
use tandem_sip::srtp::{Key, Suite};

use crate::limits::LEGS_PER_PLAN_MAX;
use crate::music::MusicRef;
use crate::prompts::PromptRef;
use crate::rollover::Rollover;
use crate::tones::Country;

/// A call by its owner's names for it: nothing here depends on what they mean, and events say them again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CallKey {
    pub tenant: u16,
    pub call: u64,
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.call)
    }
}

/// Of the first tenant.
impl From<u64> for CallKey {
    fn from(call: u64) -> Self {
        Self { tenant: 0, call }
    }
}

/// A later version replaces an earlier one. No legs: release everything of the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub call: CallKey,
    pub version: u64,
    pub legs: Vec<Leg>,
    pub recording: Option<Recording>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    pub leg: u64,
    /// Local RTP port; RTCP has the next one.
    pub port: u16,
    /// Where the peer wants its RTP; none until its SDP is known, or while it is on hold.
    pub remote: Option<SocketAddr>,
    pub codec: Codec,
    /// RTP payload type as negotiated with this peer.
    pub payload: u8,
    pub telephone_event: Option<u8>,
    /// Its events are counted at 48 kHz, the clock of Opus; else at 8.
    pub events_wide: bool,
    pub ssrc: u32,
    pub source: Source,
    /// Whose leg it is, as its [`Quality`](crate::Quality) says again; nothing else depends on it.
    pub role: &'static str,
    /// None: in the clear.
    pub keys: Option<Keys>,
}

/// Of SRTP (RFC 3711).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub suite: Suite,
    /// Protects what we send.
    pub ours: Key,
    /// Protects what the peer sends.
    pub theirs: Key,
    /// Of whom a leg is taken over, or nothing: where both directions go on.
    pub from: Rollover,
}

impl Keys {
    /// Whether the packets are protected alike, wherever they go on.
    pub fn are_those(&self, other: &Self) -> bool {
        let Self { suite, ours, theirs, from: _ } = self;
        *suite == other.suite && *ours == other.ours && *theirs == other.theirs
    }
}

/// What the peer of a leg hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Silent packets, so that bindings of NAT stay and the peer sees a live stream.
    Silence,
    /// By the wall clock, so that a gateway that takes over goes on where it was.
    Music(MusicRef),
    /// The ringing tone of the country.
    Ringback(Country),
    /// The peer itself.
    Echo,
    /// Another leg of the same call.
    Leg(u64),
    /// The sum of other legs of the same call: a conference.
    Mix(Vec<u64>),
    /// Played once; then silence.
    Prompt(Prompt),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// None: there is no such prompt, so it has ended.
    pub clip: Option<PromptRef>,
    /// Unique in the call: one that is played already goes on where it is.
    pub play: u64,
    /// Where one begins that is not.
    pub offset_ms: u64,
    /// The first key of the peer stops it.
    pub barge_in: bool,
}

impl Source {
    /// The legs that are heard.
    fn legs(&self) -> &[u64] {
        match self {
            Self::Leg(leg) => std::slice::from_ref(leg),
            Self::Mix(legs) => legs,
            Self::Silence | Self::Music(_) | Self::Ringback(_) | Self::Echo | Self::Prompt(_) => {
                &[]
            }
        }
    }

    /// Is that what is heard already?
    pub(crate) fn goes_on_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prompt(this), Self::Prompt(other)) => this.play == other.play,
            // Who comes and who goes is heard in it.
            (Self::Mix(_), Self::Mix(_)) => true,
            (this, other) => this == other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    pub id: u64,
    /// The caller's leg, left channel.
    pub left: u64,
    /// The agent's leg, right channel.
    pub right: u64,
    /// Of a conference the right channel is what the left leg hears, whoever speaks.
    pub mixed: bool,
    /// What is heard now is not recorded.
    pub paused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the plan has {0} legs, more than {LEGS_PER_PLAN_MAX}")]
    TooManyLegs(usize),
    #[error("two legs of the plan are both called {0}")]
    SameLeg(u64),
    #[error("two legs of the plan share port {0}")]
    SamePort(u16),
    #[error("leg {leg} listens to leg {source_leg}, which the plan doesn't have")]
    UnknownSource { leg: u64, source_leg: u64 },
    #[error("the recording names leg {0}, which the plan doesn't have")]
    UnknownRecorded(u64),
    #[error("payload type {0} is above 127")]
    Payload(u8),
}

impl Plan {
    /// # Errors
    /// What contradicts itself; such a plan is not applied at all.
    pub fn check(&self) -> Result<(), Error> {
        if self.legs.len() > LEGS_PER_PLAN_MAX {
            return Err(Error::TooManyLegs(self.legs.len()));
        }
        let has = |wanted: u64| self.legs.iter().any(|leg| leg.leg == wanted);
        for (at, leg) in self.legs.iter().enumerate() {
            let later = &self.legs[at + 1..];
            if later.iter().any(|other| other.leg == leg.leg) {
                return Err(Error::SameLeg(leg.leg));
            }
            if later.iter().any(|other| other.port == leg.port) {
                return Err(Error::SamePort(leg.port));
            }
            if let Some(high) =
                [Some(leg.payload), leg.telephone_event].into_iter().flatten().find(|pt| *pt > 127)
            {
                return Err(Error::Payload(high));
            }
            let unknown = leg.source.legs().iter().find(|source| !has(**source));
            if let Some(source_leg) = unknown.copied() {
                return Err(Error::UnknownSource { leg: leg.leg, source_leg });
            }
        }
        for leg in self.recording.iter().flat_map(|recording| [recording.left, recording.right]) {
            if !has(leg) {
                return Err(Error::UnknownRecorded(leg));
            }
        }
        Ok(())
    }
}
