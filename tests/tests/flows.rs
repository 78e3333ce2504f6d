//! Flows of phones: WebSockets (RFC 7118), and what becomes of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming};

const WITHIN: Duration = Duration::from_secs(15);
/// Of audio, with room for a busy machine.
const SPACING_MS_MAX: u64 = 60 + 60;
/// A flow that is gone is known to be: nobody waits for a time-out (Timer B is 32 s).
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_over_websockets_live_through_the_death_of_the_leader() -> Result<()> {
    let house = House::open(150).await?;
    let quick = Incoming::Answer { after_ms: 50 };
    let agent = house.agent_over_ws("1001", 0, quick).await?;
    let caller = house.phone_over_wss("13800000001", 1, Incoming::Reject { status: 486 }).await?;
    let plain = house.caller("13800000002", 1).await?;
    let talk = house.call(&caller, "4001", "connected").await?;
    let offered = agent.called(WITHIN).await?;
    let invite = agent.with_calls(|calls| calls[&offered].invite.clone());
    assert!(invite.uri.host.ends_with(".invalid"), "{}", invite.uri);
    let via = invite.headers.top_via().context("a Via")?;
    assert_eq!(via.transport, tandem_sip::Transport::Ws);
    let contact = invite.headers.contact.first().context("a Contact")?;
    assert_eq!(contact.uri.param("transport"), Some("ws"), "{contact}");
    for phone in [&agent, &caller] {
        phone.with_calls(|calls| {
            calls.values().filter_map(|call| call.media.as_ref()).for_each(|media| media.mark());
        });
    }

    let leader = house.cluster.leader().await?;
    house.cluster.kill(&leader)?;
    // A call over the very WebSocket, in the very moment.
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
    // The next leader's requests go over the same WebSocket: the caller's BYE ends the agent's call.
    assert_eq!(caller.hang_up(&talk).await?, 200);
    assert_eq!(agent.ended(&offered, WITHIN).await?, Ended::ByPeer);
    house.agent_is("1001", "ready").await?;
    let next = house.call(&plain, "4001", "connected").await?;
    assert_eq!(plain.hang_up(&next).await?, 200);
    let cdr = house.cdr(&talk).await?;
    assert_eq!((cdr["takeovers"].as_u64(), cdr["hung_up_by"].as_str()), (Some(1), Some("caller")));
    for phone in [&agent, &caller, &plain] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phone_whose_websocket_is_gone_is_not_waited_for() -> Result<()> {
    let house = House::open(151).await?;
    let agent = house.agent_over_ws("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let caller = house.caller("13800000001", 1).await?;
    let reached = caller.dial("1001")?;
    caller.answered(&reached, WITHIN).await?;
    assert_eq!(caller.hang_up(&reached).await?, 200);
    house.agent_is("1001", "ready").await?;
    drop(agent);
    let begun = Instant::now();
    let lost = caller.dial("1001")?;
    assert_eq!(caller.ended(&lost, WITHIN).await?, Ended::Refused { status: 480 });
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // It comes back over another one, under another name.
    let agent = house.phone_over_wss("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    assert_eq!(agent.register(600).await?, 200);
    let again = caller.dial("1001")?;
    caller.answered(&again, WITHIN).await?;
    assert_eq!(caller.hang_up(&again).await?, 200);
    house.cluster.stop()?;
    Ok(())
}
