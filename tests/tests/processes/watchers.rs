//! SUBSCRIBE and NOTIFY (RFC 6665): colleagues' lamps (RFC 4235) and the own mailbox (RFC 3842).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;
use tandem_tests::watcher::Watcher;

const WITHIN: Duration = Duration::from_secs(20);
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn lamp(house: &House, user: &str, at: usize) -> Result<Watcher> {
    Watcher::open(user, house.vips[at], LOCALHOST, "dialog").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lamp_follows_a_call_from_one_leader_to_the_next() -> Result<()> {
    let house = House::open(170).await?;
    let agent = house.agent("1001", 1, Incoming::Ring).await?;
    let mut watcher = lamp(&house, "1003", 0).await?;
    let accepted = watcher.subscribe("1001", 600).await?;
    ensure!(accepted.status == 200, "{accepted:?}");
    ensure!(accepted.headers.expires == Some(600), "{accepted:?}");
    let told = watcher.shows(&["terminated"]).await?;
    ensure!(told.state.starts_with("active;expires="), "{told:?}");

    let caller = house.caller("13800000001", 0).await?;
    let call = caller.dial("1001")?;
    let rings = watcher.shows(&["early recipient"]).await?;
    ensure!(rings.replaces().is_some(), "what rings can be picked up: {rings:?}");
    ensure!(!rings.body.contains("13800000001"), "who calls is nobody's business: {rings:?}");
    house.cluster.kill(&house.cluster.leader().await?)?;
    let ringing = agent.called(WITHIN).await?;
    agent.answer(&ringing)?;
    watcher.shows(&["confirmed recipient"]).await?;
    caller.answered(&call, WITHIN).await?;
    ensure!(watcher.refresh(600).await?.status == 200, "the next leader knows it");
    ensure!(caller.hang_up(&call).await? == 200, "BYE");
    watcher.shows(&["terminated"]).await?;

    // The phone places a call.
    house.agent_is("1001", "ready").await?;
    let echo = house.call(&agent, "4003", "in_flow").await;
    let echo = match echo {
        Ok(echo) => echo,
        Err(error) => return Err(error.context("the agent calls the echo")),
    };
    watcher.shows(&["confirmed initiator"]).await?;
    ensure!(agent.hang_up(&echo).await? == 200, "BYE");
    watcher.shows(&["terminated"]).await?;

    ensure!(watcher.refresh(0).await?.status == 200, "it is taken back");
    let last = watcher.is_told("that it is over", |told| told.state.starts_with("term")).await?;
    ensure!(last.state == "terminated;reason=timeout", "{last:?}");
    ensure!(watcher.refresh(600).await?.status == 481, "it is over");
    watcher.is_in_order()?;
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lamp_shows_ringing_is_picked_up_with_it() -> Result<()> {
    let house = House::open(171).await?;
    let _agent = house.agent("1001", 1, Incoming::Ring).await?;
    let colleague = house.agent("1003", 0, Incoming::Reject { status: 486 }).await?;
    let mut watcher = lamp(&house, "1003", 0).await?;
    ensure!(watcher.subscribe("1001", 600).await?.status == 200, "SUBSCRIBE");
    let caller = house.caller("13800000001", 0).await?;
    let call = caller.dial("1001")?;
    let rings = watcher.shows(&["early recipient"]).await?;
    let dialog = rings.replaces().unwrap_or_default();
    colleague.say(&[("Replaces", &dialog), ("Require", "replaces")]);
    let own = colleague.dial("1001")?;
    colleague.answered(&own, WITHIN).await?;
    caller.answered(&call, WITHIN).await?;
    watcher.shows(&["terminated"]).await?;
    watcher.is_in_order()?;
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lamp_catches_up_when_its_gateway_is_back_and_ends_where_nobody_knows_it() -> Result<()> {
    let house = House::open(172).await?;
    let agent = house.agent("1001", 1, Incoming::Ring).await?;
    let mut watcher = lamp(&house, "1003", 0).await?;
    ensure!(watcher.subscribe("1001", 600).await?.status == 200, "SUBSCRIBE");
    watcher.shows(&["terminated"]).await?;
    let processes = house.cluster.processes()?;
    let gateway = &processes.sip[0].serving;
    house.cluster.bury(gateway).await?;
    let caller = house.caller("13800000001", 1).await?;
    let call = caller.dial("1001")?;
    let ringing = agent.called(WITHIN).await?;
    agent.answer(&ringing)?;
    caller.answered(&call, WITHIN).await?;
    house.cluster.revive(gateway)?;
    watcher.shows(&["confirmed recipient"]).await?;
    watcher.is_in_order()?;

    watcher.answer(481);
    ensure!(caller.hang_up(&call).await? == 200, "BYE");
    // The end of the subscription is an event of its own: a refresh hears of it by and by.
    let deadline = tokio::time::Instant::now() + WITHIN;
    let mut look = tokio::time::interval(Duration::from_millis(100));
    while watcher.refresh(600).await?.status != 481 {
        ensure!(tokio::time::Instant::now() < deadline, "it goes on");
        look.tick().await;
    }
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mailbox_is_empty_and_what_is_not_told_is_refused() -> Result<()> {
    let house = House::open(173).await?;
    let open = async |event: &str| Watcher::open("1003", house.vips[1], LOCALHOST, event).await;
    let mut mailbox = open("message-summary;id=7").await?;
    ensure!(mailbox.subscribe("1003", 3_600).await?.status == 200, "SUBSCRIBE");
    let told = mailbox.is_told("of its mailbox", |told| !told.body.is_empty()).await?;
    ensure!(told.body.starts_with("Messages-Waiting: no\r\n"), "{told:?}");
    // A fetch is told, and nothing is kept.
    let mut fetch = open("dialog").await?;
    ensure!(fetch.subscribe("1001", 0).await?.status == 200, "SUBSCRIBE");
    let told = fetch.is_told("what is so", |told| !told.body.is_empty()).await?;
    ensure!(told.state == "terminated;reason=timeout", "{told:?}");
    ensure!(fetch.refresh(600).await?.status == 481, "it was a fetch");

    for (event, of, expires_s, status) in [
        ("presence", "1001", 600, 489),
        ("dialog", "1999", 600, 404),
        ("dialog", "4001", 600, 404),
        ("dialog", "1001", 10, 423),
        ("message-summary", "1001", 600, 403),
    ] {
        let refused = open(event).await?.subscribe(of, expires_s).await?;
        ensure!(refused.status == status, "{event} of {of}: {refused:?}");
    }
    // Who proves no password is told nothing.
    let mut stranger = Watcher::open("nobody", house.vips[1], LOCALHOST, "dialog").await?;
    let refused = stranger.subscribe("1001", 600).await?;
    ensure!(refused.status == 403, "{refused:?}");
    ensure!(stranger.told().is_empty(), "{:?}", stranger.told());
    house.cluster.stop()?;
    Ok(())
}
