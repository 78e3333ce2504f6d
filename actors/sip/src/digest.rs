//! Digest access authentication (RFC 2617 §3, as RFC 3261 §22 uses it), with MD5 and `qop=auth`.

use md5::{Digest as _, Md5};

use crate::scan;

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
    #[error("algorithm {0:?} is not known; expected MD5")]
    Algorithm(String),
}

fn hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// MD5 of `user:realm:password`, hex: what a registrar keeps instead of the password.
pub fn ha1(user: &str, realm: &str, password: &str) -> String {
    hex(&format!("{user}:{realm}:{password}"))
}

/// The value of `WWW-Authenticate`.
pub fn challenge(realm: &str, nonce: &str, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"{stale}")
}

fn fields(value: &str) -> Result<Vec<(String, String)>, Error> {
    let (scheme, rest) = value.trim().split_once([' ', '\t']).ok_or(Error::Scheme)?;
    if !scheme.eq_ignore_ascii_case("Digest") {
        return Err(Error::Scheme);
    }
    Ok(scan::split(rest, ',')
        .into_iter()
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| {
            (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned())
        })
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

    fn to_value(&self) -> String {
        let mut text = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{}\", \
             algorithm=MD5",
            self.username, self.realm, self.nonce, self.uri, self.response
        );
        if let (Some(qop), Some(nc), Some(cnonce)) = (&self.qop, &self.nc, &self.cnonce) {
            text.push_str(&format!(", qop={qop}, nc={nc}, cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = &self.opaque {
            text.push_str(&format!(", opaque=\"{opaque}\""));
        }
        text
    }

    fn expected(&self, method: &str, ha1: &str) -> String {
        let ha2 = hex(&format!("{method}:{}", self.uri));
        match (&self.qop, &self.nc, &self.cnonce) {
            (Some(qop), Some(nc), Some(cnonce)) => {
                hex(&format!("{ha1}:{}:{nc}:{cnonce}:{qop}:{ha2}", self.nonce))
            }
            _ => hex(&format!("{ha1}:{}:{ha2}", self.nonce)),
        }
    }
}

/// Whether the response proves the password behind `ha1`. Compares in constant time.
pub fn verify(method: &str, ha1: &str, authorization: &Authorization) -> bool {
    let known = authorization.algorithm.as_deref().is_none_or(|name| name.eq_ignore_ascii_case("md5"));
    let expected = authorization.expected(method, ha1);
    let given = authorization.response.to_ascii_lowercase();
    let same_length = expected.len() == given.len();
    let differ = expected.bytes().zip(given.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    known && same_length && differ == 0
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
    let fields = fields(challenge)?;
    let realm = get(&fields, "realm").ok_or(Error::Missing("realm"))?;
    let nonce = get(&fields, "nonce").ok_or(Error::Missing("nonce"))?;
    if let Some(name) = get(&fields, "algorithm").filter(|name| !name.eq_ignore_ascii_case("md5")) {
        return Err(Error::Algorithm(name));
    }
    let offers_auth = get(&fields, "qop")
        .is_some_and(|qop| qop.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth")));
    let mut authorization = Authorization {
        username: user.to_owned(),
        realm,
        nonce,
        uri: uri.to_owned(),
        opaque: get(&fields, "opaque"),
        ..Authorization::default()
    };
    if offers_auth {
        authorization.qop = Some("auth".into());
        authorization.nc = Some("00000001".into());
        authorization.cnonce = Some(cnonce.to_owned());
    }
    let ha1 = ha1(user, &authorization.realm, password);
    authorization.response = authorization.expected(method, &ha1);
    Ok(authorization.to_value())
}
