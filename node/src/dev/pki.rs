//! The certificates of a cluster on one machine: an authority of its own, and one certificate for
//! each process, made on the first start and kept.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::folder::{self, Folder};
use crate::config::{Cluster, SipTls, Tls};

pub use tandem_cluster::identity::SUPERVISOR;

/// The name that every process of the cluster answers to, besides its own.
pub const CLUSTER_NAME: &str = "tandem";

pub fn files_of(folder: &Folder, name: &str) -> Tls {
    let pki = folder.pki();
    Tls {
        ca: pki.join("ca.pem"),
        certificate: pki.join(format!("{name}.pem")),
        key: pki.join(format!("{name}.key")),
    }
}

/// Makes what is missing. The key of a certificate is written before the certificate, so that a
/// certificate always has its key.
pub fn ensure(folder: &Folder, cluster: &Cluster) -> Result<()> {
    let authority = authority(folder, &cluster.id)?;
    let members = cluster.members.iter().map(|member| {
        let link = member.link.map(|link| link.ip());
        (member.name.as_str(), [Some(member.raft.ip()), link])
    });
    let gateways = cluster
        .gateways
        .iter()
        .map(|gateway| (gateway.name.as_str(), [Some(gateway.vip.ip()), Some(gateway.api.ip())]));
    let supervisor = std::iter::once((SUPERVISOR, [None, None]));
    for (name, addresses) in members.chain(gateways).chain(supervisor) {
        let files = files_of(folder, name);
        if files.certificate.exists() && files.key.exists() {
            continue;
        }
        let mut names = vec![name.to_owned(), CLUSTER_NAME.to_owned()];
        names.extend(addresses.into_iter().flatten().map(|address| address.to_string()));
        certify(&authority, name, names, &files.certificate, &files.key)?;
    }
    Ok(())
}

/// A certificate for a server that is a client, too.
fn certify(
    authority: &Issuer<'_, KeyPair>,
    name: &str,
    names: Vec<String>,
    certificate_file: &Path,
    key_file: &Path,
) -> Result<()> {
    let key = KeyPair::generate().context("a key can't be made")?;
    let mut params = CertificateParams::new(names)
        .with_context(|| format!("{name} can't have a certificate"))?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params
        .signed_by(&key, authority)
        .with_context(|| format!("the certificate of {name} can't be signed"))?;
    folder::write_private(key_file, key.serialize_pem().as_bytes())?;
    folder::write_private(certificate_file, certificate.pem().as_bytes())
}

pub fn sip_files_of(folder: &Folder, gateway: &str) -> SipTls {
    let pki = folder.pki();
    SipTls {
        certificate: pki.join(format!("{gateway}.sip.pem")),
        key: pki.join(format!("{gateway}.sip.key")),
        roots: Some(folder.sip_ca()),
    }
}

/// The certificates that gateways show to phones and trunks. Their authority is another than the
/// cluster's: whoever has a certificate of that one is believed to be part of the cluster.
///
/// Each names every service address, for any gateway may come to serve any of them.
pub fn ensure_sip(folder: &Folder, cluster: &Cluster) -> Result<()> {
    let (certificate, key) = (folder.sip_ca(), folder.pki().join("sip-ca.key"));
    let name = format!("tandem SIP {}", cluster.id);
    let authority = issuer(&Authority { certificate, key, name, mode: 0o644 })?;
    let vips: BTreeSet<String> =
        cluster.gateways.iter().map(|gateway| gateway.vip.ip().to_string()).collect();
    for gateway in &cluster.gateways {
        let files = sip_files_of(folder, &gateway.name);
        let mut names = vec![gateway.name.clone(), CLUSTER_NAME.to_owned(), "localhost".to_owned()];
        names.extend(vips.iter().cloned());
        // Another start may have given other addresses.
        let named = folder.pki().join(format!("{}.sip.names", gateway.name));
        let as_text = names.join("\n");
        let right = read(&named)?.is_some_and(|known| known == as_text);
        if right && files.certificate.exists() && files.key.exists() {
            continue;
        }
        certify(&authority, &gateway.name, names, &files.certificate, &files.key)?;
        folder::write_private(&named, as_text.as_bytes())?;
    }
    Ok(())
}

/// Where an authority's certificate and key are, and what it is called.
struct Authority {
    certificate: PathBuf,
    key: PathBuf,
    name: String,
    mode: u32,
}

/// The cluster's own authority.
fn authority(folder: &Folder, id: &str) -> Result<Issuer<'static, KeyPair>> {
    let (certificate, key) = (folder.pki().join("ca.pem"), folder.pki().join("ca.key"));
    issuer(&Authority { certificate, key, name: format!("tandem {id}"), mode: 0o600 })
}

/// Its parameters follow from its name, so that the key is all that has to be kept.
fn issuer(of: &Authority) -> Result<Issuer<'static, KeyPair>> {
    let key_file = &of.key;
    let (key, fresh) = match read(key_file)? {
        Some(pem) => (
            KeyPair::from_pem(&pem)
                .map_err(|_| anyhow::anyhow!("{} holds no key", key_file.display()))?,
            false,
        ),
        None => (KeyPair::generate().context("a key can't be made")?, true),
    };
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, of.name.clone());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if fresh || !of.certificate.exists() {
        let certificate = params.self_signed(&key).context("the authority can't sign itself")?;
        folder::write_private(key_file, key.serialize_pem().as_bytes())?;
        folder::replace(&of.certificate, certificate.pem().as_bytes(), of.mode)?;
    }
    Ok(Issuer::new(params, key))
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => anyhow::bail!("{} can't be read: {error}", path.display()),
    }
}

/// The PEM texts of a process's files.
pub struct Identity {
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl Identity {
    pub fn load(tls: &Tls) -> Result<Self> {
        let text = |path: &PathBuf| {
            fs::read_to_string(path)
                .map_err(|error| anyhow::anyhow!("{} can't be read: {error}", path.display()))
        };
        Ok(Self { ca: text(&tls.ca)?, certificate: text(&tls.certificate)?, key: text(&tls.key)? })
    }
}
