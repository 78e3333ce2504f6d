//! Calls that are placed for an agent, and calls that move to another.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming, Phone};

const WITHIN: Duration = Duration::from_secs(15);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };

async fn notified(phone: &Phone, call_id: &str, all: &[u16]) -> Result<()> {
    let what = format!("NOTIFY of {all:?}");
    phone.until(&what, WITHIN, |calls| (calls.get(call_id)?.notified == all).then_some(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placed_call_is_placed_once_when_the_leader_dies_before_the_repeat() -> Result<()> {
    let house = House::open(55).await?;
    let phone = house.agent("1001", 0, Incoming::Ring).await?;
    let body = json!({"from": "1001", "to": "4003"});
    let first = house.api.post_once("/v1/calls", &body, "dial-1").await?;
    assert_eq!(first.0, 201, "{first:?}");
    let id = first.2["id"].as_str().context("the call's id")?.to_owned();
    assert_eq!(first.1.as_deref(), Some(format!("/v1/calls/{id}").as_str()));
    let ringing = phone.called(WITHIN).await?;

    house.cluster.kill(&house.cluster.leader().await?)?;
    let again = house.api.post_once("/v1/calls", &body, "dial-1").await?;
    assert_eq!(again, first, "the same answer from the next leader");
    let other = json!({"from": "1001", "to": "4001"});
    assert_eq!(house.api.post_once("/v1/calls", &other, "dial-1").await?.0, 422);
    // Another key is another call, and the agent has one.
    let busy = house.api.post_once("/v1/calls", &body, "dial-2").await?;
    assert_eq!(busy.0, 409, "{busy:?}");
    for (from, status) in [("1002", 409), ("1099", 404)] {
        let body = json!({"from": from, "to": "4003"});
        assert_eq!(house.api.post("/v1/calls", &body).await?.0, status, "{from}");
    }
    assert_eq!(house.api.items("/v1/calls").await?.len(), 1);

    phone.answer(&ringing)?;
    house.call_is(&ringing, "in_flow").await?;
    assert_eq!(phone.hang_up(&ringing).await?, 200);
    let cdr = house.cdr(&ringing).await?;
    assert_eq!([&cdr["id"], &cdr["disposition"]], [&json!(id), &json!("answered")]);
    assert_eq!(phone.with_calls(|calls| calls.len()), 1, "it rang once");
    assert_eq!(phone.violations(), []);
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn referred_caller_goes_to_an_extension_over_a_takeover_and_to_a_queue() -> Result<()> {
    let house = House::open(56).await?;
    let first = house.agent("1001", 0, QUICK).await?;
    let second = house.agent("1002", 1, Incoming::Ring).await?;
    let caller = house.caller("13800000001", 0).await?;
    let call = house.call(&caller, "4001", "connected").await?;
    let talking = first.called(WITHIN).await?;

    assert_eq!(first.refer(&talking, "1002").await?, 202);
    notified(&first, &talking, &[100]).await?;
    house.call_is(&call, "dialing").await?;
    let ringing = second.called(WITHIN).await?;
    house.cluster.kill(&house.cluster.leader().await?)?;
    second.answer(&ringing)?;
    notified(&first, &talking, &[100, 200]).await?;
    assert_eq!(first.ended(&talking, WITHIN).await?, Ended::ByPeer);
    house.call_is(&call, "connected").await?;
    house.agent_is("1001", "ready").await?;
    house.agent_is("1002", "talking").await?;

    // 1005 serves sales.
    let third = house.agent("1005", 0, QUICK).await?;
    assert_eq!(second.refer(&ringing, "4002").await?, 202);
    assert_eq!(second.ended(&ringing, WITHIN).await?, Ended::ByPeer);
    notified(&second, &ringing, &[100, 200]).await?;
    house.agent_is("1005", "talking").await?;
    house.call_is(&call, "connected").await?;
    assert_eq!(caller.hang_up(&call).await?, 200);

    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["agent"], &cdr["queue"]], [&json!("1005"), &json!("sales")]);
    let moves = cdr["transfers"].as_array().context("transfers")?;
    let moves: Vec<_> = moves.iter().map(|it| [&it["agent"], &it["to"], &it["outcome"]]).collect();
    assert_eq!(json!(moves), json!([["1001", "1002", "went_over"], ["1002", "4002", "went_over"]]));
    // One recording of it all.
    let path = format!("/v1/recordings?call={}", cdr["call"].as_str().context("call")?);
    let sealed = |page: &serde_json::Value| {
        let items = page["items"].as_array()?;
        (items.len() == 1 && items[0]["sealed"] == true).then(|| items[0].clone())
    };
    let recording = house.api.until(&path, WITHIN, sealed).await?;
    assert_eq!(recording["id"], cdr["recording"]);
    for phone in [&first, &second, &third, &caller] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfer_that_nobody_takes_comes_back() -> Result<()> {
    let house = House::open(53).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let busy = house.agent("1005", 1, Incoming::Reject { status: 486 }).await?;
    let caller = house.caller("13800000001", 0).await?;
    let call = house.call(&caller, "4001", "connected").await?;
    let talking = agent.called(WITHIN).await?;

    for (to, status) in [("1005", 486), ("1003", 480), ("4999", 404)] {
        agent.with_calls_mut(|calls| {
            if let Some(call) = calls.get_mut(&talking) {
                call.notified.clear();
            }
        });
        assert_eq!(agent.refer(&talking, to).await?, 202, "{to}");
        notified(&agent, &talking, &[100, status]).await?;
        house.call_is(&call, "connected").await?;
        house.agent_is("1001", "talking").await?;
    }
    let page = house.api.get(&format!("/v1/calls?sip_call_id={call}")).await?;
    let id = page["items"][0]["id"].as_str().context("call id")?.to_owned();
    let path = format!("/v1/calls/{id}/transfer");
    let (status, moved) = house.api.post(&path, &json!({"to": "1005"})).await?;
    assert_eq!((status, &moved["id"]), (200, &json!(id)));
    house.call_is(&call, "connected").await?;
    assert_eq!(house.api.post(&path, &json!({"to": "1003"})).await?.0, 409);
    assert_eq!(house.api.post(&path, &json!({"to": "4999"})).await?.0, 404);
    // The echo takes everybody.
    assert_eq!(house.api.post(&path, &json!({"to": "4003"})).await?.0, 200);
    house.call_is(&call, "in_flow").await?;
    assert_eq!(agent.ended(&talking, WITHIN).await?, Ended::ByPeer);
    assert_eq!(caller.hang_up(&call).await?, 200);
    let cdr = house.cdr(&call).await?;
    let moves = cdr["transfers"].as_array().context("transfers")?;
    let ends: Vec<_> = moves.iter().map(|moved| &moved["outcome"]).collect();
    let back = "came_back";
    assert_eq!(json!(ends), json!([back, back, back, back, "went_over"]));
    for phone in [&agent, &busy, &caller] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}
