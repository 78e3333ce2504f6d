//! Tells every voter of a process that was reaped, at once: no timer needs to find out.

use anyhow::{Context as _, Result};
use tandem_cluster::control::Line;

use super::folder::Folder;
use super::pki::{self, Identity};
use super::supervisor::Death;
use crate::config::Cluster;

pub struct Announcer {
    /// Each with the name of its voter.
    lines: Vec<(String, Line)>,
}

impl Announcer {
    pub fn start(folder: &Folder, cluster: &Cluster) -> Result<Self> {
        let identity = Identity::load(&pki::files_of(folder, pki::SUPERVISOR))?;
        let tls = tandem_cluster::Tls {
            ca: identity.ca,
            certificate: identity.certificate,
            key: identity.key,
            domain: pki::CLUSTER_NAME.to_owned(),
        };
        let lines = cluster
            .members
            .iter()
            .map(|member| {
                let line = Line::open(&member.raft.to_string(), tls.client())
                    .with_context(|| format!("the line to {}", member.name))?;
                Ok((member.name.clone(), line))
            })
            .collect::<Result<_>>()?;
        Ok(Self { lines })
    }

    /// Returns at once; the voters are told beside.
    pub fn announce(&self, death: &Death) {
        for (voter, line) in self.lines.iter().filter(|(voter, _)| *voter != death.name) {
            if !line.report(&death.name, death.incarnation) {
                tracing::warn!(%voter, process = death.name, "too many deaths to tell of");
            }
        }
    }
}
