//! The certificates of a cluster on one machine: an authority of its own, and one certificate for
//! each process, made on the first start and kept.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::folder::{self, Folder};
use crate::config::{Cluster, Tls};

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
        let key = KeyPair::generate().context("a key can't be made")?;
        let mut params = CertificateParams::new(names)
            .with_context(|| format!("{name} can't have a certificate"))?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&key, &authority)
            .with_context(|| format!("the certificate of {name} can't be signed"))?;
        folder::write_private(&files.key, key.serialize_pem().as_bytes())?;
        folder::write_private(&files.certificate, certificate.pem().as_bytes())?;
    }
    Ok(())
}

/// The cluster's own authority. Its parameters follow from the cluster's id, so that the key is
/// all that has to be kept.
fn authority(folder: &Folder, id: &str) -> Result<Issuer<'static, KeyPair>> {
    let key_file = folder.pki().join("ca.key");
    let (key, fresh) = match read(&key_file)? {
        Some(pem) => (
            KeyPair::from_pem(&pem)
                .map_err(|_| anyhow::anyhow!("{} holds no key", key_file.display()))?,
            false,
        ),
        None => (KeyPair::generate().context("a key can't be made")?, true),
    };
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("tandem {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let file = folder.pki().join("ca.pem");
    if fresh || !file.exists() {
        let certificate = params.self_signed(&key).context("the authority can't sign itself")?;
        folder::write_private(&key_file, key.serialize_pem().as_bytes())?;
        folder::write_private(&file, certificate.pem().as_bytes())?;
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
