//! A node comes back with another state than its group has, under live calls: it serves nobody, even where
//! nobody else is left, is made again from the other's rows, and then is as good as any.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_storage::raft::ShardId;
use tandem_storage::state::{Change, State};
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;
use tokio::time::Instant;

const WITHIN: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(50);
/// So long it is looked whether anybody serves where nobody may.
const NOBODY_FOR: Duration = Duration::from_secs(3);
const SHARD: ShardId = ShardId(0);
/// The first tenant's rows have this before their keys.
const TENANT: [u8; 2] = [0, 0];
/// What a state has beside the families of the core.
const OTHER_FAMILIES: [&str; 2] = ["meta", "tenants"];
const CHAIN: &[u8] = b"chain";
/// Of it, how far it goes.
const INDEX_BYTES: usize = 8;

const CONFIG: &str = "[tenant]\nname = \"demo\"\nrealm = \"demo.tandem\"\n\
                      [[trunk]]\nname = \"carrier\"\nchannels = 30\n\
                      [[agent]]\nid = \"1001\"\npassword = \"tandem-1001\"\n\
                      [[agent]]\nid = \"1002\"\npassword = \"tandem-1002\"\n\
                      [[queue]]\nname = \"support\"\nagents = [\"1001\", \"1002\"]\n\
                      ring_ms_max = 300000\nrecord = true\n\
                      [[number]]\ndigits = \"4001\"\nqueue = \"support\"\n\
                      [[number]]\ndigits = \"4003\"\necho = true\n";

fn other(node: &str) -> &'static str {
    if node == "node-a" { "node-b" } else { "node-a" }
}

/// In the folder of a node that does not run: another hash of what was written, and rows are gone of which
/// the key says so. How many there were.
fn spoil(dir: &Path, gone: impl Fn(&str, &[u8]) -> bool) -> Result<usize> {
    let families: Vec<&str> = tandem_core::FAMILIES.iter().copied().chain(OTHER_FAMILIES).collect();
    let families: &'static [&'static str] = families.leak();
    let state = State::open(&dir.join("state"), families)?;
    let (applied, membership) = state.applied(SHARD)?;
    let index = applied.map_or(0, |applied| applied.index);
    let mut chain = state.get(SHARD, "tenants", CHAIN)?.unwrap_or_else(|| vec![0; 40]);
    chain[..INDEX_BYTES].copy_from_slice(&index.to_be_bytes());
    chain[INDEX_BYTES] ^= 1;
    let mut changes = vec![Change::of("tenants", CHAIN.to_vec(), Some(chain))];
    let view = state.view();
    for row in view.rows(SHARD, &[], &[])? {
        let row = row?;
        if gone(&row.family, &row.key) {
            let family = families.iter().find(|family| **family == row.family);
            changes.push(Change::of(family.context("a family")?, row.key, None));
        }
    }
    state.write(SHARD, &changes, applied.as_ref(), &membership)?;
    state.flush()?;
    Ok(changes.len() - 1)
}

async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(found) = found().await? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what}: not within {WITHIN:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Until the readiness of a node that may not answer yet is as wanted.
async fn ready_is(house: &House, node: &str, status: u16, line: &str) -> Result<()> {
    let http = house.cluster.process(node)?.http;
    let mut last = String::new();
    let what = format!("{node} is {status} with {line:?}");
    let found = until(&what, async || {
        let probed = house.api.probe(&format!("http://{http}"), "/readyz?verbose").await;
        let Ok((is, text)) = probed else { return Ok(None) };
        let found = (is == status && text.contains(line)).then_some(());
        last = text;
        Ok(found)
    });
    found.await.with_context(|| format!("last it said {last}"))
}

async fn figure(house: &House, node: &str, name: &str) -> Result<f64> {
    house.metric(&house.cluster.process(node)?.http, name).await
}

/// Until a node has found its state to be that of who leads, once more.
async fn compares_well(house: &House, node: &str) -> Result<()> {
    let name = "tandem_state_checks_total{outcome=\"same\"}";
    let before = figure(house, node, name).await?;
    for n in 0.. {
        short_call(house, &format!("1390{n:07}")).await?;
        if figure(house, node, name).await? > before {
            break;
        }
        ensure!(n < 200, "{node} compares nothing");
    }
    Ok(())
}

/// Something to compare.
async fn short_call(house: &House, user: &str) -> Result<()> {
    let caller = house.caller(user, 1).await?;
    let call = caller.dial("4003")?;
    caller.answered(&call, WITHIN).await?;
    tokio::time::sleep(LOOK).await;
    ensure!(caller.hang_up(&call).await? == 200, "BYE");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_state_differs_serves_nobody_until_it_is_made_again() -> Result<()> {
    let house = House::open_with(216, CONFIG).await?;
    let talking = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let ringing = house.agent("1002", 1, Incoming::Ring).await?;
    let talker = house.caller("13800000001", 0).await?;
    let ringer = house.caller("13800000002", 1).await?;
    let waiters = house.caller("13800000003", 0).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let ring = house.call(&ringer, "4001", "queued").await?;
    house.agent_is("1002", "reserved").await?;
    let wait = house.call(&waiters, "4001", "queued").await?;
    let leader = house.cluster.leader().await?;
    let strays = other(&leader);
    let data = house.cluster.dir().join("data").join(strays);
    compares_well(&house, strays).await?;
    let queue = house.api.get("/v1/queues/support").await?["waiting"].clone();
    let agents = house.api.get("/v1/agents").await?;

    // Nobody else is left: it is elected, and serves nobody.
    house.cluster.bury(strays).await?;
    house.cluster.bury(&leader).await?;
    spoil(&data, |_, _| false)?;
    house.cluster.revive(strays)?;
    ready_is(&house, strays, 503, "[-] state: of s0 is not its leader's since entry ").await?;
    let begun = Instant::now();
    while begun.elapsed() < NOBODY_FOR {
        ensure!(house.cluster.leader().await.is_err(), "{strays} serves");
        tokio::time::sleep(LOOK).await;
    }
    assert_eq!(figure(&house, strays, "tandem_state_out{shard=\"s0\"}").await?, 1.0);
    house.cluster.revive(&leader)?;
    ready_is(&house, strays, 200, "[+] state: is that of whoever leads").await?;
    assert_eq!(figure(&house, strays, "tandem_state_mended_total").await?, 1.0);
    // Either may lead now: it was the leader in name when it was mended.
    until_led(&house).await?;
    assert_eq!(house.api.get("/v1/queues/support").await?["waiting"], queue);
    assert_eq!(house.api.get("/v1/agents").await?, agents);
    compares_well(&house, strays).await?;

    // Now it is wrong beside one that leads: it has lost an agent.
    house.cluster.bury(strays).await?;
    let is_agent = |family: &str, key: &[u8]| {
        let own = key.strip_prefix(&TENANT);
        family == "agents" && own.is_some_and(|key| key.ends_with(b"1002"))
    };
    assert_eq!(spoil(&data, is_agent)?, 1, "its rows were flushed when it was made again");
    house.cluster.revive(strays)?;
    until("it is made again", async || {
        short_call(&house, "13900000009").await?;
        let mended = figure(&house, strays, "tandem_state_mended_total").await;
        Ok(mended.is_ok_and(|mended| mended >= 1.0).then_some(()))
    })
    .await?;
    ready_is(&house, strays, 200, "[+] state: is that of whoever leads").await?;
    let may_lose = |status: &serde_json::Value| {
        (status["can_lose"][leader.as_str()]["ok"] == true).then_some(())
    };
    house.api.until("/v1/cluster", WITHIN, may_lose).await?;

    // It serves, and everything is as it was.
    house.cluster.kill(&leader)?;
    short_call(&house, "13900000010").await?;
    assert_eq!(house.cluster.leader().await?, strays);
    assert_eq!(house.api.get("/v1/queues/support").await?["waiting"], queue);
    assert_eq!(house.api.get("/v1/agents").await?, agents);
    house.call_is(&talk, "connected").await?;
    house.call_is(&wait, "queued").await?;
    let offered = ringing.with_calls(|calls| calls.keys().next().cloned());
    ringing.answer(&offered.context("agent 1002 still rings")?)?;
    house.call_is(&ring, "connected").await?;
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.call_is(&wait, "connected").await?;
    assert_eq!(house.cdr(&talk).await?["disposition"], "answered");
    for phone in [&talking, &ringing, &talker, &ringer, &waiters] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

async fn until_led(house: &House) -> Result<String> {
    until("somebody leads", async || Ok(house.cluster.leader().await.ok())).await
}
