//! `make bench`: failover, gateways that die, with few calls and with many, calls in each of their states, partitions, boxes with calls that are cut off, set-up time under load, queued calls, overload, busy neighbours, nodes that
//! are behind or begin, moves of a tenant, storms of registrations, recorded conversations, reads, commits beside
//! etcd's, and what each process costs. Prints figures with the machine's load; asserts nothing.
//!
//! `tandem-bench [NAME]…` measures only what is named, one or more of [`ALL`]; `partition` and `cut` need root (they lay networks),
//! `steady`, `busy` and `behind` take `TANDEM_STEADY_MINUTES`, `TANDEM_BUSY_MINUTES` and `TANDEM_BEHIND_MINUTES`,
//! `gateways` takes `TANDEM_KILLS` (of each kind), `crowd` takes `TANDEM_CROWD` (conversations),
//! `consensus` takes `--etcd PROGRAM` (`make bench-peers` gets it) and `--json FILE`, or `--alone`.

mod behind;
mod busy;
mod calls;
mod consensus;
mod conversations;
mod crowd;
mod cut;
mod failover;
mod gateways;
mod idle;
mod load;
mod moves;
mod overload;
mod partition;
mod queued;
mod reads;
mod registers;
mod rehydrate;
mod relay;
mod states;
mod steady;
mod tenant;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tandem_tests::Cluster;

const ALL: [&str; 20] = [
    "failover",
    "gateways",
    "crowd",
    "states",
    "partition",
    "cut",
    "idle",
    "rehydrate",
    "behind",
    "busy",
    "calls",
    "queued",
    "overload",
    "moves",
    "registers",
    "relay",
    "conversations",
    "steady",
    "reads",
    "consensus",
];
/// Where Debian puts it.
const ETCD: &str = "/usr/bin/etcd";

/// What is to be measured, and how.
struct Asked {
    named: Vec<String>,
    consensus: consensus::Options,
}

impl Asked {
    fn of(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let consensus = consensus::Options { etcd: ETCD.into(), json: None, alone: false };
        let mut asked = Self { named: Vec::new(), consensus };
        while let Some(arg) = args.next() {
            let mut file = || args.next().with_context(|| format!("{arg} lacks its file"));
            match arg.as_str() {
                "--etcd" => asked.consensus.etcd = file()?.into(),
                "--alone" => asked.consensus.alone = true,
                "--json" => asked.consensus.json = Some(file()?.into()),
                name if ALL.contains(&name) => asked.named.push(arg),
                unknown => {
                    bail!("there is no benchmark {unknown:?}; there are {}", ALL.join(", "))
                }
            }
        }
        Ok(asked)
    }
}

fn main() -> ExitCode {
    let run = || -> Result<()> {
        let Asked { named, consensus } = Asked::of(std::env::args().skip(1))?;
        let wanted = |name: &str| named.is_empty() || named.iter().any(|n| n == name);
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(async {
                println!("load average before: {}", load_average());
                if wanted("idle") {
                    idle::run()?;
                }
                if wanted("rehydrate") {
                    rehydrate::run(&fresh("rehydrate")?).await?;
                }
                if wanted("behind") {
                    behind::run(&fresh("behind")?).await?;
                }
                if wanted("busy") {
                    busy::run(&fresh("busy")?).await?;
                }
                if wanted("calls") {
                    calls::run(&fresh("calls")?)?;
                }
                if wanted("queued") {
                    queued::run(&fresh("queued")?)?;
                }
                if wanted("overload") {
                    overload::run(&fresh("overload")?).await?;
                }
                if wanted("moves") {
                    moves::run(&fresh("moves")?).await?;
                }
                if wanted("registers") {
                    registers::run(&fresh("registers")?).await?;
                }
                if wanted("relay") {
                    for (count, record) in relay::RUNS {
                        relay::run(&fresh(&format!("relay-{count}"))?, count, record)?;
                    }
                }
                if wanted("conversations") {
                    for count in conversations::COUNTS {
                        let dir = fresh(&format!("conversations-{count}"))?;
                        conversations::run(&dir, count).await?;
                    }
                }
                if wanted("steady") {
                    steady::run(&fresh("steady")?)?;
                }
                if wanted("gateways") {
                    gateways::run(&fresh("gateways")?).await?;
                }
                if wanted("crowd") {
                    crowd::run(&fresh("crowd")?)?;
                }
                if wanted("states") {
                    states::run().await?;
                }
                if wanted("failover") {
                    failover::run(&fresh("failover")?).await?;
                }
                if wanted("partition") {
                    partition::run().await?;
                }
                if wanted("cut") {
                    cut::run().await?;
                }
                if wanted("reads") {
                    reads::run().await?;
                }
                if wanted("consensus") {
                    consensus::run(&fresh("consensus")?, &consensus).await?;
                }
                println!("load average after: {}", load_average());
                Ok(())
            })
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// An empty folder for one cluster.
fn fresh(name: &str) -> Result<PathBuf> {
    let dir = std::env::current_dir()?.join("tandem-data").join(format!("bench-{name}"));
    // Whatever a run before left: the folder is the benches' own.
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("clear {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// As many as a variable says.
fn count(variable: &str, otherwise: u32) -> Result<u32> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text:?} is no number")),
        Err(_) => Ok(otherwise),
    }
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

/// Figures in `unit`, recorded as whole numbers.
fn print_histogram(what: &str, unit: &str, histogram: &Histogram<u64>) {
    println!(
        "{what}: n {} p50 {} p99 {} max {} {unit} (load {})",
        histogram.len(),
        histogram.value_at_quantile(0.5),
        histogram.value_at_quantile(0.99),
        histogram.max(),
        load_average().split(' ').next().unwrap_or_default(),
    );
}

fn pids(cluster: &Cluster) -> Result<Vec<(String, i32)>> {
    let processes = cluster.processes()?.processes;
    Ok(processes.into_iter().filter(|p| p.alive).map(|p| (p.name, p.pid)).collect())
}
