//! SIP over TLS: an agent and a caller whose node dies.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming};

const WITHIN: Duration = Duration::from_secs(15);
/// Of audio, with room for a busy machine.
const SPACING_MS_MAX: u64 = 60 + 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_over_tls_live_through_the_death_of_the_leader() -> Result<()> {
    let house = House::open(41).await?;
    let quick = Incoming::Answer { after_ms: 50 };
    let agent = house.agent_over_tls("1001", 0, quick).await?;
    // One gateway serves the caller, the other the agent.
    let caller = house.phone_over_tls("13800000001", 1, Incoming::Reject { status: 486 }).await?;
    let plain = house.caller("13800000002", 1).await?;
    let talk = house.call(&caller, "4001", "connected").await?;
    let offered = agent.until("an offer", WITHIN, |calls| calls.keys().next().cloned()).await?;
    for phone in [&agent, &caller] {
        phone.with_calls(|calls| {
            calls.values().filter_map(|call| call.media.as_ref()).for_each(|media| media.mark());
        });
    }

    let leader = house.cluster.leader().await?;
    house.cluster.kill(&leader)?;
    // A call over the very connection, in the very moment.
    let echo = caller.dial("4003")?;
    caller.answered(&echo, WITHIN).await?;
    assert_eq!(caller.hang_up(&echo).await?, 200);
    house.call_is(&talk, "connected").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (phone, call_id) in [(&caller, &talk), (&agent, &offered)] {
        let stats = phone.with_calls(|calls| calls[call_id].media.as_ref().map(|m| m.stats()));
        let stats = stats.context("audio")?;
        assert!(stats.received > 0 && stats.spacing_ms_max <= SPACING_MS_MAX, "{stats:?}");
    }
    // The agent hangs up over its own connection, is offered the next call over it, and rings out
    // of a call that its caller gives up.
    assert_eq!(agent.hang_up(&offered).await?, 200);
    assert_eq!(caller.ended(&talk, WITHIN).await?, Ended::ByPeer);
    house.agent_is("1001", "ready").await?;
    let next = house.call(&plain, "4001", "connected").await?;
    assert_eq!(plain.hang_up(&next).await?, 200);
    house.agent_is("1001", "ready").await?;
    agent.set_incoming(Incoming::Ring)?;
    let given_up = plain.dial("4001")?;
    plain.answered(&given_up, WITHIN).await?;
    house.agent_is("1001", "reserved").await?;
    assert_eq!(plain.hang_up(&given_up).await?, 200);
    agent
        .until("a CANCEL", WITHIN, |calls| {
            let ended = |end: &tandem_tests::phone::CallEnd| {
                *end == tandem_tests::phone::CallEnd::Over(Ended::Cancelled)
            };
            calls.values().any(|call| ended(&call.end)).then_some(())
        })
        .await?;
    let cdr = house.cdr(&talk).await?;
    assert_eq!((cdr["takeovers"].as_u64(), cdr["hung_up_by"].as_str()), (Some(1), Some("agent")));
    for phone in [&agent, &caller, &plain] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}
