//! INVITE with Replaces (RFC 3891): an agent's phone takes the place of another one.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tandem_sip::Method;
use tandem_tests::house::House;
use tandem_tests::phone::{CallEnd, Ended, Incoming, Phone};

const WITHIN: Duration = Duration::from_secs(20);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
const CALLER_HZ: u32 = 900;
const AGENT_HZ: u32 = 500;
const COLLEAGUE_HZ: u32 = 700;

/// Its next INVITE shall take the place of the dialog; what became of it.
async fn replaces(phone: &Phone, dialog: &str) -> Result<Result<String, Ended>> {
    phone.say(&[("Replaces", dialog), ("Require", "replaces")]);
    let call_id = phone.dial("1001")?;
    let outcome = phone
        .until("an answer", WITHIN, |calls| {
            let call = calls.get(&call_id)?;
            let over = match call.end {
                CallEnd::Over(ended) => Some(ended),
                CallEnd::Live => None,
            };
            over.map(Err).or_else(|| call.answered_at.map(|_| Ok(())))
        })
        .await?;
    phone.say(&[]);
    Ok(outcome.map(|()| call_id))
}

async fn refused(phone: &Phone, dialog: &str) -> Result<u16> {
    match replaces(phone, dialog).await? {
        Err(Ended::Refused { status }) => Ok(status),
        other => bail!("{dialog} was not refused: {other:?}"),
    }
}

fn moves(cdr: &Value) -> Value {
    let all = cdr["transfers"].as_array().cloned().unwrap_or_default();
    all.iter().map(|it| json!([it["agent"], it["to"], it["outcome"]])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colleague_picks_a_ringing_call_up_from_the_next_leader() -> Result<()> {
    let house = House::open(131).await?;
    let agent = house.agent_with_tone("1001", 0, Incoming::Ring, AGENT_HZ).await?;
    let caller = house.phone_with_tone("13800000001", 0, QUICK, CALLER_HZ).await?;
    let call = house.call(&caller, "4001", "queued").await?;
    let ringing = agent.called(WITHIN).await?;
    // Who comes by another gateway may be quicker than the 180 that names the dialog.
    let alerts = |page: &Value| {
        let legs = page["items"].get(0)?["legs"].as_array()?;
        legs.iter().any(|leg| leg["state"] == "alerting").then_some(())
    };
    house.api.until(&format!("/v1/calls?sip_call_id={call}"), WITHIN, alerts).await?;
    // The colleague's phone is at the other gateway; media stays at the caller's.
    let colleague = house.agent_with_tone("1002", 1, QUICK, COLLEAGUE_HZ).await?;
    let dialog = agent.dialog(&ringing)?;
    let other = format!("{dialog}x");
    assert_eq!(refused(&colleague, &other).await?, 481);

    let dead = house.cluster.leader().await?;
    house.cluster.kill(&dead)?;
    let led = |status: &Value| {
        let nodes = status["nodes"].as_array()?;
        let leads = |node: &&Value| {
            node["leads"].as_array().is_some_and(|shards| shards.iter().any(|shard| shard == "s0"))
        };
        nodes.iter().filter(leads).any(|node| node["name"] != *dead).then_some(())
    };
    house.api.until("/v1/cluster", WITHIN, led).await?;
    let picked = replaces(&colleague, &dialog).await?.expect("it is answered");
    assert_eq!(agent.ended(&ringing, WITHIN).await?, Ended::Cancelled);
    let cancel = agent.heard(&ringing, &Method::Cancel, 0, WITHIN).await?;
    let why = cancel.headers.other("Reason").map(str::to_owned);
    assert_eq!(why.as_deref(), Some("SIP;cause=200;text=\"Call completed elsewhere\""));
    house.call_is(&call, "connected").await?;
    caller.hears(&call, COLLEAGUE_HZ, WITHIN).await?;
    colleague.hears(&picked, CALLER_HZ, WITHIN).await?;
    house.agent_is("1001", "ready").await?;
    house.agent_is("1002", "talking").await?;

    // It is over, and forgotten once the phone has said its last word.
    let again = refused(&agent, &dialog).await?;
    assert!([481, 603].contains(&again), "{again}");
    assert_eq!(caller.hang_up(&call).await?, 200);
    assert_eq!(colleague.ended(&picked, WITHIN).await?, Ended::ByPeer);
    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["agent"], &cdr["disposition"]], [&json!("1002"), &json!("answered")]);
    assert_eq!([&cdr["queue"], &moves(&cdr)], [&json!("support"), &json!([])]);
    for phone in [&agent, &caller, &colleague] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversation_is_taken_over_by_agents_alone_and_lives_through_a_kill() -> Result<()> {
    let house = House::open(132).await?;
    let agent = house.agent_with_tone("1001", 1, QUICK, AGENT_HZ).await?;
    let caller = house.phone_with_tone("13800000001", 0, QUICK, CALLER_HZ).await?;
    let call = house.call(&caller, "4001", "connected").await?;
    let talking = agent.called(WITHIN).await?;
    let colleague = house.agent_with_tone("1002", 0, QUICK, COLLEAGUE_HZ).await?;
    let dialog = agent.dialog(&talking)?;
    // The trunk's address, though it knows the dialog.
    let stranger = house.caller("13800000002", 0).await?;
    assert_eq!(refused(&stranger, &dialog).await?, 403);
    assert_eq!(refused(&colleague, &format!("{dialog};early-only")).await?, 486);
    assert_eq!(refused(&colleague, &caller.dialog(&call)?).await?, 403);

    let taken = replaces(&colleague, &dialog).await?.expect("it is answered");
    house.cluster.kill(&house.cluster.leader().await?)?;
    assert_eq!(agent.ended(&talking, WITHIN).await?, Ended::ByPeer);
    caller.hears(&call, COLLEAGUE_HZ, WITHIN).await?;
    colleague.hears(&taken, CALLER_HZ, WITHIN).await?;
    house.agent_is("1001", "ready").await?;
    house.agent_is("1002", "talking").await?;
    assert_eq!(colleague.hang_up(&taken).await?, 200);
    assert_eq!(caller.ended(&call, WITHIN).await?, Ended::ByPeer);
    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["agent"], &cdr["hung_up_by"]], [&json!("1002"), &json!("agent")]);
    assert_eq!(moves(&cdr), json!([["1001", "1002", "went_over"]]));
    for phone in [&agent, &caller, &colleague] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}
