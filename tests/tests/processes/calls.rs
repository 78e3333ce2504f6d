//! What each number of the demo tenant does, and how bad input is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::house::House;
use tandem_tests::phone::{Call, Ended, Incoming, Phone};
use tandem_tests::sipp::{Load, Sipp};
use tokio::net::UdpSocket;

const WITHIN: Duration = Duration::from_secs(15);

/// The phone's talk has gone on for a while.
async fn heard(phone: &Phone) -> Result<()> {
    let talks = |call: &Call| call.media.as_ref().is_some_and(|media| media.stats().received >= 30);
    let deadline = tokio::time::Instant::now() + WITHIN;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !phone.with_calls(|calls| calls.values().any(talks)) {
        ensure!(tokio::time::Instant::now() < deadline, "a phone hears nothing");
        look.tick().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demo_tenant_does_what_is_documented() -> Result<()> {
    let house = House::open(31).await?;
    let caller = house.caller("13800000001", 0).await?;

    // 4003: echo, not recorded, one CDR.
    let echo = house.call(&caller, "4003", "in_flow").await?;
    assert_eq!(caller.hang_up(&echo).await?, 200);
    let cdr = house.cdr(&echo).await?;
    assert_eq!(cdr["disposition"], "answered");
    assert_eq!(cdr["recording"], serde_json::Value::Null);

    // An unknown number, an extension that is not registered.
    for (number, status) in [("4999", 404), ("1003", 480)] {
        let call_id = caller.dial(number)?;
        assert_eq!(caller.ended(&call_id, WITHIN).await?, Ended::Refused { status }, "{number}");
        assert_eq!(house.cdr(&call_id).await?["cause"], status.to_string(), "{number}");
    }

    // A wrong password is refused after the challenge.
    let stranger = house.phone("1004", 0, Incoming::Ring).await?;
    assert_eq!(stranger.register(60).await?, 200);
    let impostor = house.impostor("1004").await?;
    assert_eq!(impostor.register(60).await?, 403);

    // 4001: music, then the agent; hung up by the agent; after-call work; ready again.
    let agent = house.agent("1001", 1, Incoming::Answer { after_ms: 50 }).await?;
    house
        .api
        .post(
            "/v1/agents/1004/state",
            &serde_json::json!({"state": "not_ready", "reason": "lunch"}),
        )
        .await?;
    let talk = house.call(&caller, "4001", "connected").await?;
    house.agent_is("1001", "talking").await?;
    let incoming =
        agent.with_calls(|calls| calls.keys().next().cloned()).context("the agent's call")?;
    heard(&caller).await?;
    heard(&agent).await?;
    assert_eq!(agent.hang_up(&incoming).await?, 200);
    assert_eq!(caller.ended(&talk, WITHIN).await?, Ended::ByPeer);
    house.agent_is("1001", "acw").await?;
    house.agent_is("1001", "ready").await?;
    assert_eq!(house.cdr(&talk).await?["hung_up_by"], "agent");
    // How both legs were stands beside the record, once their gateway has told.
    let legs = house
        .api
        .until(&format!("/v1/cdrs?sip_call_id={talk}"), WITHIN, |page| {
            let legs = page["items"].get(0)?.get("quality")?.as_array()?;
            (legs.len() == 2).then(|| legs.clone())
        })
        .await?;
    for role in ["caller", "agent"] {
        let leg = legs.iter().find(|leg| leg["role"] == role).context(role)?;
        assert_eq!(leg["codec"], "PCMU", "{leg}");
        assert!(leg["packets_received"].as_u64().is_some_and(|count| count >= 20), "{leg}");
        assert!(leg["mos"].as_f64().is_some_and(|mos| (1.0..=4.5).contains(&mos)), "{leg}");
    }

    // An extension, dialled.
    let direct = house.call(&caller, "1001", "connected").await?;
    assert_eq!(caller.hang_up(&direct).await?, 200);
    house.agent_is("1001", "ready").await?;

    // Hung up while it waits: abandoned.
    let sales = house.call(&caller, "4002", "queued").await?;
    assert_eq!(caller.hang_up(&sales).await?, 200);
    assert_eq!(house.cdr(&sales).await?["disposition"], "abandoned");

    // Hung up by the operator.
    let doomed = house.call(&caller, "4003", "in_flow").await?;
    let page = house.api.get(&format!("/v1/calls?sip_call_id={doomed}")).await?;
    let id = page["items"][0]["id"].as_str().context("call id")?.to_owned();
    assert_eq!(house.api.delete(&format!("/v1/calls/{id}")).await?, 204);
    assert_eq!(caller.ended(&doomed, WITHIN).await?, Ended::ByPeer);
    assert_eq!(house.cdr(&doomed).await?["hung_up_by"], "operator");

    // Every channel is free again.
    house
        .api
        .until("/v1/trunks", WITHIN, |page| (page["items"].get(0)?["busy"] == 0).then_some(()))
        .await?;
    assert_eq!(caller.violations(), []);
    assert_eq!(agent.violations(), []);
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ring_out_keeps_the_place_and_sets_the_agent_not_ready() -> Result<()> {
    let config = "[tenant]\nname = \"demo\"\nrealm = \"demo.tandem\"\n\
                  [[trunk]]\nname = \"carrier\"\nchannels = 2\n\
                  [[agent]]\nid = \"1001\"\npassword = \"tandem-1001\"\n\
                  [[agent]]\nid = \"1002\"\npassword = \"tandem-1002\"\n\
                  [[queue]]\nname = \"support\"\nagents = [\"1001\", \"1002\"]\nring_ms_max = 1000\n\
                  [[number]]\ndigits = \"4001\"\nqueue = \"support\"\n";
    let house = House::open_with(32, config).await?;
    let _rings = house.agent("1001", 0, Incoming::Ring).await?;
    let caller = house.caller("13800000001", 0).await?;
    let first = house.call(&caller, "4001", "queued").await?;
    let since = house.api.get("/v1/queues/support").await?["waiting"][0]["since"].clone();
    house.agent_is("1001", "not_ready").await?;
    assert_eq!(house.api.get("/v1/agents/1001").await?["reason"], "missed");
    let waiting = house.api.get("/v1/queues/support").await?["waiting"][0].clone();
    assert_eq!(waiting["since"], since);

    // Both channels are taken: the third caller is told to come back.
    let second = house.call(&caller, "4001", "queued").await?;
    let third = caller.dial("4001")?;
    assert_eq!(caller.ended(&third, WITHIN).await?, Ended::Refused { status: 503 });

    // The next agent gets the one who was first.
    let answers = house.phone("1002", 1, Incoming::Answer { after_ms: 50 }).await?;
    assert_eq!(answers.register(600).await?, 200);
    house.call_is(&first, "connected").await?;
    house.call_is(&second, "queued").await?;
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_datagrams_are_counted_and_calls_go_on() -> Result<()> {
    let house = House::open(33).await?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let vip = house.vips[0];
    for junk in [
        &b"\x00\xff\xfe junk"[..],
        b"INVITE",
        b"INVITE sip:4003@x SIP/2.0\r\n\r\n",
        b"INVITE sip:4003@x SIP/2.0\r\nVia: SIP/2.0/UDP\r\nCSeq: 99999999999 INVITE\r\n\r\n",
        b"SIP/2.0 abc\r\n\r\n",
        b"\r\n\r\n",
    ] {
        socket.send_to(junk, vip).await?;
    }
    let caller = house.caller("13800000001", 0).await?;
    let echo = house.call(&caller, "4003", "in_flow").await?;
    assert_eq!(caller.hang_up(&echo).await?, 200);
    let gateway = house.cluster.process("gateway-a")?;
    let counted = house.metric(&gateway.http, "tandem_sip_malformed_total").await?;
    assert!(counted >= 4.0, "counted {counted} of 5 malformed datagrams");
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sipp_calls_the_echo_and_none_of_its_calls_fails() -> Result<()> {
    let house = House::open(34).await?;
    let load = Load { calls: 100, per_s: 50, talk_ms: 500 };
    let mut sipp = Sipp::call(house.vips[1], "4003", load)?;
    let status = sipp.ended(Duration::from_secs(60)).await?;
    assert!(status.success(), "SIPp ended with {status}: 1 means that calls failed");
    let written = house
        .api
        .until("/v1/cdrs?limit=1000", WITHIN, |page| {
            let cdrs = page["items"].as_array()?;
            (cdrs.len() >= 100).then(|| cdrs.clone())
        })
        .await?;
    let ids: BTreeSet<_> = written.iter().filter_map(|cdr| cdr["sip_call_id"].as_str()).collect();
    assert_eq!((written.len(), ids.len()), (100, 100), "one CDR a call");
    house.cluster.stop()?;
    Ok(())
}
