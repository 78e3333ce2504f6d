//! What carriers and phones send within a dialog: causes, session timers, offers that meet.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tandem_sip::Method;
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming};

const WITHIN: Duration = Duration::from_secs(15);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cause_of_a_phone_goes_to_the_record_and_to_the_other_leg() -> Result<()> {
    let house = House::open(90).await?;
    let agent = house.agent("1001", 1, Incoming::Reject { status: 486 }).await?;
    let caller = house.caller("13800000001", 0).await?;
    agent.say(&[("Reason", "Q.850;cause=34;text=\"no lines\"")]);
    let refused = caller.dial("1001")?;
    assert_eq!(caller.ended(&refused, WITHIN).await?, Ended::Refused { status: 486 });
    let cdr = house.cdr(&refused).await?;
    assert_eq!([&cdr["cause"], &cdr["q850"]], [&json!("486"), &json!(34)]);

    agent.set_incoming(QUICK)?;
    agent.say(&[("Reason", "Q.850;cause=27")]);
    let call = house.call(&caller, "1001", "connected").await?;
    let talking = agent.called(WITHIN).await?;
    assert_eq!(agent.hang_up(&talking).await?, 200);
    let bye = caller.heard(&call, &Method::Bye, 0, WITHIN).await?;
    let reason = "Q.850;cause=27;text=\"Destination out of order\"";
    assert_eq!(bye.headers.other("Reason"), Some(reason));
    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["cause"], &cdr["q850"]], [&json!("normal_clearing"), &json!(27)]);
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_number_is_kept_from_the_agent_and_a_phone_sends_its_call_on() -> Result<()> {
    let house = House::open(92).await?;
    let first = house.agent("1001", 0, Incoming::Move { to: 1002 }).await?;
    let second = house.agent("1002", 1, QUICK).await?;
    let caller = house.caller("13800000001", 0).await?;
    caller.say(&[
        ("P-Asserted-Identity", "<sip:4930138@carrier.example>"),
        ("Privacy", "id"),
        ("Diversion", "<sip:4930300@carrier.example>;reason=no-answer"),
    ]);
    let call = house.call(&caller, "1001", "connected").await?;
    house.agent_is("1002", "talking").await?;
    house.agent_is("1001", "ready").await?;
    let page = house.api.get(&format!("/v1/calls?sip_call_id={call}")).await?;
    let shown = &page["items"][0];
    assert_eq!([&shown["from"], &shown["diverted_from"]], [&json!("anonymous"), &json!("4930300")]);
    let talking = second.called(WITHIN).await?;
    let invite = second.heard(&talking, &Method::Invite, 0, WITHIN).await?;
    assert_eq!(invite.headers.from.uri.user.as_deref(), Some("anonymous"));
    assert!(!String::from_utf8(invite.to_bytes())?.contains("4930138"));
    assert_eq!(caller.hang_up(&call).await?, 200);
    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["from"], &cdr["agent"]], [&json!("anonymous"), &json!("1002")]);
    let kept = [&cdr["asserted_from"], &cdr["diverted_from"]];
    assert_eq!(kept, [&json!("4930138"), &json!("4930300")]);
    for phone in [&first, &second, &caller] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

/// Half of the least interval passes before anything is refreshed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_is_refreshed_by_the_next_leader_and_ends_with_a_phone_that_is_gone() -> Result<()>
{
    let house = House::open(91).await?;
    let updated = house.agent("1001", 1, QUICK).await?;
    let reinvited = house.agent("1002", 1, QUICK).await?;
    let (timer, takes) = (("Session-Expires", "90;refresher=uac"), ("Allow", "BYE, UPDATE"));
    updated.say(&[timer, takes]);
    reinvited.say(&[timer]);
    let (one, two) = (house.caller("13800000001", 0).await?, house.caller("13800000002", 0).await?);
    let call = house.call(&one, "1001", "connected").await?;
    let other = house.call(&two, "1002", "connected").await?;
    let (talking, others) = (updated.called(WITHIN).await?, reinvited.called(WITHIN).await?);
    let invite = updated.heard(&talking, &Method::Invite, 0, WITHIN).await?;
    assert_eq!(invite.headers.other("Session-Expires"), Some("1800"));
    house.cluster.kill(&house.cluster.leader().await?)?;

    let half = Duration::from_secs(45) + WITHIN;
    let update = updated.heard(&talking, &Method::Update, 0, half).await?;
    assert_eq!(update.headers.other("Session-Expires"), Some("90;refresher=uac"));
    let first = reinvited.heard(&others, &Method::Invite, 0, WITHIN).await?;
    let again = reinvited.heard(&others, &Method::Invite, 1, half).await?;
    assert_eq!(again.body, first.body, "the same media as before");
    reinvited.heard(&others, &Method::Ack, 1, WITHIN).await?;
    for call in [&call, &other] {
        house.call_is(call, "connected").await?;
    }
    // It knows nothing of the call any more.
    updated.deny(Method::Update, 481);
    assert_eq!(one.ended(&call, half).await?, Ended::ByPeer);
    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["cause"], &cdr["q850"]], [&json!("session_expired"), &json!(102)]);
    // A busy machine may have had more.
    assert!(cdr["takeovers"].as_u64().context("takeovers")? >= 1, "{cdr}");
    house.call_is(&other, "connected").await?;
    assert_eq!(two.hang_up(&other).await?, 200);
    for phone in [&updated, &reinvited, &one, &two] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}
