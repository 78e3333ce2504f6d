//! `tandem gateway`: sockets, media and the API; decides nothing.

use std::path::Path;

use anyhow::Result;

use super::{process, wiring};

pub fn run(path: &Path, incarnation: Option<u64>) -> Result<()> {
    let started = process::start(path, incarnation, "gateway")?;
    process::run(async move |shutdown| {
        process::keep_certificates(&started)?;
        wiring::gateway(&started, shutdown).await
    })
}
