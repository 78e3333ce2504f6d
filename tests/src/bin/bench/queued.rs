//! Caller → queue → agent, three seconds of talk, no media: at rising rates.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::Cluster;

use crate::load::{Agents, Called, Media, Plan, call, users};
use crate::tenant::Tenant;
use crate::usage::Usage;
use crate::{pids, print_histogram};

const CALLS_A_SECOND: [u32; 5] = [30, 60, 90, 130, 180];
const SECONDS: u32 = 30;
const HOLD: Duration = Duration::from_secs(3);
/// Enough for the highest rate with four seconds a call, and room.
const AGENTS: u32 = 900;
const CHANNELS: usize = 960;
const ACW_MS: u32 = 1_000;
/// Between two rates: the calls' after-call work ends.
const PAUSE: Duration = Duration::from_secs(3);

pub fn run(dir: &Path) -> Result<()> {
    let users = users(AGENTS);
    let file = dir.join("bench.toml");
    let tenant = Tenant { agents: &users, channels: CHANNELS, record: false, acw_ms: ACW_MS };
    std::fs::write(&file, tenant.config()?)?;
    let cluster = Cluster::start(dir, &["--config", file.to_str().context("UTF-8 path")?])?;
    let server = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    for calls_a_second in CALLS_A_SECOND {
        let called = Called::default();
        let agents = Agents::register(server, &users, called.clone(), Media::open()?)?;
        let plan = Plan { server, number: "4001", calls_a_second, seconds: SECONDS, hold: HOLD };
        let usage = Usage::begin(pids(&cluster)?)?;
        let outcome = call(&plan, called, Media::open()?)?;
        usage.print(&format!("at {calls_a_second} queued calls/s"))?;
        let seen = agents.go_home()?;
        print_histogram("  INVITE → 100", "µs", &outcome.trying_us);
        print_histogram("  INVITE → 200", "µs", &outcome.answered_us);
        print_histogram("  INVITE → agent's INVITE", "µs", &seen.offered_us);
        println!(
            "  {} calls, {} with an agent, {} messages repeated",
            outcome.calls, seen.connected, outcome.repeated
        );
        for (why, count) in &outcome.failed {
            println!("  failed: {count} x {why}");
        }
        std::thread::sleep(PAUSE);
    }
    cluster.stop()?;
    Ok(())
}
