//! Recorded calls at an even rate for many minutes: whether memory stays where it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tandem_tests::Cluster;

use crate::load::{Agents, Called, Media, Plan, call, users};
use crate::tenant::Tenant;
use crate::usage::{Usage, resident_mib};
use crate::{count, pids, print_histogram};

const CALLS_A_SECOND: u32 = 20;
const HOLD: Duration = Duration::from_secs(3);
/// Enough for four seconds a call, and room.
const AGENTS: u32 = 160;
const ACW_MS: u32 = 1_000;
/// Of the first minutes nothing is said: caches fill.
const SETTLED_S: u64 = 120;
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// For so many minutes.
const MINUTES: &str = "TANDEM_STEADY_MINUTES";
const MINUTES_DEFAULT: u32 = 4;

pub fn run(dir: &Path) -> Result<()> {
    let minutes = count(MINUTES, MINUTES_DEFAULT)?;
    let users = users(AGENTS);
    let file = dir.join("bench.toml");
    let tenant = Tenant { agents: &users, channels: users.len(), record: true, acw_ms: ACW_MS };
    std::fs::write(&file, tenant.config()?)?;
    let cluster = Cluster::start(dir, &["--config", file.to_str().context("UTF-8 path")?])?;
    let server = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    let (callers, answerers, epoch) = (Media::open()?, Media::open()?, Instant::now());
    let called = Called::default();
    let agents = Agents::register(server, &users, called.clone(), answerers.clone())?;
    let (theirs, ours) = (callers.speak(epoch)?, answerers.speak(epoch)?);
    let pids = pids(&cluster)?;
    let usage = Usage::begin(pids.clone())?;
    let seconds = minutes * 60;
    let plan = Plan { server, number: "4001", calls_a_second: CALLS_A_SECOND, seconds, hold: HOLD };
    let calls = std::thread::spawn(move || call(&plan, called, callers));
    let mut looks: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    while !calls.is_finished() {
        std::thread::sleep(LOOK_EVERY);
        if epoch.elapsed().as_secs() < SETTLED_S || calls.is_finished() {
            continue;
        }
        for (name, pid) in &pids {
            looks.entry(name.clone()).or_default().push(resident_mib(*pid)?);
        }
    }
    let outcome = calls.join().ok().context("the callers' thread panicked")??;
    usage.print(&format!("at {CALLS_A_SECOND} recorded calls/s"))?;
    for (name, seen) in &looks {
        let (first, last) = (seen.first().unwrap_or(&0), seen.last().unwrap_or(&0));
        let most = seen.iter().max().unwrap_or(&0);
        println!(
            "  {name}: {first} MiB after {SETTLED_S} s, {last} at the end, {most} at most, each {} s: {seen:?}",
            LOOK_EVERY.as_secs()
        );
    }
    let seen = agents.go_home()?;
    theirs.stop()?;
    ours.stop()?;
    print_histogram("  INVITE → 200", "µs", &outcome.answered_us);
    println!("  {} calls, {} with an agent", outcome.calls, seen.connected);
    for (why, count) in &outcome.failed {
        println!("  failed: {count} x {why}");
    }
    cluster.stop()?;
    Ok(())
}
