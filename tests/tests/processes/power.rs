//! The power goes, at any moment, and comes back: nothing that was acknowledged is lost, nothing is half done.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tandem_sip::Method;
use tandem_tests::Api;
use tandem_tests::house::House;
use tandem_tests::phone::{CallEnd, Ended, Incoming, Phone};

const WITHIN: Duration = Duration::from_secs(15);
/// A generous bound; how long it takes is printed.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// `TANDEM_POWER_ROUNDS` for more.
const ROUNDS: usize = 6;
/// `TANDEM_POWER_SEED` for the moments of another run.
const SEED: u64 = 6;
const CALLERS: usize = 4;
const REGISTER_S: u32 = 600;
/// A fifth of a second of audio.
const PACKETS: u64 = 10;

/// What the outside was told before the power went.
#[derive(Default)]
struct Told {
    /// SIP Call-IDs of calls that were answered.
    answered: BTreeSet<String>,
    /// Of those whose BYE was answered, too.
    hung_up: BTreeSet<String>,
    /// The state of the agent that was acknowledged last, and what was asked for after that.
    state: Option<&'static str>,
    state_asked: Option<&'static str>,
}

fn asked(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or)
}

/// Calls the echo again and again.
async fn keep_calling(phone: &Phone, told: &Mutex<Told>) -> Result<()> {
    loop {
        let call = phone.dial("4003")?;
        phone.answered(&call, WITHIN).await?;
        told.lock().answered.insert(call.clone());
        let status = phone.hang_up(&call).await?;
        ensure!(status == 200, "BYE was answered {status}");
        told.lock().hung_up.insert(call.clone());
        phone.forget(&call);
    }
}

/// Makes an agent not ready and ready again and again.
async fn keep_changing(api: &Api, id: &str, told: &Mutex<Told>) -> Result<()> {
    let path = format!("/v1/agents/{id}/state");
    for state in ["not_ready", "ready"].into_iter().cycle() {
        told.lock().state_asked = Some(state);
        let (status, body) = api.post(&path, &json!({"state": state})).await?;
        ensure!(status == 200, "{path} was answered {status}: {body}");
        let mut told = told.lock();
        (told.state, told.state_asked) = (Some(state), None);
    }
    Ok(())
}

/// What the phone had begun when the power went comes to its end: an INVITE is answered, or refused by a
/// gateway that is back before its nodes lead; a BYE is answered.
async fn end_all(phone: &Phone) -> Result<()> {
    let begun = phone.with_calls(|calls| calls.keys().cloned().collect::<Vec<_>>());
    for call in begun {
        let end = phone.until("an answer", WITHIN, |calls| {
            let call = calls.get(&call)?;
            (call.answered_at.is_some() || call.end != CallEnd::Live).then(|| call.end.clone())
        });
        match end.await? {
            CallEnd::Live => {
                let status = phone.hang_up(&call).await?;
                ensure!(status == 200, "BYE of {} was answered {status}", phone.user);
            }
            CallEnd::Over(Ended::ByMe { status: 200 } | Ended::Refused { status: 503 }) => {}
            CallEnd::Over(how) => bail!("the call of {} ended: {how:?}", phone.user),
        }
    }
    Ok(())
}

async fn cdrs(api: &Api, call: &str) -> Result<Vec<Value>> {
    api.items(&format!("/v1/cdrs?sip_call_id={call}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_goes_at_any_moment_and_what_was_acknowledged_is_there_when_it_comes_back()
-> Result<()> {
    let rounds = asked("TANDEM_POWER_ROUNDS", ROUNDS as u64);
    let seed = asked("TANDEM_POWER_SEED", SEED);
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut house = House::open(157).await?;
    let quick = Incoming::Answer { after_ms: 20 };
    let agents =
        [house.agent("1001", 0, quick).await?, house.agent("1008", 1, Incoming::Ring).await?];
    let mut slowest = Duration::ZERO;
    for round in 1..=rounds {
        let replay = format!("round {round} of TANDEM_POWER_SEED={seed}");
        // Many rounds take longer than a registration lasts.
        for agent in &agents {
            ensure!(agent.register(REGISTER_S).await? == 200, "{replay}: {}", agent.user);
        }
        let mut callers = Vec::new();
        for n in 0..CALLERS {
            callers.push(house.caller(&format!("138{round:04}{n:04}"), n % 2).await?);
        }
        // One talks with an agent, with a recording; the next waits.
        let talks = house.caller(&format!("139{round:08}"), 0).await?;
        house.agent_is("1001", "ready").await?;
        let talk = house.call(&talks, "4001", "connected").await?;
        let waits = house.caller(&format!("137{round:08}"), 1).await?;
        let wait = house.call(&waits, "4001", "queued").await?;

        let told = Mutex::new(Told::default());
        let moment = Duration::from_millis(random.random_range(50..1_500));
        let calling = callers.iter().map(|phone| keep_calling(phone, &told));
        tokio::select! {
            () = tokio::time::sleep(moment) => {}
            failed = futures::future::try_join_all(calling) => {
                failed.with_context(|| format!("{replay}: calls before the power went"))?;
            }
            failed = keep_changing(&house.api, "1008", &told) => failed.context(replay.clone())?,
        }
        house.cluster.power_off()?;
        let ready_after = house.power_on()?;
        slowest = slowest.max(ready_after);
        ensure!(ready_after < READY_WITHIN, "{replay}: ready after {ready_after:?}");

        let told = told.into_inner();
        let agent = house.api.get("/v1/agents/1008").await?;
        let state = agent["state"].as_str().context("an agent's state")?;
        let may_be = [told.state, told.state_asked].into_iter().flatten().collect::<Vec<_>>();
        ensure!(may_be.is_empty() || may_be.contains(&state), "{replay}: {state}, not {may_be:?}");
        for call in &told.hung_up {
            let found = cdrs(&house.api, call).await?;
            ensure!(
                found.len() == 1,
                "{replay}: call {call} that was hung up has {} CDRs",
                found.len()
            );
        }
        // Those whose peers still live go on, whatever was under way.
        house.call_is(&talk, "connected").await?;
        house.call_is(&wait, "queued").await?;
        for (phone, call) in [(&talks, &talk), (&waits, &wait)] {
            phone.receives(call, PACKETS, WITHIN).await.with_context(|| replay.clone())?;
            ensure!(phone.hang_up(call).await? == 200, "{replay}: BYE of {}", phone.user);
        }
        for phone in &callers {
            end_all(phone).await.with_context(|| replay.clone())?;
        }
        let none = |page: &Value| page["items"].as_array()?.is_empty().then_some(());
        house.api.until("/v1/calls", WITHIN, none).await.context("calls are left")?;
        for call in told.answered.iter().chain([&talk, &wait]) {
            let found = cdrs(&house.api, call).await?;
            ensure!(found.len() == 1, "{replay}: call {call} has {} CDRs", found.len());
        }
        let idle = |page: &Value| (page["items"].get(0)?["busy"] == 0).then_some(());
        house.api.until("/v1/trunks", WITHIN, idle).await.context("channels are stuck")?;
        println!(
            "{replay}: power went after {moment:?}, ready after {ready_after:?}; {} calls answered, {} hung up",
            told.answered.len(),
            told.hung_up.len()
        );
    }
    println!("{rounds} rounds, ready after {slowest:?} at most");
    house.cluster.stop()?;
    Ok(())
}

/// Asked 5 s after the start, and then timer F of RFC 3261: 32 s.
const OVER_WITHIN: Duration = Duration::from_secs(60);

/// The one record of a call: who ended it, and why.
async fn why(house: &House, call: &str) -> Result<[String; 2]> {
    let cdr = house.api.cdr(call, OVER_WITHIN).await?;
    let text = |name: &str| cdr[name].as_str().unwrap_or_default().to_owned();
    Ok([text("hung_up_by"), text("cause")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_power_is_back_everybody_is_asked_and_calls_of_who_is_gone_end_with_one_record()
-> Result<()> {
    let mut house = House::open(54).await?;
    let quick = Incoming::Answer { after_ms: 20 };
    let stays = house.agent("1001", 0, quick).await?;
    let talks = house.caller("13700000001", 0).await?;
    let talk = house.call(&talks, "4001", "connected").await?;
    let talked = stays.called(WITHIN).await?;
    let vanishes = house.agent("1002", 1, quick).await?;
    let left = house.caller("13700000002", 1).await?;
    let lost = house.call(&left, "4001", "connected").await?;
    vanishes.called(WITHIN).await?;
    let waits = house.caller("13700000003", 1).await?;
    let wait = house.call(&waits, "4001", "queued").await?;
    let mut callers = Vec::new();
    for n in 4..8 {
        callers.push(house.caller(&format!("1370000000{n}"), n % 2).await?);
    }
    let mut calls = Vec::new();
    for phone in &callers {
        calls.push(house.call(phone, "4003", "in_flow").await?);
    }
    let four: Option<[Phone; 4]> = callers.try_into().ok();
    let [hangs, forgets, gone, goes_on] = four.context("four callers")?;
    house.cluster.power_off()?;
    // One hangs up where nobody hears it, one knows nothing of its call any more, one is gone, as the agent's phone is.
    let mut hangs_up = Box::pin(hangs.hang_up(&calls[0]));
    assert!(futures::poll!(&mut hangs_up).is_pending(), "nobody answers");
    forgets.deny(Method::Update, 481);
    drop((gone, vanishes));
    let ready_after = house.power_on()?;
    ensure!(hangs_up.await? == 200, "the BYE came again, and was not answered 200");
    ensure!(why(&house, &calls[0]).await? == ["caller", "normal_clearing"], "who hung up");

    // Those that live are asked, and go on.
    let here = [(&talks, &talk), (&stays, &talked), (&waits, &wait), (&goes_on, &calls[3])];
    for (phone, call) in here {
        phone.heard(call, &Method::Update, 0, OVER_WITHIN).await?;
        phone.receives(call, PACKETS, WITHIN).await?;
    }
    ensure!(why(&house, &calls[1]).await? == ["system", "session_expired"], "who forgot");
    ensure!(why(&house, &calls[2]).await? == ["system", "caller_unreachable"], "who is gone");
    ensure!(why(&house, &lost).await? == ["system", "agent_unreachable"], "the agent's phone");
    ensure!(left.ended(&lost, WITHIN).await? == Ended::ByPeer, "the caller of who is gone");
    house.call_is(&talk, "connected").await?;
    house.call_is(&wait, "queued").await?;
    house.call_is(&calls[3], "in_flow").await?;
    let live = house.api.items("/v1/calls").await?;
    ensure!(live.len() == 3, "{live:?}");
    for (phone, call) in here {
        phone.receives(call, PACKETS, WITHIN).await?;
        ensure!(phone.violations().is_empty(), "{}: {:?}", phone.user, phone.violations());
    }
    for (phone, call) in [(&talks, &talk), (&waits, &wait), (&goes_on, &calls[3])] {
        ensure!(phone.hang_up(call).await? == 200, "BYE of {}", phone.user);
    }
    for call in calls.iter().chain([&talk, &lost, &wait]) {
        let found = cdrs(&house.api, call).await?;
        ensure!(found.len() == 1, "call {call} has {} CDRs", found.len());
    }
    println!("ready after {ready_after:?}");
    house.cluster.stop()?;
    Ok(())
}
