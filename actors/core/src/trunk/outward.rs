//! What is configured of a trunk that takes calls of ours.

use std::fmt;
use std::net::SocketAddr;

use tandem_sip::digest::{Algorithm, answer_by, ha1_with};
use tandem_sip::{Carrier, Uri};

use super::numbers::Rewrite;
use crate::ids::TrunkId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outward {
    /// In the order in which they are tried.
    pub peers: Vec<Peer>,
    /// The least is tried first.
    pub priority: u16,
    /// Its share of the calls among those of the same priority (RFC 2782).
    pub weight: u16,
    /// New calls in a second; 0 for no limit.
    pub calls_per_second: u16,
    /// So long a peer may say nothing at all before the next one is tried.
    pub reply_ms: u64,
    /// How long the called party may ring.
    pub no_answer_ms: u64,
    /// The number that is shown to whom we call; where there is none, that of who calls.
    pub caller_id: Option<String>,
    /// Whom we call is not told who calls; the carrier is.
    pub hide_caller: bool,
    pub called: Vec<Rewrite>,
    /// Of no use where there is a `caller_id`.
    pub calling: Vec<Rewrite>,
    /// Who we are, to a carrier that asks.
    pub credentials: Option<Credentials>,
    /// So often each gateway asks each peer whether it is there (OPTIONS), seconds; 0 for never.
    pub options_s: u16,
    /// The carrier wants to know where we are.
    pub register: Option<Registration>,
}

/// Where and as whom gateways register (RFC 3261 §10.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Of the address of record; the carrier's calls come in for it.
    pub user: String,
    pub domain: String,
    pub registrar: Peer,
    /// Asked for.
    pub expires_s: u32,
}

impl Registration {
    /// The registrar's domain (§10.2).
    pub fn uri(&self) -> Uri {
        Uri::sip(None, &self.domain, None)
    }

    pub fn address_of_record(&self) -> Uri {
        Uri::sip(Some(&self.user), &self.domain, None)
    }
}

/// What a carrier's challenge is answered with: of the password only what RFC 7616 §3.4.2 makes of
/// it for the carrier's realm.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub realm: String,
    /// Hex.
    pub ha1_md5: String,
    pub ha1_sha256: String,
}

impl Credentials {
    pub fn new(user: &str, realm: &str, password: &str) -> Self {
        let ha1 = |algorithm| ha1_with(algorithm, user, realm, password);
        Self {
            user: user.to_owned(),
            realm: realm.to_owned(),
            ha1_md5: ha1(Algorithm::Md5),
            ha1_sha256: ha1(Algorithm::Sha256),
        }
    }

    pub fn ha1(&self, algorithm: Algorithm) -> Option<String> {
        let ha1 = match algorithm {
            Algorithm::Md5 => &self.ha1_md5,
            Algorithm::Sha256 => &self.ha1_sha256,
        };
        (!ha1.is_empty()).then(|| ha1.clone())
    }

    /// The value of an Authorization. None for another realm: whoever asks in its name gets nothing
    /// to guess the password from.
    pub fn answer(&self, challenge: &str, method: &str, uri: &str, cnonce: &str) -> Option<String> {
        let ha1 =
            |algorithm, realm: &str| (realm == self.realm).then(|| self.ha1(algorithm)).flatten();
        answer_by(challenge, &self.user, ha1, method, uri, cnonce, 1).ok()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?} of {:?}, ..)", self.user, self.realm)
    }
}

/// Where a carrier takes our calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    pub address: SocketAddr,
    pub transport: Transport,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    #[default]
    Udp,
    Tcp,
    Tls,
}

/// Numbers that begin like that go out by these trunks. The longest prefix decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub prefix: String,
    pub trunks: Vec<TrunkId>,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    pub fn carrier(self) -> Carrier {
        match self {
            Self::Udp => Carrier::Udp,
            Self::Tcp => Carrier::TCP,
            Self::Tls => Carrier::TLS,
        }
    }
}

/// As it is configured: `192.0.2.7:5060`, `192.0.2.7:5061;transport=tls`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Udp => write!(f, "{}", self.address),
            Transport::Tcp | Transport::Tls => {
                write!(f, "{};transport={}", self.address, self.transport.as_str())
            }
        }
    }
}

impl std::str::FromStr for Peer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, transport) = match text.split_once(';') {
            None => (text, Transport::Udp),
            Some((address, param)) => {
                let name = param.strip_prefix("transport=").ok_or(())?;
                let known = Transport::ALL.into_iter().find(|known| known.as_str() == name);
                (address, known.ok_or(())?)
            }
        };
        let address: SocketAddr = address.parse().map_err(|_| ())?;
        let usable = address.port() != 0 && !address.ip().is_unspecified();
        usable.then_some(Self { address, transport }).ok_or(())
    }
}
