//! Audio descriptions to and from text, and what two of them agree on (RFC 3264, RFC 8866).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::sdp_value::{Audio, Beside, Codec, Direction, Payload, Section};
use crate::srtp::Crypto;
use crate::text::plain;

/// Payload types of one audio section that are looked at.
const PAYLOADS_MAX: usize = 64;
/// Sections of one description, and keys of one section, that are looked at.
const SECTIONS_MAX: usize = 8;
const CRYPTO_MAX: usize = 8;
/// A word of an `m=` line that is repeated.
const WORD_BYTES_MAX: usize = 32;
const AVP: &str = "RTP/AVP";
const SAVP: &str = "RTP/SAVP";
/// A longer `a=fmtp` is left out.
const FMTP_BYTES_MAX: usize = 160;
/// What our descriptions fit in without growing.
const TEXT_BYTES_USUAL: usize = 320;
const PTIME_MS_DEFAULT: u16 = 20;
/// The dynamic payload type under which we offer `telephone-event`.
pub const TELEPHONE_EVENT: u8 = 101;
/// The same at the clock of Opus, wherever we offer that.
pub const TELEPHONE_EVENT_WIDE: u8 = 110;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the SDP can't be read: {0}")]
    Syntax(String),
    #[error("the SDP has no audio section over RTP/AVP, or over RTP/SAVP with a key of ours")]
    NoAudio,
    #[error(
        "the SDP has more than {SECTIONS_MAX} sections, or one whose first line can't be repeated"
    )]
    Sections,
    #[error("the SDP names no address for its audio")]
    NoAddress,
    #[error("the SDP's address {0:?} is no IP address; host names are not looked up")]
    Address(String),
    #[error("the two sides share no codec")]
    NoCommonCodec,
}

/// What an offer and our preferences agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub codec: Codec,
    /// The payload type that the peer named.
    pub payload: u8,
    /// What the peer says of the codec.
    pub fmtp: Option<String>,
    pub telephone_event: Option<u8>,
    /// Its events are counted at 48 kHz.
    pub events_wide: bool,
    /// Where the peer wants its RTP; none while it wants none.
    pub remote: Option<SocketAddr>,
    /// Ours, the mirror of the peer's.
    pub direction: Direction,
    /// The peer's key, where the media is protected.
    pub crypto: Option<Crypto>,
    /// Whether the peer would not talk without one.
    pub secure: bool,
    pub beside: Beside,
}

impl Agreed {
    /// Our answer in the clear, at `address` and `port`.
    pub fn answer(&self, address: IpAddr, port: u16, session_id: u64) -> Audio {
        Audio {
            address,
            port,
            payloads: vec![Payload::new(self.payload, self.codec)],
            telephone_event: self.telephone_event.filter(|_| !self.events_wide),
            telephone_event_wide: self.telephone_event.filter(|_| self.events_wide),
            direction: self.direction,
            ptime_ms: Some(PTIME_MS_DEFAULT),
            session_id,
            session_version: 1,
            crypto: Vec::new(),
            secure: false,
            beside: self.beside.clone(),
        }
    }
}

/// What we offer: every codec of ours under its static number, in our order.
pub fn offer(address: IpAddr, port: u16, codecs: &[Codec], session_id: u64) -> Audio {
    Audio {
        address,
        port,
        payloads: codecs.iter().map(|codec| Payload::new(codec.static_payload(), *codec)).collect(),
        telephone_event: Some(TELEPHONE_EVENT),
        telephone_event_wide: codecs.contains(&Codec::Opus).then_some(TELEPHONE_EVENT_WIDE),
        direction: Direction::SendRecv,
        ptime_ms: Some(PTIME_MS_DEFAULT),
        session_id,
        session_version: 1,
        crypto: Vec::new(),
        secure: false,
        beside: Beside::default(),
    }
}

impl Codec {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "opus",
            Self::G729 => "G729",
        }
    }

    /// RFC 3551 §6; of Opus, which has none, the dynamic one that we offer.
    pub fn static_payload(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::G722 => 9,
            Self::Opus => 111,
            Self::G729 => 18,
        }
    }

    /// Of RTP timestamps.
    pub fn clock_khz(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 | Self::G729 => 8,
            Self::Opus => 48,
        }
    }

    fn of_rtpmap(encoding: &str) -> Option<Self> {
        match encoding {
            "PCMU/8000" => Some(Self::Pcmu),
            "PCMA/8000" => Some(Self::Pcma),
            "G722/8000" => Some(Self::G722),
            // Two channels always, whatever is sent (RFC 7587 §7).
            "OPUS/48000/2" => Some(Self::Opus),
            "G729/8000" => Some(Self::G729),
            _ => None,
        }
    }

    fn of_static_payload(number: u8) -> Option<Self> {
        let all = [Self::Pcmu, Self::Pcma, Self::G722, Self::G729];
        all.into_iter().find(|codec| codec.static_payload() == number)
    }

    fn has_fmtp(self) -> bool {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => false,
            Self::Opus | Self::G729 => true,
        }
    }
}

impl Payload {
    pub fn new(number: u8, codec: Codec) -> Self {
        Self { number, codec, fmtp: None }
    }
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The answer's direction (RFC 3264 §6.1).
    #[must_use]
    pub fn mirror(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            Self::SendRecv | Self::Inactive => self,
        }
    }
}

impl Audio {
    /// Reads the first audio section that we can use: over RTP/AVP, or over RTP/SAVP with a key of a
    /// kind that we know. One that is refused or disabled is taken where there is no other.
    ///
    /// # Errors
    /// What is missing or can't be read.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let session = sdp_types::Session::parse(body)
            .map_err(|error| Error::Syntax(error.to_string().chars().take(128).collect()))?;
        let medias = &session.medias;
        let usable = |media: &&sdp_types::Media| is_usable(media);
        let open = medias.iter().position(|media| media.port != 0 && usable(&media));
        let at = open.or_else(|| medias.iter().position(|media| usable(&media)));
        let at = at.ok_or(Error::NoAudio)?;
        let media = &medias[at];
        let beside =
            Beside { before: sections(&medias[..at])?, after: sections(&medias[at + 1..])? };
        if medias.len() > SECTIONS_MAX {
            return Err(Error::Sections);
        }
        let connection = media.connections.first().or(session.connection.as_ref());
        let connection = connection.ok_or(Error::NoAddress)?;
        let text = connection.connection_address.split('/').next().unwrap_or_default();
        let address = text.parse().map_err(|_| Error::Address(text.chars().take(64).collect()))?;
        let attribute = |name: &str| {
            media
                .attributes
                .iter()
                .find(|attribute| attribute.attribute == name)
                .map(|attribute| attribute.value.clone().unwrap_or_default())
        };
        let mut payloads = Vec::new();
        let (mut telephone_event, mut telephone_event_wide) = (None, None);
        for number in media.fmt.split_ascii_whitespace().take(PAYLOADS_MAX) {
            let Ok(number) = number.parse::<u8>() else { continue };
            let map = rtpmap(&media.attributes, number);
            match map.as_deref() {
                Some("TELEPHONE-EVENT/8000") => {
                    telephone_event.get_or_insert(number);
                }
                Some("TELEPHONE-EVENT/48000") => {
                    telephone_event_wide.get_or_insert(number);
                }
                map => {
                    let codec =
                        map.map_or_else(|| Codec::of_static_payload(number), Codec::of_rtpmap);
                    payloads.extend(codec.map(|codec| {
                        let said = || fmtp(&media.attributes, number);
                        Payload { number, codec, fmtp: codec.has_fmtp().then(said).flatten() }
                    }));
                }
            }
        }
        let stated = |name: &str| {
            media.attributes.iter().chain(&session.attributes).any(|a| a.attribute == name)
        };
        // A media section's own direction goes before the session's.
        let of_media = |name: &str| media.attributes.iter().any(|a| a.attribute == name);
        let all =
            [Direction::SendOnly, Direction::RecvOnly, Direction::Inactive, Direction::SendRecv];
        let direction = all
            .into_iter()
            .find(|direction| of_media(direction.as_str()))
            .or_else(|| all.into_iter().find(|direction| stated(direction.as_str())))
            .unwrap_or(Direction::SendRecv);
        Ok(Self {
            address,
            port: media.port,
            payloads,
            telephone_event,
            telephone_event_wide,
            direction,
            ptime_ms: attribute("ptime").and_then(|value| value.trim().parse().ok()),
            session_id: session.origin.sess_id.parse().unwrap_or(0),
            session_version: session.origin.sess_version,
            crypto: keys(media).collect(),
            secure: media.proto == SAVP,
            beside,
        })
    }

    /// The text: the same value gives the same bytes.
    pub fn compose(&self) -> Vec<u8> {
        let family = if self.address.is_ipv4() { "IP4" } else { "IP6" };
        let address = plain(self.address);
        let mut text = String::with_capacity(TEXT_BYTES_USUAL);
        // Writing to a String can't fail.
        let _ = write!(text, "v=0\r\no=tandem {} {}", self.session_id, self.session_version);
        for part in [" IN ", family, " ", &address, "\r\ns=-\r\nc=IN ", family, " ", &address] {
            text.push_str(part);
        }
        text.push_str("\r\nt=0 0\r\n");
        refuse(&mut text, &self.beside.before);
        let protocol = if self.secure { SAVP } else { AVP };
        let _ = write!(text, "m=audio {} {protocol}", self.port);
        for payload in &self.payloads {
            let _ = write!(text, " {}", payload.number);
        }
        let events = [(self.telephone_event, 8000), (self.telephone_event_wide, 48000)];
        let events = events.into_iter().filter_map(|(number, hz)| Some((number?, hz)));
        for (number, _) in events.clone() {
            let _ = write!(text, " {number}");
        }
        if self.payloads.is_empty() && events.clone().next().is_none() {
            // A refused section still names a format (RFC 8866 §5.14).
            text.push_str(" 0");
        }
        text.push_str("\r\n");
        for payload in &self.payloads {
            let Payload { number, codec, fmtp } = payload;
            let clock = if *codec == Codec::Opus { "48000/2" } else { "8000" };
            let _ = write!(text, "a=rtpmap:{number} {}/{clock}\r\n", codec.name());
            if let Some(fmtp) = fmtp {
                let _ = write!(text, "a=fmtp:{number} {fmtp}\r\n");
            }
        }
        for (number, hz) in events {
            let _ =
                write!(text, "a=rtpmap:{number} telephone-event/{hz}\r\na=fmtp:{number} 0-16\r\n");
        }
        for crypto in &self.crypto {
            let _ = write!(text, "a=crypto:{crypto}\r\n");
        }
        let ptime = self.ptime_ms.unwrap_or(PTIME_MS_DEFAULT);
        let _ = write!(text, "a=ptime:{ptime}\r\na=");
        text.push_str(self.direction.as_str());
        text.push_str("\r\n");
        refuse(&mut text, &self.beside.after);
        text.into_bytes()
    }

    /// Where this side wants its RTP; none where the stream is refused or the address is 0.0.0.0
    /// (RFC 3264 §8.4, the old way to hold).
    pub fn remote(&self) -> Option<SocketAddr> {
        let held = self.address == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        (self.port != 0 && !held).then(|| SocketAddr::new(self.address, self.port))
    }

    /// The peer wants to hear nothing from us (RFC 3264 §8.4).
    pub fn is_hold(&self) -> bool {
        matches!(self.direction, Direction::SendOnly | Direction::Inactive)
            || self.remote().is_none()
    }
}

/// The first of the offer's codecs that is among `ours`: the offerer's preference counts (RFC 3264
/// §6.1).
///
/// # Errors
/// [`Error::NoCommonCodec`].
pub fn negotiate(offer: &Audio, ours: &[Codec]) -> Result<Agreed, Error> {
    negotiate_beside(offer, ours, None)
}

/// As [`negotiate`], but of what both sides have, the codec of the leg on our other side goes
/// first: then nothing between the two is transcoded.
///
/// # Errors
/// [`Error::NoCommonCodec`].
pub fn negotiate_beside(
    offer: &Audio,
    ours: &[Codec],
    beside: Option<Codec>,
) -> Result<Agreed, Error> {
    let mut shared = offer.payloads.iter().filter(|payload| ours.contains(&payload.codec));
    let other = shared.clone().find(|payload| Some(payload.codec) == beside);
    let payload = other.or_else(|| shared.next()).ok_or(Error::NoCommonCodec)?;
    let wide = offer.telephone_event_wide.filter(|_| payload.codec.clock_khz() == 48);
    Ok(Agreed {
        codec: payload.codec,
        payload: payload.number,
        fmtp: payload.fmtp.clone(),
        telephone_event: wide.or(offer.telephone_event),
        events_wide: wide.is_some(),
        remote: offer.remote(),
        direction: offer.direction.mirror(),
        crypto: offer.crypto.first().cloned(),
        secure: offer.secure,
        beside: offer.beside.clone(),
    })
}

fn is_usable(media: &sdp_types::Media) -> bool {
    media.media == "audio"
        && (media.proto == AVP || media.proto == SAVP && keys(media).next().is_some())
}

/// The keys of a section that are of a kind that we know.
fn keys(media: &sdp_types::Media) -> impl Iterator<Item = Crypto> {
    let lines = media.attributes.iter().filter(|attribute| attribute.attribute == "crypto");
    let values = lines.filter_map(|attribute| attribute.value.as_deref());
    values.take(CRYPTO_MAX).filter_map(Crypto::parse)
}

fn sections(medias: &[sdp_types::Media]) -> Result<Vec<Section>, Error> {
    let section = |media: &sdp_types::Media| {
        let word = |word: &str| {
            let fits = (1..=WORD_BYTES_MAX).contains(&word.len());
            let plain = fits && word.bytes().all(|byte| byte.is_ascii_graphic());
            plain.then(|| word.to_owned()).ok_or(Error::Sections)
        };
        Ok(Section {
            media: word(&media.media)?,
            protocol: word(&media.proto)?,
            format: word(media.fmt.split_ascii_whitespace().next().unwrap_or_default())?,
        })
    };
    medias.iter().map(section).collect()
}

/// Port 0 refuses a section (RFC 3264 §6).
fn refuse(text: &mut String, sections: &[Section]) {
    for Section { media, protocol, format } in sections {
        let _ = write!(text, "m={media} 0 {protocol} {format}\r\n");
    }
}

/// What is said of a payload type, where it can be said again.
fn fmtp(attributes: &[sdp_types::Attribute], number: u8) -> Option<String> {
    let lines = attributes.iter().filter(|attribute| attribute.attribute == "fmtp");
    let said = lines.filter_map(|attribute| attribute.value.as_deref()?.trim().split_once(' '));
    let said = said.filter(|(payload, _)| payload.parse() == Ok(number));
    let said = said.map(|(_, parameters)| parameters.trim());
    let plain = |text: &&str| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let fits = |text: &&str| (1..=FMTP_BYTES_MAX).contains(&text.len());
    said.filter(fits).find(plain).map(str::to_owned)
}

fn rtpmap(attributes: &[sdp_types::Attribute], number: u8) -> Option<String> {
    attributes.iter().filter(|attribute| attribute.attribute == "rtpmap").find_map(|attribute| {
        let (payload, encoding) = attribute.value.as_deref()?.trim().split_once([' ', '\t'])?;
        (payload.parse() == Ok(number)).then(|| {
            // "PCMU/8000/1" names one channel, which is the default.
            let encoding = encoding.trim().to_ascii_uppercase();
            encoding.strip_suffix("/1").map(str::to_owned).unwrap_or(encoding)
        })
    })
}
