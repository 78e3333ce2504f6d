//! A node is away for minutes under load: how soon it has all that it missed, while the load goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem_tests::Cluster;

use crate::failover::settled_leader;
use crate::load::{Called, Media, Plan, call};
use crate::{count, print_histogram};

const CALLS_A_SECOND: u32 = 100;
/// 100 channels of the demo tenant's 120 are busy at a time.
const HOLD: Duration = Duration::from_secs(1);
const MINUTES: &str = "TANDEM_BEHIND_MINUTES";
const MINUTES_DEFAULT: u32 = 10;
const BEFORE: Duration = Duration::from_secs(10);
/// Of load, beyond what the node misses.
const AFTER_S: u32 = 45;
const LOOK: Duration = Duration::from_millis(20);
const WITHIN: Duration = Duration::from_secs(40);
/// Entries that are on their way to anybody at this rate.
const LAG_MAX: u64 = 100;

pub async fn run(dir: &Path) -> Result<()> {
    let minutes = count(MINUTES, MINUTES_DEFAULT)?;
    let cluster = Cluster::start(dir, &[])?;
    let server = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    let leader = settled_leader(&cluster).await?;
    let follower = if leader == "node-a" { "node-b" } else { "node-a" };
    let seconds = minutes * 60 + AFTER_S;
    let plan = Plan { server, number: "4003", calls_a_second: CALLS_A_SECOND, seconds, hold: HOLD };
    let calling =
        tokio::task::spawn_blocking(move || call(&plan, Called::default(), Media::open()?));
    tokio::time::sleep(BEFORE).await;
    cluster.kill(follower)?;
    tokio::time::sleep(Duration::from_secs(u64::from(minutes) * 60)).await;
    let begun = Instant::now();
    cluster.revive(follower)?;
    while lag(&cluster, follower).await?.is_none_or(|lag| lag > LAG_MAX) {
        ensure!(begun.elapsed() < WITHIN, "{follower} has not caught up");
        tokio::time::sleep(LOOK).await;
    }
    let took = begun.elapsed();
    println!(
        "  {follower} was away for {minutes} min at {CALLS_A_SECOND} calls/s: it is started → it has all: \
         {:.2} s",
        took.as_secs_f64()
    );
    let outcome = calling.await??;
    print_histogram("INVITE → 100 meanwhile", "µs", &outcome.trying_us);
    outcome.print();
    cluster.stop()?;
    Ok(())
}

/// Entries that a node lacks; none where nobody knows, as of one that is away or has yet to apply them.
async fn lag(cluster: &Cluster, name: &str) -> Result<Option<u64>> {
    let base = format!("http://{}", cluster.process(name)?.http);
    if !matches!(cluster.api()?.probe(&base, "/readyz").await, Ok((200, _))) {
        return Ok(None);
    }
    let status = cluster.api()?.get("/v1/cluster").await?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    let node = nodes.iter().find(|node| node["name"] == name).context("the node")?;
    Ok(node["lag"].as_u64().filter(|_| node["healthy"] == true))
}
