//! What gateways say to carriers outside of calls: OPTIONS, and what comes of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tandem_sip::digest::{Authorization, challenge, ha1, verify};
use tandem_sip::{Method, Request, Response};
use tandem_tests::carrier::{self, Carrier};
use tandem_tests::house::House;
use tandem_tests::phone::{Ended, Incoming};
use tandem_tests::sipp::Sipp;

const WITHIN: Duration = Duration::from_secs(20);
const QUICK: Incoming = Incoming::Answer { after_ms: 50 };
const OUT: &str = "0049301";

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
    let next = carrier::takes(140, QUICK).await?;
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

/// A registrar that wants a password: each Contact that it has, by the Via's host, and for how long.
#[derive(Default)]
struct Registrar {
    bound: BTreeMap<String, u32>,
    refreshed: u32,
}

impl Registrar {
    fn answer(&mut self, request: &Request) -> Option<Response> {
        if request.method != Method::Register {
            return None;
        }
        let ha1 = ha1("tandem", "carrier.example", "hush");
        let proof =
            request.headers.other("Authorization").and_then(|it| Authorization::parse(it).ok());
        if !proof.is_some_and(|proof| verify("REGISTER", &ha1, &proof)) {
            let mut wants = request.respond(401, None, Some("r"));
            wants
                .headers
                .push_other("WWW-Authenticate", &challenge("carrier.example", "n1", false));
            return Some(wants);
        }
        let host = request.headers.via[0].host.clone();
        let expires = request.headers.expires.unwrap_or_default();
        if expires > 0 && expires < 60 {
            let mut brief = request.respond(423, None, Some("r"));
            brief.headers.push_other("Min-Expires", "60");
            return Some(brief);
        }
        if self.bound.insert(host, expires).is_some() {
            self.refreshed += 1;
        }
        let mut taken = request.respond(200, None, Some("r"));
        // So short that it is refreshed while the test looks on.
        taken.headers.expires = Some(expires.min(4));
        taken.headers.contact = request.headers.contact.clone();
        Some(taken)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_are_registered_with_a_carrier_over_a_kill_and_until_they_end() -> Result<()> {
    let registrar = Arc::new(Mutex::new(Registrar::default()));
    let answers = |registrar: &Arc<Mutex<Registrar>>| {
        let registrar = Arc::clone(registrar);
        move |request: &Request| registrar.lock().unwrap().answer(request)
    };
    let carrier = Carrier::start(answers(&registrar)).await?;
    let other = carrier::takes(141, QUICK).await?;
    let more = "register = \"4930100@carrier.example\"\nregister_s = 60\nauth_user = \"tandem\"\n\
                auth_realm = \"carrier.example\"\nauth_password = \"hush\"\n";
    let house = House::open_with(141, &config(carrier.address, more, other.address)).await?;
    let registered = |north: &Value| {
        let all = north["registrations"].as_array();
        all.is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["state"] == "registered"))
    };
    north_is(&house, registered).await?;
    let one = carrier.hears(WITHIN, |request| request.method == Method::Register).await?;
    assert_eq!(one.headers.to.uri.to_string(), "sip:4930100@carrier.example");
    house.cluster.kill(&house.cluster.leader().await?)?;
    // It refreshes while nobody leads, too: no leader is needed for it.
    let before = registrar.lock().unwrap().refreshed;
    let refreshes = |_: &Request| registrar.lock().unwrap().refreshed >= before + 4;
    carrier.hears(WITHIN, refreshes).await?;
    north_is(&house, registered).await?;
    let gateway = house.cluster.process("gateway-a")?;
    assert_eq!(house.metric(&gateway.http, "tandem_trunk_registered").await?, 1.0);
    // It calls out by who knows it.
    let agent = house.agent("1001", 0, QUICK).await?;
    agent.dial(OUT)?;
    carrier.hears(WITHIN, |request| request.method == Method::Invite).await?;
    let grep = Command::new("grep").args(["-rl", "hush"]).arg(house.cluster.dir()).output()?;
    ensure!(grep.stdout.is_empty(), "{}", String::from_utf8_lossy(&grep.stdout));
    house.cluster.stop()?;
    let bound = registrar.lock().unwrap().bound.clone();
    assert_eq!(bound.len(), 2);
    assert!(bound.values().all(|expires| *expires == 0), "they have left: {bound:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carrier_that_refuses_a_registration_gets_no_call() -> Result<()> {
    let refuses = |request: &Request| Some(request.respond(403, None, Some("r")));
    let carrier = Carrier::start(refuses).await?;
    let next = carrier::takes(142, QUICK).await?;
    let more = "register = \"4930100@carrier.example\"\n";
    let house = House::open_with(142, &config(carrier.address, more, next.address)).await?;
    let absent = |north: &Value| {
        let first = &north["registrations"][0];
        first["state"] == "absent" && first["status"] == 403
    };
    north_is(&house, absent).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let call = agent.dial(OUT)?;
    next.called(WITHIN).await?;
    agent.answered(&call, WITHIN).await?;
    assert_eq!(carrier.heard(&Method::Invite).len(), 0);
    house.cluster.stop()?;
    Ok(())
}

/// Its port is below those that the system gives to connections of its own choice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carrier_whose_nonce_is_too_old_for_the_bye_gets_another_proof_after_a_kill() -> Result<()>
{
    let peer = SocketAddr::from(([127, 0, 0, 1], 29_901));
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/sipp");
    let mut sipp = Sipp::take(peer, &folder.join("challenges_again.xml"))?;
    let other = carrier::takes(143, Incoming::Reject { status: 486 }).await?;
    let more = "auth_user = \"tandem\"\nauth_realm = \"carrier.example\"\n\
                auth_password = \"hush\"\n";
    let house = House::open_with(143, &config(peer, more, other.address)).await?;
    let agent = house.agent("1001", 0, QUICK).await?;
    let call = agent.dial(OUT)?;
    agent.answered(&call, WITHIN).await?;
    house.cluster.kill(&house.cluster.leader().await?)?;
    house.call_is(&call, "connected").await?;
    assert_eq!(agent.hang_up(&call).await?, 200);
    let status = sipp.ended(WITHIN).await?;
    ensure!(status.success(), "{status}\n{}", sipp.errors());
    house.cluster.stop()?;
    Ok(())
}
