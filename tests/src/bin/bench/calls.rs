//! Calls to the echo at a carrier's rate for minutes: INVITE → 100, INVITE → 200.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::Cluster;

use crate::load::{Called, Media, Plan, call};
use crate::usage::Usage;
use crate::{pids, print_histogram};

/// Rate, and for how long.
const RATES: [(u32, u32); 2] = [(50, 60), (100, 300)];
/// Held for a second: 100 channels of the demo tenant's 120 are busy at a time.
const HOLD: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(5);

pub fn run(dir: &Path) -> Result<()> {
    let cluster = Cluster::start(dir, &[])?;
    let idle = Usage::begin(pids(&cluster)?)?;
    std::thread::sleep(IDLE);
    idle.print("idle")?;
    let server = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    for (calls_a_second, seconds) in RATES {
        let plan = Plan { server, number: "4003", calls_a_second, seconds, hold: HOLD };
        let usage = Usage::begin(pids(&cluster)?)?;
        let outcome = call(&plan, Called::default(), Media::open()?)?;
        usage.print(&format!("at {calls_a_second} calls/s for {seconds} s"))?;
        print_histogram("INVITE → 100 to 4003", "µs", &outcome.trying_us);
        print_histogram("INVITE → 200 to 4003", "µs", &outcome.answered_us);
        outcome.print();
    }
    cluster.stop()?;
    Ok(())
}
