//! A cluster whose service addresses are IPv6 (RFC 5118).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;
use tandem_tests::watcher::Watcher;

const LOCALHOST: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const WITHIN: Duration = Duration::from_secs(20);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
const AGENT_HZ: u32 = 500;
const CALLER_HZ: u32 = 900;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_over_ipv6_is_heard_both_ways_and_outlives_its_leader() -> Result<()> {
    let house = House::open_at(174, LOCALHOST, LOCALHOST).await?;
    ensure!(house.vips.iter().all(std::net::SocketAddr::is_ipv6), "{:?}", house.vips);
    let agent = house.agent_with_tone("1001", 0, QUICK, AGENT_HZ).await?;
    let mut watcher = Watcher::open("1003", house.vips[1], LOCALHOST, "dialog").await?;
    ensure!(watcher.subscribe("1001", 600).await?.status == 200, "SUBSCRIBE");
    let reject = Incoming::Reject { status: 486 };
    // By the other gateway: its media is anchored there, the agent's dialog is here.
    let caller = house.phone_with_tone("13800000001", 1, reject, CALLER_HZ).await?;
    let call = house.call(&caller, "1001", "connected").await?;
    let taken = agent.called(WITHIN).await?;
    let invite = agent.with_calls(|calls| Some(calls.get(&taken)?.invite.clone()));
    let invite = invite.context("the INVITE")?;
    let text = String::from_utf8(invite.to_bytes())?;
    let (vip, media) = (house.vips[0], house.vips[1].ip());
    for part in [
        format!("Via: SIP/2.0/UDP {vip};"),
        format!("Contact: <sip:tandem@{vip}>"),
        format!("c=IN IP6 {media}\r\n"),
    ] {
        ensure!(text.contains(&part), "{part} is not in {text}");
    }
    caller.hears(&call, AGENT_HZ, WITHIN).await?;
    agent.hears(&taken, CALLER_HZ, WITHIN).await?;
    watcher.shows(&["confirmed recipient"]).await?;

    house.cluster.kill(&house.cluster.leader().await?)?;
    ensure!(caller.hold(&call, true).await? == 200, "the next leader holds it");
    ensure!(caller.hold(&call, false).await? == 200, "and takes it back");
    caller.hears(&call, AGENT_HZ, WITHIN).await?;
    agent.hears(&taken, CALLER_HZ, WITHIN).await?;
    ensure!(agent.hang_up(&taken).await? == 200, "BYE");
    caller.ended(&call, WITHIN).await?;
    watcher.shows(&["terminated"]).await?;
    house.cdr(&call).await?;
    ensure!(caller.violations().is_empty(), "{:?}", caller.violations());
    house.cluster.stop()?;
    Ok(())
}
