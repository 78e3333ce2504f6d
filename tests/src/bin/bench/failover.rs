//! `kill -9` of the node that leads the tenant's shard, fifty times at fifty live calls, while others come
//! and go: kill → first command committed by a new leader, of the tenant's shard, and of the last of all shards
//! that the dead node led.
//!
//! The new leader's first commit is its own gauge, in wall-clock time; the kill is timed here on
//! the same machine's clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde_json::json;
use tandem_media::endpoint::EndpointPool;
use tandem_tests::Cluster;
use tandem_tests::cluster::{Processes, binary, said};
use tandem_tests::phone::{Incoming, Options, Phone};
use tokio::time::Instant;

use crate::print_histogram;

const KILLS: u32 = 50;
const MOVES: u32 = 50;
const BETWEEN_MOVES: Duration = Duration::from_millis(300);
const SHARDS: u16 = 16;
const METRIC: &str = "tandem_shard_first_commit_timestamp_seconds{shard=\"";
const TENANT: &str = "s0";
const WAIT_S_MAX: u64 = 20;
const CALLS_A_SECOND: u32 = 25;
/// So fifty are live at any time.
const HOLD_MS: u64 = 2_000;

pub async fn run(dir: &Path) -> Result<()> {
    let cluster = Cluster::start(dir, &["--shards", &SHARDS.to_string()])?;
    furnish(&cluster)?;
    // An idle log is the same everywhere; one that is written to is where an election is hard.
    let traffic = tokio::spawn(calls_come_and_go(cluster.processes()?));
    let mut tenants_us = Histogram::<u64>::new(3)?;
    let mut all_us = Histogram::<u64>::new(3)?;
    for _ in 0..KILLS {
        let leader = settled_leader(&cluster).await?;
        let led = led_by(&cluster, &leader).await?;
        let killed_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        cluster.kill(&leader)?;
        let committed_s = first_commits_after(&cluster, &leader, &led, killed_s).await?;
        let us = |at_s: f64| ((at_s - killed_s) * 1e6).max(0.0) as u64;
        let last = us(committed_s.values().copied().fold(killed_s, f64::max));
        let tenants =
            us(*committed_s.get(TENANT).context("the leader leads the tenant's shard")?);
        println!(
            "  {leader} killed, {TENANT} commits after {:.1} ms, all of its {} shards after {:.1} ms",
            tenants as f64 / 1e3,
            led.len(),
            last as f64 / 1e3
        );
        tenants_us.record(tenants)?;
        all_us.record(last)?;
        cluster.revive(&leader)?;
    }
    print_histogram(
        "kill -9 of the leader → first commit of the tenant's shard",
        "µs",
        &tenants_us,
    );
    print_histogram("kill -9 of the leader → first commit of its last shard", "µs", &all_us);
    let mut moves_us = Histogram::<u64>::new(3)?;
    for _ in 0..MOVES {
        moves_us.record(moved(&cluster).await?)?;
        tokio::time::sleep(BETWEEN_MOVES).await;
    }
    traffic.abort();
    print_histogram("the lead is asked to move → first commit of the new leader", "µs", &moves_us);
    cluster.stop()?;
    Ok(())
}

/// A tenant for each of the other shards: one without has no command to commit.
fn furnish(cluster: &Cluster) -> Result<()> {
    for shard in 1..SHARDS {
        let file = cluster.dir().join("tenant.toml");
        let text = format!("[tenant]\nname = \"t{shard}\"\nrealm = \"t{shard}.example\"\n");
        std::fs::write(&file, text)?;
        let mut apply = Command::new(binary("tandem")?);
        apply.args(["tenant", "apply", "--shard", &format!("s{shard}"), "--dir"]);
        let applied = apply.arg(cluster.dir()).arg(&file).output()?;
        ensure!(applied.status.success(), "{}", said(&applied));
    }
    Ok(())
}

/// Gives the lead of the tenant's shard away, and says how many µs nobody led at most.
async fn moved(cluster: &Cluster) -> Result<u64> {
    let leader = settled_leader(cluster).await?;
    let to = if leader == "node-a" { "node-b" } else { "node-a" };
    let asked_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let path = format!("/v1/cluster/shards/{TENANT}/leader");
    let (status, answer) = cluster.api()?.post(&path, &json!({"node": to})).await?;
    ensure!(status == 204, "{answer}");
    let led = [TENANT.to_owned()];
    let committed_s = first_commits_after(cluster, &leader, &led, asked_s).await?;
    let at_s = committed_s.get(TENANT).copied().unwrap_or(asked_s);
    Ok(((at_s - asked_s) * 1e6).max(0.0) as u64)
}

/// The tenant shards that a node leads.
async fn led_by(cluster: &Cluster, node: &str) -> Result<Vec<String>> {
    let status = cluster.api()?.get("/v1/cluster").await?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    let of = nodes.iter().find(|it| it["name"] == node).context("the node")?;
    let led = of["leads"].as_array().context("leads")?.iter().filter_map(|it| it.as_str());
    Ok(led.filter(|shard| *shard != "meta").map(str::to_owned).collect())
}

/// Short calls to the echo; how they fare is another benchmark's matter.
async fn calls_come_and_go(processes: Processes) -> Result<()> {
    let pool = Arc::new(EndpointPool::start()?);
    let options = Options {
        user: "13800000000".into(),
        password: String::new(),
        server: processes.sip.first().context("a VIP")?.vip.parse()?,
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        incoming: Incoming::Reject { status: 486 },
        tone_hz: 440,
        srtp: false,
        domain: None,
    };
    let phone = Arc::new(Phone::start(options, pool).await?);
    let mut every = tokio::time::interval(Duration::from_secs(1) / CALLS_A_SECOND);
    let mut calls = tokio::task::JoinSet::new();
    loop {
        every.tick().await;
        let phone = Arc::clone(&phone);
        calls.spawn(async move {
            let call_id = phone.dial("4003")?;
            phone.answered(&call_id, Duration::from_secs(WAIT_S_MAX)).await?;
            tokio::time::sleep(Duration::from_millis(HOLD_MS)).await;
            phone.hang_up(&call_id).await?;
            phone.forget(&call_id);
            anyhow::Ok(())
        });
        while calls.try_join_next().is_some() {}
    }
}

/// The leader, once both nodes live and the other one has caught up.
pub async fn settled_leader(cluster: &Cluster) -> Result<String> {
    let api = cluster.api()?;
    let within = Duration::from_secs(WAIT_S_MAX);
    api.until("/v1/cluster", within, |status| {
        let nodes = status["nodes"].as_array()?;
        let ready = nodes.iter().all(|node| {
            node["healthy"] == true && node["lag"].as_u64().is_some_and(|lag| lag < 10)
        });
        ready.then_some(())
    })
    .await?;
    cluster.leader().await
}

/// When each of the shards committed first after that.
async fn first_commits_after(
    cluster: &Cluster,
    dead: &str,
    shards: &[String],
    after_s: f64,
) -> Result<BTreeMap<String, f64>> {
    let api = cluster.api()?;
    let processes = cluster.processes()?.processes;
    let survivor = processes
        .iter()
        .find(|process| process.role == "node" && process.name != dead)
        .context("a second node")?;
    let base = format!("http://{}", survivor.http);
    let deadline = Instant::now() + Duration::from_secs(WAIT_S_MAX);
    while Instant::now() < deadline {
        if let Ok((200, text)) = api.probe(&base, "/metrics").await {
            let mut known = gauges(&text);
            known.retain(|shard, at_s| *at_s >= after_s && shards.contains(shard));
            if known.len() == shards.len() {
                return Ok(known);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("not every shard has committed within {WAIT_S_MAX} s")
}

fn gauges(text: &str) -> BTreeMap<String, f64> {
    let of = |line: &str| {
        let (shard, rest) = line.strip_prefix(METRIC)?.split_once('"')?;
        Some((shard.to_owned(), rest.split_whitespace().last()?.parse().ok()?))
    };
    text.lines().filter_map(of).collect()
}
