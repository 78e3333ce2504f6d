//! What protects one leg's packets: SRTP and SRTCP (RFC 3711), by libsrtp.

use std::borrow::Cow;

use ezk_srtp::{CryptoPolicy, SrtpError, SrtpPolicy, SrtpSession, Ssrc};
use tandem_sip::srtp::{Key, Suite};

use crate::limits::{DATAGRAM_BYTES_MAX, SRTP_SOURCES_MAX, SRTP_TRAILER_BYTES_MAX};
use crate::plan::Keys;
use crate::rollover::{self, Rollover};
use crate::stats::Dropped;

/// So many packets of unknown sources are tried with more than one counter: each costs as many authentications.
const LOOKED_MAX: u32 = 64;
/// Counters that are tried: a day's worth of packets of 20 ms.
const COUNTERS_MAX: u32 = 68;
/// More than are sent while a quarter of a round goes by, 328 s: one in 2.5 s at most (RFC 3550 §6.2).
const REPORTS_PER_QUARTER: u32 = 160;
/// Some milliseconds of work; of a longer call reports are heard again later.
const REPORTS_MAX: u32 = 8_000;

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
    /// Of our packets the highest index.
    sent: u64,
    /// Of the peer's newest source the highest index.
    received: Option<(u32, u64)>,
    /// Packets of sources that were not met, while the peer's counter is still looked for.
    looked: u32,
    /// What others know.
    told: Rollover,
    /// Reports that another gateway may have sent before.
    reports_before: u32,
    /// The packet at hand: libsrtp works in place. Never grows.
    packet: Vec<u8>,
}

impl Armour {
    /// `ssrc`: of our packets. `index`: of the first one.
    pub fn new(keys: Option<&Keys>, ssrc: u32, index: u64) -> Self {
        let Some(keys) = keys else { return Self::Clear };
        match Guard::new(keys, ssrc, index) {
            Ok(guard) => Self::Srtp(Box::new(guard)),
            Err(error) => Self::broken(&error),
        }
    }

    /// Takes over other keys. A direction whose key stays goes on with its packet index: the peer
    /// would not know a stream that begins anew.
    pub fn update(&mut self, keys: Option<&Keys>, ssrc: u32, index: u64) {
        match (self, keys) {
            (Self::Clear, None) => {}
            (Self::Srtp(guard), Some(keys)) if guard.keys.are_those(keys) => {}
            (Self::Srtp(guard), Some(keys)) if guard.keys.suite == keys.suite => {
                if let Err(error) = guard.change(keys) {
                    tracing::error!(%error, "SRTP keys of a leg can't be changed");
                }
            }
            (armour, keys) => *armour = Self::new(keys, ssrc, index),
        }
    }

    /// How far both directions have come, where others don't know it.
    pub fn untold(&self) -> Option<Rollover> {
        let Self::Srtp(guard) = self else { return None };
        let received = guard.received.map_or(0, |(_, index)| rollover::quarter(index));
        let now = Rollover { sent: rollover::quarter(guard.sent), received };
        let Rollover { sent, received } = guard.told;
        (now.sent > sent || now.received > received).then_some(now)
    }

    /// Others know.
    pub fn on_told(&mut self, told: Rollover) {
        if let Self::Srtp(guard) = self {
            let Rollover { sent, received } = &mut guard.told;
            *sent = told.sent.max(*sent);
            *received = told.received.max(*received);
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
                let ssrc = word(sealed, 8);
                let sequence = half(sealed, 2);
                let found = ssrc
                    .zip(sequence)
                    .is_some_and(|(ssrc, sequence)| guard.finds_counter(sealed, ssrc, sequence));
                let open = if found {
                    &guard.packet
                } else {
                    guard.open(sealed, ssrc, SrtpSession::unprotect_rtp)?
                };
                let bytes = open.len();
                datagram[..bytes].copy_from_slice(open);
                guard.on_received(ssrc, sequence);
                Ok(bytes)
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
            Self::Srtp(guard) => {
                guard.on_sending(half(packet, 2));
                guard.seal(packet, SrtpSession::protect_rtp)
            }
        }
    }

    /// The same of RTCP.
    pub fn seal_control<'a>(&'a mut self, packet: &'a [u8]) -> Result<&'a [u8], Dropped> {
        match self {
            Self::Clear => Ok(packet),
            Self::Broken => Err(Dropped::Send),
            Self::Srtp(guard) => {
                guard.pass_reports_before(packet)?;
                guard.seal(packet, SrtpSession::protect_rtcp)
            }
        }
    }
}

impl Guard {
    fn new(keys: &Keys, ssrc: u32, index: u64) -> Result<Self, SrtpError> {
        let mut outbound = outbound(keys.suite, &keys.ours)?;
        let counter = rollover::counter(index);
        if counter > 0 {
            let of_stream = policy(keys.suite, &keys.ours, Ssrc::Specific(ssrc))?;
            outbound.add_stream(of_stream.allow_repeat_tx(true))?;
            outbound.set_stream_roc(ssrc, counter)?;
        }
        Ok(Self {
            inbound: inbound(keys.suite, &keys.theirs)?,
            outbound,
            keys: keys.clone(),
            known: Sources::default(),
            sent: index,
            received: None,
            looked: if keys.from.received == 0 { LOOKED_MAX } else { 0 },
            told: keys.from,
            reports_before: keys.from.sent.saturating_mul(REPORTS_PER_QUARTER).min(REPORTS_MAX),
            packet: Vec::with_capacity(DATAGRAM_BYTES_MAX + SRTP_TRAILER_BYTES_MAX),
        })
    }

    fn change(&mut self, keys: &Keys) -> Result<(), SrtpError> {
        if keys.theirs != self.keys.theirs {
            self.inbound = inbound(keys.suite, &keys.theirs)?;
            self.known = Sources::default();
            self.received = None;
            self.looked = LOOKED_MAX;
            self.told.received = 0;
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

    /// Opens the first packet of a peer that another gateway has heard before: what its counter is, the packet's
    /// authentication says.
    fn finds_counter(&mut self, sealed: &[u8], ssrc: u32, sequence: u16) -> bool {
        if self.looked >= LOOKED_MAX || self.known.has(ssrc) {
            return false;
        }
        self.looked += 1;
        let told = self.keys.from.received;
        for counter in rollover::candidates(told, sequence, COUNTERS_MAX) {
            if self.opens_with(counter, sealed, ssrc) {
                self.looked = LOOKED_MAX;
                self.known.meet(ssrc);
                self.received = Some((ssrc, u64::from(counter) << 16 | u64::from(sequence)));
                return true;
            }
        }
        false
    }

    fn opens_with(&mut self, counter: u32, sealed: &[u8], ssrc: u32) -> bool {
        self.load(sealed);
        let of_source = policy(self.keys.suite, &self.keys.theirs, Ssrc::Specific(ssrc));
        let added = of_source.and_then(|policy| self.inbound.add_stream(policy));
        let set = added.and_then(|()| self.inbound.set_stream_roc(ssrc, counter));
        let opened = set.and_then(|()| self.inbound.unprotect_rtp(&mut self.packet)).is_ok();
        if !opened {
            // It was not met: what there is of it was added here.
            let _ = self.inbound.remove_stream(ssrc);
        }
        opened
    }

    fn on_received(&mut self, ssrc: Option<u32>, sequence: Option<u16>) {
        let Some((ssrc, sequence)) = ssrc.zip(sequence) else { return };
        let index = match self.received {
            Some((known, highest)) if known == ssrc => {
                highest.max(rollover::nearest(highest, sequence))
            }
            Some(_) | None => u64::from(sequence),
        };
        self.received = Some((ssrc, index));
    }

    fn on_sending(&mut self, sequence: Option<u16>) {
        let Some(sequence) = sequence else { return };
        self.sent = self.sent.max(rollover::nearest(self.sent, sequence));
    }

    /// Reports are numbered (RFC 3711 §3.4), and a peer takes none that is not behind those of the gateway before: as many as
    /// that can have sent are made and thrown away.
    fn pass_reports_before(&mut self, report: &[u8]) -> Result<(), Dropped> {
        for _ in 0..std::mem::take(&mut self.reports_before) {
            self.seal(report, SrtpSession::protect_rtcp)?;
        }
        Ok(())
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
    fn has(&self, ssrc: u32) -> bool {
        self.ssrcs.contains(&Some(ssrc))
    }

    /// The one that is forgotten for this.
    fn meet(&mut self, ssrc: u32) -> Option<u32> {
        if self.has(ssrc) {
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

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
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

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: Suite = Suite::AesCm128HmacSha1_80;
    const OURS: u32 = 7;
    const THEIRS: u32 = 9;
    const PAYLOAD: [u8; 20] = [0xd5; 20];

    fn keys(ours: &str, theirs: &str, from: Rollover) -> Keys {
        let key = |name: &str| Key::derive(b"secret", SUITE, name.as_bytes());
        Keys { suite: SUITE, ours: key(ours), theirs: key(theirs), from }
    }

    fn us(from: Rollover) -> (Armour, u64) {
        let index = rollover::beginning(from.sent, 77);
        (Armour::new(Some(&keys("us", "peer", from)), OURS, index), index)
    }

    fn packet(ssrc: u32, index: u64) -> Vec<u8> {
        let mut packet = vec![0x80, 0];
        packet.extend((index as u16).to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(ssrc.to_be_bytes());
        packet.extend(PAYLOAD);
        packet
    }

    /// A report of nothing (RFC 3550 §6.4.2).
    fn report(ssrc: u32) -> Vec<u8> {
        let mut report = vec![0x80, 201, 0, 1];
        report.extend(ssrc.to_be_bytes());
        report
    }

    #[track_caller]
    fn hears(who: &mut Armour, sealed: &[u8], index: u64) {
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        datagram[..sealed.len()].copy_from_slice(sealed);
        let bytes = who.open(&mut datagram, sealed.len());
        assert!(matches!(bytes, Ok(32)), "packet {index} is not heard: {bytes:?}");
    }

    /// Every other packet from `from` on, to the other side.
    fn talk(from: u64, count: u64, ssrc: u32, one: &mut Armour, other: &mut Armour) -> u64 {
        for index in from..from + count {
            let packet = packet(ssrc, index);
            let sealed = one.seal(&packet).unwrap().to_vec();
            hears(other, &sealed, index);
        }
        from + count
    }

    fn report_comes(from: &mut Armour, to: &mut Armour, ssrc: u32) {
        let sealed = from.seal_control(&report(ssrc)).unwrap().to_vec();
        assert!(to.open_control(&sealed).is_ok(), "a report is not heard");
    }

    /// Nothing but what was told is known to who goes on: over three rounds of the sequence numbers, both ways, at moments
    /// all over the round.
    #[test]
    fn both_go_on_hearing_each_other_when_another_gateway_goes_on() {
        let mut told = Rollover::default();
        let (mut gateway, mut next) = us(told);
        let mut peer = Armour::new(Some(&keys("peer", "us", Rollover::default())), THEIRS, 0);
        let mut peers = 40_000;
        for life in 0..24_u64 {
            let packets = 3_000 + life * 997 % 9_000;
            for _ in 0..packets / 500 {
                next = talk(next, 500, OURS, &mut gateway, &mut peer);
                peers = talk(peers, 500, THEIRS, &mut peer, &mut gateway);
                report_comes(&mut gateway, &mut peer, OURS);
                report_comes(&mut peer, &mut gateway, THEIRS);
                if let Some(now) = gateway.untold() {
                    gateway.on_told(now);
                    told = Rollover {
                        sent: now.sent.max(told.sent),
                        received: now.received.max(told.received),
                    };
                }
            }
            // Somebody else goes on, as the core has it.
            told.sent += 1;
            (gateway, next) = us(told);
        }
        assert!(next > 3 << 16 && peers > 3 << 16, "{next} and {peers}");
    }

    #[test]
    fn peer_whose_source_is_another_than_was_told_is_heard() {
        let from = Rollover { sent: 9, received: 9 };
        let (mut gateway, _) = us(from);
        let mut peer = Armour::new(Some(&keys("peer", "us", Rollover::default())), 11, 0);
        talk(300, 10, 11, &mut peer, &mut gateway);
        // What nobody has sealed is no reason to look for ever.
        let mut junk = packet(12, 5);
        junk.extend([0; 10]);
        for _ in 0..2 * LOOKED_MAX {
            let mut datagram = [0; DATAGRAM_BYTES_MAX];
            datagram[..junk.len()].copy_from_slice(&junk);
            assert!(gateway.open(&mut datagram, junk.len()).is_err());
        }
        talk(310, 10, 11, &mut peer, &mut gateway);
    }
}
