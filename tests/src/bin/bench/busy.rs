//! A carrier's rate for minutes beside programs that take all the time they get: whether that makes elections.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::Cluster;
use tandem_tests::cluster::metric;

use crate::load::{Called, Media, Plan, call};
use crate::{count, print_histogram};

const LOOPS: usize = 2;
const CALLS_A_SECOND: u32 = 100;
/// 100 channels of the demo tenant's 120 are busy at a time.
const HOLD: Duration = Duration::from_secs(1);
const MINUTES: &str = "TANDEM_BUSY_MINUTES";
const MINUTES_DEFAULT: u32 = 10;
const SHARDS: u16 = 16;
const STOOD: &str = "tandem_raft_candidacies_total";

/// Ends with this.
struct Loop(Child);

impl Loop {
    fn start() -> Result<Self> {
        let mut shell = Command::new("sh");
        Ok(Self(shell.args(["-c", "while :; do :; done"]).spawn().context("sh")?))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Whichever fails: it has ended.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

pub async fn run(dir: &Path) -> Result<()> {
    let minutes = count(MINUTES, MINUTES_DEFAULT)?;
    let cluster = Cluster::start(dir, &["--shards", &SHARDS.to_string()])?;
    let server = cluster.processes()?.sip.first().context("a VIP")?.vip.parse()?;
    let loops = (0..LOOPS).map(|_| Loop::start()).collect::<Result<Vec<_>>>()?;
    let seconds = minutes * 60;
    let plan = Plan { server, number: "4003", calls_a_second: CALLS_A_SECOND, seconds, hold: HOLD };
    let calling =
        tokio::task::spawn_blocking(move || call(&plan, Called::default(), Media::open()?));
    let outcome = calling.await??;
    drop(loops);
    let stood = candidacies(&cluster).await?;
    println!(
        "  {minutes} min at {CALLS_A_SECOND} calls/s, {LOOPS} busy loops: a node stood for election {stood} times"
    );
    print_histogram("INVITE → 100 beside busy loops", "µs", &outcome.trying_us);
    print_histogram("INVITE → 200 beside busy loops", "µs", &outcome.answered_us);
    outcome.print();
    cluster.stop()?;
    Ok(())
}

/// Of both nodes in all groups; leads that are given away for the balance's sake are no elections.
async fn candidacies(cluster: &Cluster) -> Result<f64> {
    let mut stood = 0.0;
    for node in ["node-a", "node-b"] {
        let base = format!("http://{}", cluster.process(node)?.http);
        let (_, text) = cluster.api()?.probe(&base, "/metrics").await?;
        // Of a group in which it never stood there is none.
        let groups = (0..SHARDS).map(|shard| format!("s{shard}")).chain(["meta".to_owned()]);
        let count = |group| metric(&text, &format!("{STOOD}{{shard=\"{group}\"}}"));
        stood += groups.filter_map(count).sum::<f64>();
    }
    Ok(stood)
}
