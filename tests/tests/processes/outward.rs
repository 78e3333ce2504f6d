//! Calls that go out by trunks. Carriers are phones of ours that nobody has registered.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tandem_tests::carrier;
use tandem_tests::house::House;
use tandem_tests::phone::{Call, Ended, Incoming};
use tandem_tests::sipp::Sipp;
use tokio::net::UdpSocket;

const WITHIN: Duration = Duration::from_secs(15);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
const OUT: &str = "0049301";

/// Two trunks outward: who is asked first, and who next.
fn config(first: SocketAddr, next: SocketAddr) -> String {
    let mut text = String::from("[tenant]\nname = \"demo\"\nrealm = \"demo.tandem\"\n");
    text += "[[trunk]]\nname = \"in\"\nchannels = 30\n";
    for (name, peer, priority) in [("north", first, 1), ("south", next, 2)] {
        text += &format!(
            "[[trunk]]\nname = \"{name}\"\nchannels = 30\nsources = [\"192.0.2.1\"]\n\
             peers = [\"{peer}\"]\npriority = {priority}\nreply_ms = 1000\n"
        );
    }
    text += "[[route]]\nprefix = \"00\"\ntrunks = [\"north\", \"south\"]\n";
    for agent in ["1001", "1002"] {
        text += &format!("[[agent]]\nid = \"{agent}\"\npassword = \"tandem-{agent}\"\n");
    }
    text += "[[queue]]\nname = \"support\"\nagents = [\"1001\"]\n";
    text + "[[number]]\ndigits = \"4001\"\nqueue = \"support\"\n"
}

/// The trunk's channels are all idle again.
async fn is_idle(house: &House, trunk: &str) -> Result<()> {
    let path = format!("/v1/trunks/{trunk}/channels");
    let all_idle = |page: &serde_json::Value| {
        let items = page["items"].as_array()?;
        items.iter().all(|channel| channel["state"] == "idle").then_some(())
    };
    house.api.until(&path, WITHIN, all_idle).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_out_goes_on_to_the_next_carrier_and_lives_through_a_kill_while_it_rings() -> Result<()>
{
    let busy = carrier::takes(120, Incoming::Reject { status: 503 }).await?;
    let takes = carrier::takes(120, Incoming::Ring).await?;
    let house = House::open_with(120, &config(busy.address, takes.address)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let call = agent.dial(OUT)?;
    let ringing = takes.called(WITHIN).await?;
    house.call_is(&call, "dialing").await?;
    house.cluster.kill(&house.cluster.leader().await?)?;
    takes.answer(&ringing)?;
    agent.answered(&call, WITHIN).await?;
    house.call_is(&call, "connected").await?;
    let shown = house.item(&format!("/v1/calls?sip_call_id={call}")).await?;
    assert_eq!([&shown["direction"], &shown["trunk"]], [&json!("out"), &json!("south")]);
    assert_eq!([&shown["channel"], &shown["outward"]["number"]], [&json!(30), &json!(OUT)]);
    assert_eq!(takes.hang_up(&ringing).await?, 200);
    assert_eq!(agent.ended(&call, WITHIN).await?, Ended::ByPeer);
    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["direction"], &cdr["disposition"]], [&json!("out"), &json!("answered")]);
    assert_eq!(cdr["outward"]["peer"], json!(takes.address.to_string()));
    for trunk in ["north", "south"] {
        is_idle(&house, trunk).await?;
    }
    assert_eq!(busy.with_calls(|calls| calls.len()), 1, "it was asked once");
    for phone in [&busy, &takes, &agent] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_carrier_is_left_alone_and_what_the_called_party_says_is_final() -> Result<()> {
    // It is there, and says nothing.
    let silent = UdpSocket::bind("127.0.0.1:0").await?;
    let takes = carrier::takes(121, QUICK).await?;
    let house = House::open_with(121, &config(silent.local_addr()?, takes.address)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let placed = house.api.post("/v1/calls", &json!({"from": "1001", "to": OUT})).await?;
    assert_eq!(placed.0, 201, "{placed:?}");
    let own = agent.called(WITHIN).await?;
    let out = takes.called(WITHIN).await?;
    house.call_is(&own, "connected").await?;
    let held = |page: &serde_json::Value| {
        let north = page["items"].as_array()?.iter().find(|trunk| trunk["name"] == "north")?;
        (north["peers"][0]["state"] == "held").then(|| north["peers"][0]["status"].clone())
    };
    assert_eq!(house.api.until("/v1/trunks", WITHIN, held).await?, json!(408));
    assert_eq!(agent.hang_up(&own).await?, 200);
    assert_eq!(takes.ended(&out, WITHIN).await?, Ended::ByPeer);
    house.agent_is("1001", "ready").await?;

    takes.set_incoming(Incoming::Reject { status: 486 })?;
    let call = agent.dial(OUT)?;
    agent.ended(&call, WITHIN).await?;
    let cdr = house.cdr(&call).await?;
    assert_eq!([&cdr["disposition"], &cdr["cause"]], [&json!("busy"), &json!("486")]);
    is_idle(&house, "south").await?;
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_sends_a_customer_outside_and_no_customer_gets_there_alone() -> Result<()> {
    let takes = carrier::takes(122, QUICK).await?;
    let other = carrier::takes(122, Incoming::Reject { status: 486 }).await?;
    let house = House::open_with(122, &config(takes.address, other.address)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let customer = house.caller("13800000001", 0).await?;
    let refused = customer.dial(OUT)?;
    customer.ended(&refused, WITHIN).await?;
    assert_eq!(house.cdr(&refused).await?["cause"], json!("404"));

    let call = house.call(&customer, "4001", "connected").await?;
    let talking = agent.called(WITHIN).await?;
    assert_eq!(agent.refer(&talking, OUT).await?, 202);
    let out = takes.called(WITHIN).await?;
    assert_eq!(agent.ended(&talking, WITHIN).await?, Ended::ByPeer);
    house.call_is(&call, "connected").await?;
    let shown = house.item(&format!("/v1/calls?sip_call_id={call}")).await?;
    assert_eq!([&shown["direction"], &shown["trunk"]], [&json!("in"), &json!("in")]);
    assert_eq!(shown["outward"]["trunk"], json!("north"));
    assert_eq!(customer.hang_up(&call).await?, 200);
    assert_eq!(takes.ended(&out, WITHIN).await?, Ended::ByPeer);
    is_idle(&house, "north").await?;
    let cdr = house.cdr(&call).await.context("the record")?;
    assert_eq!(cdr["transfers"][0]["outcome"], json!("went_over"));
    assert_eq!(cdr["outward"]["peer"], json!(takes.address.to_string()));
    house.cluster.stop()?;
    Ok(())
}

/// The leader dies while the third party's phone rings: who is called and who has called wait on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_who_has_called_out_sends_the_party_on_to_a_colleague() -> Result<()> {
    let takes = carrier::takes(166, QUICK).await?;
    let other = carrier::takes(166, Incoming::Reject { status: 486 }).await?;
    let house = House::open_with(166, &config(takes.address, other.address)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let busy = Incoming::Reject { status: 486 };
    let colleague = house.agent("1002", 1, busy).await?;
    let call = house.call(&agent, OUT, "connected").await?;
    let out = takes.called(WITHIN).await?;
    // Nobody takes the party: it is back.
    assert_eq!(agent.refer(&call, "1002").await?, 202);
    let told = |calls: &std::collections::BTreeMap<String, Call>| {
        calls.get(&call)?.notified.contains(&486).then_some(())
    };
    agent.until("the failure of its transfer", WITHIN, told).await?;
    house.call_is(&call, "connected").await?;

    colleague.set_incoming(Incoming::Ring)?;
    assert_eq!(agent.refer(&call, "1002").await?, 202);
    let rings = colleague.called(WITHIN).await?;
    let shows = colleague.with_calls(|calls| calls[&rings].peer.clone());
    assert_eq!(shows, OUT, "whom it will talk with");
    house.cluster.kill(&house.cluster.leader().await?)?;
    colleague.answer(&rings)?;
    assert_eq!(agent.ended(&call, WITHIN).await?, Ended::ByPeer);
    house.agent_is("1002", "talking").await?;
    house.agent_is("1001", "ready").await?;
    let heard = colleague.with_calls(|calls| calls[&rings].media.clone()).context("audio")?;
    let deadline = Instant::now() + WITHIN;
    while heard.heard_hz(200) != Some(700) {
        ensure!(Instant::now() < deadline, "hears {:?} Hz of the carrier", heard.heard_hz(200));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(takes.hang_up(&out).await?, 200);
    assert_eq!(colleague.ended(&rings, WITHIN).await?, Ended::ByPeer);
    let cdr = house.cdr(&call).await?;
    let outcomes: Vec<_> = cdr["transfers"].as_array().context("transfers")?.iter().collect();
    assert_eq!(outcomes.len(), 2, "{cdr}");
    assert_eq!([&outcomes[0]["outcome"], &outcomes[1]["outcome"]], ["came_back", "went_over"]);
    assert_eq!([&cdr["to"], &cdr["hung_up_by"]], [&json!(OUT), &json!("callee")]);
    is_idle(&house, "north").await?;
    for phone in [&agent, &colleague, &takes] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

/// Its port is below those that the system gives to connections of its own choice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carrier_that_is_not_ours_wants_a_password_and_gets_a_proof() -> Result<()> {
    let peer = SocketAddr::from(([127, 0, 0, 1], 29_900));
    let folder = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/sipp");
    let mut sipp = Sipp::take(peer, &folder.join("challenges.xml"))?;
    let other = carrier::takes(123, Incoming::Reject { status: 486 }).await?;
    let config = config(peer, other.address).replacen(
        "priority = 1\n",
        "priority = 1\nauth_user = \"tandem\"\nauth_realm = \"carrier.example\"\n\
         auth_password = \"hush\"\ncalled_out = { \"00\" = \"+\" }\nhide_caller = true\n",
        1,
    );
    let house = House::open_with(123, &config).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let call = agent.dial(OUT)?;
    agent.answered(&call, WITHIN).await?;
    // Whoever leads next knows what the BYE must prove.
    house.cluster.kill(&house.cluster.leader().await?)?;
    house.call_is(&call, "connected").await?;
    assert_eq!(agent.hang_up(&call).await?, 200);
    let status = sipp.ended(WITHIN).await?;
    ensure!(status.success(), "{status}\n{}", sipp.errors());
    is_idle(&house, "north").await?;
    assert_eq!(house.cdr(&call).await?["outward"]["peer"], json!(peer.to_string()));
    // Neither a log nor a file of the servers has the password.
    let grep = Command::new("grep").args(["-rl", "hush"]).arg(house.cluster.dir()).output()?;
    ensure!(grep.stdout.is_empty(), "{}", String::from_utf8_lossy(&grep.stdout));
    house.cluster.stop()?;
    Ok(())
}
