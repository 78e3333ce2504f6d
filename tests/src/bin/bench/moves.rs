//! A tenant with thousands of calls moves from shard to shard while calls come in: how long each move takes,
//! and how long the longest INVITE waits for its 100, which is what a caller could notice of it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::json;
use tandem_tests::Cluster;
use tokio::time::Instant;

use crate::load::{Called, Media, Plan, call, users};
use crate::print_histogram;
use crate::tenant::Tenant;

const CALLS_A_SECOND: u32 = 100;
/// So that two thousand are live at a time.
const HOLD: Duration = Duration::from_secs(20);
const AGENTS: u32 = 2_000;
const CHANNELS: usize = 4_000;
const MOVES: u32 = 20;
const BETWEEN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(2);
const WITHIN: Duration = Duration::from_secs(20);
/// Each led by one of two nodes.
const WAY: [&str; 4] = ["s1", "s2", "s3", "s0"];

pub async fn run(dir: &Path) -> Result<()> {
    let file = dir.join("bench.toml");
    let agents = users(AGENTS);
    let tenant = Tenant { agents: &agents, channels: CHANNELS, record: false, acw_ms: 0 };
    let text = tenant.config_with_echo()?;
    std::fs::write(&file, text)?;
    let cluster = Cluster::start(dir, &["--config", file.to_str().context("UTF-8 path")?])?;
    let server = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    let hold_s = u32::try_from(HOLD.as_secs())?;
    // Moves take their time, too: those that are made are as many as fit.
    let seconds = hold_s + MOVES * 2;
    let plan = Plan { server, number: "4003", calls_a_second: CALLS_A_SECOND, seconds, hold: HOLD };
    let calling =
        tokio::task::spawn_blocking(move || call(&plan, Called::default(), Media::open()?));
    tokio::time::sleep(HOLD + BETWEEN).await;
    let mut moves_us = Histogram::<u64>::new(3)?;
    let live = cluster.api()?.get("/v1/tenants").await?["items"][0]["calls"].clone();
    for shard in WAY.iter().cycle().take(MOVES as usize) {
        moves_us.record(moved(&cluster, shard).await?)?;
        tokio::time::sleep(BETWEEN).await;
    }
    let outcome = calling.await??;
    println!("  {live} calls live, {AGENTS} agents, {CALLS_A_SECOND} calls/s");
    print_histogram("a tenant is asked to move → it is there", "µs", &moves_us);
    print_histogram("INVITE → 100 meanwhile", "µs", &outcome.trying_us);
    outcome.print();
    cluster.stop()?;
    Ok(())
}

async fn moved(cluster: &Cluster, shard: &str) -> Result<u64> {
    let api = cluster.api()?;
    let begun = Instant::now();
    let (status, answer) = api.post("/v1/tenants/demo/move", &json!({"shard": shard})).await?;
    ensure!(status == 202, "{answer}");
    loop {
        let tenants = api.get("/v1/tenants").await?;
        let tenant = &tenants["items"][0];
        if tenant["moving_to"].is_null() {
            ensure!(tenant["shard"] == shard, "given up: {}", tenant["given_up"]);
            return Ok(u64::try_from(begun.elapsed().as_micros())?);
        }
        ensure!(begun.elapsed() < WITHIN, "the tenant is still on its way to {shard}");
        tokio::time::sleep(LOOK).await;
    }
}
