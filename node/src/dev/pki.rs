//! The certificates of a cluster on one machine: an authority of its own, and one certificate for
//! each process, made on the first start and kept. They are made as `tandem ca` makes them, in a
//! folder that it understands.

use std::collections::BTreeSet;

use anyhow::Result;
pub use tandem_pki::CLUSTER_NAME;
pub use tandem_pki::identity::SUPERVISOR;

use super::folder::{self, Folder};
use crate::ca::authority::read;
use crate::ca::{Authority, Validity};
use crate::config::{Cluster, SipTls, Tls};

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
    let (certificate, key) = (folder.pki().join("ca.pem"), folder.pki().join("ca.key"));
    let authority_name = format!("tandem {}", cluster.id);
    let authority = Authority::ensure(&certificate, &key, &authority_name, 0o600)?;
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
        let issued = authority.issue(name, names, Validity::Always)?;
        issued.write(&files.certificate, &files.key)?;
    }
    Ok(())
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
    let authority = Authority::ensure(&certificate, &key, &name, 0o644)?;
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
        let issued = authority.issue(&gateway.name, names, Validity::Always)?;
        issued.write(&files.certificate, &files.key)?;
        folder::write_private(&named, as_text.as_bytes())?;
    }
    Ok(())
}
