//! Flows of phones: WebSockets (RFC 7118), flows that break (RFC 5626), several phones of one agent,
//! and the way to them (RFC 3327).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming};
use tandem_tests::raw::Raw;

const WITHIN: Duration = Duration::from_secs(15);
/// Of audio, with room for a busy machine.
const SPACING_MS_MAX: u64 = 60 + 60;
/// How often it is looked whether a process is gone.
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
    // Callers of the queue and of the extension are not kept waiting for it.
    drop(agent);
    let begun = Instant::now();
    house.agent_is("1001", "not_ready").await?;
    assert_eq!(house.api.get("/v1/agents/1001").await?["reason"], "station_lost");
    let lost = caller.dial("1001")?;
    assert_eq!(caller.ended(&lost, WITHIN).await?, Ended::Refused { status: 480 });
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // It comes back over another one, under another name.
    let agent = house.phone_over_wss("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    assert_eq!(agent.register(600).await?, 200);
    house.agent_is("1001", "ready").await?;
    let again = caller.dial("1001")?;
    caller.answered(&again, WITHIN).await?;
    assert_eq!(caller.hang_up(&again).await?, 200);
    house.agent_is("1001", "ready").await?;

    // The gateway dies, and each of its WebSockets with it: its next life knows that of itself.
    agent.stay_away();
    let gateway = house.cluster.processes()?.sip[0].serving.clone();
    house.cluster.bury(&gateway).await?;
    house.cluster.revive(&gateway)?;
    house.agent_is("1001", "not_ready").await?;
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_phone_of_an_agent_rings_where_the_first_can_not_be_reached() -> Result<()> {
    let house = House::open(152).await?;
    let desk = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let home = house.agent_over_ws("1001", 1, Incoming::Reject { status: 480 }).await?;
    let caller = house.caller("13800000001", 0).await?;
    // The one that came last is called first.
    let phones = house.api.get("/v1/agents/1001").await?["phones"].clone();
    let over = |at: usize| phones[at]["transport"].as_str().unwrap_or_default().to_owned();
    assert_eq!((over(0), over(1)), ("ws".into(), "udp".into()), "{phones}");
    let call = house.call(&caller, "4001", "connected").await?;
    let at_home = home.until("a call", WITHIN, |calls| calls.keys().next().cloned()).await?;
    let at_desk = desk.called(WITHIN).await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    assert_eq!(desk.ended(&at_desk, WITHIN).await?, Ended::ByPeer);
    house.agent_is("1001", "ready").await?;
    home.forget(&at_home);
    // It rings, and its WebSocket breaks: the other rings on, and nobody hears of it.
    home.set_incoming(Incoming::Ring)?;
    let call = caller.dial("4001")?;
    home.called(WITHIN).await?;
    drop(home);
    house.call_is(&call, "connected").await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    let cdr = house.cdr(&call).await?;
    assert_eq!(cdr["agent"].as_str(), Some("1001"), "{cdr}");
    for phone in [&desk, &caller] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phone_registers_flows_and_the_way_to_it_and_keeps_itself_heard() -> Result<()> {
    let house = House::open(153).await?;
    let mut proxy = Raw::open(house.vips[0]).await?;
    let contact =
        "Contact: <sip:1001@172.16.0.9:5070>;reg-id=1;+sip.instance=\"<urn:uuid:f81d>\"\r\n";
    let path = format!("Path: <sip:{};lr>, <sip:edge.example;lr;ob>\r\n", proxy.own);
    let refused = proxy.register("1001", &format!("{path}{contact}")).await?;
    assert_eq!((refused.status, refused.headers.other("Unsupported")), (420, Some("path")));
    let knows = "Supported: path, outbound\r\n";
    let response = proxy.register("1001", &format!("{knows}{path}{contact}")).await?;
    assert_eq!((response.status, response.headers.other("Require")), (200, Some("outbound")));
    assert_eq!(response.headers.other("Flow-Timer"), Some("25"));
    assert_eq!(response.headers.addresses("Path").count(), 2);
    let listed = response.headers.contact.first().context("a Contact")?;
    assert_eq!((listed.param("reg-id"), listed.param("expires")), (Some("1"), Some("3600")));
    // Another phone, which any other may take away with all the rest.
    let mut other = Raw::open(house.vips[1]).await?;
    let two = "Contact: <sip:1001@127.0.0.1:9>;q=0.1;expires=60\r\n";
    assert_eq!(other.register("1001", two).await?.headers.contact.len(), 2);

    let caller = house.caller("13800000001", 1).await?;
    let call = caller.dial("1001")?;
    let invite = proxy.request().await?;
    assert_eq!(invite.uri.to_string(), "sip:1001@172.16.0.9:5070");
    let route: Vec<String> = invite.headers.route.iter().map(ToString::to_string).collect();
    let own = proxy.own;
    assert_eq!(route, [format!("<sip:{own};lr>"), "<sip:edge.example;lr;ob>".into()]);
    proxy.send(&invite.respond(486, None, Some("busy")).to_bytes()).await?;
    assert_eq!(proxy.request().await?.method, tandem_sip::Method::Ack);
    assert_eq!(caller.ended(&call, WITHIN).await?, Ended::Refused { status: 486 });

    // RFC 5626 §4.4.2; RFC 5769 has such a transaction id. What is none is not answered.
    let stun = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let mut hostile = stun;
    hostile[3] = 0xff;
    proxy.send(&hostile).await?;
    proxy.send(&stun).await?;
    let answer = proxy.datagram().await?;
    assert_eq!((&answer[..2], &answer[4..20]), (&[1, 1][..], &stun[4..]));
    let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
    assert_eq!(port, own.port());

    let all = proxy.register("1001", "Contact: *\r\nExpires: 0\r\n").await?;
    assert_eq!((all.status, all.headers.contact.len()), (200, 0));
    house.agent_is("1001", "not_ready").await?;
    house.cluster.stop()?;
    Ok(())
}
