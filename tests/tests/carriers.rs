//! What gateways say to carriers outside of calls: OPTIONS, and what comes of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tandem_media::endpoint::EndpointPool;
use tandem_sip::{Method, Request, Response};
use tandem_tests::carrier::Carrier;
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming, Options, Phone};

const WITHIN: Duration = Duration::from_secs(20);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
const OUT: &str = "0049301";

/// A carrier that takes calls.
async fn takes(block: u8, incoming: Incoming) -> Result<Phone> {
    let options = Options {
        user: "carrier".into(),
        password: String::new(),
        server: SocketAddr::from(([127, 0, block, 10], 5060)),
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        incoming,
        tone_hz: 700,
        srtp: false,
    };
    Phone::start(options, Arc::new(EndpointPool::start()?)).await
}

/// Two trunks outward: who is asked first, with more configuration, and who next.
fn config(first: SocketAddr, more: &str, next: SocketAddr) -> String {
    let trunk = |name: &str, peer: SocketAddr, priority, more: &str| {
        format!(
            "[[trunk]]\nname = \"{name}\"\nchannels = 30\nsources = [\"192.0.2.1\"]\n\
             peers = [\"{peer}\"]\npriority = {priority}\n{more}"
        )
    };
    let mut text = String::from("[tenant]\nname = \"demo\"\nrealm = \"demo.tandem\"\n");
    text += "[[trunk]]\nname = \"in\"\nchannels = 30\n";
    text += &trunk("north", first, 1, more);
    text += &trunk("south", next, 2, "");
    text += "[[route]]\nprefix = \"00\"\ntrunks = [\"north\", \"south\"]\n";
    text += "[[agent]]\nid = \"1001\"\npassword = \"tandem-1001\"\n";
    text += "[[queue]]\nname = \"support\"\nagents = [\"1001\"]\n";
    text + "[[number]]\ndigits = \"4001\"\nqueue = \"support\"\n"
}

/// The trunk `north`, once it is so.
async fn north_is(house: &House, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let find = |page: &Value| {
        let north = page["items"].as_array()?.iter().find(|trunk| trunk["name"] == "north")?;
        wanted(north).then(|| north.clone())
    };
    house.api.until("/v1/trunks", WITHIN, find).await
}

/// To OPTIONS; a call is never taken.
fn there(request: &Request) -> Option<Response> {
    (request.method == Method::Options).then(|| request.respond(404, None, Some("there")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carrier_that_does_not_answer_options_is_passed_over_until_it_does() -> Result<()> {
    let first = Carrier::start(|_| None).await?;
    let next = takes(140, QUICK).await?;
    let config = config(first.address, "options_s = 1\n", next.address);
    let house = House::open_with(140, &config).await?;
    let north = north_is(&house, |north| north["peers"][0]["state"] == "down").await?;
    let peer = &north["peers"][0];
    assert_eq!(peer["status"], json!(408));
    assert!(peer["since"].is_string() && peer["options"].as_array().map(Vec::len) == Some(2));
    // Each gateway asks for itself.
    let vias = first.heard(&Method::Options).into_iter().map(|it| it.headers.via[0].host.clone());
    let vias: std::collections::BTreeSet<String> = vias.collect();
    assert_eq!(vias.into_iter().collect::<Vec<_>>(), ["127.0.140.10", "127.0.140.11"]);

    // What the old leader was told the next one knows.
    house.cluster.kill(&house.cluster.leader().await?)?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let call = agent.dial(OUT)?;
    let taken = next.called(WITHIN).await?;
    agent.answered(&call, WITHIN).await?;
    assert_eq!(first.heard(&Method::Invite).len(), 0, "nobody waits for who is down");
    assert_eq!(agent.hang_up(&call).await?, 200);
    assert_eq!(next.ended(&taken, WITHIN).await?, Ended::ByPeer);
    let gateway = house.cluster.process("gateway-a")?;
    let up = "tandem_trunk_peer_up";
    assert_eq!(house.metric(&gateway.http, up).await?, 0.0);

    // 404 is an answer: it is there.
    first.answers(there);
    north_is(&house, |north| north["peers"][0]["state"] == "up").await?;
    house.agent_is("1001", "ready").await?;
    agent.dial(OUT)?;
    first.hears(WITHIN, |request| request.method == Method::Invite).await?;
    assert_eq!(house.metric(&gateway.http, up).await?, 1.0);
    house.cluster.stop()?;
    Ok(())
}
