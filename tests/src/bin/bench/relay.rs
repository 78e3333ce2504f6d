//! Conversations with two-way RTP of which each packet says when it was sent: what our relay adds.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tandem_tests::Cluster;

use crate::load::{Agents, Called, Media, Plan, call, users};
use crate::tenant::Tenant;
use crate::usage::Usage;
use crate::{pids, print_histogram};

/// How many, and whether they are recorded.
pub const RUNS: [(u32, bool); 3] = [(100, false), (300, true), (1_000, false)];
const CALLS_A_SECOND: u32 = 50;
const ACW_MS: u32 = 1_000;
/// All of them talk at once for so long.
const TALK_S: u32 = 20;

pub fn run(dir: &Path, conversations: u32, record: bool) -> Result<()> {
    let agents = users(conversations);
    let file = dir.join("bench.toml");
    let tenant = Tenant { agents: &agents, channels: agents.len(), record, acw_ms: ACW_MS };
    std::fs::write(&file, tenant.config()?)?;
    let cluster = Cluster::start(dir, &["--config", file.to_str().context("UTF-8 path")?])?;
    let server = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    let seconds = conversations / CALLS_A_SECOND;
    let hold = Duration::from_secs(u64::from(seconds + TALK_S));
    let plan = Plan { server, number: "4001", calls_a_second: CALLS_A_SECOND, seconds, hold };

    let (callers, answerers, epoch) = (Media::open()?, Media::open()?, Instant::now());
    let called = Called::default();
    let agents = Agents::register(server, &agents, called.clone(), answerers.clone())?;
    let (theirs, ours) = (callers.speak(epoch)?, answerers.speak(epoch)?);
    let usage = Usage::begin(pids(&cluster)?)?;
    let outcome = call(&plan, called, callers)?;
    let kind = if record { "recorded" } else { "unrecorded" };
    usage.print(&format!("{conversations} {kind} conversations, set-up and end with them"))?;
    let seen = agents.go_home()?;
    let (sent_by_callers, heard_by_callers) = theirs.stop()?;
    let (sent_by_agents, heard_by_agents) = ours.stop()?;
    println!("{conversations} {kind} conversations, {} with an agent", seen.connected);
    for (who, sent, heard) in [
        ("callers", sent_by_callers, &heard_by_agents),
        ("agents", sent_by_agents, &heard_by_callers),
    ] {
        println!(
            "  of {sent} packets of {who} {} heard, {} dropped by the listener's own socket",
            heard.packets, heard.dropped
        );
    }
    print_histogram("  one way, caller to agent", "µs", &heard_by_agents.delay_us);
    print_histogram("  one way, agent to caller", "µs", &heard_by_callers.delay_us);
    for (why, count) in &outcome.failed {
        println!("  failed: {count} x {why}");
    }
    cluster.stop()?;
    Ok(())
}
