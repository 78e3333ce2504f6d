//! Many shards: each has a leader, leads are spread and given away by the operator's word under live
//! calls, and the death of a node takes none of them for long.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tandem_tests::cluster::said;
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;

const WITHIN: Duration = Duration::from_secs(20);
const MOVES: usize = 10;

/// Which node leads which shard.
fn led(status: &Value, node: &str) -> Vec<String> {
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = nodes.iter().find(|it| it["name"] == node);
    let leads = of.and_then(|it| it["leads"].as_array()).map(Vec::as_slice).unwrap_or_default();
    leads.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn all_led(status: &Value, nodes: &[&str]) -> bool {
    let mut led: Vec<String> = nodes.iter().flat_map(|node| led(status, node)).collect();
    led.sort();
    led == ["meta", "s0", "s1", "s2", "s3"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leads_are_spread_and_outlive_a_node() -> Result<()> {
    let house = House::open(181).await?;
    let spread = |status: &Value| {
        let (a, b) = (led(status, "node-a"), led(status, "node-b"));
        (all_led(status, &["node-a", "node-b"]) && a.len().abs_diff(b.len()) == 1).then_some(())
    };
    house.api.until("/v1/cluster", WITHIN, spread).await?;
    let leader = house.cluster.leader().await?;
    let other = if leader == "node-a" { "node-b" } else { "node-a" };
    house.cluster.kill(&leader)?;
    house.api.until("/v1/cluster", WITHIN, |now| all_led(now, &[other]).then_some(())).await?;
    house.cluster.revive(&leader)?;
    house.api.until("/v1/cluster", WITHIN, spread).await?;
    // What has moved back was quiet.
    assert_eq!(house.cluster.leader().await?, other);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_is_given_away_under_live_calls() -> Result<()> {
    let house = House::open(182).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let waiter = house.caller("13800000002", 1).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let wait = house.call(&waiter, "4001", "queued").await?;
    let queue = house.api.get("/v1/queues/support").await?;
    for phone in [&agent, &talker, &waiter] {
        phone.mark();
    }
    for round in 0..MOVES {
        let leader = house.cluster.leader().await?;
        let next = if leader == "node-a" { "node-b" } else { "node-a" };
        let caller = house.caller(&format!("139{round:08}"), round % 2).await?;
        // A call is being set up while the lead moves.
        let short = caller.dial("4003")?;
        let moved = house.tandem(&["cluster", "move-leader", "s0", next])?.output()?;
        assert_eq!(moved.status.code(), Some(0), "{}", said(&moved));
        caller.answered(&short, WITHIN).await?;
        assert_eq!(caller.hang_up(&short).await?, 200);
        assert_eq!(house.cluster.leader().await?, next);
        house.call_is(&talk, "connected").await?;
        house.call_is(&wait, "queued").await?;
    }
    assert_eq!(house.api.get("/v1/queues/support").await?, queue, "order and times of the queue");
    for (phone, call_id) in [(&talker, &talk), (&waiter, &wait)] {
        phone.heard_all(call_id);
    }
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.call_is(&wait, "connected").await?;
    assert_eq!(waiter.hang_up(&wait).await?, 200);

    let unknown = house.tandem(&["cluster", "move-leader", "s99", "node-a"])?.output()?;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(said(&unknown).contains("there is no shard \"s99\""), "{}", said(&unknown));
    let witness = house.tandem(&["cluster", "move-leader", "s0", "witness"])?.output()?;
    assert_eq!(witness.status.code(), Some(3));
    assert!(said(&witness).contains("runs no calls"), "{}", said(&witness));
    Ok(())
}
