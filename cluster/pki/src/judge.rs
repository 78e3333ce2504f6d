//! What a certificate is worth at a moment. Pure: the moment is an input.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;

use crate::facts::{Facts, Moment};
use crate::files::Material;
use crate::{Error, limits};

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Far,
    /// Within [`limits::WARN_DAYS`].
    Near,
    /// Within [`limits::URGENT_DAYS`].
    Urgent,
    Over,
}

pub fn end(until: Moment, now: Moment) -> End {
    // Through the last second that it names (RFC 5280 §4.1.2.5).
    if now > until {
        return End::Over;
    }
    match now.days_until(until) {
        days if days < limits::URGENT_DAYS => End::Urgent,
        days if days < limits::WARN_DAYS => End::Near,
        _ => End::Far,
    }
}

/// What the others would find, before they do.
///
/// # Errors
/// The first thing that is wrong, in one sentence.
pub fn judge(material: &Material, name: &str, now: Moment) -> Result<Facts, Error> {
    let path = material.files.certificate.clone();
    let facts = material.facts()?;
    fits(material)?;
    let boxed = || Box::new(facts.clone());
    if !facts.answers_to(name) {
        return Err(Error::NotOurs { path, facts: boxed(), name: name.to_owned() });
    }
    if now > facts.until {
        return Err(Error::Over { path, facts: boxed() });
    }
    if now < facts.from {
        return Err(Error::NotYet { path, facts: boxed(), now });
    }
    let roots = roots(material)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    let unusable = |why: String| Error::Unusable { path: material.files.ca.clone(), why };
    let verifier = verifier.map_err(|error| unusable(error.to_string()))?;
    let seconds = u64::try_from(now.0).unwrap_or(0);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let Some((own, rest)) = material.chain.split_first() else {
        return Err(Error::NoCertificate { path });
    };
    let trusted = material.authorities()?;
    if verifier.verify_client_cert(own, rest, at).is_err() {
        let of_issuer = trusted.iter().find(|it| it.subject == facts.issuer && now > it.until);
        let roots = material.files.ca.clone();
        if let Some(authority) = of_issuer {
            return Err(Error::Over { path: roots, facts: Box::new(authority.clone()) });
        }
        let trusted: Vec<_> = trusted.iter().map(|it| it.subject.as_str()).collect();
        return Err(Error::Foreign { path, facts: boxed(), roots, trusted: trusted.join(", ") });
    }
    Ok(facts)
}

/// The key is the certificate's.
fn fits(material: &Material) -> Result<(), Error> {
    let path = material.files.certificate.clone();
    let key = material.key.clone_key();
    match CertifiedKey::from_der(material.chain.clone(), key, &ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Error::OtherKey { path, key: material.files.key.clone() })
        }
        Err(error) => Err(Error::Unusable { path, why: error.to_string() }),
    }
}

/// # Errors
/// Where one of them is none.
pub fn roots(material: &Material) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in &material.authorities {
        let unusable = |why: rustls::Error| Error::Unusable {
            path: material.files.ca.clone(),
            why: why.to_string(),
        };
        roots.add(certificate.clone()).map_err(unusable)?;
    }
    Ok(Arc::new(roots))
}
