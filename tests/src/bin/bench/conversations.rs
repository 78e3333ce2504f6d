//! Recorded conversations at once, few and many: loss, packet spacing, and the recordings' gaps.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tandem_media::endpoint::EndpointPool;
use tandem_tests::phone::{Incoming, Options, Phone};
use tandem_tests::{Api, Cluster};

use crate::load::users;
use crate::tenant::Tenant;
use crate::usage::Usage;
use crate::{pids, print_histogram};

pub const COUNTS: [u32; 2] = [50, 300];
const ACW_MS: u32 = 1_000;
const TALK_S: u64 = 30;
const WAIT_S_MAX: u64 = 20;

pub async fn run(dir: &Path, conversations: u32) -> Result<()> {
    let file = dir.join("bench.toml");
    let users = users(conversations);
    let tenant = Tenant { agents: &users, channels: users.len(), record: true, acw_ms: ACW_MS };
    std::fs::write(&file, tenant.config()?)?;
    let cluster = Cluster::start(dir, &["--config", file.to_str().context("UTF-8 path")?])?;
    let vip = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    let pool = Arc::new(EndpointPool::start()?);
    let options = |user: String, incoming| Options {
        password: format!("tandem-{user}"),
        user,
        server: vip,
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        incoming,
        tone_hz: 440,
        srtp: false,
        domain: None,
    };
    let mut agents = Vec::new();
    for user in users {
        let agent =
            Phone::start(options(user, Incoming::Answer { after_ms: 50 }), Arc::clone(&pool))
                .await?;
        let status = agent.register(600).await?;
        anyhow::ensure!(status == 200, "REGISTER was answered {status}");
        agents.push(agent);
    }
    let reject = Incoming::Reject { status: 486 };
    let caller = Phone::start(options("13800000000".into(), reject), Arc::clone(&pool)).await?;
    let mut calls = Vec::new();
    for _ in 0..conversations {
        let call_id = caller.dial("4001")?;
        caller.answered(&call_id, Duration::from_secs(WAIT_S_MAX)).await?;
        calls.push(call_id);
    }
    let api = cluster.api()?;
    api.until("/v1/calls?state=connected&limit=1000", Duration::from_secs(WAIT_S_MAX), |page| {
        (page["items"].as_array()?.len() == conversations as usize).then_some(())
    })
    .await?;

    let usage = Usage::begin(pids(&cluster)?)?;
    for_each_endpoint(&caller, &agents, |endpoint| endpoint.mark());
    tokio::time::sleep(Duration::from_secs(TALK_S)).await;
    usage.print(&format!("with {conversations} recorded conversations"))?;
    print_unsafe_tail(&api).await?;
    let mut spacing_ms = Histogram::<u64>::new(3)?;
    let (mut received, mut lost) = (0_u64, 0_u64);
    for_each_endpoint(&caller, &agents, |endpoint| {
        let stats = endpoint.stats();
        received += stats.received;
        lost += stats.lost;
        spacing_ms.saturating_record(stats.spacing_ms_max);
    });
    println!(
        "{conversations} recorded conversations of {TALK_S} s: {received} packets, {lost} lost"
    );
    print_histogram("  longest packet spacing of each side", "ms", &spacing_ms);
    for call_id in &calls {
        caller.hang_up(call_id).await?;
    }
    let recordings = api
        .until("/v1/recordings?limit=1000", Duration::from_secs(WAIT_S_MAX), |page| {
            let items = page["items"].as_array()?;
            let done = items.len() == conversations as usize
                && items.iter().all(|recording| recording["sealed"] == true);
            done.then(|| items.clone())
        })
        .await?;
    let gaps: usize = recordings.iter().filter_map(|r| r["gaps"].as_array().map(Vec::len)).sum();
    println!("  {} recordings sealed, {gaps} gaps", recordings.len());
    cluster.stop()?;
    Ok(())
}

/// What a lost gateway would have taken with it, each time that a copy came on.
async fn print_unsafe_tail(api: &Api) -> Result<()> {
    let (_, metrics) = api.probe(api.base(0)?, "/metrics").await?;
    let of = |quantile: &str| {
        let name = format!("tandem_recording_tail_at_copy_seconds{{quantile=\"{quantile}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("-").to_owned()
    };
    println!("  audio on one disk only: p50 {} s, longest {} s", of("0.5"), of("1"));
    Ok(())
}

fn for_each_endpoint(
    caller: &Phone,
    agents: &[Phone],
    mut look: impl FnMut(&tandem_media::endpoint::Endpoint),
) {
    for phone in agents.iter().chain([caller]) {
        phone.with_calls(|calls| {
            for endpoint in calls.values().filter_map(|call| call.media.as_ref()) {
                look(endpoint);
            }
        });
    }
}
