//! Callers in a flow: prompts, keys, time-outs, and the node that leads dying under them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming, Phone};
use tokio::time::Instant;

const WITHIN: Duration = Duration::from_secs(15);
/// Three times a prompt of 3.7 s and 5 s without a key, and a word at the end.
const THREE_PLAYS: Duration = Duration::from_secs(45);
/// Barge-in stops the prompt so soon; a loaded test machine gets some slack on top.
const BARGE_IN_MS_MAX: u128 = 150 + 150;
/// A key lasts 100 ms, and its end is sent three times.
const KEY_MS: u64 = 100;
/// Louder than anything but speech and tones.
const AUDIBLE: f64 = 100.0;

/// A menu that leads to a number of an account: `42` and `#` lead to the queue.
const ACCOUNT: &str = r##"
[tenant]
name = "demo"
realm = "demo.tandem"
[[trunk]]
name = "carrier"
channels = 30
[[agent]]
id = "1001"
password = "tandem-1001"
[[queue]]
name = "support"
agents = ["1001"]
[[number]]
digits = "4000"
flow = "account"
[[number]]
digits = "4004"
announcement = "notice"
[[flow]]
name = "account"
[[flow.step]]
name = "hello"
do = "play"
prompt = "notice"
next = "number"
[[flow.step]]
name = "number"
do = "collect"
prompt = "menu"
digits_min = 2
digits_max = 6
terminator = "#"
inter_digit_ms = 10000
first_digit_ms = 20000
no_input = "end"
no_match = "end"
next = "known"
[[flow.step]]
name = "known"
do = "branch"
cases = { 42 = "queue" }
otherwise = "end"
[[flow.step]]
name = "queue"
do = "queue"
queue = "support"
full = "end"
[[flow.step]]
name = "end"
do = "hang_up"
"##;

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// The milliseconds from answer to end.
fn lasted_ms(cdr: &Value) -> Result<u64> {
    let of = |key: &str| -> Result<u64> {
        let text = cdr[key].as_str().with_context(|| format!("{key} of {cdr}"))?;
        let number = |range: std::ops::Range<usize>| text[range].parse::<u64>();
        let minutes = number(11..13)? * 60 + number(14..16)?;
        Ok((minutes * 60 + number(17..19)?) * 1_000 + number(20..23)?)
    };
    const DAY_MS: u64 = 24 * 3_600_000;
    Ok((of("ended_at")? + DAY_MS - of("answered_at")?) % DAY_MS)
}

async fn hears_something(phone: &Phone, call_id: &str) -> Result<()> {
    let began = Instant::now();
    while phone.heard_level(call_id, 400) < AUDIBLE {
        ensure!(began.elapsed() < WITHIN, "{} hears nothing", phone.user);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn menu_leads_where_its_keys_say() -> Result<()> {
    let house = House::open(57).await?;
    let caller = house.caller("13800000001", 0).await?;

    // 1 and 2 lead to the queues; waiting counts from there.
    for (key, queue, step) in [("1", "support", "support"), ("2", "sales", "sales")] {
        let call = house.call(&caller, "4000", "in_flow").await?;
        let flow = house.flow_is(&call, |flow| flow["prompt"] == "menu").await?;
        assert_eq!((text(&flow, "name"), text(&flow, "step")), ("main", "menu"));
        assert_eq!((&flow["digits"], &flow["tries"]), (&json!(""), &json!(0)));
        hears_something(&caller, &call).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        caller.press(&call, key)?;
        house.call_is(&call, "queued").await?;
        assert_eq!(caller.hang_up(&call).await?, 200);
        let cdr = house.cdr(&call).await?;
        assert_eq!((text(&cdr, "queue"), text(&cdr, "disposition")), (queue, "abandoned"));
        assert_eq!((&cdr["flow"], &cdr["flow_path"]), (&json!("main"), &json!(["menu", step])));
        let wait_ms = cdr["wait_ms"].as_u64().context("wait_ms")?;
        let all_ms = lasted_ms(&cdr)?;
        assert!(wait_ms + 1_000 <= all_ms, "waited {wait_ms} ms of {all_ms}");
    }

    // 0: the agent is not there, and then is.
    let call = house.call(&caller, "4000", "in_flow").await?;
    caller.press(&call, "0")?;
    let path = format!("/v1/calls?sip_call_id={call}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let page = house.api.get(&path).await?;
    assert_eq!(page["items"][0]["flow"]["step"], "menu");
    let agent = house.agent("1001", 1, Incoming::Ring).await?;
    caller.press(&call, "0")?;
    house.call_is(&call, "dialing").await?;
    house.flow_is(&call, |flow| flow["step"] == "operator").await?;
    let rings = agent.until("a call", WITHIN, |calls| calls.keys().next().cloned()).await?;
    agent.answer(&rings)?;
    house.call_is(&call, "connected").await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    let cdr = house.cdr(&call).await?;
    assert_eq!((text(&cdr, "agent"), text(&cdr, "disposition")), ("1001", "answered"));
    assert_eq!(cdr["flow_path"], json!(["menu", "operator", "menu", "operator"]));

    // An agent who is busy leads back to the menu; so does one who refuses.
    house.agent_is("1001", "ready").await?;
    agent.set_incoming(Incoming::Reject { status: 486 })?;
    let call = house.call(&caller, "4000", "in_flow").await?;
    caller.press(&call, "0")?;
    let cdr_path = json!(["menu", "operator", "menu"]);
    tokio::time::sleep(Duration::from_millis(800)).await;
    house.flow_is(&call, |flow| flow["step"] == "menu").await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    let cdr = house.cdr(&call).await?;
    assert_eq!((&cdr["flow_path"], text(&cdr, "disposition")), (&cdr_path, "answered"));
    assert_eq!(caller.violations(), []);
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caller_without_a_key_hears_the_menu_three_times_and_announcements_end() -> Result<()> {
    let house = House::open(62).await?;
    let silent = house.caller("13800000001", 0).await?;
    let wrong = house.caller("13800000002", 1).await?;
    let informed = house.caller("13800000003", 0).await?;
    let listener = house.caller("13800000004", 1).await?;
    let silent_call = house.call(&silent, "4000", "in_flow").await?;
    let wrong_call = house.call(&wrong, "4000", "in_flow").await?;
    let notice = house.call(&informed, "4004", "in_flow").await?;
    let third = house.call(&listener, "4000", "in_flow").await?;

    // 3: the announcement, which no key stops.
    listener.press(&third, "3")?;
    house.flow_is(&third, |flow| flow["step"] == "notice").await?;
    listener.press(&third, "1")?;
    assert_eq!(listener.ended(&third, WITHIN).await?, Ended::ByPeer);
    let cdr = house.cdr(&third).await?;
    assert_eq!(cdr["flow_path"], json!(["menu", "notice", "hang_up"]));
    assert_eq!((text(&cdr, "disposition"), text(&cdr, "hung_up_by")), ("answered", "system"));

    // 4004: about five seconds, then BYE.
    assert_eq!(informed.ended(&notice, WITHIN).await?, Ended::ByPeer);
    let lasted = lasted_ms(&house.cdr(&notice).await?)?;
    assert!((4_800..7_000).contains(&lasted), "the announcement lasted {lasted} ms");

    // A key that the menu does not know counts as a try.
    wrong.press(&wrong_call, "9")?;
    house.flow_is(&wrong_call, |flow| flow["tries"] == 1).await?;
    wrong.press(&wrong_call, "*")?;
    house.flow_is(&wrong_call, |flow| flow["tries"] == 2).await?;
    wrong.press(&wrong_call, "7")?;
    assert_eq!(wrong.ended(&wrong_call, WITHIN).await?, Ended::ByPeer);

    assert_eq!(silent.ended(&silent_call, THREE_PLAYS).await?, Ended::ByPeer);
    let cdr = house.cdr(&silent_call).await?;
    let lasted = lasted_ms(&cdr)?;
    assert!((26_000..30_000).contains(&lasted), "three plays lasted {lasted} ms");
    assert_eq!(cdr["flow_path"], json!(["menu", "goodbye", "hang_up"]));
    assert_eq!((text(&cdr, "disposition"), text(&cdr, "hung_up_by")), ("answered", "system"));
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompt_and_digits_live_through_the_death_of_the_leader() -> Result<()> {
    let house = House::open_with(63, ACCOUNT).await?;
    let caller = house.caller("13800000001", 0).await?;
    let call = house.call(&caller, "4000", "in_flow").await?;
    let began = Instant::now();

    // In a prompt that lasts five seconds: it is heard on, and ends when it would have.
    hears_something(&caller, &call).await?;
    kill_leader(&house).await?;
    house.flow_is(&call, |flow| flow["step"] == "hello" && flow["prompt"] == "notice").await?;
    hears_something(&caller, &call).await?;
    house.flow_is(&call, |flow| flow["step"] == "number").await?;
    let lasted = began.elapsed().as_millis();
    assert!((4_500..7_500).contains(&lasted), "the prompt lasted {lasted} ms");

    // Barge-in.
    hears_something(&caller, &call).await?;
    caller.press(&call, "4")?;
    tokio::time::sleep(Duration::from_millis(KEY_MS)).await;
    let pressed = Instant::now();
    while caller.heard_level(&call, 40) > 0.0 {
        ensure!(pressed.elapsed() < WITHIN, "the prompt goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stopped = pressed.elapsed().as_millis();
    assert!(stopped <= BARGE_IN_MS_MAX, "the prompt was heard for {stopped} ms more");

    // While digits are collected: what is pressed in the failover counts once and in order.
    house.flow_is(&call, |flow| flow["digits"] == "4").await?;
    house.cluster.revive(&died(&house).await?)?;
    healthy(&house).await?;
    kill_leader(&house).await?;
    caller.press(&call, "2")?;
    let flow = house.flow_is(&call, |flow| flow["digits"] == "42").await?;
    assert_eq!((text(&flow, "step"), &flow["prompt"]), ("number", &Value::Null));
    caller.press(&call, "#")?;
    house.call_is(&call, "queued").await?;
    assert_eq!(caller.hang_up(&call).await?, 200);
    let cdr = house.cdr(&call).await?;
    assert_eq!(cdr["flow_path"], json!(["hello", "number", "known", "queue"]));
    assert_eq!(cdr["takeovers"], 2);
    assert_eq!(caller.violations(), []);
    house.cluster.stop()?;
    Ok(())
}

async fn kill_leader(house: &House) -> Result<()> {
    let leader = house.cluster.leader().await?;
    house.cluster.kill(&leader)?;
    Ok(())
}

/// The node that is not alive.
async fn died(house: &House) -> Result<String> {
    let dead = |processes: Vec<tandem_tests::cluster::Process>| {
        processes.into_iter().find(|process| process.role == "node" && !process.alive)
    };
    let began = Instant::now();
    loop {
        if let Some(process) = dead(house.cluster.processes()?.processes) {
            return Ok(process.name);
        }
        ensure!(began.elapsed() < WITHIN, "no node is dead");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn healthy(house: &House) -> Result<()> {
    house
        .api
        .until("/v1/cluster", WITHIN, |status| {
            let nodes = status["nodes"].as_array()?;
            let healthy = nodes.iter().all(|node| {
                node["healthy"] == true && node["lag"].as_u64().is_some_and(|lag| lag < 10)
            });
            healthy.then_some(())
        })
        .await
}
