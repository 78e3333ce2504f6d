//! Who belongs to the cluster, and which of its processes a file is for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;
use tandem_cluster::LOG_MIB_MAX_LEAST;

use super::reader::Reader;

const AN_ADDRESS: &str = "an address with a port, for instance \"127.0.0.1:7101\"";
const A_NAME: &str = "a name, for instance \"node-a\"";
const A_PATH: &str = "a path";
pub const ID_HEX_DIGITS: usize = 32;
/// Voters of one cluster.
const MEMBERS_MAX: usize = 9;
const GATEWAYS_MAX: usize = 64;
pub const SHARDS_MAX: u16 = 256;
/// Of a file that does not say: those of earlier versions had one.
const SHARDS_UNSAID: u16 = 1;

/// `[cluster]`: the same text for every process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Drawn when the cluster is made; a data folder carries it, too.
    pub id: String,
    /// Tenant shards, beside the meta shard; set when the cluster is made.
    pub shards: u16,
    #[serde(rename = "member")]
    pub members: Vec<Member>,
    #[serde(rename = "gateway")]
    pub gateways: Vec<Gateway>,
}

/// A voter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    pub name: String,
    #[serde(rename = "box")]
    pub box_name: String,
    pub role: Role,
    pub raft: SocketAddr,
    /// Where gateways log in; a witness has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<SocketAddr>,
    pub http: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Node,
    Witness,
}

/// A gateway, as the others must know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gateway {
    pub name: String,
    #[serde(rename = "box")]
    pub box_name: String,
    pub vip: SocketAddr,
    pub api: SocketAddr,
    /// Where it takes copies of other gateways' recordings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<SocketAddr>,
}

impl Gateway {
    /// Where TLS is served.
    pub fn vip_tls(&self) -> SocketAddr {
        SocketAddr::new(self.vip.ip(), tandem_sip::tls_port(self.vip.port()))
    }

    /// Where WebSockets are, without and with TLS.
    pub fn vip_ws(&self) -> SocketAddr {
        SocketAddr::new(self.vip.ip(), tandem_sip::ws_port(self.vip.port()))
    }

    pub fn vip_wss(&self) -> SocketAddr {
        SocketAddr::new(self.vip.ip(), tandem_sip::wss_port(self.vip.port()))
    }
}

/// `[tls]`: what proves to the others that a process belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tls {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl From<Tls> for tandem_pki::Files {
    fn from(tls: Tls) -> Self {
        Self { ca: tls.ca, certificate: tls.certificate, key: tls.key }
    }
}

/// `[process]`: which process of the cluster this file is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    pub name: String,
    /// State and log of a node or witness, recordings of a gateway.
    pub data: PathBuf,
    pub logs: PathBuf,
    /// BLAKE3 of the admin token, hex; gateways only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_hash: Option<String>,
    /// The first RTP port and how many follow; gateways only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp_port_first: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp_ports: Option<u16>,
    /// Disk for what calls said, MiB; gateways only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_mib: Option<u64>,
    /// The most that the log may take on the disk, MiB; nodes and witnesses only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_mib_max: Option<u64>,
    /// The same of the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_mib_max: Option<u64>,
    /// Lets a test make actors panic through the process's own HTTP. Never in production.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fault_injection: bool,
}

pub fn read_cluster(root: &Reader<'_, '_>) -> Option<Cluster> {
    let reader = root.table("cluster")?;
    let id_expected = "32 hex digits";
    let id = reader.required("id", reader.string("id", id_expected), id_expected);
    if let Some(id) = &id
        && !(id.value.len() == ID_HEX_DIGITS
            && id.value.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        reader.mistake("id", id.at.clone(), format!("is {:?}", id.value), id_expected);
    }
    let expected = "tenant shards, 1 to 256; they can't be changed later";
    let shards = reader.integer("shards", 1..=u64::from(SHARDS_MAX), expected);
    let shards = shards.and_then(|it| u16::try_from(it).ok()).unwrap_or(SHARDS_UNSAID);
    let mut members = Vec::new();
    for (at, row) in reader.tables("member").into_iter().enumerate() {
        if at == MEMBERS_MAX {
            row.mistake("name", row.at(), "is one member too many", "at most 9 members");
            break;
        }
        members.extend(member(row));
    }
    if !reader.has("member") {
        reader.mistake("member", reader.at(), "is missing", "tables: [[cluster.member]]");
    }
    let gateways: Vec<_> =
        reader.tables("gateway").into_iter().take(GATEWAYS_MAX).filter_map(gateway).collect();
    unique(&reader, &members, &gateways);
    reader.finish();
    Some(Cluster { id: id?.value, shards, members, gateways })
}

/// Each process has a name and addresses of its own.
fn unique(reader: &Reader<'_, '_>, members: &[Member], gateways: &[Gateway]) {
    let names = members.iter().map(|it| &it.name).chain(gateways.iter().map(|it| &it.name));
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let problem = format!("{name:?} names two processes");
            reader.mistake("name", reader.at(), problem, "a name of its own for each process");
        }
    }
    let of_members = members.iter().flat_map(|it| [Some(it.raft), it.link, Some(it.http)]);
    let of_gateways = gateways.iter().flat_map(|it| [Some(it.api), it.copies]);
    let mut seen = BTreeSet::new();
    for address in of_members.chain(of_gateways).flatten() {
        if !seen.insert(address) {
            let problem = format!("{address} is given twice");
            reader.mistake(
                "address",
                reader.at(),
                problem,
                "an address of its own for each listener",
            );
        }
    }
}

fn member(reader: Reader<'_, '_>) -> Option<Member> {
    let name = reader.required("name", reader.string("name", A_NAME), A_NAME);
    let box_name = reader.required("box", reader.string("box", A_NAME), A_NAME);
    let roles = "\"node\" or \"witness\"";
    let role = reader.required("role", reader.string("role", roles), roles);
    let role = role.and_then(|role| match role.value.as_str() {
        "node" => Some(Role::Node),
        "witness" => Some(Role::Witness),
        other => {
            reader.mistake("role", role.at, format!("is {other:?}"), roles);
            None
        }
    });
    let raft = reader.required("raft", reader.parsed("raft", AN_ADDRESS), AN_ADDRESS);
    let link = reader.parsed::<SocketAddr>("link", AN_ADDRESS);
    if role == Some(Role::Node) && !reader.has("link") {
        reader.mistake("link", reader.at(), "is missing", AN_ADDRESS);
    }
    let http = reader.required("http", reader.parsed("http", AN_ADDRESS), AN_ADDRESS);
    reader.finish();
    Some(Member {
        name: name?.value,
        box_name: box_name?.value,
        role: role?,
        raft: raft?.value,
        link: link.map(|link| link.value),
        http: http?.value,
    })
}

fn gateway(reader: Reader<'_, '_>) -> Option<Gateway> {
    let name = reader.required("name", reader.string("name", A_NAME), A_NAME);
    let box_name = reader.required("box", reader.string("box", A_NAME), A_NAME);
    let vip = reader.required("vip", reader.parsed("vip", AN_ADDRESS), AN_ADDRESS);
    let api = reader.required("api", reader.parsed("api", AN_ADDRESS), AN_ADDRESS);
    let copies = reader.parsed::<SocketAddr>("copies", AN_ADDRESS);
    reader.finish();
    Some(Gateway {
        name: name?.value,
        box_name: box_name?.value,
        vip: vip?.value,
        api: api?.value,
        copies: copies.map(|copies| copies.value),
    })
}

pub fn read_tls(root: &Reader<'_, '_>) -> Option<Tls> {
    let reader = root.table("tls")?;
    let path = |key| reader.required(key, reader.string(key, A_PATH), A_PATH);
    let (ca, certificate, key) = (path("ca"), path("certificate"), path("key"));
    reader.finish();
    Some(Tls {
        ca: ca?.value.into(),
        certificate: certificate?.value.into(),
        key: key?.value.into(),
    })
}

pub fn read_process(root: &Reader<'_, '_>) -> Option<Process> {
    let reader = root.table("process")?;
    let name = reader.required("name", reader.string("name", A_NAME), A_NAME);
    let data = reader.required("data", reader.string("data", A_PATH), A_PATH);
    let logs = reader.required("logs", reader.string("logs", A_PATH), A_PATH);
    let token_expected = "64 hex digits: the BLAKE3 hash of the admin token";
    let token_hash = reader.string("token_hash", token_expected);
    if let Some(hash) = &token_hash
        && tandem_http::TokenHash::from_hex(&hash.value).is_none()
    {
        reader.mistake("token_hash", hash.at.clone(), "is not a hash", token_expected);
    }
    let port = |key| {
        let read = reader.integer(key, 2..=65_534, "an even port number from 1024 to 65534");
        read.and_then(|port| u16::try_from(port).ok())
    };
    let (rtp_port_first, rtp_ports) = (port("rtp_port_first"), port("rtp_ports"));
    let mebibytes = "disk for the trace of calls, 4 to 1048576 MiB";
    let trace_mib = reader.integer("trace_mib", 4..=1_048_576, mebibytes);
    let log_mebibytes = "disk for the log, 512 to 1048576 MiB";
    let log_mib_max = reader.integer("log_mib_max", LOG_MIB_MAX_LEAST..=1_048_576, log_mebibytes);
    let state_mebibytes = "disk for the state, 64 to 16777216 MiB";
    let state_mib_max = reader.integer("state_mib_max", 64..=16_777_216, state_mebibytes);
    let fault_injection = reader.bool("fault_injection", "true or false").unwrap_or(false);
    reader.finish();
    Some(Process {
        name: name?.value,
        data: data?.value.into(),
        logs: logs?.value.into(),
        token_hash: token_hash.map(|hash| hash.value),
        rtp_port_first,
        rtp_ports,
        trace_mib,
        log_mib_max,
        state_mib_max,
        fault_injection,
    })
}
