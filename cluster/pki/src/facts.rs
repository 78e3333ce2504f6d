//! What a certificate says (RFC 5280 §4.1): whose it is, who vouches, from when till when.

use std::fmt;
use std::net::IpAddr;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::nid::Nid;
use openssl::x509::{GeneralNameRef, X509, X509KeyUsage, X509NameRef};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

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

    /// As the API shows times.
    pub fn rfc3339(self) -> String {
        let (date, time) = self.parts();
        format!("{date}T{time}.000Z")
    }

    /// Date and time of day.
    fn parts(self) -> (String, String) {
        let (days, second) =
            (self.0.div_euclid(SECONDS_PER_DAY), self.0.rem_euclid(SECONDS_PER_DAY));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        (format!("{year:04}-{month:02}-{day:02}"), format!("{hour:02}:{minute:02}:{second:02}"))
    }

    /// Whole days from here until then; negative when that is over.
    pub fn days_until(self, then: Self) -> i64 {
        (then.0 - self.0).div_euclid(SECONDS_PER_DAY)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, time) = self.parts();
        write!(f, "{date} {time} UTC")
    }
}

/// Days since 1970-01-01 to a date of the Gregorian calendar (Hinnant, `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let since_march_of_0000 = days.saturating_add(719_468);
    let era = since_march_of_0000.div_euclid(146_097);
    let day_of_era = since_march_of_0000.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl Facts {
    /// None where it is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = X509::from_der(certificate).ok()?;
        let alternative = parsed.subject_alt_names();
        let signs = |usage: X509KeyUsage| usage.contains(X509KeyUsage::KEY_CERT_SIGN);
        let digest = Sha256::digest(certificate.as_ref());
        Some(Self {
            subject: common_name(parsed.subject_name()),
            issuer: common_name(parsed.issuer_name()),
            names: alternative.iter().flatten().filter_map(name).collect(),
            from: moment(parsed.not_before())?,
            until: moment(parsed.not_after())?,
            // Who signs certificates has one of both (RFC 5280 §4.2.1.3, §4.2.1.9).
            is_authority: parsed.key_usage().is_some_and(signs) || parsed.pathlen().is_some(),
            fingerprint: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            public_key: parsed.public_key().ok()?.public_key_to_der().ok()?,
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

fn moment(time: &Asn1TimeRef) -> Option<Moment> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(Moment(i64::from(since.days) * SECONDS_PER_DAY + i64::from(since.secs)))
}

/// Those without a common name are named as a whole.
fn common_name(name: &X509NameRef) -> String {
    let common = name.entries_by_nid(Nid::COMMONNAME).next();
    let common = common.and_then(|it| it.data().to_string().ok());
    common.unwrap_or_else(|| format!("{name:?}"))
}

fn name(name: &GeneralNameRef) -> Option<String> {
    if let Some(name) = name.dnsname() {
        return Some(name.to_owned());
    }
    match name.ipaddress()? {
        &[a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
        bytes => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
    }
}
