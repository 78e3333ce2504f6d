//! Tells every voter of a process that was reaped, at once: no timer needs to find out.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tandem_cluster::control::Line;
use tandem_pki::Live;

use super::folder::Folder;
use super::pki;
use super::supervisor::Death;
use crate::config::{Cluster, Member};

#[derive(Clone)]
pub struct Announcer {
    /// Each with the name of its voter.
    lines: Arc<Mutex<Vec<(String, Line)>>>,
    tls: tandem_cluster::Tls,
}

impl Announcer {
    pub fn start(folder: &Folder, cluster: &Cluster) -> Result<Self> {
        let files = pki::files_of(folder, pki::SUPERVISOR);
        let certificates = Live::open(files.into(), pki::SUPERVISOR)?;
        // A line that breaks is opened anew with what holds then.
        tokio::spawn(Arc::clone(&certificates).keep(Arc::default()));
        let tls = tandem_cluster::Tls { certificates, domain: pki::CLUSTER_NAME.to_owned() };
        let announcer = Self { lines: Arc::default(), tls };
        cluster.members.iter().try_for_each(|member| announcer.add(member))?;
        Ok(announcer)
    }

    /// From here on this voter is told, too.
    pub fn add(&self, member: &Member) -> Result<()> {
        let line = Line::open(&member.raft.to_string(), self.tls.client())
            .with_context(|| format!("the line to {}", member.name))?;
        self.lines.lock().push((member.name.clone(), line));
        Ok(())
    }

    /// Returns at once; the voters are told beside.
    pub fn announce(&self, death: &Death) {
        for (voter, line) in self.lines.lock().iter().filter(|(voter, _)| *voter != death.name) {
            if !line.report(&death.name, death.incarnation) {
                tracing::warn!(%voter, process = death.name, "too many deaths to tell of");
            }
        }
    }
}
