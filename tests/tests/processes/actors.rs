//! An actor panics under live calls: it is started again from what is replicated.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;

const WITHIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_when_its_actors_panic() -> Result<()> {
    let house = House::open_for_faults(51).await?;
    let agent = house.agent("1001", 1, Incoming::Answer { after_ms: 50 }).await?;
    let caller = house.caller("13800000001", 0).await?;
    let talk = house.call(&caller, "4001", "connected").await?;
    let waits = house.call(&caller, "4001", "queued").await?;
    let leader = house.cluster.process(&house.cluster.leader().await?)?;
    let before = house.metric(&leader.http, "tandem_actor_restarts_total").await?;

    let id = house.item(&format!("/v1/calls?sip_call_id={talk}")).await?;
    let id = id["id"].as_str().context("id")?;
    let channels = house.api.items("/v1/trunks/carrier/channels?limit=1000").await?;
    let busy = channels.iter().find(|channel| channel["call"] == id).context("its channel")?;
    let channel = format!("carrier/{}", busy["number"]);
    for (kind, id) in
        [("call", id), ("agent", "1001"), ("queue", "support"), ("channel", channel.as_str())]
    {
        house.panic_actor(kind, id).await?;
    }

    // Each of them has to do something now, and panics before it is done.
    assert_eq!(caller.hang_up(&talk).await?, 200);
    assert_eq!(house.cdr(&talk).await?["hung_up_by"], "caller");
    house.call_is(&waits, "connected").await?;
    house.agent_is("1001", "talking").await?;
    assert_eq!(caller.hang_up(&waits).await?, 200);
    house.agent_is("1001", "ready").await?;
    assert_eq!(caller.violations(), []);
    assert_eq!(agent.violations(), []);
    let after = house.metric(&leader.http, "tandem_actor_restarts_total").await?;
    assert!(after - before >= 4.0, "{} of 4 actors panicked", after - before);
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_panics_again_and_again_is_served_without_an_actor() -> Result<()> {
    let house = House::open_for_faults(52).await?;
    let caller = house.caller("13800000001", 0).await?;
    let doomed = house.call(&caller, "4003", "in_flow").await?;
    let lives = house.call(&caller, "4003", "in_flow").await?;
    let leader = house.cluster.process(&house.cluster.leader().await?)?;
    let path = format!("/v1/calls?sip_call_id={doomed}");
    let id = house.item(&path).await?["id"].as_str().context("id")?.to_owned();

    let deadline = tokio::time::Instant::now() + WITHIN;
    while house.metric(&leader.http, "tandem_actor_quarantined_total").await? < 1.0 {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "it is never quarantined");
        // Refused while it is down.
        let _ = house.panic_actor("call", &id).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Its audio goes on, and it is served without an actor.
    house.call_is(&doomed, "in_flow").await?;
    assert_eq!(caller.hang_up(&doomed).await?, 200);
    assert_eq!(house.cdr(&doomed).await?["hung_up_by"], "caller");
    assert_eq!(caller.hang_up(&lives).await?, 200);
    house.cluster.stop()?;
    Ok(())
}
