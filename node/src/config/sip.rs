//! `[sip.tls]`: what a gateway proves itself with to phones and trunks, and whom it believes.
//! `[sip.websocket]`: whether browsers and the like may speak SIP.

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
    /// Without it no WebSocket is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocket>,
}

/// On the two ports behind that of TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebSocket {
    pub ws: bool,
    /// With the certificate of `[sip.tls]`.
    pub wss: bool,
    /// Pages whose scripts may connect; any, where none is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
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
    let websocket = reader.table("websocket").map(|websocket| read_websocket(websocket, &reader));
    reader.finish();
    Some(Sip { tls: tls.flatten(), websocket })
}

fn read_websocket(reader: Reader<'_, '_>, sip: &Reader<'_, '_>) -> WebSocket {
    let ws = reader.bool("ws", "true or false").unwrap_or(false);
    let said = reader.bool("wss", "true or false");
    if said == Some(true) && !sip.has("tls") {
        reader.mistake("wss", reader.at(), "has no certificate", "a table [sip.tls]");
    }
    let expected = "origins, for instance [\"https://desk.example.net\"]";
    let origins = reader.strings("origins", expected).unwrap_or_default();
    for origin in &origins {
        // As a browser writes it (RFC 6454 §6.2): a path, or a slash at its end, would fit none.
        let host = origin.value.split_once("://").map(|(_, host)| host);
        if host.is_none_or(|host| host.is_empty() || host.contains('/')) {
            let is = format!("has {:?}", origin.value);
            reader.mistake("origins", origin.at.clone(), is, expected);
        }
    }
    let origins = origins.into_iter().map(|origin| origin.value).collect();
    reader.finish();
    WebSocket { ws, wss: said.unwrap_or_else(|| sip.has("tls")), origins }
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
