//! Tells every voter and every gateway of a process that was reaped, at once: no timer needs to find out.

use std::net::SocketAddr;
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
    /// Each with the name of its process.
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
        for gateway in &cluster.gateways {
            // Where it takes copies of recordings.
            if let Some(address) = gateway.copies {
                announcer.open(&gateway.name, address)?;
            }
        }
        Ok(announcer)
    }

    /// From here on this voter is told, too.
    pub fn add(&self, member: &Member) -> Result<()> {
        self.open(&member.name, member.raft)
    }

    fn open(&self, name: &str, address: SocketAddr) -> Result<()> {
        let line = Line::open(&address.to_string(), self.tls.client())
            .with_context(|| format!("the line to {name}"))?;
        self.lines.lock().push((name.to_owned(), line));
        Ok(())
    }

    /// Returns at once; the others are told beside.
    pub fn announce(&self, death: &Death) {
        for (other, line) in self.lines.lock().iter().filter(|(other, _)| *other != death.name) {
            if !line.report(&death.name, death.incarnation) {
                tracing::warn!(%other, process = death.name, "too many deaths to tell of");
            }
        }
    }
}
