//! A tenant's configuration as the shard sees it. It arrives by the log, so that every replica
//! decides by the same one.

use std::sync::Arc;

use tandem_sip::sdp::Codec;

use crate::ids::{AgentId, FlowId, MusicId, QueueId, TrunkId};
use crate::ivr::flow::Flow;
use crate::ivr::tones;
use crate::limits;
use crate::trunk::numbers::Incoming;
use crate::trunk::outward::{Outward, Route};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Grows with each change.
    pub version: u64,
    pub tenant: String,
    /// Digest realm (RFC 3261 §22).
    pub realm: String,
    pub trunks: Vec<Trunk>,
    pub queues: Vec<Queue>,
    pub agents: Vec<Agent>,
    pub numbers: Vec<Number>,
    /// Where numbers that are none of ours go out.
    pub routes: Vec<Route>,
    /// After-call work.
    pub acw_ms: u64,
    /// How long a dialled extension may ring.
    pub no_answer_ms: u64,
    /// The longest call.
    pub call_ms_max: u64,
    /// The session interval that our INVITEs ask for (RFC 4028), seconds; 0 for none.
    pub session_expires_s: u32,
    /// Whoever answers a TLS connection of ours, phones above all, need not prove who it is.
    pub tls_unverified: bool,
    pub srtp: Srtp,
    /// Whose tones callers hear.
    pub country: Country,
    /// The newest version of each.
    pub flows: Vec<Arc<Flow>>,
    /// Versions that live calls began with. The shard keeps them; nobody configures them.
    pub retired: Vec<Arc<Flow>>,
}

/// SRTP (RFC 3711) with keys in SDP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Srtp {
    /// What we offer to whom we call over TLS. Who calls gets what it asks for.
    pub offer: OfferSrtp,
    pub secret: Secret,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfferSrtp {
    #[default]
    Never,
    /// A key that the peer may use, or leave (RFC 8643).
    Welcome,
    /// `RTP/SAVP`: a phone that can't do it can't be called.
    Required,
}

impl OfferSrtp {
    pub const ALL: [Self; 3] = [Self::Never, Self::Welcome, Self::Required];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Welcome => "welcome",
            Self::Required => "required",
        }
    }
}

impl std::str::FromStr for OfferSrtp {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|offer| offer.as_str() == name).ok_or(())
    }
}

/// By its code of ISO 3166: ITU-T E.180 supplement 2 has the tones of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Country {
    #[default]
    Cn,
    De,
    Fr,
    Gb,
    Jp,
    Us,
}

impl Country {
    pub const ALL: [Self; 6] = [Self::Cn, Self::De, Self::Fr, Self::Gb, Self::Jp, Self::Us];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cn => "cn",
            Self::De => "de",
            Self::Fr => "fr",
            Self::Gb => "gb",
            Self::Jp => "jp",
            Self::Us => "us",
        }
    }
}

impl std::str::FromStr for Country {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|country| country.as_str() == name).ok_or(())
    }
}

/// What our keys follow from. Nobody configures it: whoever leads the meta shard draws it once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Config {
    pub fn queue(&self, id: &QueueId) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.id == *id)
    }

    pub fn trunk(&self, id: &TrunkId) -> Option<&Trunk> {
        self.trunks.iter().find(|trunk| trunk.id == *id)
    }

    /// The least session interval that is taken; nobody need ask for more than we do.
    pub fn session_expires_s_min(&self) -> u32 {
        match self.session_expires_s {
            0 => limits::SESSION_EXPIRES_S_MIN,
            asked => asked.min(limits::SESSION_EXPIRES_S_MIN),
        }
    }

    /// Where a new call begins.
    pub fn newest_flow(&self, name: &FlowId) -> Option<&Arc<Flow>> {
        self.flows.iter().find(|flow| flow.name == *name)
    }

    /// What a call in progress goes on with.
    pub fn flow(&self, name: &FlowId, version: u64) -> Option<&Arc<Flow>> {
        let mut known = self.flows.iter().chain(&self.retired);
        let known = known.find(|flow| flow.name == *name && flow.version == version);
        known.or_else(|| tones::flow(name, version))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    pub id: TrunkId,
    pub channels: u16,
    /// Guard time of a released channel: 0 for SIP.
    pub guard_ms: u64,
    /// CIDR-free list of source IPs that are this trunk; empty means any.
    pub sources: Vec<std::net::IpAddr>,
    pub tls: TrunkTls,
    /// None: it takes calls in, and no more.
    pub out: Option<Outward>,
    pub incoming: Incoming,
    /// What is spoken with it, what is liked best first; empty: all that we know, as its peer likes.
    pub codecs: Vec<Codec>,
    /// Other tenants have it, too: of its channels this one has blocks that are leased to it.
    pub shared: bool,
}

/// What a trunk wants of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrunkTls {
    /// A call is this trunk's only where its connection has proven this name, a SAN of a
    /// certificate of the configured roots.
    pub client_name: Option<String>,
    /// Whoever answers a TLS connection of ours to `sources` need not prove who it is.
    pub unverified: bool,
}

impl Trunk {
    /// Whether a call from there, over a connection that has proven these names, is this trunk's.
    pub fn admits(&self, source: std::net::IpAddr, names: &[String]) -> bool {
        let from = self.sources.is_empty() || self.sources.contains(&source);
        let proven = self
            .tls
            .client_name
            .as_ref()
            .is_none_or(|wanted| names.iter().any(|name| name.eq_ignore_ascii_case(wanted)));
        from && proven
    }

    fn calls_to(&self, address: std::net::IpAddr) -> bool {
        let mut peers = self.out.iter().flat_map(|out| &out.peers);
        peers.any(|peer| peer.address.ip() == address)
    }
}

impl Config {
    /// Whether whoever answers a TLS connection to this address must prove who it is. A trunk that
    /// names the address decides; else it is the tenant's policy.
    pub fn verifies(&self, address: std::net::IpAddr) -> bool {
        let is_of = |trunk: &&Trunk| trunk.sources.contains(&address) || trunk.calls_to(address);
        let trunk = self.trunks.iter().find(is_of);
        !trunk.map_or(self.tls_unverified, |trunk| trunk.tls.unverified)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub id: QueueId,
    pub strategy: Strategy,
    pub agents: Vec<AgentId>,
    pub ring_ms_max: u64,
    pub record: bool,
    /// Callers that may wait at once; the next one is refused.
    pub waiting_max: u32,
    /// What its callers hear while they wait, and whenever they are on hold after that.
    pub music: Option<MusicId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The agent who has been ready longest.
    LongestIdle,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub id: AgentId,
    /// MD5 of `user:realm:password` (RFC 2617 §3.2.2.2), hex. Never logged.
    pub ha1: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    pub digits: String,
    pub target: Target,
}

/// What a dialled number leads to. Agents' extensions need no entry: an agent's id is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Queue(QueueId),
    Echo,
    Flow(FlowId),
}
