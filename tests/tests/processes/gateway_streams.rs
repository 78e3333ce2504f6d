//! A gateway's process dies or stands still, and its connections with it: phones that come back are reached over
//! their next ones, phones that listen at their Contact, and the rest is not waited for.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::house::House;
use tandem_tests::phone::{CallEnd, Ended, Incoming, Phone};
use tokio::time::Instant;

const WITHIN: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(10);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
/// What a phone that only calls does with a call.
const BUSY: Incoming = Incoming::Reject { status: 486 };

/// Until the process is gone.
async fn dies(house: &House, process: &str) -> Result<()> {
    let begun = Instant::now();
    while house.cluster.process(process)?.alive {
        ensure!(begun.elapsed() < WITHIN, "{process} lives");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// SIGSTOP; until each of its threads stands still.
async fn stop(house: &House, process: &str) -> Result<()> {
    let begun = Instant::now();
    house.cluster.signal(process, libc::SIGSTOP)?;
    let tasks = format!("/proc/{}/task", house.cluster.process(process)?.pid);
    loop {
        let states = std::fs::read_dir(&tasks)?.map(|task| {
            let stat = std::fs::read_to_string(task?.path().join("stat"))?;
            // The name before it may hold anything.
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            state.context("a state")
        });
        if states.collect::<Result<Vec<char>>>()?.iter().all(|state| *state == 'T') {
            return Ok(());
        }
        ensure!(begun.elapsed() < WITHIN, "{process} does not stand still");
        tokio::time::sleep(LOOK).await;
    }
}

async fn registered(house: &House, phone: Phone) -> Result<Phone> {
    let id = phone.user.clone();
    house.registered(phone, &id).await
}

/// Rings at a phone.
async fn rings(caller: &Phone, number: &str, phone: &Phone) -> Result<(String, String)> {
    let call = caller.dial(number)?;
    let offered = phone.called(WITHIN).await?;
    caller.until("ringing", WITHIN, |calls| calls[&call].ringing.then_some(())).await?;
    Ok((call, offered))
}

/// An operator ends the call, at the gateway that is left.
async fn release(house: &House, sip_call_id: &str) -> Result<()> {
    let path = format!("/v1/calls?sip_call_id={sip_call_id}");
    let id = house.item(&path).await?["id"].as_str().context("an id")?.to_owned();
    let status = house.api.only(1).delete(&format!("/v1/calls/{id}")).await?;
    ensure!(status == 204, "DELETE was answered {status}");
    Ok(())
}

/// Nothing is left of the call but its one record.
async fn is_gone(house: &House, sip_call_id: &str) -> Result<serde_json::Value> {
    let path = format!("/v1/calls?sip_call_id={sip_call_id}");
    let gone = |page: &serde_json::Value| page["items"].as_array()?.is_empty().then_some(());
    house.api.until(&path, WITHIN, gone).await?;
    house.cdr(sip_call_id).await
}

fn is_live(phone: &Phone, call: &str) -> bool {
    phone.with_calls(|calls| calls.get(call).is_some_and(|call| call.end == CallEnd::Live))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_over_connections_go_on_over_the_next_ones_when_their_gateway_is_killed() -> Result<()>
{
    let house = House::open(229).await?;
    // Two that talk, one of them held.
    let by_ws = house.agent_over_ws("1001", 0, QUICK).await?;
    let by_tcp = house.phone_over_tcp("13800000001", 0, BUSY, true).await?;
    let talk = house.call(&by_tcp, "1001", "connected").await?;
    let talks = by_ws.called(WITHIN).await?;
    let holder = house.agent_over_tls("1002", 0, QUICK).await?;
    let by_tls = house.phone_over_tls("13800000002", 0, BUSY).await?;
    let hold = house.call(&by_tls, "1002", "connected").await?;
    let holds = holder.called(WITHIN).await?;
    assert_eq!(holder.hold(&holds, true).await?, 200);
    // Phones that ring over connections, for a caller whose INVITE is to be answered over one.
    let ws_rings = house.agent_over_ws("1003", 0, Incoming::Ring).await?;
    let waits = house.phone_over_tcp("13800000003", 0, BUSY, true).await?;
    let (wait, ws_call) = rings(&waits, "1003", &ws_rings).await?;
    let tls_rings = house.agent_over_tls("1004", 0, Incoming::Ring).await?;
    let other = house.caller("13800000004", 0).await?;
    let (to_tls, tls_call) = rings(&other, "1004", &tls_rings).await?;
    // Agents who call a colleague, who has yet to answer.
    let desk = house.agent("1006", 1, Incoming::Ring).await?;
    let tcp_agent = registered(&house, house.phone_over_tcp("1005", 0, BUSY, false).await?).await?;
    let (tcp_waits, at_desk) = rings(&tcp_agent, "1006", &desk).await?;
    let second_desk = house.agent("1008", 1, Incoming::Ring).await?;
    let ws_agent = house.agent_over_ws("1007", 0, BUSY).await?;
    let (ws_waits, at_second) = rings(&ws_agent, "1008", &second_desk).await?;

    let back = [&by_ws, &holder, &ws_rings, &tls_rings, &tcp_agent, &ws_agent];
    let before = back.map(Phone::registrations);
    let killed = house.cluster.bury("gateway-a").await?;
    house.cluster.served_by(0, "gateway-b").await?;
    // The answer goes over the phone's next connection, be that registered or not, and its ACK comes back.
    ws_rings.answer(&ws_call)?;
    waits.answered(&wait, WITHIN).await.context("a call that rang over a WebSocket")?;
    for (phone, before) in back.into_iter().zip(before) {
        phone.registers(before + 1, WITHIN).await?;
    }
    println!("gateway-a killed: six phones are registered again {:?} later", killed.elapsed());
    tls_rings.answer(&tls_call)?;
    other.answered(&to_tls, WITHIN).await.context("a call that rang over TLS")?;
    desk.answer(&at_desk)?;
    tcp_agent.answered(&tcp_waits, WITHIN).await.context("an INVITE over TCP")?;
    second_desk.answer(&at_second)?;
    ws_agent.answered(&ws_waits, WITHIN).await.context("an INVITE over a WebSocket")?;
    let pairs = [
        (&by_tcp, &talk),
        (&by_ws, &talks),
        (&waits, &wait),
        (&ws_rings, &ws_call),
        (&other, &to_tls),
        (&tls_rings, &tls_call),
        (&tcp_agent, &tcp_waits),
        (&ws_agent, &ws_waits),
    ];
    for (phone, call) in pairs {
        phone.receives(call, 50, WITHIN).await?;
    }
    for call in [&talk, &hold, &wait, &to_tls, &tcp_waits, &ws_waits] {
        house.call_is(call, "connected").await?;
    }
    // What the phone asks over its next connection is heard, and what it is asked comes over that.
    assert_eq!(holder.hold(&holds, false).await?, 200);
    by_tls.receives(&hold, 50, WITHIN).await?;
    assert_eq!(by_tcp.hang_up(&talk).await?, 200);
    assert_eq!(by_ws.ended(&talks, WITHIN).await?, Ended::ByPeer, "over its next WebSocket");
    house.agent_is("1001", "ready").await?;
    assert_eq!(ws_rings.hang_up(&ws_call).await?, 200);
    assert_eq!(waits.ended(&wait, WITHIN).await?, Ended::ByPeer, "where it listens");
    release(&house, &tcp_waits).await?;
    assert_eq!(tcp_agent.ended(&tcp_waits, WITHIN).await?, Ended::ByPeer);
    release(&house, &ws_waits).await?;
    assert_eq!(ws_agent.ended(&ws_waits, WITHIN).await?, Ended::ByPeer);
    release(&house, &to_tls).await?;
    assert_eq!(tls_rings.ended(&tls_call, WITHIN).await?, Ended::ByPeer);
    // The caller over TLS is back, has said nothing since, and listens nowhere.
    release(&house, &hold).await?;
    assert_eq!(holder.ended(&holds, WITHIN).await?, Ended::ByPeer);
    for call in [&talk, &hold, &wait, &to_tls, &tcp_waits, &ws_waits] {
        is_gone(&house, call).await?;
    }
    // Phones that are back are called over what they came back by.
    for agent in ["1001", "1002"] {
        house.agent_is(agent, "ready").await?;
        let again = house.call(&other, agent, "connected").await?;
        assert_eq!(other.hang_up(&again).await?, 200);
    }
    let callers = [&by_tcp, &by_tls, &waits, &other, &desk, &second_desk];
    for phone in back.into_iter().chain(callers) {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_that_stands_still_is_killed_so_that_phones_can_come_back_and_who_does_not_is_not_waited_for()
-> Result<()> {
    let house = House::open(230).await?;
    let agent = house.agent_over_ws("1001", 0, QUICK).await?;
    let caller = house.phone_over_tcp("13800000001", 0, BUSY, true).await?;
    let talk = house.call(&caller, "1001", "connected").await?;
    let talks = agent.called(WITHIN).await?;
    let lost = house.agent_over_ws("1002", 0, QUICK).await?;
    let with_lost = house.caller("13800000002", 0).await?;
    let lost_call = house.call(&with_lost, "1002", "connected").await?;
    let idle = house.agent_over_ws("1003", 0, QUICK).await?;
    for phone in [&lost, &idle] {
        phone.stay_away();
    }
    // One that hangs up, and the kernel takes its BYE for a process that never reads it.
    let leaver = house.agent_over_ws("1004", 0, QUICK).await?;
    let left = house.caller("13800000004", 0).await?;
    let ghost = house.call(&left, "1004", "connected").await?;
    let leaves = leaver.called(WITHIN).await?;
    let before = agent.registrations();
    stop(&house, "gateway-a").await?;
    let heard = tokio::time::timeout(LOOK, leaver.hang_up(&leaves)).await;
    assert!(heard.is_err(), "who stands still answers nothing: {heard:?}");
    let stopped = Instant::now();
    house.cluster.served_by(0, "gateway-b").await?;
    let served = stopped.elapsed();
    dies(&house, "gateway-a").await?;
    let dead = stopped.elapsed();
    agent.registers(before + 1, WITHIN).await?;
    let back = stopped.elapsed();
    println!("gateway-a stopped: served {served:?}, killed {dead:?}, a phone back {back:?} later");
    for (phone, call) in [(&caller, &talk), (&agent, &talks)] {
        phone.receives(call, 50, WITHIN).await?;
    }
    // Who has hung up is asked when it has had time to come back, and says so; its BYE was lost.
    assert_eq!(left.ended(&ghost, 2 * WITHIN).await?, Ended::ByPeer);
    let cdr = is_gone(&house, &ghost).await?;
    assert_eq!((&cdr["cause"], &cdr["hung_up_by"]), (&"session_expired".into(), &"system".into()));
    // Nothing leads to them any more: one is offered no call, the other's call goes on for as long as it talks.
    house.agent_is("1003", "not_ready").await?;
    let refused = caller.dial("1003")?;
    assert_eq!(caller.ended(&refused, WITHIN).await?, Ended::Refused { status: 480 });
    with_lost.receives(&lost_call, 50, WITHIN).await?;
    release(&house, &lost_call).await?;
    assert_eq!(with_lost.ended(&lost_call, WITHIN).await?, Ended::ByPeer);
    let cdr = is_gone(&house, &lost_call).await?;
    assert_eq!(cdr["hung_up_by"], "operator", "{cdr}");
    house.agent_is("1002", "not_ready").await?;
    assert_eq!(house.api.get("/v1/agents/1002").await?["reason"], "station_lost");
    assert_eq!(agent.hang_up(&talks).await?, 200);
    assert_eq!(caller.ended(&talk, WITHIN).await?, Ended::ByPeer);
    is_gone(&house, &talk).await?;
    for phone in [&agent, &caller, &lost, &with_lost, &idle, &leaver, &left] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

/// Where no supervisor ends it: its connections are up as long as it stands still, and nobody else can listen there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_that_wakes_up_lets_go_of_its_connections_and_their_phones_come_back_to_who_serves()
-> Result<()> {
    let house = House::open_sparing_stopped(231).await?;
    let agent = house.agent_over_tls("1001", 0, QUICK).await?;
    let caller = house.phone_over_tcp("13800000001", 0, BUSY, true).await?;
    let talk = house.call(&caller, "1001", "connected").await?;
    let talks = agent.called(WITHIN).await?;
    let before = agent.registrations();
    stop(&house, "gateway-a").await?;
    house.cluster.served_by(0, "gateway-b").await?;
    caller.receives(&talk, 50, WITHIN).await?;
    assert!(is_live(&caller, &talk) && is_live(&agent, &talks));
    assert_eq!(agent.registrations(), before, "who stands still keeps the phones");
    house.cluster.signal("gateway-a", libc::SIGCONT)?;
    agent.registers(before + 1, WITHIN).await?;
    house.cluster.served_by(0, "gateway-b").await?;
    for (phone, call) in [(&caller, &talk), (&agent, &talks)] {
        phone.receives(call, 50, WITHIN).await?;
    }
    house.call_is(&talk, "connected").await?;
    assert_eq!(caller.hang_up(&talk).await?, 200);
    assert_eq!(agent.ended(&talks, WITHIN).await?, Ended::ByPeer);
    house.agent_is("1001", "ready").await?;
    let again = caller.dial("1001")?;
    caller.answered(&again, WITHIN).await?;
    assert_eq!(caller.hang_up(&again).await?, 200);
    for call in [&talk, &again] {
        is_gone(&house, call).await?;
    }
    for phone in [&agent, &caller] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}
