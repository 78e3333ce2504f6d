//! A tenant moves from shard to shard under live calls, whoever dies meanwhile.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tandem_tests::cluster::said;
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;

const WITHIN: Duration = Duration::from_secs(20);
/// Where the tenant goes, over and over: each is led by one of two nodes.
const WAY: [&str; 4] = ["s1", "s2", "s3", "s0"];
const MOVES: usize = 12;
/// Deaths during a move: how long after it was asked for, and of whom.
const DEATHS: usize = 6;

async fn shard_of_call(house: &House, call_id: &str) -> Result<Value> {
    let calls = house.api.items(&format!("/v1/calls?sip_call_id={call_id}")).await?;
    Ok(calls.first().context("the call lives")?["shard"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_moves_under_live_calls() -> Result<()> {
    let house = House::open(206).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let waiter = house.caller("13800000002", 1).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let wait = house.call(&waiter, "4001", "queued").await?;
    let queue = house.api.get("/v1/queues/support").await?;
    for phone in [&agent, &talker, &waiter] {
        phone.mark();
    }
    let mut shorts = Vec::new();
    for (round, shard) in WAY.iter().cycle().take(MOVES).enumerate() {
        let caller = house.caller(&format!("139{round:08}"), round % 2).await?;
        // A call is being set up while the tenant moves.
        let short = caller.dial("4003")?;
        let moved = house.tandem(&["tenant", "move", "demo", shard])?.output()?;
        assert_eq!(moved.status.code(), Some(0), "{}", said(&moved));
        caller.answered(&short, WITHIN).await?;
        assert_eq!(shard_of_call(&house, &short).await?, *shard);
        assert_eq!(caller.hang_up(&short).await?, 200);
        house.call_is(&talk, "connected").await?;
        house.call_is(&wait, "queued").await?;
        shorts.push(short);
    }
    assert_eq!(house.api.get("/v1/queues/support").await?, queue, "order and times of the queue");
    talker.heard_all(&talk);
    waiter.heard_all(&wait);
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.call_is(&wait, "connected").await?;
    assert_eq!(waiter.hang_up(&wait).await?, 200);
    // Wherever each was written, one list has them all, once.
    for call_id in shorts.iter().chain([&talk, &wait]) {
        house.cdr(call_id).await?;
        let cdrs = house.api.items(&format!("/v1/cdrs?sip_call_id={call_id}")).await?;
        assert_eq!(cdrs.len(), 1, "{cdrs:?}");
    }
    let recorded = house.api.items("/v1/recordings").await?;
    assert_eq!(recorded.len(), 2, "{recorded:?}");
    for phone in [&agent, &talker, &waiter] {
        assert_eq!(phone.violations(), []);
    }
    refuses_what_there_is_not(&house)
}

fn refuses_what_there_is_not(house: &House) -> Result<()> {
    for (tenant, shard, missing) in [
        ("nobody", "s1", "there is no tenant \"nobody\""),
        ("demo", "s9", "there is no shard \"s9\""),
        ("demo", "meta", "there is no shard \"meta\""),
    ] {
        let unknown = house.tandem(&["tenant", "move", tenant, shard])?.output()?;
        assert_eq!(unknown.status.code(), Some(1));
        assert!(said(&unknown).contains(missing), "{}", said(&unknown));
    }
    Ok(())
}

/// Each time at another moment of the move, of the node that the tenant leaves or of the one where it
/// comes to: it is where it was, or where it was to be, and its calls live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_moves_outlives_any_node() -> Result<()> {
    let house = House::open(207).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let waiter = house.caller("13800000002", 1).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let wait = house.call(&waiter, "4001", "queued").await?;
    for phone in [&agent, &talker, &waiter] {
        phone.mark();
    }
    let lead = |status: &Value| {
        let led = |node: &str| {
            let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
            let of = nodes.iter().find(|it| it["name"] == node);
            of.and_then(|it| it["leads"].as_array()).map_or(0, Vec::len)
        };
        // Spread again: each node leads some.
        (led("node-a") >= 2 && led("node-b") >= 2).then_some(())
    };
    for (round, shard) in WAY.iter().cycle().take(DEATHS).enumerate() {
        house.api.until("/v1/cluster", WITHIN, lead).await?;
        let victim = if round % 2 == 0 { "node-a" } else { "node-b" };
        let mut moving = house.tandem(&["tenant", "move", "demo", shard])?;
        let mut moving = moving.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        // Before it begins, in its middle, and after its end: moves take some milliseconds.
        tokio::time::sleep(Duration::from_millis(2 * round as u64)).await;
        house.cluster.kill(victim)?;
        let moved = tokio::task::spawn_blocking(move || moving.wait()).await??;
        assert!(matches!(moved.code(), Some(0 | 1 | 3)), "{moved:?}");
        let settled = |now: &Value| {
            let tenant = now["items"].get(0)?;
            tenant["moving_to"].is_null().then(|| tenant["shard"].clone())
        };
        let home = house.api.until("/v1/tenants", WITHIN, settled).await?;
        if moved.success() {
            assert_eq!(home, **shard);
        }
        house.call_is(&talk, "connected").await?;
        house.call_is(&wait, "queued").await?;
        let caller = house.caller(&format!("139{round:08}"), round % 2).await?;
        let short = caller.dial("4003")?;
        caller.answered(&short, WITHIN).await?;
        assert_eq!(caller.hang_up(&short).await?, 200);
        house.cluster.revive(victim)?;
    }
    talker.heard_all(&talk);
    waiter.heard_all(&wait);
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.call_is(&wait, "connected").await?;
    assert_eq!(waiter.hang_up(&wait).await?, 200);
    for phone in [&agent, &talker, &waiter] {
        assert_eq!(phone.violations(), []);
    }
    Ok(())
}
