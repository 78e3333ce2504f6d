//! The node that leads dies under live calls.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_tests::house::House;
use tandem_tests::phone::{CallEnd, Ended, Incoming, Phone, SPACING_MS_MAX};
use tokio::net::UdpSocket;

const WITHIN: Duration = Duration::from_secs(15);

/// Whoever leads is killed and comes back as a follower: five times each of the two nodes.
const KILLS: u64 = 10;

fn waiting(queue: &serde_json::Value) -> serde_json::Value {
    queue["waiting"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_talk_ring_and_wait_live_through_kills_of_both_nodes() -> Result<()> {
    // One agent rings through all the kills.
    let config = "[tenant]\nname = \"demo\"\nrealm = \"demo.tandem\"\n\
                  [[trunk]]\nname = \"carrier\"\nchannels = 30\n\
                  [[agent]]\nid = \"1001\"\npassword = \"tandem-1001\"\n\
                  [[agent]]\nid = \"1002\"\npassword = \"tandem-1002\"\n\
                  [[queue]]\nname = \"support\"\nagents = [\"1001\", \"1002\"]\n\
                  ring_ms_max = 300000\nrecord = true\n\
                  [[number]]\ndigits = \"4001\"\nqueue = \"support\"\n\
                  [[number]]\ndigits = \"4003\"\necho = true\n";
    let house = House::open_with(21, config).await?;
    let quick = Incoming::Answer { after_ms: 50 };
    let talking_agent = house.agent("1001", 0, quick).await?;
    let ringing_agent = house.agent("1002", 1, Incoming::Ring).await?;
    let talker = house.caller("13800000001", 0).await?;
    let ringer = house.caller("13800000002", 1).await?;
    let waiters = house.caller("13800000003", 0).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let ring = house.call(&ringer, "4001", "queued").await?;
    house.agent_is("1002", "reserved").await?;
    let mut wait = Vec::new();
    for _ in 0..3 {
        wait.push(house.call(&waiters, "4001", "queued").await?);
    }

    let mut killed = Vec::new();
    for round in 1..=KILLS {
        let queue = house.api.get("/v1/queues/support").await?;
        let agents = house.api.get("/v1/agents").await?;
        for phone in [&talker, &ringer, &waiters, &talking_agent] {
            phone.mark();
        }
        let leader = house.cluster.leader().await?;
        killed.push(leader.clone());
        house.cluster.kill(&leader)?;
        // A call in the very moment of the failover: set up and hung up all the same.
        let echo = house.caller(&format!("139{round:08}"), 1).await?;
        let short = echo.dial("4003")?;
        echo.answered(&short, WITHIN).await?;
        assert_eq!(echo.hang_up(&short).await?, 200, "BYE of a call through the failover");

        let after = house.api.get("/v1/queues/support").await?;
        assert_eq!(waiting(&after), waiting(&queue), "order and times of the queue");
        assert_eq!(house.api.get("/v1/agents").await?, agents, "agents");
        house.call_is(&talk, "connected").await?;
        house.call_is(&ring, "queued").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (phone, call_id) in [(&talker, &talk), (&ringer, &ring), (&waiters, &wait[0])] {
            let spacing = phone.spacing_ms_max(call_id).context("audio")?;
            assert!(spacing <= SPACING_MS_MAX, "{} heard nothing for {spacing} ms", phone.user);
        }
        house.cluster.revive(&leader)?;
        house
            .api
            .until("/v1/cluster", WITHIN, |status| {
                let nodes = status["nodes"].as_array()?;
                let healthy = nodes.iter().all(|node| {
                    node["healthy"] == true && node["lag"].as_u64().is_some_and(|lag| lag < 10)
                });
                healthy.then_some(())
            })
            .await?;
    }

    let of_a = killed.iter().filter(|name| *name == "node-a").count();
    assert_eq!(of_a as u64, KILLS / 2, "{killed:?}");

    // The agent who rang through all kills picks up: the caller is the one who was first.
    let offered = ringing_agent
        .with_calls(|calls| calls.keys().next().cloned())
        .context("agent 1002 still rings")?;
    ringing_agent.answer(&offered)?;
    house.call_is(&ring, "connected").await?;
    // The talking one ends; the head of the queue is next.
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.call_is(&wait[0], "connected").await?;
    house.call_is(&wait[1], "queued").await?;

    let cdr = house.cdr(&talk).await?;
    assert_eq!(cdr["takeovers"], KILLS);
    assert_eq!(cdr["disposition"], "answered");
    assert_eq!(cdr["hung_up_by"], "caller");
    let recording = cdr["recording"].as_str().context("the talk was recorded")?;
    let path = format!("/v1/recordings/{recording}");
    let manifest = house
        .api
        .until(&path, WITHIN, |manifest| (manifest["sealed"] == true).then(|| manifest.clone()))
        .await?;
    assert_eq!(manifest["gaps"], serde_json::json!([]), "no gap in the recording");
    for phone in [&talking_agent, &ringing_agent, &talker, &ringer, &waiters] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_calls_get_503_and_audio_goes_on_when_there_is_no_quorum() -> Result<()> {
    let house = House::open(22).await?;
    let caller = house.caller("13800000001", 0).await?;
    let echo = house.call(&caller, "4003", "in_flow").await?;
    house.cluster.kill("node-a")?;
    house.cluster.kill("witness")?;
    // Nothing can be committed: not even 100 is sent, for that would be a promise.
    let said = responses_to_invite(house.vips[0]).await?;
    assert!(said.iter().all(|response| response.starts_with("SIP/2.0 503 ")), "{said:?}");
    assert!(said.iter().all(|response| response.contains("\r\nRetry-After: ")), "{said:?}");
    let refused = house.caller("13800000002", 0).await?;
    // The gateway waits a moment for a leader before it refuses; it says so by its readiness.
    let base = house.cluster.processes()?.api[0].clone();
    let began = tokio::time::Instant::now();
    while house.api.probe(&base, "/readyz").await?.0 != 503 {
        anyhow::ensure!(began.elapsed() < WITHIN, "the gateway is ready without a quorum");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let call_id = refused.dial("4003")?;
    assert_eq!(refused.ended(&call_id, WITHIN).await?, Ended::Refused { status: 503 });
    caller.mark();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(caller.spacing_ms_max(&echo).is_some_and(|ms| ms <= SPACING_MS_MAX));
    // A majority is back: the call that lived on can be ended properly.
    house.cluster.revive("witness")?;
    assert_eq!(caller.hang_up(&echo).await?, 200);
    assert!(caller.with_calls(|calls| calls[&echo].end != CallEnd::Live));
    house.cluster.stop()?;
    Ok(())
}

/// Nobody is left who could give a line to another: gateways hear of it by obituaries, and go on with the media of live calls,
/// longer than any lease. Who hangs up meanwhile has hung up, and is booked once when somebody decides again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_goes_on_and_a_bye_is_honoured_when_both_nodes_are_dead() -> Result<()> {
    let house = House::open(244).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let leaver = house.caller("13800000002", 1).await?;
    let echo = house.call(&leaver, "4003", "in_flow").await?;
    [&agent, &talker, &leaver].into_iter().for_each(Phone::mark);
    house.cluster.bury("node-a").await?;
    house.cluster.bury("node-b").await?;
    let said = responses_to_invite(house.vips[0]).await?;
    assert!(said.iter().all(|response| response.starts_with("SIP/2.0 503 ")), "{said:?}");
    // Three leases' time.
    for (phone, call) in [(&talker, &talk), (&leaver, &echo)] {
        phone.receives(call, 100, WITHIN).await?;
        let spacing = phone.spacing_ms_max(call).context("audio")?;
        assert!(spacing <= SPACING_MS_MAX, "{} heard nothing for {spacing} ms", phone.user);
    }
    assert_eq!(leaver.hang_up(&echo).await?, 200);
    house.cluster.revive("node-a")?;
    house.cluster.revive("node-b")?;
    let cdr = house.cdr(&echo).await?;
    assert_eq!(cdr["disposition"], "answered", "{cdr}");
    house.call_is(&talk, "connected").await?;
    house.agent_is("1001", "talking").await?;
    let spacing = talker.spacing_ms_max(&talk).context("audio")?;
    assert!(spacing <= SPACING_MS_MAX, "{spacing} ms");
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.cdr(&talk).await?;
    house.agent_is("1001", "ready").await?;
    let busy = |page: &serde_json::Value| {
        let channels = page["items"].as_array()?;
        channels.iter().all(|channel| channel["state"] == "idle").then_some(())
    };
    house.api.until("/v1/trunks/carrier/channels?limit=200", WITHIN, busy).await?;
    for phone in [&agent, &talker, &leaver] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

/// What comes to an INVITE, sent again as RFC 3261 §17.1.1.2 has it, up to the final response.
async fn responses_to_invite(vip: SocketAddr) -> Result<Vec<String>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let me = socket.local_addr()?;
    let invite = format!(
        "INVITE sip:4003@{vip} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK-no-quorum\r\n\
         Max-Forwards: 70\r\nFrom: <sip:138@{me}>;tag=1\r\nTo: <sip:4003@{vip}>\r\n\
         Call-ID: no-quorum\r\nCSeq: 1 INVITE\r\nContact: <sip:138@{me}>\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let (mut said, mut wait) = (Vec::new(), Duration::from_millis(500));
    let mut datagram = vec![0; 65_536];
    while wait < Duration::from_secs(20) {
        socket.send_to(invite.as_bytes(), vip).await?;
        if let Ok(received) = tokio::time::timeout(wait, socket.recv(&mut datagram)).await {
            let response = String::from_utf8_lossy(&datagram[..received?]).into_owned();
            let last = !response.starts_with("SIP/2.0 1");
            said.push(response);
            if last {
                return Ok(said);
            }
        }
        wait *= 2;
    }
    anyhow::bail!("no final response, only {said:?}")
}

/// Longer than a leader waits for a commit.
const STALL: Duration = Duration::from_millis(2_800);

/// Whoever leads goes on leading, so that no new leader asks for what was given up: a disk that
/// stood still for so long left a gateway's events uncounted until there was another leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_while_commits_stall_counts_when_they_go_on() -> Result<()> {
    let house = House::open(155).await?;
    let caller = house.caller("13800000001", 0).await?;
    let other = house.caller("13800000002", 1).await?;
    let call = house.call(&caller, "4003", "in_flow").await?;
    let leader = house.cluster.leader().await?;
    let followers: Vec<&str> =
        ["node-a", "node-b", "witness"].into_iter().filter(|name| *name != leader).collect();
    for name in &followers {
        house.cluster.signal(name, libc::SIGSTOP)?;
    }
    let mend = async {
        tokio::time::sleep(STALL).await;
        followers.iter().try_for_each(|name| house.cluster.signal(name, libc::SIGCONT).map(|_| ()))
    };
    let (hung_up, called, mended) =
        tokio::join!(caller.hang_up(&call), house.call(&other, "4003", "in_flow"), mend);
    mended?;
    assert_eq!(hung_up?, 200);
    called?;
    let cdr = house.cdr(&call).await?;
    assert_eq!(cdr["hung_up_by"], "caller");
    house.cluster.stop()?;
    Ok(())
}
