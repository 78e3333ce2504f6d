//! The tones of the tenant's country.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming};

const WITHIN: Duration = Duration::from_secs(15);

const GERMAN: &str = r#"
[tenant]
name = "demo"
realm = "demo.tandem"
country = "de"

[[trunk]]
name = "carrier"
channels = 30

[[queue]]
name = "support"
agents = ["1001"]

[[agent]]
id = "1001"
password = "tandem-1001"

[[agent]]
id = "1002"
password = "tandem-1002"

[[number]]
digits = "4001"
queue = "support"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caller_who_is_sent_on_hears_the_ringing_tone_of_the_country() -> Result<()> {
    let house = House::open_with(137, GERMAN).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let _colleague = house.agent("1002", 0, Incoming::Ring).await?;
    let caller = house.caller("13800000001", 1).await?;
    let call = house.call(&caller, "4001", "connected").await?;
    let offered = agent.until("an offer", WITHIN, |calls| calls.keys().next().cloned()).await?;
    assert_eq!(agent.refer(&offered, "1002").await?, 202);
    caller.hears(&call, 425, WITHIN).await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    house.cluster.stop()?;
    Ok(())
}

/// Click-to-dial to a colleague who is busy: the leader dies in the middle of the tone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_put_through_to_a_busy_phone_hears_the_busy_tone_over_a_takeover() -> Result<()> {
    let house = House::open_with(154, GERMAN).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let _colleague = house.agent("1002", 0, Incoming::Reject { status: 486 }).await?;
    let placed = house.api.post("/v1/calls", &json!({"from": "1001", "to": "1002"})).await?;
    assert_eq!(placed.0, 201, "{placed:?}");
    let call = agent.called(WITHIN).await?;
    house.call_is(&call, "in_flow").await?;
    house.cluster.kill(&house.cluster.leader().await?)?;
    // On for 480 ms, then off for as long.
    agent.hears(&call, 425, WITHIN).await?;
    assert_eq!(agent.ended(&call, WITHIN).await?, Ended::ByPeer);
    let cdr = house.cdr(&call).await?;
    let shown = [&cdr["disposition"], &cdr["hung_up_by"], &cdr["cause"], &cdr["flow"]];
    assert_eq!(shown, [&json!("busy"), &json!("callee"), &json!("486"), &json!(null)]);
    assert_eq!(cdr["takeovers"], json!(1));
    house.agent_is("1001", "ready").await?;
    assert_eq!(agent.violations(), []);
    house.cluster.stop()?;
    Ok(())
}
