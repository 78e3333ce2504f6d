//! A cluster that nobody uses: what its processes take, with few shards and with many.

use std::time::Duration;

use anyhow::Result;
use tandem_tests::Cluster;

use crate::usage::{Usage, resident_mib};
use crate::{fresh, pids};

const SHARDS: [u16; 2] = [16, 64];
/// What a start has to do is done.
const SETTLES: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_secs(30);

pub fn run() -> Result<()> {
    for shards in SHARDS {
        let dir = fresh(&format!("idle-{shards}"))?;
        let cluster = Cluster::start(&dir, &["--shards", &shards.to_string()])?;
        std::thread::sleep(SETTLES);
        let pids = pids(&cluster)?;
        let usage = Usage::begin(pids.clone())?;
        std::thread::sleep(LOOK);
        let percent = usage.percent()?;
        usage.print("idle")?;
        let resident: Result<Vec<u64>> = pids.iter().map(|(_, pid)| resident_mib(*pid)).collect();
        let resident: u64 = resident?.iter().sum();
        println!("idle, {shards} shards + meta: {percent:.1} % of a core, {resident} MiB resident");
        cluster.stop()?;
    }
    Ok(())
}
