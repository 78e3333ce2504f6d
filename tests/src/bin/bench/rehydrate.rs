//! Thousands of calls and agents on a node that has to begin: its actors where the leader died, as its own
//! metric says; and its whole state where that is gone, as its log says.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem_tests::Cluster;
use tandem_tests::cluster::metric;

use crate::failover::settled_leader;
use crate::load::{Called, Media, Plan, call, users};
use crate::print_histogram;
use crate::tenant::Tenant;

/// At each of the two service addresses.
const CALLS_A_SECOND: u32 = 63;
/// So that nearly all RTP ports of both gateways are taken: 2,344 pairs each.
const HOLD: Duration = Duration::from_secs(37);
const AGENTS: u32 = 2_000;
const CHANNELS: usize = 8_000;
/// By then the log begins behind what the first entries were.
const FILLED: Duration = Duration::from_secs(300);
const SECONDS: u32 = 350;
const WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);
const BEGAN: &str = "tandem_actors_begin_seconds{quantile=\"1\"}";
/// In a node's log, where it has to ask another for its rows, and where it has them.
const GONE: &str = "rows are gone";
const THERE_AGAIN: &str = "rows are there again";

pub async fn run(dir: &Path) -> Result<()> {
    let file = dir.join("bench.toml");
    let agents = users(AGENTS);
    let tenant = Tenant { agents: &agents, channels: CHANNELS, record: false, acw_ms: 0 };
    let text = tenant.config_with_echo()?;
    std::fs::write(&file, text)?;
    let cluster = Cluster::start(dir, &["--config", file.to_str().context("UTF-8 path")?])?;
    let mut calling = tokio::task::JoinSet::new();
    for address in cluster.processes()?.sip {
        let plan = Plan {
            server: address.vip.parse()?,
            number: "4003",
            calls_a_second: CALLS_A_SECOND,
            seconds: SECONDS,
            hold: HOLD,
        };
        calling.spawn_blocking(move || call(&plan, Called::default(), Media::open()?));
    }
    tokio::time::sleep(FILLED).await;
    let live = cluster.api()?.get("/v1/tenants").await?["items"][0]["calls"].clone();
    let leader = settled_leader(&cluster).await?;
    let other = if leader == "node-a" { "node-b" } else { "node-a" };
    cluster.kill(&leader)?;
    let began = until(|| began(&cluster, other)).await?;
    println!(
        "  {live} calls live, {AGENTS} agents: actors of {other} begun in {:.1} ms",
        began * 1e3
    );

    // What of its state was written is gone; its log is there.
    std::fs::remove_dir_all(dir.join("data").join(&leader).join("state"))?;
    cluster.revive(&leader)?;
    let log = dir.join("logs").join(format!("{leader}.log"));
    let took = until(|| async { Ok(pulled(&std::fs::read_to_string(&log)?)) }).await?;
    println!("  the rows of {leader}, gone and there again: {} ms (by its log)", took.as_millis());
    while let Some(outcome) = calling.join_next().await {
        let outcome = outcome??;
        print_histogram("INVITE → 100 meanwhile", "µs", &outcome.trying_us);
        outcome.print();
    }
    cluster.stop()?;
    Ok(())
}

async fn until<T, F: Future<Output = Result<Option<T>>>>(mut look: impl FnMut() -> F) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(begun.elapsed() < WITHIN, "nothing came of it");
        tokio::time::sleep(LOOK).await;
    }
}

/// The longest that a tenant's actors have taken to begin on a node, in seconds.
async fn began(cluster: &Cluster, node: &str) -> Result<Option<f64>> {
    let base = format!("http://{}", cluster.process(node)?.http);
    let (_, text) = cluster.api()?.probe(&base, "/metrics").await?;
    Ok(metric(&text, BEGAN))
}

/// From the first line that says so to the last.
fn pulled(log: &str) -> Option<Duration> {
    let at = |line: &str| {
        let time = line.split_whitespace().next()?.split_once('T')?.1.trim_end_matches('Z');
        let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
        let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
        Some(Duration::from_secs_f64(hours * 3_600.0 + minutes * 60.0 + seconds))
    };
    let gone = log.lines().filter(|line| line.contains(GONE)).count();
    let there = log.lines().filter(|line| line.contains(THERE_AGAIN)).count();
    let begun = log.lines().find(|line| line.contains(GONE)).and_then(at)?;
    let ended = log.lines().rfind(|line| line.contains(THERE_AGAIN)).and_then(at)?;
    (gone == there).then(|| ended.saturating_sub(begun))
}
