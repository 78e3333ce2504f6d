//! `processes.json`: where everything of a running cluster is.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::folder::{self, Folder};
use super::serving::Serving;
use super::supervisor::States;
use crate::config::{Cluster, Role};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Processes {
    pub sip: Vec<Vip>,
    /// Who vouches for the gateways' SIP certificates: for a phone to trust.
    #[serde(default)]
    pub sip_ca_file: PathBuf,
    pub api: Vec<String>,
    pub token_file: PathBuf,
    pub processes: Vec<Process>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vip {
    pub vip: String,
    /// The process that serves it; empty while none does.
    pub serving: String,
    /// Where the same gateway serves TLS.
    #[serde(default)]
    pub tls: String,
    /// Where it serves WebSockets, without and with TLS.
    #[serde(default)]
    pub ws: String,
    #[serde(default)]
    pub wss: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    pub name: String,
    #[serde(rename = "box")]
    pub box_name: String,
    pub role: String,
    pub pid: u32,
    pub alive: bool,
    pub http: String,
    pub version: String,
}

impl Processes {
    pub fn of(cluster: &Cluster, folder: &Folder, states: &States, serving: &Serving) -> Self {
        let row = |name: &str, box_name: &str, role: &str, http: SocketAddr| {
            let state = states.get(name).cloned().unwrap_or_default();
            Process {
                name: name.to_owned(),
                box_name: box_name.to_owned(),
                role: role.to_owned(),
                pid: state.pid,
                alive: state.alive,
                http: http.to_string(),
                version: crate::VERSION.to_owned(),
            }
        };
        let mut processes = Vec::new();
        for role in [Role::Node, Role::Witness] {
            for member in cluster.members.iter().filter(|member| member.role == role) {
                processes.push(row(&member.name, &member.box_name, role_name(role), member.http));
            }
            if role == Role::Node {
                for gateway in &cluster.gateways {
                    processes.push(row(&gateway.name, &gateway.box_name, "gateway", gateway.api));
                }
            }
        }
        let sip = cluster.gateways.iter().map(|gateway| Vip {
            vip: gateway.vip.to_string(),
            serving: serving.get(&gateway.name).cloned().unwrap_or_default(),
            tls: gateway.vip_tls().to_string(),
            ws: gateway.vip_ws().to_string(),
            wss: gateway.vip_wss().to_string(),
        });
        Self {
            sip: sip.collect(),
            sip_ca_file: folder.sip_ca(),
            api: cluster.gateways.iter().map(|gateway| format!("http://{}", gateway.api)).collect(),
            token_file: folder.token(),
            processes,
        }
    }

    pub fn write(&self, folder: &Folder) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        folder::replace(&folder.processes(), &text, 0o644)
    }

    pub fn read(folder: &Folder) -> Result<Self> {
        let path = folder.processes();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| anyhow::anyhow!("{} can't be read: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| {
            anyhow::anyhow!("{} is not what it should be: {error}", path.display())
        })
    }
}

pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Node => "node",
        Role::Witness => "witness",
    }
}
