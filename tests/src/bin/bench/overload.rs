//! Three times as many calls as the cluster is good for: how many are served all the same, how soon the rest
//! hears so, and what those who talk already notice of it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_media::endpoint::EndpointPool;
use tandem_tests::Cluster;
use tandem_tests::phone::{Incoming, Options, Phone};

use crate::load::{Called, Media, Plan, call, users};
use crate::tenant::Tenant;
use crate::usage::Usage;
use crate::{pids, print_histogram};

/// Tried from the first on; the last of which every call is answered soon is the rated load.
const CALLS_A_SECOND: [u32; 10] = [60, 100, 150, 200, 300, 400, 500, 600, 800, 1_000];
const TRIED_S: u32 = 8;
/// Of a load that the cluster is good for, INVITE → 200.
const ANSWERED_P99_US_MAX: u64 = 200_000;
const TIMES: u32 = 3;
const OVERLOAD_S: u32 = 30;
const HOLD: Duration = Duration::from_secs(1);
const CHANNELS: usize = 4_000;
const TALKERS: usize = 10;
const WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(3);

pub async fn run(dir: &Path) -> Result<()> {
    let file = dir.join("bench.toml");
    let tenant = Tenant { agents: &users(1), channels: CHANNELS, record: false, acw_ms: 0 };
    let text = tenant.config_with_echo()?;
    std::fs::write(&file, text)?;
    let cluster = Cluster::start(dir, &["--config", file.to_str().context("UTF-8 path")?])?;
    let server = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    let place = |calls_a_second: u32, seconds: u32| async move {
        let plan = Plan { server, number: "4003", calls_a_second, seconds, hold: HOLD };
        tokio::task::spawn_blocking(move || call(&plan, Called::default(), Media::open()?)).await?
    };
    let mut rated = None;
    for calls_a_second in CALLS_A_SECOND {
        let outcome = place(calls_a_second, TRIED_S).await?;
        let p99 = outcome.answered_us.value_at_quantile(0.99);
        println!("  {calls_a_second} calls/s: {} failed, p99 {p99} µs to 200", outcome.failures());
        if outcome.failures() > 0 || p99 > ANSWERED_P99_US_MAX {
            break;
        }
        rated = Some(calls_a_second);
        tokio::time::sleep(PAUSE).await;
    }
    let rated = rated.context("the lowest rate is too much for this machine")?;
    let pool = Arc::new(EndpointPool::start()?);
    let options = Options {
        user: "13800000000".into(),
        password: String::new(),
        server,
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        incoming: Incoming::Reject { status: 486 },
        tone_hz: 440,
        srtp: false,
        domain: None,
    };
    let talker = Phone::start(options, Arc::clone(&pool)).await?;
    let mut talks = Vec::new();
    for _ in 0..TALKERS {
        let call_id = talker.dial("4003")?;
        talker.answered(&call_id, WITHIN).await?;
        talks.push(call_id);
    }
    tokio::time::sleep(PAUSE).await;
    let with_audio = |mut look: Box<dyn FnMut(&tandem_media::endpoint::Endpoint) + '_>| {
        talker.with_calls(|calls| {
            calls.values().filter_map(|call| call.media.as_ref()).for_each(|audio| look(audio));
        });
    };
    with_audio(Box::new(|audio| audio.mark()));
    let usage = Usage::begin(pids(&cluster)?)?;
    let outcome = place(TIMES * rated, OVERLOAD_S).await?;
    usage.print(&format!("at {} calls/s, {TIMES} times the rated load", TIMES * rated))?;
    let (mut lost, mut spacing_ms) = (0, 0);
    with_audio(Box::new(|audio| {
        let stats = audio.stats();
        lost += stats.lost;
        spacing_ms = spacing_ms.max(stats.spacing_ms_max);
    }));
    let served = outcome.calls - outcome.failures();
    let goodput = 100 * served / u64::from(rated * OVERLOAD_S);
    println!(
        "  rated load {rated} calls/s; {served} of {} served: goodput {goodput} %",
        outcome.calls
    );
    print_histogram("  INVITE → 200", "µs", &outcome.answered_us);
    print_histogram("  INVITE → refusal", "µs", &outcome.refused_us);
    outcome.print();
    println!("  {TALKERS} that talked: {lost} packets lost, longest spacing {spacing_ms} ms");
    for call_id in &talks {
        let status = talker.hang_up(call_id).await?;
        ensure!(status == 200, "BYE of one that talked was answered {status}");
    }
    cluster.stop()?;
    Ok(())
}
