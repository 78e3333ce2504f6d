//! A gateway's process dies, or stands still: the other one serves its address and goes on with its calls.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming, Phone};
use tokio::time::Instant;

const WITHIN: Duration = Duration::from_secs(15);
/// Generous; how long it is, is a benchmark's to say.
const GAP_MS_MAX: u64 = 2_000;

fn gap(phone: &Phone, call: &str) -> Result<u64> {
    phone.spacing_ms_max(call).with_context(|| format!("{} hears nothing", phone.user))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_all_states_go_on_when_their_gateway_is_killed() -> Result<()> {
    let house = House::open(227).await?;
    let talking_agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let ringing_agent = house.agent("1002", 0, Incoming::Ring).await?;
    let ringer = house.caller("13800000002", 0).await?;
    let ring = house.call(&ringer, "4001", "queued").await?;
    house.agent_is("1002", "reserved").await?;
    let waiter = house.caller("13800000003", 0).await?;
    let wait = house.call(&waiter, "4002", "queued").await?;
    let menu_caller = house.caller("13800000004", 0).await?;
    let menu = house.call(&menu_caller, "4000", "in_flow").await?;
    let other = house.caller("13800000005", 1).await?;
    let echo = house.call(&other, "4003", "in_flow").await?;
    let queue = house.api.get("/v1/queues/sales").await?;

    let heard = [(&talker, &talk), (&ringer, &ring), (&waiter, &wait), (&other, &echo)];
    for (phone, _) in heard {
        phone.mark();
    }
    talking_agent.mark();
    house.cluster.bury("gateway-a").await?;
    let taken = house.cluster.served_by(0, "gateway-b").await?;
    // A new call at the address of the dead one.
    let late = house.caller("13800000006", 0).await?;
    let short = house.call(&late, "4003", "in_flow").await?;
    assert_eq!(late.hang_up(&short).await?, 200);
    for (phone, call) in heard {
        phone.receives(call, 50, WITHIN).await?;
    }
    let gaps = heard.map(|(phone, call)| gap(phone, call));
    let gaps = gaps.into_iter().collect::<Result<Vec<u64>>>()?;
    println!(
        "gateway-a killed: served by the other {taken:?} after it was buried, gaps {gaps:?} ms"
    );
    assert!(gaps.iter().all(|gap| *gap <= GAP_MS_MAX), "{gaps:?}");
    assert!(gaps[3] < 200, "who was served by the other heard it: {gaps:?}");
    house.call_is(&talk, "connected").await?;
    house.call_is(&ring, "queued").await?;
    house.agent_is("1002", "reserved").await?;
    assert_eq!(house.api.get("/v1/queues/sales").await?["waiting"], queue["waiting"]);

    // The agent who rang through it picks up; the other keeps talking.
    let offered = ringing_agent
        .with_calls(|calls| calls.keys().next().cloned())
        .context("agent 1002 still rings")?;
    ringing_agent.answer(&offered)?;
    house.call_is(&ring, "connected").await?;
    // A key in the menu counts: to the announcement.
    menu_caller.press(&menu, "3")?;
    assert_eq!(menu_caller.ended(&menu, WITHIN).await?, Ended::ByPeer);
    for (phone, call) in [(&talker, &talk), (&ringer, &ring), (&waiter, &wait), (&other, &echo)] {
        assert_eq!(phone.hang_up(call).await?, 200, "{}", phone.user);
        let cdr = house.cdr(call).await?;
        let lived_through = cdr["takeovers"].as_u64() >= Some(1);
        assert!(lived_through || *call == echo, "{cdr}");
    }
    let status = house.api.get("/v1/cluster").await?;
    let rows = status["gateways"].as_array().context("gateways")?;
    let vips = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name)?;
        Some(row["vips"].as_array()?.len())
    };
    assert_eq!((vips("gateway-a"), vips("gateway-b")), (Some(0), Some(2)), "{status}");
    let phones = [&talking_agent, &ringing_agent, &talker, &ringer, &waiter, &menu_caller, &other];
    for phone in phones {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }

    // It comes back, and serves its address again when no call lives there.
    house.cluster.revive("gateway-a")?;
    house.cluster.served_by(0, "gateway-a").await?;
    let again = house.call(&late, "4003", "in_flow").await?;
    assert_eq!(late.hang_up(&again).await?, 200);
    house.cluster.stop()?;
    Ok(())
}

/// As long as it stands still nothing proves that it is dead: only its lease says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_elsewhere_when_their_gateway_stands_still_and_it_serves_nobody_when_it_wakes_up()
-> Result<()> {
    let house = House::open_sparing_stopped(228).await?;
    let caller = house.caller("13800000001", 0).await?;
    let call = house.call(&caller, "4003", "in_flow").await?;
    caller.mark();
    house.cluster.signal("gateway-a", libc::SIGSTOP)?;
    let taken = house.cluster.served_by(0, "gateway-b").await?;
    caller.receives(&call, 50, WITHIN).await?;
    let gap = gap(&caller, &call)?;
    println!("gateway-a stopped: served by the other after {taken:?}, gap {gap} ms");
    assert!(gap <= GAP_MS_MAX, "{gap} ms");
    let packets = || {
        caller.with_calls(|calls| {
            calls
                .get(&call)
                .and_then(|call| call.media.as_ref())
                .map_or(0, |it| it.stats().received)
        })
    };
    house.cluster.signal("gateway-a", libc::SIGCONT)?;
    let (before, begun) = (packets(), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rate = (packets() - before) as f64 / begun.elapsed().as_secs_f64();
    assert!((45.0..55.0).contains(&rate), "{rate} packets a second: two send, or none");
    house.cluster.served_by(0, "gateway-b").await?;
    house.call_is(&call, "in_flow").await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    house.cdr(&call).await?;
    assert_eq!(caller.violations(), []);
    house.cluster.stop()?;
    Ok(())
}
