//! `kill -9` of the gateway's process that serves an address, fifty times at fifty live calls; then of its whole box, node and
//! gateway; then it is drained: how long callers hear nothing, and whether any call is lost. The calls are the same ones all
//! the time, so each lives through a hundred and fifty takeovers.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use tandem_media::endpoint::EndpointPool;
use tandem_tests::Cluster;
use tandem_tests::cluster::{binary, said};
use tandem_tests::phone::{Incoming, Options, Phone};
use tokio::time::{Instant, sleep};

use crate::failover::settled_leader;
use crate::{count, print_histogram};

const KILLS: u32 = 50;
const CALLS: usize = 50;
const WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);
/// So many packets after a takeover the gap is behind.
const PACKETS: u64 = 25;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Gateway,
    Box,
    Drain,
}

impl Loss {
    fn title(self) -> &'static str {
        match self {
            Self::Gateway => "kill -9 of the gateway → its calls are heard again",
            Self::Box => "kill -9 of the box → its calls are heard again",
            Self::Drain => "the gateway is drained → its calls are heard again",
        }
    }
}

pub async fn run(dir: &Path) -> Result<()> {
    let cluster = Cluster::start(dir, &[])?;
    let pool = Arc::new(EndpointPool::start()?);
    let phone = Phone::start(options(&cluster)?, pool).await?;
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let call = phone.dial("4003")?;
        phone.answered(&call, WITHIN).await?;
        calls.push(call);
    }
    let kills = count("TANDEM_KILLS", KILLS)?;
    for loss in [Loss::Gateway, Loss::Box, Loss::Drain] {
        let mut gaps_ms = Histogram::<u64>::new(3)?;
        for _ in 0..kills {
            lose(&cluster, &phone, &calls, loss, &mut gaps_ms).await?;
        }
        print_histogram(loss.title(), "ms", &gaps_ms);
    }
    let mut kept = 0;
    for call in &calls {
        kept += usize::from(phone.hang_up(call).await.is_ok_and(|status| status == 200));
    }
    let violations = phone.violations();
    println!(
        "  {kept} of {CALLS} calls ended as their caller wished; {} violations",
        violations.len()
    );
    violations.iter().take(5).for_each(|violation| println!("  {violation:?}"));
    cluster.stop()?;
    Ok(())
}

fn options(cluster: &Cluster) -> Result<Options> {
    Ok(Options {
        user: "13800000000".into(),
        password: String::new(),
        server: cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?,
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        incoming: Incoming::Reject { status: 486 },
        tone_hz: 440,
        srtp: false,
        domain: None,
    })
}

/// Who serves the first address loses it, and may serve again when the calls are heard.
async fn lose(
    cluster: &Cluster,
    phone: &Phone,
    calls: &[String],
    loss: Loss,
    gaps_ms: &mut Histogram<u64>,
) -> Result<()> {
    settled_leader(cluster).await?;
    let serving = cluster.processes()?.sip.into_iter().next().context("a VIP")?.serving;
    let dead_box = cluster.process(&serving)?.box_name;
    let processes = cluster.processes()?.processes.into_iter();
    let of_box =
        processes.filter(|it| it.box_name == dead_box && (loss == Loss::Box || it.name == serving));
    let dead: Vec<String> = of_box.map(|process| process.name).collect();
    phone.mark();
    let before: Vec<u64> = calls.iter().map(|call| heard(phone, call)).collect();
    if loss == Loss::Drain {
        order(cluster, "drain", &serving).await?;
    } else {
        for name in &dead {
            cluster.kill(name)?;
        }
    }
    let killed = Instant::now();
    sleep(Duration::from_millis(100)).await;
    for (call, before) in calls.iter().zip(before) {
        while heard(phone, call) < before + PACKETS {
            ensure!(killed.elapsed() < WITHIN, "{call} hears nothing without {serving}");
            sleep(LOOK).await;
        }
    }
    let gaps = calls.iter().filter_map(|call| phone.spacing_ms_max(call));
    let gaps: Vec<u64> = gaps.collect();
    let longest = gaps.iter().max().copied().unwrap_or_default();
    let how = if loss == Loss::Drain { "drained" } else { "killed" };
    println!("  {} {how}: the longest gap is {longest} ms", dead.join(" and "));
    for gap in gaps {
        gaps_ms.record(gap)?;
    }
    if loss == Loss::Drain {
        return order(cluster, "undrain", &serving).await;
    }
    for name in &dead {
        while cluster.process(name)?.alive {
            sleep(LOOK).await;
        }
        cluster.revive(name)?;
    }
    Ok(())
}

/// On a thread of its own: the phone must go on.
async fn order(cluster: &Cluster, what: &str, gateway: &str) -> Result<()> {
    let mut command = std::process::Command::new(binary("tandem")?);
    command.args(["node", what, gateway, "--dir"]).arg(cluster.dir());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "{what}: {}", said(&output));
    Ok(())
}

fn heard(phone: &Phone, call: &str) -> u64 {
    phone.with_calls(|calls| {
        let media = calls.get(call).and_then(|call| call.media.as_ref());
        media.map_or(0, |media| media.stats().received)
    })
}
