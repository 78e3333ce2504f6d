//! Wall clocks are set by an hour under live calls, on the node that leads and on the one that takes
//! over: nothing is early, late or out of order. A binary of its own, for it holds times: nothing else runs beside it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_core::time::rfc3339;
use tandem_sip::Millis;
use tandem_tests::house::House;
use tandem_tests::own_clock::OwnClock;
use tandem_tests::phone::{Incoming, Phone};

const NET: u8 = 190;
const WITHIN: Duration = Duration::from_secs(20);
const HOUR_S: i32 = 3_600;
/// How long the phone of agent 1003 may ring, and how long after-call work lasts.
const RING_MS: u64 = 6_000;
const ACW_MS: u64 = 5_000;
/// What a time may be off by: takeovers, SIP and a busy machine.
const OFF_MS: u64 = 1_500;
/// A time-out is noticed late where nodes elect meanwhile.
const LATE_MS: u64 = 6_000;

const CONFIG: &str = "[tenant]\nname = \"demo\"\nrealm = \"demo.tandem\"\nacw_ms = 5000\n\
    [[trunk]]\nname = \"carrier\"\nchannels = 30\n\
    [[agent]]\nid = \"1001\"\npassword = \"tandem-1001\"\n\
    [[agent]]\nid = \"1002\"\npassword = \"tandem-1002\"\n\
    [[agent]]\nid = \"1003\"\npassword = \"tandem-1003\"\n\
    [[queue]]\nname = \"support\"\nagents = [\"1001\", \"1002\"]\nring_ms_max = 300000\n\
    [[queue]]\nname = \"sales\"\nagents = [\"1003\"]\nring_ms_max = 6000\n\
    [[number]]\ndigits = \"4001\"\nqueue = \"support\"\n\
    [[number]]\ndigits = \"4002\"\nqueue = \"sales\"\n\
    [[number]]\ndigits = \"4003\"\necho = true\n";

/// By the clock of this test, which is right.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC sorts as text.
fn is_about(shown: &Value, at_ms: u64) -> bool {
    let shown = shown.as_str().unwrap_or_default();
    let (low, high) = (rfc3339(Millis(at_ms - OFF_MS)), rfc3339(Millis(at_ms + OFF_MS)));
    low.as_str() <= shown && shown <= high.as_str()
}

fn ms(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

struct Centre {
    house: House,
    nodes: [OwnClock; 2],
    support: Value,
    /// Records of short calls, as they began.
    records: Vec<Value>,
    dialled: u32,
}

impl Centre {
    /// The place of the node that leads.
    async fn leader(&self) -> Result<usize> {
        let leader = self.house.cluster.leader().await?;
        self.nodes.iter().position(|node| node.name() == leader).context("a node leads")
    }

    async fn until_led(&self) -> Result<()> {
        let led = |status: &Value| {
            let mut nodes = status["nodes"].as_array()?.iter();
            nodes
                .any(|node| node["leads"].as_array().is_some_and(|it| !it.is_empty()))
                .then_some(())
        };
        self.house.api.until("/v1/cluster", WITHIN, led).await
    }

    async fn caller(&mut self) -> Result<Phone> {
        self.dialled += 1;
        self.house.caller(&format!("139{:08}", self.dialled), 0).await
    }

    /// The caller's phone rings at agent 1003, who does not answer.
    async fn ring(&mut self) -> Result<(Phone, String, Instant)> {
        let body = json!({"state": "ready"});
        let (status, said) = self.house.api.post("/v1/agents/1003/state", &body).await?;
        ensure!(status == 200, "{status} {said}");
        self.house.agent_is("1003", "ready").await?;
        let phone = self.caller().await?;
        let call = phone.dial("4002")?;
        self.house.agent_is("1003", "reserved").await?;
        Ok((phone, call, Instant::now()))
    }

    /// It rings for as long as it shall.
    async fn rings_out(&self, (phone, call, since): (Phone, String, Instant)) -> Result<()> {
        let over = |agent: &Value| (agent["state"] != "reserved").then_some(());
        self.house.api.until("/v1/agents/1003", WITHIN, over).await?;
        let rang_ms = ms(since.elapsed());
        let may = RING_MS - OFF_MS..RING_MS + LATE_MS;
        ensure!(may.contains(&rang_ms), "it rang for {rang_ms} ms");
        ensure!(phone.hang_up(&call).await? == 200, "BYE of who waited");
        Ok(())
    }

    /// Nobody has moved, and the log's time is true time.
    async fn is_as_before(&mut self, when: &str) -> Result<()> {
        let support = self.house.api.get("/v1/queues/support").await?;
        ensure!(support["waiting"] == self.support["waiting"], "{when}: {support}");
        self.house.agent_is("1001", "talking").await?;
        self.house.agent_is("1002", "reserved").await?;
        let phone = self.caller().await?;
        let at_ms = now_ms();
        let call = self.house.call(&phone, "4003", "in_flow").await?;
        ensure!(phone.hang_up(&call).await? == 200, "BYE of a short call");
        let record = self.house.cdr(&call).await?;
        ensure!(is_about(&record["started_at"], at_ms), "{when}: at {at_ms}: {record}");
        let last = self.records.last().map(|last| last["ended_at"].as_str());
        ensure!(last <= Some(record["started_at"].as_str()), "{when}: {last:?}, then {record}");
        self.records.push(record);
        Ok(())
    }

    /// The leader's clock is set, then the follower's, and the follower takes over.
    async fn set_both(&mut self, leader_s: i32, follower_s: i32) -> Result<()> {
        let api = self.house.api.clone();
        let leads = self.leader().await?;
        let follows = 1 - leads;
        let rings = self.ring().await?;
        self.nodes[leads].set(&api, leader_s).await?;
        self.is_as_before(&format!("the leader's clock is {leader_s} s ahead")).await?;
        self.rings_out(rings).await?;
        self.nodes[follows].set(&api, follower_s).await?;
        let rings = self.ring().await?;
        self.nodes[leads].kill()?;
        self.until_led().await?;
        let when = format!("a node takes over whose clock is {follower_s} s ahead");
        self.is_as_before(&when).await?;
        self.rings_out(rings).await?;
        self.nodes[leads].revive()?;
        self.nodes[leads].up(&self.house.cluster, &api).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wall_clocks_that_are_set_by_an_hour_change_nothing() -> Result<()> {
    let house = House::open_with(NET, CONFIG).await?;
    let mut nodes = Vec::new();
    for name in ["node-a", "node-b"] {
        let node = OwnClock::start(&house.cluster, name)?;
        node.up(&house.cluster, &house.api).await?;
        nodes.push(node);
    }
    let [a, b]: [OwnClock; 2] = nodes.try_into().ok().context("two nodes")?;
    let quick = Incoming::Answer { after_ms: 50 };
    let _talking = house.agent("1001", 0, quick).await?;
    let _ringing = house.agent("1002", 1, Incoming::Ring).await?;
    let _missing = house.agent("1003", 1, Incoming::Ring).await?;
    let talker = house.caller("13800000001", 0).await?;
    let others = house.caller("13800000002", 1).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let talked = Instant::now();
    house.call(&others, "4001", "queued").await?;
    house.agent_is("1002", "reserved").await?;
    let mut waits = Vec::new();
    for _ in 0..3 {
        waits.push(house.call(&others, "4001", "queued").await?);
    }
    let waited = Instant::now();
    let support = house.api.get("/v1/queues/support").await?;
    let mut centre = Centre { house, nodes: [a, b], support, records: Vec::new(), dialled: 0 };
    centre.is_as_before("all clocks are right").await?;

    centre.set_both(HOUR_S, -HOUR_S).await?;
    // Who leads now is behind, and who follows, and was started anew, is ahead.
    centre.set_both(HOUR_S, HOUR_S).await?;
    centre.set_both(-HOUR_S, HOUR_S).await?;

    // The talk ends: its record, the agent's rest and the wait of the next caller are as they were.
    let house = &centre.house;
    assert_eq!(talker.hang_up(&talk).await?, 200);
    let (talked_ms, rests) = (ms(talked.elapsed()), Instant::now());
    house.agent_is("1001", "acw").await?;
    let record = house.cdr(&talk).await?;
    let shown_ms = record["talk_ms"].as_u64().context("talk_ms")?;
    assert!(shown_ms.abs_diff(talked_ms) <= OFF_MS, "talked for {talked_ms} ms: {record}");
    let over = |agent: &Value| (agent["state"] != "acw").then_some(());
    house.api.until("/v1/agents/1001", WITHIN, over).await?;
    let rested_ms = ms(rests.elapsed());
    assert!((ACW_MS - OFF_MS..ACW_MS + LATE_MS).contains(&rested_ms), "rested for {rested_ms} ms");
    house.call_is(&waits[0], "connected").await?;
    let waited_ms = ms(waited.elapsed());
    house.call_is(&waits[1], "queued").await?;
    assert_eq!(others.hang_up(&waits[0]).await?, 200);
    let record = house.cdr(&waits[0]).await?;
    let shown_ms = record["wait_ms"].as_u64().context("wait_ms")?;
    assert!(shown_ms.abs_diff(waited_ms) <= OFF_MS, "waited for {waited_ms} ms: {record}");
    for phone in [&talker, &others] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }

    // Nobody runs for a while: then the wall clock tells the time, and it is right again.
    let api = centre.house.api.clone();
    for node in &mut centre.nodes {
        node.set(&api, 0).await?;
    }
    for node in &mut centre.nodes {
        node.kill()?;
    }
    tokio::time::sleep(Duration::from_millis(2 * OFF_MS)).await;
    for node in &mut centre.nodes {
        node.revive()?;
    }
    centre.until_led().await?;
    let phone = centre.caller().await?;
    let at_ms = now_ms();
    let call = centre.house.call(&phone, "4003", "in_flow").await?;
    assert_eq!(phone.hang_up(&call).await?, 200);
    let record = centre.house.cdr(&call).await?;
    assert!(is_about(&record["started_at"], at_ms), "at {at_ms}: {record}");
    let house = centre.house;
    drop(centre.nodes);
    house.cluster.stop()?;
    Ok(())
}
