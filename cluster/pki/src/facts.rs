//! What a certificate says (RFC 5280 §4.1): whose it is, who vouches, from when till when.

use std::fmt;
use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};
use x509_parser::time::ASN1Time;

const SECONDS_PER_DAY: i64 = 24 * 3_600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its common name.
    pub subject: String,
    /// The common name of who has signed it.
    pub issuer: String,
    /// DNS names and addresses that it answers to.
    pub names: Vec<String>,
    pub from: Moment,
    pub until: Moment,
    pub is_authority: bool,
    /// SHA-256 of all of it, as other tools show it.
    pub fingerprint: String,
    /// Its public key as it stands in the certificate (SubjectPublicKeyInfo, DER).
    pub public_key: Vec<u8>,
}

/// A second of UTC, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// By the wall clock.
    pub fn now() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
    }

    /// Whole days from here until then; negative when that is over.
    pub fn days_until(self, then: Self) -> i64 {
        (then.0 - self.0).div_euclid(SECONDS_PER_DAY)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(time) = ASN1Time::from_timestamp(self.0) else { return write!(f, "{} s", self.0) };
        let at = time.to_datetime();
        let (hour, minute, second) = at.to_hms();
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        write!(f, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

impl Facts {
    /// None where it is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let alternative = parsed.subject_alternative_name().ok().flatten();
        let names = alternative.iter().flat_map(|it| &it.value.general_names).filter_map(name);
        let names = names.collect();
        let constraints = parsed.basic_constraints().ok().flatten();
        let digest = Sha256::digest(certificate.as_ref());
        Some(Self {
            subject: common_name(parsed.subject()),
            issuer: common_name(parsed.issuer()),
            names,
            from: Moment(parsed.validity().not_before.timestamp()),
            until: Moment(parsed.validity().not_after.timestamp()),
            is_authority: constraints.is_some_and(|it| it.value.ca),
            fingerprint: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            public_key: parsed.public_key().raw.to_vec(),
        })
    }

    pub fn answers_to(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Enough of its fingerprint to tell it from others in a metric or a sentence.
    pub fn short(&self) -> &str {
        self.fingerprint.get(..16).unwrap_or(&self.fingerprint)
    }
}

/// Those without a common name are named as a whole.
fn common_name(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|it| it.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            ref bytes => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        },
        _ => None,
    }
}
