//! Digest access authentication (RFC 2617 §3, as RFC 3261 §22 uses it; RFC 8760) with MD5 or
//! SHA-256, `qop=auth`. Whether a nonce is good is the caller's to say.

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::{Headers, scan};

/// RFC 8760 §2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// What a header names; MD5 where it names none.
    fn named(name: Option<&str>) -> Option<Self> {
        let Some(name) = name else { return Some(Self::Md5) };
        [Self::Md5, Self::Sha256].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// What made this HA1, by its length.
    fn of_ha1(ha1: &str) -> Option<Self> {
        match ha1.len() {
            32 => Some(Self::Md5),
            64 => Some(Self::Sha256),
            _ => None,
        }
    }

    fn hex(self, text: &str) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Md5 => hex(&Md5::digest(text.as_bytes())),
            Self::Sha256 => hex(&Sha256::digest(text.as_bytes())),
        }
    }
}

/// The fields of an `Authorization` header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorization {
    pub username: String,
    pub realm: String,
    pub nonce: String,
    pub uri: String,
    pub response: String,
    pub cnonce: Option<String>,
    pub nc: Option<String>,
    pub qop: Option<String>,
    pub algorithm: Option<String>,
    pub opaque: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the scheme is not Digest")]
    Scheme,
    #[error("field {0} is missing")]
    Missing(&'static str),
    #[error("algorithm {0:?} is not known; expected MD5 or SHA-256")]
    Algorithm(String),
    #[error("there is no password for that realm and algorithm")]
    Realm,
}

/// Who wants to know who asks (RFC 3261 §22.2, §22.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenger {
    Server,
    Proxy,
}

impl Challenger {
    pub const ALL: [Self; 2] = [Self::Server, Self::Proxy];

    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            401 => Some(Self::Server),
            407 => Some(Self::Proxy),
            _ => None,
        }
    }

    /// The header of a request that answers it.
    pub fn answered_in(self) -> &'static str {
        match self {
            Self::Server => "Authorization",
            Self::Proxy => "Proxy-Authorization",
        }
    }

    /// One for each algorithm that it takes, the one it likes best first (RFC 8760 §2.3).
    pub fn challenges(self, response: &Headers) -> impl Iterator<Item = &str> {
        let name = match self {
            Self::Server => "WWW-Authenticate",
            Self::Proxy => "Proxy-Authenticate",
        };
        let named = response.other.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.as_str())
    }
}

/// Whether a challenge says that only the nonce was too old (RFC 7616 §3.3).
pub fn is_stale(challenge: &str) -> bool {
    fields(challenge)
        .is_ok_and(|fields| get(&fields, "stale").is_some_and(|it| it.eq_ignore_ascii_case("true")))
}

/// MD5 of `user:realm:password`, hex: what a registrar keeps instead of the password.
pub fn ha1(user: &str, realm: &str, password: &str) -> String {
    ha1_with(Algorithm::Md5, user, realm, password)
}

pub fn ha1_with(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> String {
    algorithm.hex(&format!("{user}:{realm}:{password}"))
}

/// The value of `WWW-Authenticate`.
pub fn challenge(realm: &str, nonce: &str, stale: bool) -> String {
    challenge_with(Algorithm::Md5, realm, nonce, stale)
}

pub fn challenge_with(algorithm: Algorithm, realm: &str, nonce: &str, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    let algorithm = algorithm.name();
    format!(
        "Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}"
    )
}

/// Without the quotes around it. What is escaped stays so: both sides hash it as it stands
/// (RFC 7616 §1.1, `unq`).
fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

fn fields(value: &str) -> Result<Vec<(String, String)>, Error> {
    let (scheme, rest) = value.trim().split_once([' ', '\t']).ok_or(Error::Scheme)?;
    if !scheme.eq_ignore_ascii_case("Digest") {
        return Err(Error::Scheme);
    }
    Ok(scan::split(rest, ',')
        .into_iter()
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), unquote(value.trim()).to_owned()))
        .collect())
}

fn get(fields: &[(String, String)], name: &str) -> Option<String> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

impl Authorization {
    /// # Errors
    /// Where the scheme is another or a needed field is missing.
    pub fn parse(value: &str) -> Result<Self, Error> {
        let fields = fields(value)?;
        let need = |name: &'static str| get(&fields, name).ok_or(Error::Missing(name));
        Ok(Self {
            username: need("username")?,
            realm: need("realm")?,
            nonce: need("nonce")?,
            uri: need("uri")?,
            response: need("response")?,
            cnonce: get(&fields, "cnonce"),
            nc: get(&fields, "nc"),
            qop: get(&fields, "qop"),
            algorithm: get(&fields, "algorithm"),
            opaque: get(&fields, "opaque"),
        })
    }

    /// The same proof for another request, the `count`-th with this nonce.
    pub fn again(
        &self,
        method: &str,
        uri: &str,
        count: u32,
        ha1: impl FnOnce(Algorithm) -> Option<String>,
    ) -> Option<String> {
        let algorithm = Algorithm::named(self.algorithm.as_deref())?;
        let nc = self.nc.as_ref().map(|_| format!("{count:08x}"));
        let mut next = Self { uri: uri.to_owned(), nc, ..self.clone() };
        next.response = next.expected(method, &ha1(algorithm)?)?;
        Some(next.to_value())
    }

    fn to_value(&self) -> String {
        let mut text = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{}\"",
            self.username, self.realm, self.nonce, self.uri, self.response
        );
        if let Some(algorithm) = &self.algorithm {
            text.push_str(&format!(", algorithm={algorithm}"));
        }
        if let (Some(qop), Some(nc), Some(cnonce)) = (&self.qop, &self.nc, &self.cnonce) {
            text.push_str(&format!(", qop={qop}, nc={nc}, cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = &self.opaque {
            text.push_str(&format!(", opaque=\"{opaque}\""));
        }
        text
    }

    /// `None` where it claims a protection that we don't know, or leaves out what it needs.
    fn expected(&self, method: &str, ha1: &str) -> Option<String> {
        let algorithm = Algorithm::named(self.algorithm.as_deref())?;
        if Algorithm::of_ha1(ha1) != Some(algorithm) {
            return None;
        }
        let ha2 = algorithm.hex(&format!("{method}:{}", self.uri));
        match (&self.qop, &self.nc, &self.cnonce) {
            (Some(qop), Some(nc), Some(cnonce)) if qop.eq_ignore_ascii_case("auth") => {
                Some(algorithm.hex(&format!("{ha1}:{}:{nc}:{cnonce}:{qop}:{ha2}", self.nonce)))
            }
            (Some(_), _, _) => None,
            // A phone of RFC 2069.
            (None, _, _) => Some(algorithm.hex(&format!("{ha1}:{}:{ha2}", self.nonce))),
        }
    }
}

/// Whether the response proves the password behind `ha1`. Compares in constant time.
pub fn verify(method: &str, ha1: &str, authorization: &Authorization) -> bool {
    let Some(expected) = authorization.expected(method, ha1) else { return false };
    let given = authorization.response.to_ascii_lowercase();
    let same_length = expected.len() == given.len();
    let differ = expected.bytes().zip(given.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    same_length && differ == 0
}

/// The `Authorization` with which a phone answers a challenge.
///
/// # Errors
/// Where the challenge can't be answered.
pub fn answer(
    challenge: &str,
    user: &str,
    password: &str,
    method: &str,
    uri: &str,
    cnonce: &str,
) -> Result<String, Error> {
    answer_again(challenge, (user, password), method, uri, cnonce, 1)
}

/// The same for the `count`-th request with the nonce of one challenge (RFC 7616 §3.4, `nc`).
///
/// # Errors
/// Where the challenge can't be answered.
pub fn answer_again(
    challenge: &str,
    (user, password): (&str, &str),
    method: &str,
    uri: &str,
    cnonce: &str,
    count: u32,
) -> Result<String, Error> {
    let ha1 = |algorithm, realm: &str| Some(ha1_with(algorithm, user, realm, password));
    answer_by(challenge, user, ha1, method, uri, cnonce, count)
}

/// The same for who keeps no password, but what is made of it for a realm.
///
/// # Errors
/// Where the challenge can't be answered, or `ha1` has nothing for it.
pub fn answer_by(
    challenge: &str,
    user: &str,
    ha1: impl FnOnce(Algorithm, &str) -> Option<String>,
    method: &str,
    uri: &str,
    cnonce: &str,
    count: u32,
) -> Result<String, Error> {
    let fields = fields(challenge)?;
    let realm = get(&fields, "realm").ok_or(Error::Missing("realm"))?;
    let nonce = get(&fields, "nonce").ok_or(Error::Missing("nonce"))?;
    let name = get(&fields, "algorithm");
    let Some(algorithm) = Algorithm::named(name.as_deref()) else {
        return Err(Error::Algorithm(name.unwrap_or_default()));
    };
    let offers_auth = get(&fields, "qop")
        .is_some_and(|qop| qop.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth")));
    let mut authorization = Authorization {
        username: user.to_owned(),
        realm,
        nonce,
        uri: uri.to_owned(),
        algorithm: Some(algorithm.name().to_owned()),
        opaque: get(&fields, "opaque"),
        ..Authorization::default()
    };
    if offers_auth {
        authorization.qop = Some("auth".into());
        authorization.nc = Some(format!("{count:08x}"));
        authorization.cnonce = Some(cnonce.to_owned());
    }
    let ha1 = ha1(algorithm, &authorization.realm).ok_or(Error::Realm)?;
    authorization.response = authorization.expected(method, &ha1).unwrap_or_default();
    Ok(authorization.to_value())
}
