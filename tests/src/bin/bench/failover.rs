//! `kill -9` of the leading node, twenty times, while calls come and go: kill → first command
//! committed by the new leader.
//!
//! The new leader's first commit is its own gauge, in wall-clock time; the kill is timed here on
//! the same machine's clock.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tandem_media::endpoint::EndpointPool;
use tandem_tests::Cluster;
use tandem_tests::cluster::{Processes, metric};
use tandem_tests::phone::{Incoming, Options, Phone};
use tokio::time::Instant;

use crate::print_histogram;

const KILLS: u32 = 20;
const METRIC: &str = "tandem_shard_first_commit_timestamp_seconds{shard=\"s0\"}";
const WAIT_S_MAX: u64 = 20;
const CALLS_A_SECOND: u32 = 25;
const HOLD_MS: u64 = 500;

pub async fn run(dir: &Path) -> Result<()> {
    let cluster = Cluster::start(dir, &[])?;
    // An idle log is the same everywhere; one that is written to is where an election is hard.
    let traffic = tokio::spawn(calls_come_and_go(cluster.processes()?));
    let mut failover_us = Histogram::<u64>::new(3)?;
    for _ in 0..KILLS {
        let leader = settled_leader(&cluster).await?;
        let killed_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        cluster.kill(&leader)?;
        let committed_s = first_commit_after(&cluster, &leader, killed_s).await?;
        let us = ((committed_s - killed_s) * 1e6).max(0.0) as u64;
        println!("  {leader} killed, first commit after {:.1} ms", us as f64 / 1e3);
        failover_us.record(us)?;
        cluster.revive(&leader)?;
    }
    traffic.abort();
    print_histogram("kill -9 of the leader → first commit", "µs", &failover_us);
    cluster.stop()?;
    Ok(())
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

async fn first_commit_after(cluster: &Cluster, dead: &str, after_s: f64) -> Result<f64> {
    let api = cluster.api()?;
    let processes = cluster.processes()?.processes;
    let survivor = processes
        .iter()
        .find(|process| process.role == "node" && process.name != dead)
        .context("a second node")?;
    let base = format!("http://{}", survivor.http);
    let deadline = Instant::now() + Duration::from_secs(WAIT_S_MAX);
    while Instant::now() < deadline {
        if let Ok((200, text)) = api.probe(&base, "/metrics").await
            && let Some(at) = metric(&text, METRIC)
            && at >= after_s
        {
            return Ok(at);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("no commit of a new leader within {WAIT_S_MAX} s")
}
