//! Disks stand still and fail under live calls: who leads steps away in time, and no call is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::house::House;
use tandem_tests::phone::{Incoming, Phone};
use tokio::time::Instant;

const WITHIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
const SHORT_MS: u64 = 1_500;
const LONG_MS: u64 = 4_000;
/// At this length of a stall a leader steps away.
const STALL_MS_MAX: u64 = 2_000;
/// A generous bound; how long it takes is printed.
const LEAD_MOVES_WITHIN: Duration = Duration::from_secs(10);

fn other(node: &str) -> &'static str {
    if node == "node-a" { "node-b" } else { "node-a" }
}

/// The status and text of a node's readiness.
async fn readiness(house: &House, node: &str) -> Result<(u16, String)> {
    let http = house.cluster.process(node)?.http;
    house.api.probe(&format!("http://{http}"), "/readyz?verbose").await
}

/// Until a node's readiness is as wanted.
async fn ready_is(house: &House, node: &str, status: u16, line: &str) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let (is, text) = readiness(house, node).await?;
        if is == status && text.contains(line) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{node} is not {status} with {line:?}: {is}\n{text}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Of each node: the sum of its groups' terms.
async fn terms(house: &House) -> Result<Vec<f64>> {
    let mut terms = Vec::new();
    for node in ["node-a", "node-b"] {
        let http = house.cluster.process(node)?.http;
        terms.push(house.metric(&http, "tandem_raft_term{").await?);
    }
    Ok(terms)
}

/// Until a write on the node's disk waits for so long.
async fn stalls_for(house: &House, node: &str, ms: u64) -> Result<()> {
    let http = house.cluster.process(node)?.http;
    let deadline = Instant::now() + WITHIN;
    while house.metric(&http, "tandem_log_stalled_seconds").await? * 1e3 < ms as f64 {
        ensure!(Instant::now() < deadline, "the disk of {node} never stalled for {ms} ms");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Until the write that has waited for so long is done.
async fn stalled_for(house: &House, node: &str, ms: u64) -> Result<()> {
    let http = house.cluster.process(node)?.http;
    let deadline = Instant::now() + WITHIN;
    while house.metric(&http, "tandem_log_stalled_seconds").await? * 1e3 >= ms as f64 {
        ensure!(Instant::now() < deadline, "the disk of {node} never writes again");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Set up, heard and hung up, by a caller who is new.
async fn short_call(house: &House, user: &str) -> Result<()> {
    let caller = house.caller(user, 1).await?;
    let call = caller.dial("4003")?;
    caller.answered(&call, WITHIN).await?;
    let status = caller.hang_up(&call).await?;
    ensure!(status == 200, "BYE was answered {status}");
    Ok(())
}

/// Until another node than `from` leads, by who is asked there.
async fn lead_moves(house: &House, from: &str) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        if let Ok(leader) = house.cluster.leader().await
            && leader != from
        {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < LEAD_MOVES_WITHIN, "{from} still leads");
        tokio::time::sleep(LOOK).await;
    }
}

/// Packets since the mark.
fn heard(phone: &Phone, call: &str) -> u64 {
    phone.with_calls(|calls| {
        let endpoint = calls.get(call).and_then(|call| call.media.as_ref());
        endpoint.map_or(0, |endpoint| endpoint.stats().received)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_live_through_disks_that_stall_and_fail() -> Result<()> {
    let house = House::open_for_faults(191).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let waiter = house.caller("13800000002", 1).await?;
    let wait = house.call(&waiter, "4001", "queued").await?;

    // A stall that is short enough to be waited for.
    let leader = house.cluster.leader().await?;
    let before = terms(&house).await?;
    house.trouble_disk(&leader, &format!("stall?ms={SHORT_MS}")).await?;
    short_call(&house, "13900000001").await?;
    stalls_for(&house, &leader, SHORT_MS / 2).await?;
    ready_is(&house, &leader, 200, "[+] disk: writes").await?;
    short_call(&house, "13900000002").await?;
    stalled_for(&house, &leader, SHORT_MS / 2).await?;
    assert_eq!(house.cluster.leader().await?, leader);
    assert_eq!(terms(&house).await?, before, "nobody stood for election");
    house.call_is(&talk, "connected").await?;
    house.call_is(&wait, "queued").await?;

    // One that is not.
    talker.mark();
    house.trouble_disk(&leader, &format!("stall?ms={LONG_MS}")).await?;
    let begun = Instant::now();
    short_call(&house, "13900000003").await?;
    lead_moves(&house, &leader).await?;
    let moved = begun.elapsed();
    println!("a disk that stalls: another node leads {moved:?} after it began");
    ensure!(moved >= Duration::from_millis(STALL_MS_MAX), "{moved:?} is too early");
    short_call(&house, "13900000004").await?;
    house.call_is(&talk, "connected").await?;
    house.call_is(&wait, "queued").await?;
    // What was stalled is a follower like any other.
    ready_is(&house, &leader, 200, "[+] disk: writes").await?;
    let follows = |status: &serde_json::Value| {
        let nodes = status["nodes"].as_array()?;
        let node = nodes.iter().find(|node| node["name"] == leader.as_str())?;
        let well = node["healthy"] == true && node["lag"].as_u64().is_some_and(|lag| lag < 10);
        (well && node["leads"].as_array()?.is_empty()).then_some(())
    };
    house.api.until("/v1/cluster", WITHIN, follows).await?;
    ensure!(heard(&talker, &talk) > 0, "the caller hears nothing");

    // The disk of who leads now fails for good.
    let second = house.cluster.leader().await?;
    assert_eq!(second, other(&leader));
    talker.mark();
    house.trouble_disk(&second, "fail").await?;
    let begun = Instant::now();
    short_call(&house, "13900000005").await?;
    lead_moves(&house, &second).await?;
    println!("a disk that fails: another node leads {:?} after it", begun.elapsed());
    ready_is(&house, &second, 503, "[-] disk: TD0421 the log at ").await?;
    let unwell = |status: &serde_json::Value| {
        let nodes = status["nodes"].as_array()?;
        let node = nodes.iter().find(|node| node["name"] == second.as_str())?;
        (node["healthy"] == false && status["failure_tolerance"] == 0).then_some(())
    };
    house.api.until("/v1/cluster", WITHIN, unwell).await?;
    short_call(&house, "13900000006").await?;
    house.call_is(&talk, "connected").await?;
    ensure!(heard(&talker, &talk) > 0, "the caller hears nothing");
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.call_is(&wait, "connected").await?;
    let cdr = house.cdr(&talk).await?;
    assert_eq!(cdr["disposition"], "answered");
    assert_eq!(cdr["hung_up_by"], "caller");
    assert_eq!(waiter.hang_up(&wait).await?, 200);
    assert_eq!(talker.violations(), []);
    assert_eq!(agent.violations(), []);

    // Started again on a disk that works it is a voter again.
    house.cluster.bury(&second).await?;
    house.cluster.revive(&second)?;
    ready_is(&house, &second, 200, "[+] disk: writes").await?;
    house
        .api
        .until("/v1/cluster", WITHIN, |status| (status["failure_tolerance"] == 1).then_some(()))
        .await
        .context("the voter is back")?;
    house.cluster.stop()?;
    Ok(())
}

/// The readiness of a node and the witness whose disks stall says so, whoever leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_says_that_a_disk_stalls() -> Result<()> {
    let house = House::open_for_faults(192).await?;
    let follower = other(&house.cluster.leader().await?);
    for voter in [follower, "witness"] {
        house.trouble_disk(voter, &format!("stall?ms={}", 2 * LONG_MS)).await?;
        short_call(&house, "13800000001").await?;
        ready_is(&house, voter, 503, "[-] disk: TD0420 a write has taken ").await?;
        ready_is(&house, voter, 200, "[+] disk: writes").await?;
    }
    house.cluster.stop()?;
    Ok(())
}
