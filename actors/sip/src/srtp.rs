//! The keys of SRTP as SDP carries them (SDES, RFC 4568): values and their text.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha512;

/// RFC 4568 §9.1: a tag has nine digits at most.
const TAG_MAX: u32 = 999_999_999;

/// One `a=crypto` line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Crypto {
    /// Names the line; the answer says it again.
    pub tag: u32,
    pub suite: Suite,
    /// Of whoever writes the line: what this side sends is protected by it.
    pub key: Key,
}

/// RFC 4568 §6.2, RFC 6188 §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    AesCm128HmacSha1_80,
    /// The shorter tag is on RTP alone: RTCP has 80 bits (RFC 4568 §6.2.2).
    AesCm128HmacSha1_32,
    AesCm256HmacSha1_80,
}

/// Master key and master salt. Never logged.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Vec<u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of {suite} has {wanted} bytes with its salt; this one has {given}", suite = .0.name(), wanted = .0.key_bytes(), given = .1)]
pub struct KeyError(pub Suite, pub usize);

impl Suite {
    pub const ALL: [Self; 3] =
        [Self::AesCm128HmacSha1_80, Self::AesCm128HmacSha1_32, Self::AesCm256HmacSha1_80];

    pub fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Master key and a salt of 112 bits.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 16 + 14,
            Self::AesCm256HmacSha1_80 => 32 + 14,
        }
    }
}

impl Key {
    /// # Errors
    /// Where the length is not the suite's.
    pub fn new(suite: Suite, bytes: Vec<u8>) -> Result<Self, KeyError> {
        if bytes.len() == suite.key_bytes() {
            Ok(Self(bytes))
        } else {
            Err(KeyError(suite, bytes.len()))
        }
    }

    /// The key that `name` stands for under a secret: whoever knows the secret finds the same one,
    /// nobody else finds any (HMAC-SHA-512, RFC 2104). Two names have two keys.
    pub fn derive(secret: &[u8], suite: Suite, name: &[u8]) -> Self {
        // HMAC takes a key of any length.
        let Ok(mac) = Hmac::<Sha512>::new_from_slice(secret) else { return Self(Vec::new()) };
        let mac = mac.chain_update(b"tandem srtp ").chain_update(suite.name()).chain_update(name);
        let mut bytes = mac.finalize().into_bytes().to_vec();
        bytes.truncate(suite.key_bytes());
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Crypto {
    /// Reads the value of `a=crypto`. `None` for what we can't do: an unknown suite, several keys,
    /// an MKI, a session parameter that changes what is protected. Such a line is as if it were
    /// not there (RFC 4568 §7.1.2).
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next()?.parse().ok().filter(|tag| *tag <= TAG_MAX)?;
        let suite = Suite::of_name(words.next()?)?;
        let params = words.next()?;
        if params.contains(';') || !words.all(is_harmless) {
            return None;
        }
        let (method, info) = params.split_once(':')?;
        if !method.eq_ignore_ascii_case("inline") {
            return None;
        }
        let mut parts = info.split('|');
        let text = parts.next()?.trim_end_matches('=');
        // What is left is a lifetime, which no call outlasts, or an MKI, which has a colon.
        if parts.any(|part| part.contains(':')) {
            return None;
        }
        let key = Key::new(suite, STANDARD_NO_PAD.decode(text).ok()?).ok()?;
        Some(Self { tag, suite, key })
    }
}

/// A leading minus says that whoever does not know the parameter may do without (RFC 4568 §6.3.7).
fn is_harmless(param: &str) -> bool {
    let name = param.split('=').next().unwrap_or_default();
    name.eq_ignore_ascii_case("WSH") || param.eq_ignore_ascii_case("KDR=0") || name.starts_with('-')
}

impl fmt::Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode(&self.key.0);
        write!(f, "{} {} inline:{key}", self.tag, self.suite.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";

    #[test]
    fn line_is_read_with_a_lifetime_and_written_without() {
        let line = Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20")).unwrap();
        assert_eq!((line.tag, line.suite), (1, Suite::AesCm128HmacSha1_80));
        assert_eq!(line.to_string(), format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"));
        assert_eq!(Crypto::parse(&line.to_string()), Some(line));
    }

    #[test]
    fn what_we_cannot_do_is_no_line() {
        for value in [
            "",
            "1",
            "1 AES_CM_128_HMAC_SHA1_80",
            "x AES_CM_128_HMAC_SHA1_80 inline:K",
            "1 F8_128_HMAC_SHA1_80 inline:K",
            "1 AES_CM_128_HMAC_SHA1_80 inline:K|2^20|1:4",
            "1 AES_CM_128_HMAC_SHA1_80 inline:K|1:4",
            "1 AES_CM_128_HMAC_SHA1_80 inline:K;inline:K",
            "1 AES_CM_128_HMAC_SHA1_80 uri:K",
            "1 AES_CM_128_HMAC_SHA1_80 inline:K UNENCRYPTED_SRTP",
            "1 AES_CM_128_HMAC_SHA1_80 inline:K KDR=4",
            "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA",
            "1 AES_256_CM_HMAC_SHA1_80 inline:K",
            "1234567890 AES_CM_128_HMAC_SHA1_80 inline:K",
        ] {
            let value = value.replace("inline:K", &format!("inline:{KEY}"));
            assert_eq!(Crypto::parse(&value), None, "{value}");
        }
        let harmless = format!("1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|2^31 WSH=128 KDR=0 -NEW=1");
        assert!(Crypto::parse(&harmless).is_some());
    }

    #[test]
    fn key_is_named_and_never_shown() {
        let of = |name: &[u8]| Key::derive(b"secret", Suite::AesCm128HmacSha1_80, name);
        assert_eq!(of(b"one"), of(b"one"));
        assert_ne!(of(b"one"), of(b"two"));
        assert_ne!(of(b"one"), Key::derive(b"other", Suite::AesCm128HmacSha1_80, b"one"));
        let long = Key::derive(b"secret", Suite::AesCm256HmacSha1_80, b"one");
        assert_eq!((of(b"one").bytes().len(), long.bytes().len()), (30, 46));
        assert_eq!(format!("{:?}", of(b"one")), "Key(..)");
    }
}
