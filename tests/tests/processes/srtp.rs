//! SRTP whose keys stand in SDP, over TLS: a recorded conversation whose leader dies.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::house::House;
use tandem_tests::phone::{Incoming, Phone};

const WITHIN: Duration = Duration::from_secs(15);

/// The demo tenant's queue `support`, where phones over TLS must talk over SRTP.
const REQUIRED: &str = r#"
[tenant]
name = "demo"
realm = "demo.tandem"
srtp = "required"

[[trunk]]
name = "carrier"
channels = 30

[[queue]]
name = "support"
agents = ["1001", "1002"]
record = true

[[agent]]
id = "1001"
password = "tandem-1001"

[[agent]]
id = "1002"
password = "tandem-1002"

[[number]]
digits = "4001"
queue = "support"

[[number]]
digits = "4003"
echo = true
"#;

async fn hears(phone: &Phone, call_id: &str, hz: u32) -> Result<()> {
    phone.hears(call_id, hz, WITHIN).await?;
    let media = phone.with_calls(|calls| calls.get(call_id)?.media.clone()).context("media")?;
    assert_eq!(media.stats().unauthentic, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protected_conversation_is_recorded_and_lives_through_the_death_of_the_leader() -> Result<()>
{
    let house = House::open_with(45, REQUIRED).await?;
    let quick = Incoming::Answer { after_ms: 50 };
    let agent = house.agent_over_tls("1001", 0, quick).await?;
    let caller = house.caller_over_srtp("13800000001", 1).await?;
    let call = house.call(&caller, "4001", "connected").await?;
    let offered = agent.until("an offer", WITHIN, |calls| calls.keys().next().cloned()).await?;
    let offers_srtp = agent.with_calls(|calls| {
        let body = calls[&offered].offer();
        body.contains("RTP/SAVP") && body.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:")
    });
    assert!(offers_srtp);
    hears(&caller, &call, 440).await?;
    hears(&agent, &offered, 440).await?;

    let leader = house.cluster.leader().await?;
    house.cluster.kill(&leader)?;
    let echo = caller.dial("4003")?;
    caller.answered(&echo, WITHIN).await?;
    hears(&caller, &echo, 440).await?;
    hears(&caller, &call, 440).await?;
    hears(&agent, &offered, 440).await?;
    assert_eq!(caller.hang_up(&echo).await?, 200);
    assert_eq!(caller.hang_up(&call).await?, 200);

    // A phone in the clear is offered no key: whoever listens on the way would have it.
    house.agent_is("1001", "ready").await?;
    assert_eq!(agent.register(0).await?, 200);
    let plain = house.agent("1002", 1, quick).await?;
    let call = house.call(&caller, "4001", "connected").await?;
    let offered = plain.until("an offer", WITHIN, |calls| calls.keys().next().cloned()).await?;
    assert!(!plain.with_calls(|calls| calls[&offered].offer().contains("crypto")));
    hears(&caller, &call, 440).await?;
    hears(&plain, &offered, 440).await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    for phone in [&agent, &caller, &plain] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

/// Its packets go on behind those of the gateway that is dead: whoever counts how often their numbers go round knows them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protected_conversation_goes_on_when_its_gateway_is_killed_again_and_again() -> Result<()> {
    let house = House::open_with(243, REQUIRED).await?;
    let agent = house.agent_over_tls("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let caller = house.caller_over_srtp("13800000001", 1).await?;
    let call = house.call(&caller, "4001", "connected").await?;
    let offered = agent.until("an offer", WITHIN, |calls| calls.keys().next().cloned()).await?;
    for dead in ["gateway-b", "gateway-a", "gateway-b", "gateway-a"] {
        hears(&caller, &call, 440).await?;
        hears(&agent, &offered, 440).await?;
        house.cluster.bury(dead).await?;
        for (phone, call) in [(&caller, &call), (&agent, &offered)] {
            phone.receives(call, 25, WITHIN).await?;
        }
        hears(&caller, &call, 440).await?;
        hears(&agent, &offered, 440).await?;
        house.cluster.revive(dead)?;
        let can_lose = |status: &serde_json::Value| {
            let ok = |name: &str| status["can_lose"][name]["ok"] == true;
            (ok("gateway-a") && ok("gateway-b")).then_some(())
        };
        house.api.until("/v1/cluster", WITHIN, can_lose).await?;
    }
    house.cluster.stop()?;
    Ok(())
}
