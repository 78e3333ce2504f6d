//! The composition root: which consensus, which actors, which gateway.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::node::Parts;
use super::process::Started;
use super::sessions::Sessions;

pub async fn node(_started: &Started, _sessions: Arc<Sessions>) -> Result<Parts> {
    bail!("not wired")
}
