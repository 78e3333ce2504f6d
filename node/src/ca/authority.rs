//! An authority's key, and what it signs.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use tandem_pki::facts::Moment;
use tandem_pki::{Facts, files};

use crate::dev::folder::{replace, write_private};

/// Clocks of the processes may be behind the one of who signs.
const EARLIER_S: u64 = 3_600;
const DAY_S: u64 = 24 * 3_600;

/// From when till when.
#[derive(Clone, Copy, Debug)]
pub enum Validity {
    /// As long as dates go: for a cluster on one machine, which tests run under any clock.
    Always,
    /// From now on.
    Days(u32),
}

impl Validity {
    fn apply(self, params: &mut CertificateParams) {
        let Self::Days(days) = self else { return };
        let now = Duration::from_secs(u64::try_from(Moment::now().0).unwrap_or(0));
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + now.saturating_sub(Duration::from_secs(EARLIER_S));
        params.not_after = epoch + now + Duration::from_secs(u64::from(days) * DAY_S);
    }
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

/// PEM texts.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn make(name: &str, validity: Validity) -> Result<Self> {
        let key = KeyPair::generate().context("a key can't be made")?;
        let mut params = params(name);
        validity.apply(&mut params);
        let certificate = params.self_signed(&key).context("the authority can't sign itself")?;
        Ok(Self { pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// The one whose key this is, among those that are trusted: all but the key follows from its
    /// name.
    pub fn open(key_file: &Path, trusted: &[(Facts, String)]) -> Result<Self> {
        let text = files::read(key_file)?;
        let no_key = || anyhow::anyhow!("{} holds no key", key_file.display());
        let key = KeyPair::from_pem(&text).map_err(|_| no_key())?;
        let public = key.subject_public_key_info();
        let own = trusted.iter().find(|(facts, _)| facts.public_key == public);
        let (facts, pem) = own.with_context(|| {
            format!("{} is the key of no authority that is trusted", key_file.display())
        })?;
        Ok(Self { issuer: Issuer::new(params(&facts.subject), key), pem: pem.clone() })
    }

    /// The one of these files, made where it is missing.
    pub fn ensure(certificate: &Path, key: &Path, name: &str, mode: u32) -> Result<Self> {
        if let (Some(text), true) = (read(certificate)?, key.exists()) {
            return Self::open(key, &parse(certificate, &text)?);
        }
        let made = Self::make(name, Validity::Always)?;
        write_private(key, made.key_pem().as_bytes())?;
        replace(certificate, made.pem.as_bytes(), mode)?;
        Ok(made)
    }

    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub fn facts(&self) -> Result<Facts> {
        let parsed = parse(Path::new("the authority"), &self.pem)?;
        Ok(parsed.into_iter().next().context("the authority has no certificate")?.0)
    }

    /// For a server that is a client, too.
    pub fn issue(&self, name: &str, mut names: Vec<String>, validity: Validity) -> Result<Issued> {
        // A process may serve several things at one address.
        let mut known = BTreeSet::new();
        names.retain(|name| known.insert(name.clone()));
        let key = KeyPair::generate().context("a key can't be made")?;
        let mut params = CertificateParams::new(names)
            .with_context(|| format!("{name} can't have a certificate"))?;
        validity.apply(&mut params);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("the certificate of {name} can't be signed"))?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Issued {
    /// The key before the certificate, so that a certificate always has a key.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<()> {
        write_private(key, self.key.as_bytes())?;
        write_private(certificate, self.certificate.as_bytes())
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Nothing where there is no such file.
pub fn read(path: &Path) -> Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => Ok(Some(files::read(path)?)),
    }
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// Each certificate of a PEM text, with its own part of it.
pub fn parse(path: &Path, text: &str) -> Result<Vec<(Facts, String)>> {
    let blocks = text.match_indices(BEGIN).map(|(at, _)| {
        let rest = &text[at..];
        let end = rest[BEGIN.len()..].find(BEGIN).map_or(rest.len(), |end| BEGIN.len() + end);
        format!("{}\n", rest[..end].trim_end())
    });
    let facts = |block: String| {
        let certificates = files::certificates(path, &block)?;
        let facts = certificates.first().and_then(Facts::of);
        let no_facts = || format!("{} holds no certificate in PEM", path.display());
        Ok((facts.with_context(no_facts)?, block))
    };
    let all = blocks.map(facts).collect::<Result<Vec<_>>>()?;
    anyhow::ensure!(!all.is_empty(), "{} holds no certificate in PEM", path.display());
    Ok(all)
}
