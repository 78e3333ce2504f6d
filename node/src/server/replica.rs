//! Which replica of the cluster a data folder is of: written in it once, together with whom it knew
//! of then. A folder without it has nothing to say to anybody until it is let in.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tandem_cluster::join::{self, Identity, Joining};
use tandem_cluster::{Member, Role, Tls};
use tandem_http::backend::{Check, Readiness};
use tandem_storage::format::DataDir;
use tokio::sync::watch;

use super::http::{self, Health};
use super::process::Started;
use crate::config;
use crate::dev::folder::random_hex;

const FOLDER_BYTES: usize = 16;

/// Of a member, what consensus has no use for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    #[serde(rename = "box", default)]
    pub box_name: String,
    #[serde(default)]
    pub link: Option<SocketAddr>,
    #[serde(default)]
    pub http: Option<SocketAddr>,
}

impl Place {
    pub fn of(member: &Member) -> Self {
        // One of another version may say it in another way, and is a member all the same.
        serde_json::from_str(&member.place).unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    /// Drawn at random when the folder was made; empty in one of earlier versions.
    folder: String,
    /// Nothing until it is let in.
    id: Option<u64>,
    #[serde(default)]
    founds: bool,
    /// Those whom it knew of when it was let in.
    #[serde(default)]
    members: Vec<Seat>,
}

#[derive(Serialize, Deserialize)]
struct Seat {
    id: u64,
    name: String,
    witness: bool,
    address: SocketAddr,
    folder: String,
    place: String,
}

impl From<&Member> for Seat {
    fn from(member: &Member) -> Self {
        Self {
            id: member.id,
            name: member.name.clone(),
            witness: member.is_witness(),
            address: member.address,
            folder: member.folder.clone(),
            place: member.place.clone(),
        }
    }
}

impl From<Seat> for Member {
    fn from(seat: Seat) -> Self {
        Self {
            id: seat.id,
            name: seat.name,
            role: if seat.witness { Role::Witness } else { Role::Node },
            address: seat.address,
            folder: seat.folder,
            place: seat.place,
        }
    }
}

/// Whether the folder is of a replica.
pub enum Folder {
    Of(Identity),
    /// Its own name.
    Fresh(String),
}

/// What the folder says of itself; to be asked before there is a log in it. From here on it has a
/// name.
///
/// # Errors
/// Where it can't be read or written.
pub fn look(dir: &DataDir, config: &config::Server) -> Result<Folder> {
    if let Some(text) = dir.replica()? {
        let written: Written = serde_json::from_str(&text)
            .with_context(|| format!("{} does not say which replica it is", dir.path.display()))?;
        let Some(id) = written.id else { return Ok(Folder::Fresh(written.folder)) };
        let members = written.members.into_iter().map(Member::from).collect();
        return Ok(Folder::Of(Identity { id, founds: written.founds, members }));
    }
    if dir.has_begun()? {
        // Of an earlier version: its place in the file is its id.
        let members = given(&config.cluster)?;
        let me = members.iter().find(|member| member.name == config.process.name);
        let id = me.with_context(|| no_member(config))?.id;
        let first = members.iter().find(|member| !member.is_witness()).map(|member| member.id);
        let identity = Identity { id, founds: first == Some(id), members };
        write(dir, "", &identity)?;
        return Ok(Folder::Of(identity));
    }
    let folder = random_hex(FOLDER_BYTES)?;
    let fresh = Written { folder: folder.clone(), id: None, founds: false, members: Vec::new() };
    dir.set_replica(&serde_json::to_string_pretty(&fresh)?)?;
    Ok(Folder::Fresh(folder))
}

fn write(dir: &DataDir, folder: &str, identity: &Identity) -> Result<()> {
    let written = Written {
        folder: folder.to_owned(),
        id: Some(identity.id),
        founds: identity.founds,
        members: identity.members.iter().map(Seat::from).collect(),
    };
    dir.set_replica(&serde_json::to_string_pretty(&written)?)?;
    Ok(())
}

/// Which replica the folder is of; waits for as long as nobody says so, and says that it waits.
///
/// # Errors
/// A busy address, or a folder that can't be written.
pub async fn identify(
    started: &Started,
    dir: &DataDir,
    folder: Folder,
    tls: &Tls,
) -> Result<Identity> {
    let folder = match folder {
        Folder::Of(identity) => return Ok(identity),
        Folder::Fresh(folder) => folder,
    };
    let config = &started.config;
    let given = given(&config.cluster)?;
    let me = given.iter().find(|member| member.name == config.process.name);
    let me = me.with_context(|| no_member(config))?;
    let joining = Joining {
        cluster: config.cluster.id.clone(),
        me: Member { id: 0, folder: folder.clone(), ..me.clone() },
        given: given.clone(),
        incarnation: started.incarnation,
        tls: tls.clone(),
    };
    let (waits, waiting) = watch::channel(false);
    let http = Place::of(me).http;
    let identity = tokio::select! {
        found = join::identity(&joining, &waits) => found?,
        ended = show(started, http, waiting) => ended?,
    };
    write(dir, &folder, &identity)?;
    tracing::info!(replica = identity.id, founds = identity.founds, "this folder is of a replica");
    Ok(identity)
}

/// What health says of a process that waits; ends only with an error.
async fn show(
    started: &Started,
    http: Option<SocketAddr>,
    mut waiting: watch::Receiver<bool>,
) -> Result<Identity> {
    let waits = waiting.wait_for(|waits| *waits).await.is_ok();
    let (true, Some(address)) = (waits, http) else { return std::future::pending().await };
    let why = join::why_it_waits(&started.config.process.name);
    let health: Health = Arc::new(move || Readiness {
        may_take_calls: false,
        may_hold_calls: false,
        started: true,
        checks: vec![Check { name: "member".to_owned(), ok: false, why: why.clone() }],
    });
    let router = http::router(health, started.metrics.clone());
    axum::serve(http::bind(address).await?, router).await?;
    anyhow::bail!("health is served no more")
}

fn no_member(config: &config::Server) -> String {
    format!("{} is no [[cluster.member]]", config.process.name)
}

/// Those that the file names, by their place in it.
pub fn given(cluster: &config::Cluster) -> Result<Vec<Member>> {
    let member = |(id, member): (u64, &config::Member)| {
        let place =
            Place { box_name: member.box_name.clone(), link: member.link, http: Some(member.http) };
        Ok(Member {
            id,
            name: member.name.clone(),
            role: match member.role {
                config::Role::Node => Role::Node,
                config::Role::Witness => Role::Witness,
            },
            address: member.raft,
            folder: String::new(),
            place: serde_json::to_string(&place)?,
        })
    };
    (1..).zip(&cluster.members).map(member).collect()
}
