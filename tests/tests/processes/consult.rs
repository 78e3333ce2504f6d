//! Agents who ask a colleague before they send the caller on: who hears whom, and how it ends.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming, Phone};

const WITHIN: Duration = Duration::from_secs(15);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
/// What each party plays.
const CALLER_HZ: u32 = 900;
const AGENT_HZ: u32 = 500;
const COLLEAGUE_HZ: u32 = 700;

/// Quieter is no music.
const AUDIBLE: f64 = 100.0;

fn tone(phone: &Phone, call_id: &str) -> Option<u32> {
    phone.with_calls(|calls| calls.get(call_id)?.media.as_ref()?.heard_hz(200))
}

/// Something, and for a while nobody of those who speak.
async fn hears_music(phone: &Phone, call_id: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let mut apart = 0;
    while apart < 20 {
        ensure!(tokio::time::Instant::now() < deadline, "phone {} hears no music", phone.user);
        let spoken = tone(phone, call_id).is_some_and(|hz| [AGENT_HZ, COLLEAGUE_HZ].contains(&hz));
        let music = !spoken && phone.heard_level(call_id, 200) > AUDIBLE;
        apart = if music { apart + 1 } else { 0 };
        look.tick().await;
    }
    Ok(())
}

/// A house with agents 1001 and 1002, and a caller of the first gateway who talks with 1001.
struct Scene {
    house: House,
    agent: Phone,
    colleague: Phone,
    caller: Phone,
    /// The Call-ID of the caller's leg, and of the agent's.
    call: String,
    talking: String,
    /// The path of the call in the API.
    path: String,
}

impl Scene {
    async fn open(block: u8, at: usize, colleague: Incoming) -> Result<Self> {
        let house = House::open(block).await?;
        let agent = house.agent_with_tone("1001", at, QUICK, AGENT_HZ).await?;
        let caller = Incoming::Reject { status: 486 };
        let caller = house.phone_with_tone("13800000001", 0, caller, CALLER_HZ).await?;
        let call = house.call(&caller, "4001", "connected").await?;
        let talking = agent.called(WITHIN).await?;
        let colleague = house.agent_with_tone("1002", 1, colleague, COLLEAGUE_HZ).await?;
        let page = house.api.get(&format!("/v1/calls?sip_call_id={call}")).await?;
        let id = page["items"][0]["id"].as_str().context("the call's id")?;
        let path = format!("/v1/calls/{id}");
        Ok(Self { house, agent, colleague, caller, call, talking, path })
    }

    async fn consult(&self, to: &str) -> Result<(u16, Value)> {
        self.house.api.post(&format!("{}/consult", self.path), &json!({"to": to})).await
    }

    async fn complete(&self) -> Result<(u16, Value)> {
        self.house.api.post(&format!("{}/consult/complete", self.path), &json!({})).await
    }

    async fn consult_is(&self, state: &str) -> Result<Value> {
        let found = |call: &Value| {
            let consult = call.get("consult")?;
            (consult["state"] == state).then(|| consult.clone())
        };
        self.house.api.until(&self.path, WITHIN, found).await
    }

    /// The caller hangs up; the record with one recording of it all, and its transfers as agent, to,
    /// kind and outcome.
    async fn end(self) -> Result<(Value, Value)> {
        assert_eq!(self.caller.hang_up(&self.call).await?, 200);
        let cdr = self.house.cdr(&self.call).await?;
        let sealed = |page: &Value| {
            let items = page["items"].as_array()?;
            (items.len() == 1 && items[0]["sealed"] == true).then(|| items[0].clone())
        };
        let of = format!("/v1/recordings?call={}", cdr["call"].as_str().context("call")?);
        let recording = self.house.api.until(&of, WITHIN, sealed).await?;
        assert_eq!(recording["id"], cdr["recording"]);
        let moves = cdr["transfers"].as_array().context("transfers")?;
        let moves: Vec<_> =
            moves.iter().map(|it| [&it["agent"], &it["to"], &it["kind"], &it["outcome"]]).collect();
        let moves = json!(moves);
        for phone in [&self.agent, &self.colleague, &self.caller] {
            assert_eq!(phone.violations(), [], "phone {}", phone.user);
        }
        self.house.cluster.stop()?;
        Ok((cdr, moves))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consultation_over_a_takeover_joins_caller_and_colleague() -> Result<()> {
    let scene = Scene::open(80, 0, Incoming::Ring).await?;
    let Scene { house, agent, colleague, caller, call, talking, path } = &scene;
    caller.hears(call, AGENT_HZ, WITHIN).await?;
    agent.hears(talking, CALLER_HZ, WITHIN).await?;

    let (to, consult) = (json!({"to": "1002"}), format!("{path}/consult"));
    let first = house.api.post_once(&consult, &to, "ask").await?;
    assert_eq!((first.0, &first.2["state"]), (200, &json!("consulting")), "{first:?}");
    let ringing = colleague.called(WITHIN).await?;
    hears_music(caller, call).await?;
    house.agent_is("1002", "reserved").await?;

    house.cluster.kill(&house.cluster.leader().await?)?;
    assert_eq!(house.api.post_once(&consult, &to, "ask").await?, first, "and nobody rings twice");
    colleague.answer(&ringing)?;
    scene.consult_is("talking").await?;
    agent.hears(talking, COLLEAGUE_HZ, WITHIN).await?;
    colleague.hears(&ringing, AGENT_HZ, WITHIN).await?;
    hears_music(caller, call).await?;
    house.agent_is("1001", "talking").await?;
    house.agent_is("1002", "talking").await?;

    let complete = format!("{path}/consult/complete");
    let done = house.api.post_once(&complete, &json!({}), "done").await?;
    assert_eq!((done.0, &done.2["state"]), (200, &json!("connected")), "{done:?}");
    assert_eq!(agent.ended(talking, WITHIN).await?, Ended::ByPeer);
    caller.hears(call, COLLEAGUE_HZ, WITHIN).await?;
    colleague.hears(&ringing, CALLER_HZ, WITHIN).await?;
    house.agent_is("1001", "ready").await?;
    assert_eq!(house.api.post_once(&complete, &json!({}), "done").await?, done);
    assert_eq!(colleague.with_calls(|calls| calls.len()), 1, "it rang once");

    let (cdr, moves) = scene.end().await?;
    assert_eq!(cdr["agent"], "1002");
    assert_eq!(moves, json!([["1001", "1002", "attended", "went_over"]]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colleague_who_is_busy_cancelled_or_hangs_up_leaves_the_agent_with_the_caller() -> Result<()>
{
    let scene = Scene::open(81, 0, Incoming::Reject { status: 486 }).await?;
    let Scene { house, agent, colleague, caller, call, talking, path } = &scene;
    assert_eq!(scene.consult("1002").await?.0, 200);
    assert_eq!(scene.consult_is("failed").await?["status"], 486);
    for (to, status) in [("1003", 409), ("1001", 409), ("4002", 409), ("4999", 404)] {
        assert_eq!(scene.consult(to).await?.0, status, "{to}");
    }
    assert_eq!(scene.complete().await?.0, 409, "nobody is consulted");

    colleague.set_incoming(Incoming::Ring)?;
    house.agent_is("1002", "ready").await?;
    assert_eq!(scene.consult("1002").await?.0, 200);
    let ringing = colleague.called(WITHIN).await?;
    assert_eq!(house.api.delete(&format!("{path}/consult")).await?, 200);
    assert_eq!(colleague.ended(&ringing, WITHIN).await?, Ended::Cancelled);
    scene.consult_is("cancelled").await?;
    house.agent_is("1002", "ready").await?;
    caller.hears(call, AGENT_HZ, WITHIN).await?;

    colleague.set_incoming(QUICK)?;
    assert_eq!(scene.consult("1002").await?.0, 200);
    scene.consult_is("talking").await?;
    let asked = colleague.called(WITHIN).await?;
    colleague.hears(&asked, AGENT_HZ, WITHIN).await?;
    assert_eq!(colleague.hang_up(&asked).await?, 200);
    scene.consult_is("hung_up").await?;
    house.call_is(call, "connected").await?;
    caller.hears(call, AGENT_HZ, WITHIN).await?;
    agent.hears(talking, CALLER_HZ, WITHIN).await?;
    house.agent_is("1002", "ready").await?;
    let (_, moves) = scene.end().await?;
    assert_eq!(moves, json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_who_hangs_up_or_completes_while_it_rings_sends_the_caller_on() -> Result<()> {
    let scene = Scene::open(82, 0, Incoming::Ring).await?;
    let Scene { house, agent, colleague, caller, call, talking, .. } = &scene;
    assert_eq!(scene.consult("1002").await?.0, 200);
    let ringing = colleague.called(WITHIN).await?;
    let (status, moving) = scene.complete().await?;
    assert_eq!((status, &moving["state"]), (200, &json!("dialing")));
    colleague.answer(&ringing)?;
    assert_eq!(agent.ended(talking, WITHIN).await?, Ended::ByPeer);
    house.call_is(call, "connected").await?;
    caller.hears(call, COLLEAGUE_HZ, WITHIN).await?;
    house.agent_is("1001", "ready").await?;

    // And the other way round: who asks hangs up.
    assert_eq!(scene.consult("1001").await?.0, 200);
    scene.consult_is("talking").await?;
    let asked = agent.called(WITHIN).await?;
    agent.hears(&asked, COLLEAGUE_HZ, WITHIN).await?;
    assert_eq!(colleague.hang_up(&ringing).await?, 200);
    house.call_is(call, "connected").await?;
    caller.hears(call, AGENT_HZ, WITHIN).await?;
    agent.hears(&asked, CALLER_HZ, WITHIN).await?;
    house.agent_is("1002", "ready").await?;
    let (cdr, moves) = scene.end().await?;
    assert_eq!(cdr["agent"], "1001");
    let attended = |from, to| [from, to, "attended", "went_over"];
    assert_eq!(moves, json!([attended("1001", "1002"), attended("1002", "1001")]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refer_with_replaces_joins_the_held_call_and_the_second_over_a_takeover() -> Result<()> {
    // The agent's phone is at another gateway than the caller, whose gateway has the media of all.
    let scene = Scene::open(130, 1, QUICK).await?;
    let Scene { house, agent, colleague, caller, call, talking, path } = &scene;
    assert_eq!(agent.hold(talking, true).await?, 200);
    house.agent_is("1001", "held").await?;
    let second = house.call(agent, "1002", "connected").await?;
    let asked = colleague.called(WITHIN).await?;
    agent.hears(&second, COLLEAGUE_HZ, WITHIN).await?;
    colleague.hears(&asked, AGENT_HZ, WITHIN).await?;
    hears_music(caller, call).await?;
    let seen = house.api.get("/v1/agents/1001").await?;
    assert_eq!([&seen["state"], &seen["call"]], ["talking", path.rsplit('/').next().unwrap_or("")]);

    let nobody = Some("nobody@phone;to-tag=a;from-tag=b".to_owned());
    assert_eq!(agent.refer_replacing(talking, "1002", nobody).await?, 202);
    notified(agent, talking, &[100, 481]).await?;
    house.cluster.kill(&house.cluster.leader().await?)?;
    let dialog = Some(agent.dialog(&second)?);
    assert_eq!(agent.refer_replacing(talking, "1002", dialog).await?, 202);
    notified(agent, talking, &[100, 481, 100, 200]).await?;
    for call_id in [talking, &second] {
        assert_eq!(agent.ended(call_id, WITHIN).await?, Ended::ByPeer);
    }
    caller.hears(call, COLLEAGUE_HZ, WITHIN).await?;
    colleague.hears(&asked, CALLER_HZ, WITHIN).await?;
    house.agent_is("1001", "ready").await?;
    house.agent_is("1002", "talking").await?;
    let joined = house.cdr(&second).await?;
    assert_eq!(joined["cause"], "transferred");
    assert_eq!(joined["joined"].as_str(), path.rsplit('/').next());
    let (cdr, moves) = scene.end().await?;
    assert_eq!([&cdr["agent"], &cdr["call"]], [&json!("1002"), &joined["joined"]]);
    let attended = |outcome| ["1001", "1002", "attended", outcome];
    assert_eq!(moves, json!([attended("came_back"), attended("went_over")]));
    Ok(())
}

/// What came of the transfers that the phone has asked for, so far.
async fn notified(phone: &Phone, call_id: &str, all: &[u16]) -> Result<()> {
    let what = format!("NOTIFY of {all:?}");
    phone.until(&what, WITHIN, |calls| (calls.get(call_id)?.notified == all).then_some(())).await
}

/// Both, each as loud as the other; and not the own voice.
async fn hears_both(phone: &Phone, call_id: &str, both: [u32; 2], own: u32) -> Result<()> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    loop {
        let share = |hz: u32| phone.heard_share(call_id, hz, 400);
        let shares = [share(both[0]), share(both[1]), share(own)];
        if shares[..2].iter().all(|share| (0.35..0.65).contains(share)) && shares[2] < 0.05 {
            return Ok(());
        }
        let now = tokio::time::Instant::now();
        ensure!(now < deadline, "phone {} hears {shares:.2?} of {both:?}, {own}", phone.user);
        look.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conference_of_three_lives_through_a_takeover_and_goes_on_as_two() -> Result<()> {
    let scene = Scene::open(138, 0, QUICK).await?;
    let Scene { house, agent, colleague, caller, call, talking, path } = &scene;
    let conference = format!("{path}/consult/conference");
    assert_eq!(house.api.post(&conference, &json!({})).await?.0, 409, "nobody is consulted");
    assert_eq!(scene.consult("1002").await?.0, 200);
    scene.consult_is("talking").await?;
    let asked = colleague.called(WITHIN).await?;
    let first = house.api.post_once(&conference, &json!({}), "all").await?;
    assert_eq!((first.0, &first.2["state"]), (200, &json!("conferenced")), "{first:?}");
    let all_hear = async || {
        hears_both(caller, call, [AGENT_HZ, COLLEAGUE_HZ], CALLER_HZ).await?;
        hears_both(agent, talking, [CALLER_HZ, COLLEAGUE_HZ], AGENT_HZ).await?;
        hears_both(colleague, &asked, [CALLER_HZ, AGENT_HZ], COLLEAGUE_HZ).await
    };
    all_hear().await?;
    house.agent_is("1001", "talking").await?;
    house.agent_is("1002", "talking").await?;

    house.cluster.kill(&house.cluster.leader().await?)?;
    assert_eq!(house.api.post_once(&conference, &json!({}), "all").await?, first);
    all_hear().await?;
    house.call_is(call, "conferenced").await?;

    // The agent hangs up: two are left.
    assert_eq!(agent.hang_up(talking).await?, 200);
    caller.hears(call, COLLEAGUE_HZ, WITHIN).await?;
    colleague.hears(&asked, CALLER_HZ, WITHIN).await?;
    house.call_is(call, "connected").await?;
    house.agent_is("1001", "ready").await?;
    let (cdr, moves) = scene.end().await?;
    assert_eq!(cdr["agent"], "1002");
    assert_eq!(moves, json!([["1001", "1002", "attended", "went_over"]]));
    Ok(())
}
