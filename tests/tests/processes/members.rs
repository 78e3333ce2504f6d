//! Who belongs to the cluster changes under live calls: a node that lost its folder is replaced, a
//! witness comes to two nodes, what would lose the quorum is refused.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::cluster::{binary, said};
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;

const WITHIN: Duration = Duration::from_secs(20);

/// On a thread of its own: the command may take long, and phones must go on.
async fn change(house: &House, arguments: &[&str]) -> Result<Output> {
    let mut command = house.tandem(arguments)?;
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(why) && said.lines().count() == 1, "{said}");
}

async fn member(house: &House, name: &str) -> Result<Value> {
    let members = house.api.get("/v1/cluster/members").await?;
    let found = members["members"].as_array().into_iter().flatten().find(|it| it["name"] == name);
    found.cloned().with_context(|| format!("{name} is not among {members}"))
}

async fn tolerates(house: &House, failures: u64) -> Result<()> {
    let wanted = |status: &Value| (status["failure_tolerance"] == failures).then_some(());
    house.api.until("/v1/cluster", WITHIN, wanted).await
}

/// What its process says of itself, until that has `words` in it.
async fn says(house: &House, name: &str, words: &str) -> Result<()> {
    let base = format!("http://{}", house.cluster.process(name)?.http);
    let began = tokio::time::Instant::now();
    loop {
        let text = house.api.probe(&base, "/readyz?verbose").await.map(|it| it.1);
        match text {
            Ok(text) if text.contains(words) => return Ok(()),
            _ => ensure!(began.elapsed() < WITHIN, "{name} does not say {words:?}: {text:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_folder_is_replaced_under_live_calls_and_takes_over() -> Result<()> {
    let house = House::open(200).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let waiter = house.caller("13800000002", 1).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let wait = house.call(&waiter, "4001", "queued").await?;
    tolerates(&house, 1).await?;
    for phone in [&agent, &talker, &waiter] {
        phone.mark();
    }

    refused(&house.tandem(&["cluster", "replace", "node-b"])?.output()?, "nothing to let in");
    house.cluster.bury("node-b").await?;
    std::fs::remove_dir_all(house.cluster.dir().join("data/node-b"))?;
    refused(&house.tandem(&["cluster", "replace", "node-b"])?.output()?, "does not answer");
    refused(&house.tandem(&["cluster", "remove", "node-a"])?.output()?, "the quorum would be lost");
    refused(
        &house.tandem(&["cluster", "remove", "witness"])?.output()?,
        "the quorum would be lost",
    );
    house.cluster.revive("node-b")?;
    says(&house, "node-b", "TD0450").await?;
    // It holds nothing and votes for nobody: what it was before is still missing.
    tolerates(&house, 0).await?;
    let old = member(&house, "node-b").await?["id"].as_u64();

    let replaced = change(&house, &["cluster", "replace", "node-b"]).await?;
    assert_eq!(replaced.status.code(), Some(0), "{}", said(&replaced));
    println!("{}", said(&replaced));
    let fresh = member(&house, "node-b").await?;
    assert!(fresh["id"].as_u64() > old, "{fresh}");
    assert_eq!(fresh["role"], "node");
    tolerates(&house, 1).await?;

    // What the old one had said and forgotten is the fresh one's to go on with.
    house.cluster.bury("node-a").await?;
    house.call_is(&talk, "connected").await?;
    house.call_is(&wait, "queued").await?;
    let other = house.caller("13800000003", 1).await?;
    let echo = house.call(&other, "4003", "in_flow").await?;
    assert_eq!(house.cluster.leader().await?, "node-b");
    assert_eq!(other.hang_up(&echo).await?, 200);
    for (phone, call_id) in [(&talker, &talk), (&waiter, &wait)] {
        phone.heard_all(call_id);
    }
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.call_is(&wait, "connected").await?;

    // After a restart it is who it was let in as.
    house.cluster.revive("node-a")?;
    tolerates(&house, 1).await?;
    house.cluster.bury("node-b").await?;
    house.cluster.revive("node-b")?;
    tolerates(&house, 1).await?;
    assert_eq!(member(&house, "node-b").await?["id"], fresh["id"]);
    assert_eq!(waiter.hang_up(&wait).await?, 200);
    for phone in [&agent, &talker, &waiter] {
        assert_eq!(phone.violations(), [], "phone {}", phone.user);
    }
    house.cluster.stop()?;
    Ok(())
}

/// The first of the file would found a cluster if nobody had one: it must not take another's place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_node_that_lost_its_folder_does_not_begin_anew() -> Result<()> {
    let house = House::open(201).await?;
    tolerates(&house, 1).await?;
    house.cluster.bury("node-a").await?;
    std::fs::remove_dir_all(house.cluster.dir().join("data/node-a"))?;
    house.cluster.revive("node-a")?;
    says(&house, "node-a", "TD0450").await?;
    let caller = house.caller("13800000001", 1).await?;
    let echo = house.call(&caller, "4003", "in_flow").await?;
    let replaced = change(&house, &["cluster", "replace", "node-a"]).await?;
    assert_eq!(replaced.status.code(), Some(0), "{}", said(&replaced));
    tolerates(&house, 1).await?;
    // A witness is removed, and two nodes are two: neither may go.
    let removed = change(&house, &["cluster", "remove", "witness"]).await?;
    assert_eq!(removed.status.code(), Some(0), "{}", said(&removed));
    tolerates(&house, 0).await?;
    house.cluster.stop_one("witness")?;
    house.cluster.bury("node-b").await?;
    refused(&house.tandem(&["cluster", "replace", "node-b"])?.output()?, "");
    house.cluster.revive("node-b")?;
    assert_eq!(caller.hang_up(&echo).await?, 200);
    house.cluster.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_comes_to_two_nodes_under_live_calls_and_then_one_may_die() -> Result<()> {
    let house = House::open_without_witness(202).await?;
    tolerates(&house, 0).await?;
    let talker = house.caller("13800000001", 0).await?;
    let talk = house.call(&talker, "4003", "in_flow").await?;
    talker.mark();
    let unknown = house.tandem(&["cluster", "remove", "node-x"])?.output()?;
    assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));
    let mut command = Command::new(binary("tandem")?);
    command.args(["dev", "add-witness", "--dir"]).arg(house.cluster.dir());
    let added = tokio::task::spawn_blocking(move || command.output()).await??;
    assert_eq!(added.status.code(), Some(0), "{}", said(&added));
    println!("{}", said(&added));
    assert_eq!(member(&house, "witness").await?["role"], "witness");
    tolerates(&house, 1).await?;
    for name in ["node-a", "node-b"] {
        house.cluster.bury(name).await?;
        let caller = house.caller("13800000002", 1).await?;
        let echo = house.call(&caller, "4003", "in_flow").await?;
        assert_eq!(caller.hang_up(&echo).await?, 200);
        house.call_is(&talk, "in_flow").await?;
        house.cluster.revive(name)?;
        tolerates(&house, 1).await?;
    }
    talker.heard_all(&talk);
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.cluster.stop()?;
    Ok(())
}

/// A node that `tandem dev` knows nothing of; it ends with the test.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // A test that failed already has said why.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Of the cluster's own authority.
fn certify(pki: &Path, name: &str, address: &str) -> Result<()> {
    let mut issue = Command::new(binary("tandem")?);
    issue.args(["ca", "issue", name, "--address", address, "--dir"]).arg(pki);
    let issued = issue.output()?;
    ensure!(issued.status.success(), "{}", said(&issued));
    Ok(())
}

/// As an operator would make it on a third box: the file of another node, and what is its own.
fn start_node_c(house: &House, raft: SocketAddr) -> Result<Guest> {
    let dir = house.cluster.dir();
    let mut file: toml::Table =
        toml::from_str(&std::fs::read_to_string(dir.join("conf/node-b.toml"))?)?;
    let at = |port| SocketAddr::new(raft.ip(), port).to_string();
    certify(&dir.join("pki"), "node-c", &raft.ip().to_string())?;
    let mut member = toml::Table::new();
    for (key, value) in [
        ("name", "node-c".to_owned()),
        ("box", "c".to_owned()),
        ("role", "node".to_owned()),
        ("raft", raft.to_string()),
        ("link", at(7204)),
        ("http", at(8104)),
    ] {
        member.insert(key.to_owned(), value.into());
    }
    let members = file["cluster"]["member"].as_array_mut().context("members")?;
    members.push(member.into());
    let own = |what: &str| dir.join(what).display().to_string();
    file["process"]["name"] = "node-c".into();
    file["process"]["data"] = own("data/node-c").into();
    file["tls"]["certificate"] = own("pki/node-c.pem").into();
    file["tls"]["key"] = own("pki/node-c.key").into();
    let path = dir.join("conf/node-c.toml");
    std::fs::write(&path, toml::to_string(&file)?)?;
    let mut node = Command::new(binary("tandem")?);
    let node = node.args(["node", "--config"]).arg(&path).stdin(Stdio::null());
    Ok(Guest(node.stdout(Stdio::null()).spawn()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_wholly_new_takes_the_place_of_another_and_the_calls() -> Result<()> {
    let house = House::open(203).await?;
    let talker = house.caller("13800000001", 0).await?;
    let talk = house.call(&talker, "4003", "in_flow").await?;
    tolerates(&house, 1).await?;
    talker.mark();
    let raft: SocketAddr = "127.0.203.1:7104".parse()?;
    let add = ["cluster", "add", "node-c", "127.0.203.1:7104"];
    refused(&house.tandem(&add)?.output()?, "does not answer");
    let _node_c = start_node_c(&house, raft)?;
    let began = tokio::time::Instant::now();
    let added = loop {
        let added = change(&house, &add).await?;
        // It may still be starting.
        if added.status.code() != Some(3) || began.elapsed() > WITHIN {
            break added;
        }
    };
    assert_eq!(added.status.code(), Some(0), "{}", said(&added));
    assert_eq!(member(&house, "node-c").await?["role"], "node");
    refused(
        &house.tandem(&["cluster", "add", "node-c", "127.0.203.1:7104"])?.output()?,
        "nothing to let in",
    );
    let removed = change(&house, &["cluster", "remove", "node-a"]).await?;
    assert_eq!(removed.status.code(), Some(0), "{}", said(&removed));
    house.cluster.stop_one("node-a")?;
    tolerates(&house, 1).await?;

    // No file of a gateway names the one that is left.
    house.cluster.bury("node-b").await?;
    let other = house.caller("13800000002", 1).await?;
    let echo = house.call(&other, "4003", "in_flow").await?;
    assert_eq!(house.cluster.leader().await?, "node-c");
    assert_eq!(other.hang_up(&echo).await?, 200);
    house.call_is(&talk, "in_flow").await?;
    talker.heard_all(&talk);
    assert_eq!(talker.hang_up(&talk).await?, 200);
    house.cluster.stop()?;
    Ok(())
}
