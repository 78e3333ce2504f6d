//! `make demo`: live calls, a `kill -9` of the node that leads them, then one of the gateway that carries half of them, and
//! what became of each.
//!
//! Exits 0 only if every call was kept. `--keep` leaves the cluster up for a softphone.

mod cast;
mod snapshot;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tandem_media::endpoint::EndpointPool;
use tandem_tests::Cluster;

use cast::Cast;
use snapshot::Snapshot;
use verdict::Verdict;

/// How long calls are watched after a kill.
const WATCH_S: u64 = 4;
const RECORDING_NAME: &str = "tandem-demo-call.wav";

struct Flags {
    keep: bool,
    dir: PathBuf,
}

fn flags() -> Result<Flags> {
    let mut flags = Flags { keep: false, dir: std::env::current_dir()?.join("tandem-data/demo") };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keep" => flags.keep = true,
            "--dir" => flags.dir = args.next().context("--dir needs a folder")?.into(),
            "--help" => {
                println!("tandem-demo [--keep] [--dir DIR]");
                std::process::exit(0);
            }
            other => anyhow::bail!("unknown option {other}; there are --keep and --dir DIR"),
        }
    }
    Ok(flags)
}

fn main() -> ExitCode {
    let run = || -> Result<bool> {
        let flags = flags()?;
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(demo(&flags))
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demo could not be run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(flags: &Flags) -> Result<bool> {
    let begun = Instant::now();
    prepare(&flags.dir)?;
    say(begun, "starting two nodes, two gateways and a witness, each a process of its own");
    let cluster = Cluster::start(&flags.dir, &[])?;
    let api = cluster.api()?;
    for process in cluster.processes()?.processes {
        say(begun, &format!("  {:<10} pid {}", process.name, process.pid));
    }

    let pool = Arc::new(EndpointPool::start()?);
    let mut cast = Cast::new(&cluster, pool).await?;
    say(begun, "agents 1001-1007 register; callers call: some talk, one rings, some wait");
    cast.call_in(&api).await?;
    let before = Snapshot::take(&api).await?;
    before.print("before");

    let leader = cluster.leader().await?;
    say(begun, &format!("kill -9 {leader}, which leads the shard of these calls"));
    cast.mark();
    let killed_at = cluster.kill(&leader)?;
    // One caller hangs up in the very moment of the failover.
    let bye_status = cast.hang_up_in_failover().await;
    let bye_ms = killed_at.elapsed().as_millis();
    say(
        begun,
        &format!("a BYE sent right after the kill was answered {bye_status:?} in {bye_ms} ms"),
    );
    let failover_ms = snapshot::new_leader_commits(&api, &leader, killed_at).await?;
    say(begun, &format!("the API of the new leader answered {failover_ms} ms after the kill"));
    tokio::time::sleep(Duration::from_secs(WATCH_S)).await;
    let after = Snapshot::take(&api).await?;
    after.print("after");

    let mut verdict = Verdict::new();
    verdict.judge(
        "BYE in the moment of failover",
        bye_status == Some(200),
        &format!("{bye_status:?} in {bye_ms} ms"),
    );
    cast.judge_audio(&mut verdict, "node", cast::SPACING_MS_MAX);
    before.judge_kept(&after, &cast, &mut verdict, "node");

    let carrier = cluster.processes()?.sip.first().context("an address")?.serving.clone();
    say(begun, &format!("kill -9 {carrier}, which carries half of the calls"));
    cast.mark();
    let killed_at = cluster.kill(&carrier)?;
    let taken_ms = snapshot::another_serves(&cluster, &carrier, killed_at).await?;
    say(begun, &format!("the other gateway serves its address {taken_ms} ms after the kill"));
    let api = api.only(other_gateway(&cluster, &carrier)?);
    tokio::time::sleep(Duration::from_secs(WATCH_S)).await;
    let last = Snapshot::take(&api).await?;
    cast.judge_audio(&mut verdict, "gateway", cast::TAKEOVER_MS_MAX);
    after.judge_kept(&last, &cast, &mut verdict, "gateway");

    say(begun, "the ringing agent answers; agents hang up, so that who waits is served in order");
    cast.serve_the_queue(&api, &before, &mut verdict).await?;
    say(begun, "everybody hangs up; records are read");
    cast.end_all().await;
    cast.judge_sipp(&mut verdict).await?;
    let wav = std::env::current_dir()?.join(RECORDING_NAME);
    cast.judge_records(&api, &mut verdict, &wav).await?;
    cast.judge_peers(&mut verdict);

    verdict.print();
    say(begun, &format!("a recorded call that lived through the kills: {}", wav.display()));
    if flags.keep {
        keep(&cluster)?;
        tokio::signal::ctrl_c().await?;
    }
    drop(cast);
    cluster.stop()?;
    Ok(verdict.all_kept())
}

/// The place of a gateway that is not the dead one, among those of the API.
fn other_gateway(cluster: &Cluster, dead: &str) -> Result<usize> {
    let processes = cluster.processes()?;
    let mut gateways = processes.processes.iter().filter(|process| process.role == "gateway");
    gateways.position(|gateway| gateway.name != dead).context("there is no other gateway")
}

/// A fresh folder of the demo's own; nothing else is ever deleted.
fn prepare(dir: &Path) -> Result<()> {
    if dir.join("processes.json").exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("clear {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))
}

fn keep(cluster: &Cluster) -> Result<()> {
    let processes = cluster.processes()?;
    println!("\nThe cluster stays up until Ctrl-C.");
    for vip in &processes.sip {
        println!("  SIP: {} (dial 4000 to 4004; agents 1001-1008, password tandem-NNNN)", vip.vip);
    }
    println!(
        "  API: {} with the token in {}",
        processes.api.join(", "),
        processes.token_file.display()
    );
    println!("  data and logs: {}", cluster.dir().display());
    Ok(())
}

fn say(begun: Instant, what: &str) {
    println!("{:6.2} s  {what}", begun.elapsed().as_secs_f64());
}
