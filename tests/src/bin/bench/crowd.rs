//! A thousand live conversations on one gateway, and it is killed: how long each side hears nothing, how often any message
//! is sent, and whether all of them end as their callers wish.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tandem_tests::Cluster;

use crate::load::{Agents, Called, Media, Plan, call, users};
use crate::tenant::Tenant;
use crate::{count, print_histogram};

const CONVERSATIONS: u32 = 1_000;
const CALLS_A_SECOND: u32 = 25;
const ACW_MS: u32 = 1_000;
/// All of them talk for so long before the kill, and behind it.
const TALK_S: u32 = 10;

pub fn run(dir: &Path) -> Result<()> {
    let conversations = count("TANDEM_CROWD", CONVERSATIONS)?;
    let agents = users(conversations);
    let file = dir.join("bench.toml");
    let tenant = Tenant { agents: &agents, channels: agents.len(), record: false, acw_ms: ACW_MS };
    std::fs::write(&file, tenant.config()?)?;
    let cluster = Cluster::start(dir, &["--config", file.to_str().context("UTF-8 path")?])?;
    let address = cluster.processes()?.sip.first().context("a VIP")?.vip.clone();
    let server = address.parse()?;
    let seconds = conversations.div_ceil(CALLS_A_SECOND);
    let hold = Duration::from_secs(u64::from(seconds + 2 * TALK_S));
    let plan = Plan { server, number: "4001", calls_a_second: CALLS_A_SECOND, seconds, hold };

    let (callers, answerers, epoch) = (Media::open()?, Media::open()?, Instant::now());
    let called = Called::default();
    let agents = Agents::register(server, &agents, called.clone(), answerers.clone())?;
    let (theirs, ours) = (callers.speak(epoch)?, answerers.speak(epoch)?);
    let cluster = Arc::new(cluster);
    let dies_at = Instant::now() + Duration::from_secs(u64::from(seconds + TALK_S));
    let murder = std::thread::spawn({
        let (cluster, address) = (Arc::clone(&cluster), address.clone());
        move || {
            std::thread::sleep(dies_at.saturating_duration_since(Instant::now()));
            kill(&cluster, &address)
        }
    });
    let outcome = call(&plan, called, callers)?;
    let dead = murder.join().ok().context("the thread that kills has panicked")??;
    let seen = agents.go_home()?;
    let (_, heard_by_callers) = theirs.stop()?;
    let (_, heard_by_agents) = ours.stop()?;
    println!(
        "{} conversations ({} with an agent), {dead} killed: {} failed; \
         a message came {} times at most to callers, {} to agents",
        outcome.calls,
        seen.connected,
        outcome.failures(),
        outcome.came_at_most,
        seen.came_at_most
    );
    for (who, heard) in [("caller", &heard_by_callers), ("agent", &heard_by_agents)] {
        println!("  {} packets dropped by the {who}s' own socket", heard.dropped);
        print_histogram(&format!("  longest gap of each {who}"), "ms", &heard.gap_ms);
    }
    for (why, times) in &outcome.failed {
        println!("  failed: {times} x {why}");
    }
    let cluster = Arc::into_inner(cluster).context("somebody uses the cluster still")?;
    cluster.stop()?;
    Ok(())
}

/// Who serves the address.
fn kill(cluster: &Cluster, address: &str) -> Result<String> {
    let lines = cluster.processes()?.sip.into_iter();
    let line = lines.into_iter().find(|line| line.vip == address).context("the VIP")?;
    cluster.kill(&line.serving)?;
    Ok(line.serving)
}
