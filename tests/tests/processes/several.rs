//! Several tenants in one cluster: each has its own calls, agents and records, and of ports and channels what is
//! leased to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::cluster::said;
use tandem_tests::house::House;
use tandem_tests::phone::{Call, CallEnd, Incoming, Options, Phone};

const WITHIN: Duration = Duration::from_secs(20);
const REGISTER_S: u32 = 600;
const DOMAIN: &str = "acme.example";

/// A tenant with the demo tenant's extensions and numbers, and a trunk of its own.
fn acme(block: u8) -> String {
    format!(
        r#"
[tenant]
name = "acme"
realm = "{DOMAIN}"

[[trunk]]
name = "line"
channels = 60
sources = ["127.0.{block}.200"]

[[queue]]
name = "support"
agents = ["1001"]
record = true

[[agent]]
id = "1001"
password = "tandem-1001"

[[number]]
digits = "4001"
queue = "support"

[[number]]
digits = "4003"
echo = true
"#
    )
}

fn apply(house: &House, text: &str, options: &[&str]) -> Result<Output> {
    let file: PathBuf = house.cluster.dir().join("applied.toml");
    std::fs::write(&file, text)?;
    let file = file.to_str().context("a path in UTF-8")?;
    let arguments = [&["tenant", "apply", file], options].concat();
    Ok(house.tandem(&arguments)?.output()?)
}

/// A caller at the address that a trunk names.
async fn caller_at(house: &House, block: u8, user: &str) -> Result<Phone> {
    let options = Options {
        user: user.to_owned(),
        password: String::new(),
        server: house.vips[0],
        bind: IpAddr::V4(Ipv4Addr::new(127, 0, block, 200)),
        incoming: Incoming::Reject { status: 486 },
        tone_hz: 440,
        srtp: false,
        domain: None,
    };
    Phone::start(options, Arc::clone(&house.pool)).await
}

/// Of the tenant that the query names.
async fn is_in(house: &House, call_id: &str, query: &str, state: &str) -> Result<Value> {
    let path = format!("/v1/calls?sip_call_id={call_id}{query}");
    let found = |page: &Value| {
        let call = page["items"].get(0)?;
        (call["state"] == state).then(|| call.clone())
    };
    house.api.until(&path, WITHIN, found).await
}

async fn connected(house: &House, call_id: &str, query: &str) -> Result<Value> {
    is_in(house, call_id, query, "connected").await
}

/// Ports of the gateways that the phone was told.
fn ports(phone: &Phone) -> BTreeSet<u16> {
    let port = |call: &Call| {
        let sdp = if call.incoming { call.offer().into_owned() } else { call.answered() };
        let audio = sdp.lines().find_map(|line| line.strip_prefix("m=audio "))?;
        audio.split(' ').next()?.parse().ok()
    };
    phone.with_calls(|calls| calls.values().filter_map(port).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_share_a_cluster_and_see_nothing_of_each_other() -> Result<()> {
    const BLOCK: u8 = 208;
    let house = House::open(BLOCK).await?;
    // The first one talks already when the other comes.
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let caller = house.caller("13800000001", 0).await?;
    let talk = house.call(&caller, "4001", "connected").await?;
    caller.mark();
    let added = apply(&house, &acme(BLOCK), &["--shard", "s2"])?;
    assert!(added.status.success(), "{}", said(&added));
    assert_eq!(said(&added), "acme takes calls in s2");

    let theirs = house.phone_in(DOMAIN, "1001", 1, Incoming::Answer { after_ms: 50 }).await?;
    assert_eq!(theirs.register(REGISTER_S).await?, 200);
    let ready = |agent: &Value| (agent["state"] == "ready").then_some(());
    house.api.until("/v1/agents/1001?tenant=acme", WITHIN, ready).await?;
    let customer = caller_at(&house, BLOCK, "13900000001").await?;
    let other = customer.dial("4001")?;
    customer.answered(&other, WITHIN).await?;
    let of_acme = connected(&house, &other, "&tenant=acme").await?;
    assert_eq!(of_acme["shard"], "s2");
    let of_demo = connected(&house, &talk, "").await?;
    customer.mark();

    // Neither is there for the other.
    let (ours, theirs_id) = (of_demo["id"].as_str().unwrap(), of_acme["id"].as_str().unwrap());
    for (id, query) in [(ours, "?tenant=acme"), (theirs_id, ""), (theirs_id, "?tenant=demo")] {
        assert_eq!(house.api.look(&format!("/v1/calls/{id}{query}")).await?.0, 404, "{id} {query}");
        assert_eq!(house.api.delete(&format!("/v1/calls/{id}{query}")).await?, 404);
    }
    assert_eq!(house.api.look(&format!("/v1/calls/{theirs_id}?tenant=acme")).await?.0, 200);
    assert_eq!(house.api.look(&format!("/v1/calls/{ours}?tenant=demo")).await?.0, 200);
    assert_eq!(house.api.look("/v1/agents?tenant=nobody").await?.0, 404);
    assert_eq!(house.api.look("/v1/agents/1002?tenant=acme").await?.0, 404);
    let trunks = house.api.items("/v1/trunks?tenant=acme").await?;
    assert_eq!((trunks.len(), &trunks[0]["name"]), (1, &Value::from("line")));

    // A node dies, and the other tenant moves: both talk on.
    house.cluster.kill("node-a")?;
    connected(&house, &talk, "").await?;
    connected(&house, &other, "&tenant=acme").await?;
    house.cluster.revive("node-a")?;
    let moved = house.tandem(&["tenant", "move", "acme", "s3"])?.output()?;
    assert!(moved.status.success(), "{}", said(&moved));
    assert_eq!(connected(&house, &other, "&tenant=acme").await?["shard"], "s3");
    // No block of ports is of both.
    let blocks = |phones: [&Phone; 2]| -> BTreeSet<u16> {
        phones.into_iter().flat_map(ports).map(|port| port / 64).collect()
    };
    let (a, b) = (blocks([&agent, &caller]), blocks([&theirs, &customer]));
    assert!(!a.is_empty() && !b.is_empty() && a.is_disjoint(&b), "{a:?} {b:?}");
    caller.heard_all(&talk);
    customer.heard_all(&other);

    assert_eq!(customer.hang_up(&other).await?, 200);
    assert_eq!(caller.hang_up(&talk).await?, 200);
    for (call_id, own, foreign) in
        [(&other, "&tenant=acme", "&tenant=demo"), (&talk, "", "&tenant=acme")]
    {
        let path = |query| format!("/v1/cdrs?sip_call_id={call_id}{query}");
        let written = |page: &Value| page["items"].get(0).map(|_| ());
        house.api.until(&path(own), WITHIN, written).await?;
        assert_eq!(house.api.items(&path(own)).await?.len(), 1);
        assert_eq!(house.api.items(&path(foreign)).await?.len(), 0);
    }
    recordings_are_their_tenants(&house).await?;
    states_are_the_same(&house).await?;
    for phone in [&agent, &caller, &theirs, &customer] {
        assert_eq!(phone.violations(), []);
    }
    Ok(())
}

/// Each node has compared its state with a leader's, and found no difference.
async fn states_are_the_same(house: &House) -> Result<()> {
    for node in ["node-a", "node-b"] {
        let at = house.cluster.process(node)?.http;
        let deadline = Instant::now() + WITHIN;
        let checks = async |outcome: &str| {
            let name = format!("tandem_state_checks_total{{outcome=\"{outcome}\"}}");
            house.metric(&at, &name).await
        };
        while checks("same").await? < 1.0 {
            ensure!(Instant::now() < deadline, "{node} has compared nothing");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(checks("differs").await?, 0.0, "{node}");
    }
    Ok(())
}

async fn recordings_are_their_tenants(house: &House) -> Result<()> {
    let sealed = |page: &Value| {
        let recording = page["items"].get(0)?;
        (recording["sealed"] == true).then(|| recording["id"].clone())
    };
    for (own, foreign) in [("?tenant=acme", ""), ("", "?tenant=acme")] {
        let id = house.api.until(&format!("/v1/recordings{own}"), WITHIN, sealed).await?;
        let id = id.as_str().context("an id")?.to_owned();
        assert_eq!(house.api.items(&format!("/v1/recordings{own}")).await?.len(), 1);
        assert!(house.api.bytes(&format!("/v1/recordings/{id}/audio{own}")).await?.len() > 44);
        for what in ["", "/audio", "/verify"] {
            let (status, _) =
                house.api.look(&format!("/v1/recordings/{id}{what}{foreign}")).await?;
            assert_eq!(status, 404, "{what} of {own:?} for {foreign:?}");
        }
        let listed = house.tandem(&["recordings", "list", "--tenant", "acme"])?.output()?;
        assert_eq!(said(&listed).contains(&id), own == "?tenant=acme", "{}", said(&listed));
        let verdict = house.api.get(&format!("/v1/recordings/{id}/verify{own}")).await?;
        assert_eq!(verdict["copies"][0]["good"], true, "{verdict}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_outlives_a_loss_of_power_and_is_changed() -> Result<()> {
    const BLOCK: u8 = 209;
    let mut house = House::open(BLOCK).await?;
    for (text, why) in [
        (acme(BLOCK).replace("channels = 60", "channels = \"60\""), "expected an integer"),
        (
            acme(BLOCK).replace(DOMAIN, "demo.tandem"),
            "the realm demo.tandem is that of tenant demo",
        ),
        (acme(BLOCK).replace("\"acme\"", "\"demo\""), "is what the cluster's file says"),
        (format!("{}\n[sip]\n", acme(BLOCK)), "[sip] is no table of a tenant"),
        (
            acme(BLOCK).replace(&format!("\"127.0.{BLOCK}.200\""), ""),
            "number 4001 is one of tenant demo",
        ),
    ] {
        let refused = apply(&house, &text, &[])?;
        assert!(!refused.status.success() && said(&refused).contains(why), "{}", said(&refused));
    }
    assert_eq!(house.api.items("/v1/tenants").await?.len(), 1);
    let unknown = apply(&house, &acme(BLOCK), &["--shard", "s9"])?;
    assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));

    assert!(apply(&house, &acme(BLOCK), &[])?.status.success());
    house.cluster.power_off()?;
    house.power_on()?;
    let caller = caller_at(&house, BLOCK, "13900000001").await?;
    let ready = |page: &Value| {
        let acme = page["items"].as_array()?.iter().find(|it| it["name"] == "acme")?;
        (acme["ready"] == true).then_some(())
    };
    house.api.until("/v1/tenants", WITHIN, ready).await?;
    let call = caller.dial("4003")?;
    caller.answered(&call, WITHIN).await?;
    is_in(&house, &call, "&tenant=acme", "in_flow").await?;
    // What the file says now, under a call that lives.
    let text = format!("{}\n[[number]]\ndigits = \"4009\"\necho = true\n", acme(BLOCK));
    assert!(apply(&house, &text, &[])?.status.success());
    let deadline = Instant::now() + WITHIN;
    loop {
        let new = caller.dial("4009")?;
        if is_answered(&caller, &new).await? {
            break;
        }
        ensure!(Instant::now() < deadline, "the new number is not served");
    }
    is_in(&house, &call, "&tenant=acme", "in_flow").await?;
    Ok(())
}

const SHARED: &str = r#"
[[trunk]]
name = "carrier"
channels = 120
shared = true
sources = ["127.0.215.200"]
"#;

fn sharing(name: &str, number: &str) -> String {
    format!(
        "[tenant]\nname = \"{name}\"\nrealm = \"{name}.example\"\n{SHARED}\n\
         [[number]]\ndigits = \"{number}\"\necho = true\n"
    )
}

/// Four lines of thirty channels: who has a busy hour gets three, and the other keeps one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_of_a_shared_trunk_go_where_they_are_needed() -> Result<()> {
    const BLOCK: u8 = 215;
    let house = House::open_with(BLOCK, &sharing("demo", "5001")).await?;
    let added = apply(&house, &sharing("acme", "6001"), &[])?;
    assert!(added.status.success(), "{}", said(&added));
    let carrier = caller_at(&house, BLOCK, "13900000001").await?;
    let theirs = fill(&house, &carrier, "6001", 90, "tenant=acme").await?;
    let refused = carrier.dial("6001")?;
    carrier.ended(&refused, WITHIN).await?;
    let ours = fill(&house, &carrier, "5001", 30, "tenant=demo").await?;
    assert!(theirs.is_disjoint(&ours), "{theirs:?} {ours:?}");
    assert_eq!(carrier.violations(), []);
    Ok(())
}

/// Answered, or refused.
async fn is_answered(phone: &Phone, call_id: &str) -> Result<bool> {
    let settled = phone.until("an answer", WITHIN, |calls| {
        let call = calls.get(call_id)?;
        (call.answered_at.is_some() || call.end != CallEnd::Live)
            .then_some(call.end == CallEnd::Live)
    });
    settled.await
}

/// Calls until so many live; the numbers of their channels.
async fn fill(
    house: &House,
    carrier: &Phone,
    number: &str,
    calls: usize,
    tenant: &str,
) -> Result<BTreeSet<u64>> {
    let deadline = Instant::now() + WITHIN;
    let mut live = 0;
    while live < calls {
        ensure!(Instant::now() < deadline, "{live} of {calls} calls of {tenant}");
        let call = carrier.dial(number)?;
        if is_answered(carrier, &call).await? {
            live += 1;
        } else {
            // It found no channel and comes again, as a customer does: more are leased meanwhile.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let path = format!("/v1/trunks/carrier/channels?limit=200&{tenant}");
    let channels = house.api.items(&path).await?;
    let busy = channels.iter().filter(|channel| channel["state"] != "idle");
    let busy: BTreeSet<u64> = busy.filter_map(|channel| channel["number"].as_u64()).collect();
    assert_eq!(busy.len(), calls, "{tenant}");
    Ok(busy)
}
