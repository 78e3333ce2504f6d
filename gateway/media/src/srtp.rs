//! What protects one leg's packets: SRTP and SRTCP (RFC 3711), by libsrtp.

use std::borrow::Cow;

use ezk_srtp::{CryptoPolicy, SrtpError, SrtpPolicy, SrtpSession, Ssrc};
use tandem_sip::srtp::{Key, Suite};

use crate::limits::{DATAGRAM_BYTES_MAX, SRTP_SOURCES_MAX, SRTP_TRAILER_BYTES_MAX};
use crate::plan::Keys;
use crate::stats::Dropped;

/// How a leg's packets travel.
pub enum Armour {
    Clear,
    Srtp(Box<Guard>),
    /// It was to be protected and can't be: nothing is sent, and nothing taken.
    Broken,
}

/// Both directions of one leg.
pub struct Guard {
    keys: Keys,
    inbound: SrtpSession,
    outbound: SrtpSession,
    known: Sources,
    /// The packet at hand: libsrtp works in place. Never grows.
    packet: Vec<u8>,
}

impl Armour {
    pub fn new(keys: Option<&Keys>) -> Self {
        let Some(keys) = keys else { return Self::Clear };
        match Guard::new(keys) {
            Ok(guard) => Self::Srtp(Box::new(guard)),
            Err(error) => Self::broken(&error),
        }
    }

    /// Takes over other keys. A direction whose key stays goes on with its packet index: the peer
    /// would not know a stream that begins anew.
    pub fn update(&mut self, keys: Option<&Keys>) {
        match (self, keys) {
            (Self::Clear, None) => {}
            (Self::Srtp(guard), Some(keys)) if guard.keys == *keys => {}
            (Self::Srtp(guard), Some(keys)) if guard.keys.suite == keys.suite => {
                if let Err(error) = guard.change(keys) {
                    tracing::error!(%error, "SRTP keys of a leg can't be changed");
                }
            }
            (armour, keys) => *armour = Self::new(keys),
        }
    }

    fn broken(error: &SrtpError) -> Self {
        tracing::error!(%error, "a leg can't be protected by SRTP and stays silent");
        Self::Broken
    }

    /// Of a packet of the peer's, in place: its bytes without protection.
    pub fn open(&mut self, datagram: &mut [u8], bytes: usize) -> Result<usize, Dropped> {
        match self {
            Self::Clear => Ok(bytes),
            Self::Broken => Err(Dropped::Unauthentic),
            Self::Srtp(guard) => {
                let sealed = datagram.get(..bytes).ok_or(Dropped::Malformed)?;
                let open = guard.open(sealed, word(sealed, 8), SrtpSession::unprotect_rtp)?;
                datagram[..open.len()].copy_from_slice(open);
                Ok(open.len())
            }
        }
    }

    /// The same of RTCP.
    pub fn open_control<'a>(&'a mut self, datagram: &'a [u8]) -> Result<&'a [u8], Dropped> {
        match self {
            Self::Clear => Ok(datagram),
            Self::Broken => Err(Dropped::Unauthentic),
            Self::Srtp(guard) => {
                guard.open(datagram, word(datagram, 4), SrtpSession::unprotect_rtcp)
            }
        }
    }

    /// A packet of ours as it is sent.
    pub fn seal<'a>(&'a mut self, packet: &'a [u8]) -> Result<&'a [u8], Dropped> {
        match self {
            Self::Clear => Ok(packet),
            Self::Broken => Err(Dropped::Send),
            Self::Srtp(guard) => guard.seal(packet, SrtpSession::protect_rtp),
        }
    }

    /// The same of RTCP.
    pub fn seal_control<'a>(&'a mut self, packet: &'a [u8]) -> Result<&'a [u8], Dropped> {
        match self {
            Self::Clear => Ok(packet),
            Self::Broken => Err(Dropped::Send),
            Self::Srtp(guard) => guard.seal(packet, SrtpSession::protect_rtcp),
        }
    }
}

impl Guard {
    fn new(keys: &Keys) -> Result<Self, SrtpError> {
        Ok(Self {
            inbound: inbound(keys.suite, &keys.theirs)?,
            outbound: outbound(keys.suite, &keys.ours)?,
            keys: keys.clone(),
            known: Sources::default(),
            packet: Vec::with_capacity(DATAGRAM_BYTES_MAX + SRTP_TRAILER_BYTES_MAX),
        })
    }

    fn change(&mut self, keys: &Keys) -> Result<(), SrtpError> {
        if keys.theirs != self.keys.theirs {
            self.inbound = inbound(keys.suite, &keys.theirs)?;
            self.known = Sources::default();
        }
        if keys.ours != self.keys.ours {
            self.outbound = outbound(keys.suite, &keys.ours)?;
        }
        self.keys = keys.clone();
        Ok(())
    }

    fn open(
        &mut self,
        sealed: &[u8],
        ssrc: Option<u32>,
        open: fn(&mut SrtpSession, &mut Vec<u8>) -> Result<(), SrtpError>,
    ) -> Result<&[u8], Dropped> {
        self.load(sealed);
        open(&mut self.inbound, &mut self.packet).map_err(|error| reason(&error))?;
        if let Some(forgotten) = ssrc.and_then(|ssrc| self.known.meet(ssrc)) {
            // It has a stream: it was met.
            let _ = self.inbound.remove_stream(forgotten);
        }
        Ok(&self.packet)
    }

    fn seal(
        &mut self,
        packet: &[u8],
        seal: fn(&mut SrtpSession, &mut Vec<u8>) -> Result<(), SrtpError>,
    ) -> Result<&[u8], Dropped> {
        self.load(packet);
        seal(&mut self.outbound, &mut self.packet).map_err(|_| Dropped::Send)?;
        Ok(&self.packet)
    }

    fn load(&mut self, bytes: &[u8]) {
        self.packet.clear();
        self.packet.extend_from_slice(&bytes[..bytes.len().min(DATAGRAM_BYTES_MAX)]);
    }
}

/// The SSRCs that a peer has used: libsrtp keeps a stream for each, and a peer may change its own
/// with each packet.
#[derive(Default)]
struct Sources {
    ssrcs: [Option<u32>; SRTP_SOURCES_MAX],
    next: usize,
}

impl Sources {
    /// The one that is forgotten for this.
    fn meet(&mut self, ssrc: u32) -> Option<u32> {
        if self.ssrcs.contains(&Some(ssrc)) {
            return None;
        }
        let forgotten = self.ssrcs[self.next].replace(ssrc);
        self.next = (self.next + 1) % SRTP_SOURCES_MAX;
        forgotten
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn inbound(suite: Suite, key: &Key) -> Result<SrtpSession, SrtpError> {
    SrtpSession::new(vec![policy(suite, key, Ssrc::AnyInbound)?])
}

/// A relayed packet that comes late, or the repeated end of a key, has a number that went out.
fn outbound(suite: Suite, key: &Key) -> Result<SrtpSession, SrtpError> {
    SrtpSession::new(vec![policy(suite, key, Ssrc::AnyOutbound)?.allow_repeat_tx(true)])
}

fn policy(suite: Suite, key: &Key, ssrc: Ssrc) -> Result<SrtpPolicy<'_>, SrtpError> {
    let (rtp, rtcp) = match suite {
        Suite::AesCm128HmacSha1_80 => {
            (CryptoPolicy::aes_cm_128_hmac_sha1_80(), CryptoPolicy::aes_cm_128_hmac_sha1_80())
        }
        Suite::AesCm128HmacSha1_32 => {
            (CryptoPolicy::aes_cm_128_hmac_sha1_32(), CryptoPolicy::aes_cm_128_hmac_sha1_80())
        }
        Suite::AesCm256HmacSha1_80 => {
            (CryptoPolicy::aes_cm_256_hmac_sha1_80(), CryptoPolicy::aes_cm_256_hmac_sha1_80())
        }
    };
    SrtpPolicy::new(rtp, rtcp, Cow::Borrowed(key.bytes()), ssrc)
}

fn reason(error: &SrtpError) -> Dropped {
    if *error == SrtpError::REPLAY_FAIL {
        Dropped::Duplicate
    } else if *error == SrtpError::REPLAY_OLD || *error == SrtpError::PKT_IDX_OLD {
        Dropped::Astray
    } else {
        Dropped::Unauthentic
    }
}
