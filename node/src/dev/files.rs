//! What the processes are given: a configuration file each, certificates, the tenant.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tandem_core::config::Config;

use super::folder::{self, Folder};
use super::pki;
use super::plan::{self, Shape};
use crate::config::{
    self, Address, Cluster, Dev, Member, Process, Role, Sip, Sounds, Tls, WebSocket,
};

const CLUSTER_FILE: &str = "cluster.toml";

/// What was decided on the first start, kept in the folder.
#[derive(Serialize, Deserialize)]
struct Saved {
    id: String,
    boxes: u16,
    witnesses: u16,
    /// Clusters of earlier versions had one.
    #[serde(default = "one")]
    shards: u16,
    bind: Option<IpAddr>,
    address_base: std::net::Ipv4Addr,
    port_offset: u16,
}

fn one() -> u16 {
    1
}

/// The cluster of this folder, made on the first start. A later one keeps its shape; its
/// addresses may be changed by a configuration file.
pub fn cluster(
    folder: &Folder,
    asked: &Shape,
    shards: Option<u16>,
    file_given: bool,
) -> Result<Cluster> {
    let path = folder.root().join(CLUSTER_FILE);
    let saved: Option<Saved> = match fs::read_to_string(&path) {
        Ok(text) => Some(
            toml::from_str(&text)
                .map_err(|_| anyhow::anyhow!("{} is not what it should be", path.display()))?,
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => bail!("{} can't be read: {error}", path.display()),
    };
    let mut shape = asked.clone();
    let id = match saved {
        None => folder::random_hex(16)?,
        Some(saved) => {
            if (saved.boxes, saved.witnesses) != (asked.boxes, asked.witnesses) {
                bail!(
                    "the cluster in {} has --boxes {} --witnesses {}, which can't be changed",
                    folder.root().display(),
                    saved.boxes,
                    saved.witnesses
                );
            }
            if shards.is_some_and(|shards| shards != saved.shards) {
                bail!(
                    "the cluster in {} has --shards {}, which can't be changed",
                    folder.root().display(),
                    saved.shards
                );
            }
            shape.shards = saved.shards;
            shape.bind = asked.bind.or(saved.bind);
            if !file_given {
                shape.dev =
                    Dev { address_base: saved.address_base, port_offset: saved.port_offset };
            }
            saved.id
        }
    };
    let saved = Saved {
        id: id.clone(),
        boxes: shape.boxes,
        witnesses: shape.witnesses,
        shards: shape.shards,
        bind: shape.bind,
        address_base: shape.dev.address_base,
        port_offset: shape.dev.port_offset,
    };
    folder::replace(&path, toml::to_string(&saved)?.as_bytes(), 0o644)?;
    Ok(shape.cluster(&id))
}

impl Saved {
    fn read(folder: &Folder) -> Result<Self> {
        let path = folder.root().join(CLUSTER_FILE);
        let text = fs::read_to_string(&path)
            .map_err(|error| anyhow::anyhow!("{} can't be read: {error}", path.display()))?;
        toml::from_str(&text)
            .map_err(|_| anyhow::anyhow!("{} is not what it should be", path.display()))
    }

    fn cluster(&self) -> Cluster {
        let shape = Shape {
            boxes: self.boxes,
            witnesses: self.witnesses,
            shards: self.shards,
            bind: self.bind,
            dev: Dev { address_base: self.address_base, port_offset: self.port_offset },
        };
        shape.cluster(&self.id)
    }
}

/// The cluster that was made in this folder.
pub fn existing(folder: &Folder) -> Result<Cluster> {
    Ok(Saved::read(folder)?.cluster())
}

/// What a witness more needs: certificates, a configuration file, a place in the plan. The files of
/// the others name it from the next start on; they need not know of it before.
pub fn add_witness(folder: &Folder, fault_injection: bool) -> Result<(Cluster, Member)> {
    let mut saved = Saved::read(folder)?;
    // Asked again it is the same one.
    saved.witnesses = saved.witnesses.max(1);
    let cluster = saved.cluster();
    let witness = cluster.members.iter().find(|member| member.role == Role::Witness);
    let witness = witness.context("the plan has no witness")?.clone();
    pki::ensure(folder, &cluster)?;
    let process = process(folder, &witness.name, fault_injection);
    write(folder, &cluster, (None, None), &process, None, &Sounds::default())?;
    let path = folder.root().join(CLUSTER_FILE);
    folder::replace(&path, toml::to_string(&saved)?.as_bytes(), 0o644)?;
    Ok((cluster, witness))
}

fn process(folder: &Folder, name: &str, fault_injection: bool) -> Process {
    Process {
        name: name.to_owned(),
        data: folder.data(name),
        logs: folder.logs(),
        token_hash: None,
        rtp_port_first: None,
        rtp_ports: None,
        trace_mib: None,
        log_mib_max: None,
        state_mib_max: None,
        fault_injection,
    }
}

/// Writes everything that the processes read.
pub fn prepare(
    folder: &Folder,
    cluster: &Cluster,
    (tenant, sounds): (Option<Config>, Sounds),
    (sip, address): (Option<Sip>, Option<Address>),
    fault_injection: bool,
) -> Result<()> {
    pki::ensure(folder, cluster)?;
    pki::ensure_sip(folder, cluster)?;
    let token_hash = tandem_http::TokenHash::of(&folder.ensure_token()?).to_hex();
    if let Some(tenant) = &tenant {
        let text = config::render::tenant(tenant, &sounds);
        let text = text.context("the tenant can't be written")?;
        folder::write_private(&folder.tenant(), text.as_bytes())?;
    }
    let (tenant, sounds) = match tenant {
        Some(tenant) => (Some(tenant), sounds),
        None if folder.tenant().exists() => {
            let file = config::load(&folder.tenant())?;
            let prompts = sounds.prompts.or(file.sounds.prompts);
            (file.tenant, Sounds { prompts, music: sounds.music.or(file.sounds.music) })
        }
        None => (None, sounds),
    };
    let process = |name: &str| process(folder, name, fault_injection);
    for member in &cluster.members {
        write(folder, cluster, (None, None), &process(&member.name), tenant.as_ref(), &sounds)?;
    }
    for (at, gateway) in cluster.gateways.iter().enumerate() {
        let process = Process {
            token_hash: Some(token_hash.clone()),
            rtp_port_first: Some(plan::rtp_port_first(at)),
            rtp_ports: Some(plan::RTP_PORTS),
            ..process(&gateway.name)
        };
        // What the file does not say is served.
        let given = sip.clone().unwrap_or_default();
        let all = WebSocket { ws: true, wss: true, origins: Vec::new() };
        let sip = Sip {
            tls: given.tls.or_else(|| Some(pki::sip_files_of(folder, &gateway.name))),
            websocket: given.websocket.or(Some(all)),
        };
        write(folder, cluster, (Some(&sip), address.as_ref()), &process, None, &sounds)?;
    }
    Ok(())
}

fn write(
    folder: &Folder,
    cluster: &Cluster,
    (sip, address): (Option<&Sip>, Option<&Address>),
    process: &Process,
    tenant: Option<&Config>,
    sounds: &Sounds,
) -> Result<()> {
    let tls: Tls = pki::files_of(folder, &process.name);
    let text = config::render::server(cluster, &tls, (sip, address), process, tenant, sounds)
        .with_context(|| format!("the configuration of {} can't be written", process.name))?;
    folder::write_private(&folder.process_config(&process.name), text.as_bytes())
}

/// The last thing that a process said on standard error since its start.
pub fn stderr_of(folder: &Folder, name: &str) -> Option<String> {
    let text = fs::read_to_string(folder.stderr(name)).ok()?;
    text.lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}
