use super::folder::Folder;
use super::supervisor::Death;
use crate::config::Cluster;
use anyhow::Result;
pub struct Announcer;
impl Announcer {
    pub async fn start(_folder: &Folder, _cluster: &Cluster) -> Result<Self> {
        Ok(Self)
    }
    pub fn announce(&self, _death: &Death) {}
}
