//! What an operator sees of a cluster: the status screen, also while nobody leads, and the doctor.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::cluster::said;
use tandem_tests::house::House;

const WITHIN: Duration = Duration::from_secs(15);
/// Generous; without what was seen last, it would be two seconds and an error.
const SCREEN: Duration = Duration::from_secs(1);
const NODES: [&str; 2] = ["node-a", "node-b"];

/// On a thread of its own, so that the test's clock goes on.
async fn tandem(house: &House, arguments: &[&str]) -> Result<Output> {
    let mut command = house.tandem(arguments)?;
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_screen_shows_what_was_seen_last_while_nobody_leads() -> Result<()> {
    let house = House::open(176).await?;
    let api = house.cluster.api()?;
    let whole = |status: &Value| {
        let synced = status["nodes"].as_array()?.iter().all(|node| node["sync_p99_us"].is_u64());
        let here = status["gateways"].as_array()?.iter().all(|it| it["version"].is_string());
        (status["failure_tolerance"] == 1 && synced && here).then(|| status.clone())
    };
    let status = api.until("/v1/cluster", WITHIN, whole).await?;
    for row in status["nodes"].as_array().context("nodes")? {
        ensure!(row["version"] == env!("CARGO_PKG_VERSION"), "{row}");
    }
    let output = tandem(&house, &["cluster", "status"]).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for shown in ["fsync p99", " ms", "gateway-b", "witness"] {
        ensure!(text.contains(shown), "no {shown:?} in\n{text}");
    }

    for node in NODES {
        house.cluster.signal(node, libc::SIGSTOP)?;
    }
    let asked = Instant::now();
    let (code, seen) = api.look("/v1/cluster?within_ms=150").await?;
    let took = asked.elapsed();
    ensure!(code == 200 && took < SCREEN, "{code} after {took:?}: {seen}");
    ensure!(seen["nodes"] == status["nodes"] || seen["failure_tolerance"] == 1, "{seen}");
    let older = |status: &Value| (status["age_ms"].as_u64()? > 2_000).then_some(());
    api.until("/v1/cluster?within_ms=150", WITHIN, older).await?;
    println!("with no node to tell, the screen took {took:?}");
    let (code, _) = api.look("/v1/cluster").await?;
    ensure!(code == 503, "who wants no old news is told none: {code}");
    let (code, problem) = api.look("/v1/cluster?within_ms=0").await?;
    ensure!(code == 400, "{code} {problem}");

    for node in NODES {
        house.cluster.signal(node, libc::SIGCONT)?;
    }
    let fresh = |status: &Value| (status["age_ms"].as_u64()? < 150).then_some(());
    api.until("/v1/cluster?within_ms=150", WITHIN, fresh).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_what_does_not_work_and_says_what_to_do() -> Result<()> {
    let house = House::open(58).await?;
    let output = tandem(&house, &["doctor", "--json"]).await?;
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no findings: {}", said(&output)))?;
    let of = |process: &str, check: &str| {
        let found = findings.iter().find(|it| it["of"] == process && it["check"] == check);
        found.with_context(|| format!("{check} of {process} in {findings:#?}"))
    };
    for process in ["node-a", "witness", "gateway-b"] {
        for check in ["certificate", "port", "open files", "disk space"] {
            ensure!(of(process, check)?["level"] != "wrong", "{}", of(process, check)?);
        }
    }
    ensure!(of("node-b", "disk latency")?["found"].as_str().context("found")?.contains("p99"));
    ensure!(of("cluster", "versions")?["level"] == "ok", "{}", of("cluster", "versions")?);
    let wrong = findings.iter().any(|finding| finding["level"] == "wrong");
    ensure!(output.status.code() == Some(i32::from(wrong)), "{}", said(&output));

    // Another process that is given the ports of one that runs, and its certificate.
    let file = house.cluster.dir().join("conf/gateway-a.toml");
    let text = std::fs::read_to_string(&file)?;
    let mut config: toml::Table = text.parse()?;
    let process = config["process"].as_table_mut().context("[process]")?;
    let data = house.cluster.dir().join("elsewhere");
    std::fs::create_dir(&data)?;
    process["data"] = data.to_str().context("UTF-8 path")?.into();
    let second = house.cluster.dir().join("second.toml");
    std::fs::write(&second, toml::to_string(&config)?)?;
    let path = second.to_str().context("UTF-8 path")?;
    let mut command = std::process::Command::new(tandem_tests::cluster::binary("tandem")?);
    command.args(["doctor", path]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(1), "{}", said(&output));
    ensure!(text.contains("in use by another") && text.contains("ss -ltnup"), "{text}");

    let mut command = std::process::Command::new(tandem_tests::cluster::binary("tandem")?);
    let output = tokio::task::spawn_blocking(move || command.arg("doctor").output()).await??;
    ensure!(output.status.code() == Some(2), "{}", said(&output));
    Ok(())
}
