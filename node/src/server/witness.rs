use anyhow::{Context as _, Result};
use std::path::Path;
use std::sync::Arc;
use tandem_http::backend::Readiness;
pub fn run(path: &Path, incarnation: Option<u64>) -> Result<()> {
    let started = super::process::start(path, incarnation, "witness")?;
    let name = started.config.process.name.clone();
    let http = started
        .config
        .cluster
        .members
        .iter()
        .map(|m| (&m.name, m.http))
        .chain(started.config.cluster.gateways.iter().map(|g| (&g.name, g.api)))
        .find(|(n, _)| **n == name)
        .context("not a member")?
        .1;
    super::process::run(async move |shutdown| {
        let listener = super::http::bind(http).await?;
        let health: super::http::Health = Arc::new(|| Readiness {
            may_take_calls: true,
            may_hold_calls: true,
            started: true,
            checks: vec![],
        });
        super::http::serve(listener, super::http::router(health, started.metrics), shutdown).await
    })
}
