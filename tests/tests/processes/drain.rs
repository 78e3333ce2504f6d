//! An operator empties a gateway, a node, a box: what lives there goes on at the others, and no caller loses more than a
//! moment.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::cluster::said;
use tandem_tests::house::House;
use tandem_tests::phone::{Incoming, Phone};

const WITHIN: Duration = Duration::from_secs(20);
/// Generous; how long it is, is a benchmark's to say.
const GAP_MS_MAX: u64 = 1_000;

/// On a thread of its own: the command waits, and phones must go on.
async fn order(house: &House, what: &str, name: &str) -> Result<Output> {
    let mut command = house.tandem(&["node", what, name])?;
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

async fn done(house: &House, what: &str, name: &str) -> Result<()> {
    let output = order(house, what, name).await?;
    ensure!(output.status.code() == Some(0), "{what} {name}: {}", said(&output));
    Ok(())
}

async fn refused(house: &House, name: &str, code: i32, why: &str) -> Result<()> {
    let output = order(house, "drain", name).await?;
    let said = said(&output);
    ensure!(output.status.code() == Some(code) && said.contains(why), "drain {name}: {said}");
    Ok(())
}

fn row<'a>(status: &'a Value, list: &str, name: &str) -> Result<&'a Value> {
    let rows = status[list].as_array().context("rows")?;
    rows.iter().find(|row| row["name"] == name).with_context(|| format!("{name} in {status}"))
}

/// What becomes of calls in each of their states, `gateway_states` looks at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_is_drained_with_its_calls_and_serves_again_when_it_may() -> Result<()> {
    let house = House::open(236).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let waiter = house.caller("13800000003", 0).await?;
    let wait = house.call(&waiter, "4002", "queued").await?;
    refused(&house, "gateway-c", 1, "gateway-c").await?;

    let heard = [(&talker, &talk), (&waiter, &wait)];
    heard.iter().for_each(|(phone, _)| phone.mark());
    done(&house, "drain", "gateway-a").await?;
    house.cluster.served_by(0, "gateway-b").await?;
    let status = house.api.get("/v1/cluster").await?;
    let drained = row(&status, "gateways", "gateway-a")?;
    assert_eq!((&drained["vips"], &drained["drained"]), (&serde_json::json!([]), &true.into()));
    for (phone, call) in heard {
        phone.receives(call, 50, WITHIN).await?;
        let gap = phone.spacing_ms_max(call).context("audio")?;
        println!("gateway-a drained: {} heard nothing for {gap} ms", phone.user);
        assert!(gap <= GAP_MS_MAX, "{gap} ms");
    }
    refused(&house, "gateway-b", 3, "no gateway would be left").await?;
    refused(&house, "b", 3, "no gateway would be left").await?;
    // A new call at its address.
    let late = house.caller("13800000006", 0).await?;
    let short = house.call(&late, "4003", "in_flow").await?;
    assert_eq!(late.hang_up(&short).await?, 200);

    // It may serve again, and does when no call lives at its address.
    done(&house, "undrain", "gateway-a").await?;
    for (phone, call) in heard {
        assert_eq!(phone.hang_up(call).await?, 200, "{}", phone.user);
        house.cdr(call).await?;
    }
    house.cluster.served_by(0, "gateway-a").await?;
    let again = house.call(&late, "4003", "in_flow").await?;
    assert_eq!(late.hang_up(&again).await?, 200);
    for phone in [&agent, &talker, &waiter, &late] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }

    // Who is drained goes on where nobody else is left.
    done(&house, "drain", "gateway-a").await?;
    house.cluster.served_by(0, "gateway-b").await?;
    let last = house.call(&late, "4003", "in_flow").await?;
    house.cluster.bury("gateway-b").await?;
    house.cluster.served_by(0, "gateway-a").await?;
    late.receives(&last, 50, WITHIN).await?;
    assert_eq!(late.hang_up(&last).await?, 200);
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn box_is_drained_and_nobody_hears_it() -> Result<()> {
    let house = House::open(237).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let other = house.caller("13800000002", 1).await?;
    let echo = house.call(&other, "4003", "in_flow").await?;
    [&agent, &talker, &other].into_iter().for_each(Phone::mark);
    done(&house, "drain", "a").await?;
    let status = house.api.get("/v1/cluster").await?;
    let (node, gateway) =
        (row(&status, "nodes", "node-a")?, row(&status, "gateways", "gateway-a")?);
    assert_eq!(
        (&node["leads"], &gateway["vips"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    assert_eq!((&node["drained"], &gateway["drained"]), (&true.into(), &true.into()));
    let output = house.tandem(&["cluster", "move-leader", "s0", "node-a"])?.output()?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    refused(&house, "node-b", 3, "drained").await?;
    for (phone, call) in [(&talker, &talk), (&other, &echo)] {
        phone.receives(call, 50, WITHIN).await?;
        let gap = phone.spacing_ms_max(call).context("audio")?;
        println!("box a drained: {} heard nothing for {gap} ms", phone.user);
        assert!(gap <= GAP_MS_MAX, "{gap} ms");
    }
    // All of it may stop now, and nobody hears that.
    [&agent, &talker, &other].into_iter().for_each(Phone::mark);
    house.cluster.stop_one("gateway-a")?;
    house.cluster.stop_one("node-a")?;
    for (phone, call) in [(&talker, &talk), (&other, &echo)] {
        phone.receives(call, 50, WITHIN).await?;
        let gap = phone.spacing_ms_max(call).context("audio")?;
        println!("box a stopped: {} heard nothing for {gap} ms", phone.user);
        assert!(gap <= 200, "{gap} ms");
        house.call_is(call, if *call == talk { "connected" } else { "in_flow" }).await?;
    }
    house.cluster.revive("node-a")?;
    house.cluster.revive("gateway-a")?;
    done(&house, "undrain", "a").await?;
    let leads = |status: &Value| {
        let node = row(status, "nodes", "node-a").ok()?;
        node["leads"].as_array().filter(|leads| !leads.is_empty()).map(|_| ())
    };
    house.api.until("/v1/cluster", Duration::from_secs(40), leads).await?;
    for (phone, call) in [(&talker, &talk), (&other, &echo)] {
        assert_eq!(phone.hang_up(call).await?, 200, "{}", phone.user);
        house.cdr(call).await?;
    }
    for phone in [&agent, &talker, &other] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}
