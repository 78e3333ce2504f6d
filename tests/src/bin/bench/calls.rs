//! 50 calls a second to the echo for a minute: INVITE → 200.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tandem_media::endpoint::EndpointPool;
use tandem_tests::Cluster;
use tandem_tests::phone::{Incoming, Options, Phone};
use tokio::time::{Instant, MissedTickBehavior};

use crate::usage::Usage;
use crate::{pids, print_histogram};

const CALLS_A_SECOND: u32 = 50;
const SECONDS: u32 = 60;
/// Held for a second: 50 channels of the trunk's 120 are busy at a time.
const HOLD_MS: u64 = 1_000;
const ANSWER_S_MAX: u64 = 10;
const IDLE_S: u64 = 5;

pub async fn run(dir: &Path) -> Result<()> {
    let cluster = Cluster::start(dir, &[])?;
    let idle = Usage::begin(pids(&cluster)?)?;
    tokio::time::sleep(Duration::from_secs(IDLE_S)).await;
    idle.print("idle")?;

    let vip = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    let pool = Arc::new(EndpointPool::start()?);
    let options = Options {
        user: "13800000000".into(),
        password: String::new(),
        server: vip,
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        incoming: Incoming::Reject { status: 486 },
        tone_hz: 440,
        srtp: false,
    };
    let phone = Arc::new(Phone::start(options, pool).await?);
    let usage = Usage::begin(pids(&cluster)?)?;
    let mut every = tokio::time::interval(Duration::from_secs(1) / CALLS_A_SECOND);
    every.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for _ in 0..CALLS_A_SECOND * SECONDS {
        every.tick().await;
        let phone = Arc::clone(&phone);
        calls.spawn(async move { one(&phone).await });
    }
    let took = begun.elapsed();
    usage.print(&format!("at {CALLS_A_SECOND} calls/s"))?;
    let mut setup_us = Histogram::<u64>::new(3)?;
    let mut failed = Vec::new();
    while let Some(call) = calls.join_next().await {
        match call? {
            Ok(setup) => setup_us.record(u64::try_from(setup.as_micros())?)?,
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    print_histogram("INVITE → 200 to 4003", "µs", &setup_us);
    println!("  {} failed in {took:.1?}", failed.len());
    failed.sort();
    failed.dedup();
    for why in failed.iter().take(5) {
        println!("    {why}");
    }
    drop(phone);
    cluster.stop()?;
    Ok(())
}

async fn one(phone: &Phone) -> Result<Duration> {
    let call_id = phone.dial("4003")?;
    let setup = phone.answered(&call_id, Duration::from_secs(ANSWER_S_MAX)).await?;
    tokio::time::sleep(Duration::from_millis(HOLD_MS)).await;
    let status = phone.hang_up(&call_id).await?;
    phone.forget(&call_id);
    anyhow::ensure!(status == 200, "BYE was answered {status}");
    Ok(setup)
}
