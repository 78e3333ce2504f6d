//! `[sip.tls]`: what a gateway proves itself with to phones and trunks, and whom it believes.

use std::path::PathBuf;

use serde::Serialize;

use super::reader::Reader;

const A_PATH: &str = "the path of a PEM file";

/// `[sip]`: how a gateway serves SIP, besides UDP and TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sip {
    /// Without it no TLS is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<SipTls>,
}

/// Read anew when a file changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SipTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Certificates of servers and clients are verified by these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots: Option<PathBuf>,
}

pub fn read(root: &Reader<'_, '_>) -> Option<Sip> {
    let reader = root.table("sip")?;
    let tls = reader.table("tls").map(read_tls);
    reader.finish();
    Some(Sip { tls: tls.flatten() })
}

fn read_tls(reader: Reader<'_, '_>) -> Option<SipTls> {
    let path = |key| reader.required(key, reader.string(key, A_PATH), A_PATH);
    let (certificate, key) = (path("certificate"), path("key"));
    let roots = reader.string("roots", A_PATH);
    reader.finish();
    Some(SipTls {
        certificate: certificate?.value.into(),
        key: key?.value.into(),
        roots: roots.map(|roots| roots.value.into()),
    })
}
