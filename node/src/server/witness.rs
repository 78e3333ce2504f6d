//! `tandem witness`: a voter with a log and votes, and no state.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{disk, http, process, wiring};

pub fn run(path: &Path, incarnation: Option<u64>) -> Result<()> {
    let started = process::start(path, incarnation, "witness")?;
    process::run(async move |shutdown| {
        process::keep_certificates(&started)?;
        let name = &started.config.process.name;
        let members = &started.config.cluster.members;
        let me = members.iter().find(|member| member.name == *name);
        let me = me.with_context(|| format!("{name} is no [[cluster.member]]"))?;
        let wiring::WitnessParts { health, faults } = tokio::select! {
            parts = wiring::witness(&started) => parts?,
            () = shutdown.clone().wait() => return Ok(()),
        };
        let listener = http::bind(me.http).await?;
        let router = disk::with_faults(http::router(health, started.metrics.clone()), faults);
        tokio::select! {
            ended = http::serve(listener, router, shutdown.clone()) => ended,
            () = shutdown.wait() => Ok(()),
        }
    })
}
