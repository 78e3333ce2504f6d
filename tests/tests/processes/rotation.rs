//! The cluster's authority is replaced while people talk; who missed it is told so.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tandem_tests::cluster::{binary, said};
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;

const WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);
/// What a loaded machine may do to audio that nothing has happened to.
const SPACING_MS_MAX: u64 = 300;
const GATEWAYS: [&str; 2] = ["gateway-a", "gateway-b"];

/// The cluster's certificates, where `tandem dev` keeps them.
fn pki(house: &House) -> PathBuf {
    house.cluster.dir().join("pki")
}

/// On a thread of its own: phones must go on.
async fn ca(arguments: &[&str], dir: &Path) -> Result<Output> {
    let mut command = Command::new(binary("tandem")?);
    command.arg("ca").args(arguments).arg("--dir").arg(dir);
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// The next step, as soon as every process has taken the one before.
async fn step(house: &House) -> Result<Value> {
    let processes: Vec<String> =
        house.cluster.processes()?.processes.into_iter().map(|it| it.http).collect();
    let asked = processes.iter().flat_map(|it| ["--process", it]);
    let arguments: Vec<&str> = ["rotate", "--json"].into_iter().chain(asked).collect();
    let began = tokio::time::Instant::now();
    loop {
        let done = ca(&arguments, &pki(house)).await?;
        if done.status.code() != Some(3) || began.elapsed() > WITHIN {
            ensure!(done.status.success(), "{}", said(&done));
            return Ok(serde_json::from_slice(&done.stdout)?);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn log(house: &House, name: &str) -> Result<String> {
    Ok(std::fs::read_to_string(house.cluster.dir().join(format!("logs/{name}.log")))?)
}

/// Until a line of the process's log has all the words.
async fn logs(house: &House, name: &str, words: &[&str]) -> Result<()> {
    let began = tokio::time::Instant::now();
    loop {
        let log = log(house, name)?;
        if log.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return Ok(());
        }
        ensure!(began.elapsed() < WITHIN, "{name} does not say {words:?}");
        tokio::time::sleep(LOOK).await;
    }
}

fn sessions_closed(house: &House) -> Result<Vec<usize>> {
    let of = |name| Ok(log(house, name)?.matches("session closed").count());
    GATEWAYS.into_iter().map(of).collect()
}

/// New calls come in at both gateways.
async fn calls_come_in(house: &House) -> Result<()> {
    for at in 0..2 {
        let caller = house.caller(&format!("1390000000{at}"), at).await?;
        let echo = house.call(&caller, "4003", "in_flow").await?;
        assert_eq!(caller.hang_up(&echo).await?, 200);
    }
    Ok(())
}

async fn restart(house: &House, name: &str) -> Result<()> {
    house.cluster.bury(name).await?;
    house.cluster.revive(name)?;
    let whole = |status: &Value| (status["failure_tolerance"] == 1).then_some(());
    house.api.until("/v1/cluster", WITHIN, whole).await
}

/// A process that `tandem dev` knows nothing of; it ends with the test.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // A test that failed already has said why.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With its own folder, address and log, and other certificates.
fn start_with(house: &House, name: &str, pki: &Path) -> Result<Guest> {
    let conf = house.cluster.dir().join("conf");
    let text = std::fs::read_to_string(conf.join(format!("{name}.toml")))?;
    let mut file: toml::Table = toml::from_str(&text)?;
    for (key, what) in [("ca", "ca.pem"), ("certificate", "node.pem"), ("key", "node.key")] {
        file["tls"][key] = pki.join(what).display().to_string().into();
    }
    let path = conf.join(format!("{name}-late.toml"));
    std::fs::write(&path, toml::to_string(&file)?)?;
    let mut node = Command::new(binary("tandem")?);
    let node = node.args(["node", "--config"]).arg(&path).stdin(Stdio::null());
    Ok(Guest(node.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_is_replaced_under_live_calls_and_who_missed_it_is_told() -> Result<()> {
    let house = House::open(210).await?;
    let pki = pki(&house);
    let leader = house.cluster.leader().await?;
    let node = if leader == "node-a" { "node-b" } else { "node-a" };
    let late = house.cluster.dir().join("late");
    std::fs::create_dir(&late)?;
    for (from, to) in [
        (format!("{node}.pem"), "node.pem"),
        (format!("{node}.key"), "node.key"),
        ("ca.pem".to_owned(), "old-ca.pem"),
    ] {
        std::fs::copy(pki.join(from), late.join(to))?;
    }

    let _agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    let echoed = house.caller("13800000002", 1).await?;
    let talk = house.call(&talker, "4001", "connected").await?;
    let echo = house.call(&echoed, "4003", "in_flow").await?;
    for phone in [&talker, &echoed] {
        phone.mark();
    }
    let closed = sessions_closed(&house)?;
    let stand = ca(&["rotate", "--show", "--json"], &pki).await?;
    let stand: Value = serde_json::from_slice(&stand.stdout)?;
    assert_eq!((&stand["phase"], &stand["done"]), (&"steady".into(), &Value::Null));

    assert_eq!(step(&house).await?["phase"], "trusted");
    std::fs::copy(pki.join("ca.pem"), late.join("ca.pem"))?;
    let unasked = ca(&["rotate"], &pki).await?;
    assert_eq!(unasked.status.code(), Some(3), "{}", said(&unasked));
    assert!(said(&unasked).contains("name them all with --process"), "{}", said(&unasked));
    calls_come_in(&house).await?;
    restart(&house, "witness").await?;

    let signed = step(&house).await?;
    assert_eq!((&signed["phase"], &signed["behind"]), (&"signed".into(), &Value::Array(vec![])));
    // Some have the new certificate and some the old one.
    restart(&house, "witness").await?;
    calls_come_in(&house).await?;

    assert_eq!(step(&house).await?["phase"], "steady");
    for process in house.cluster.processes()?.processes {
        house.cluster.signal(&process.name, libc::SIGHUP)?;
    }
    restart(&house, "witness").await?;
    calls_come_in(&house).await?;
    assert_eq!(sessions_closed(&house)?, closed, "no gateway has lost a session");
    restart(&house, node).await?;

    // Its certificate is of an authority that it does not trust itself.
    house.cluster.bury(node).await?;
    for (from, to) in [("node.pem", "pem"), ("node.key", "key")] {
        std::fs::rename(pki.join(format!("{node}.{to}")), late.join(format!("new.{to}")))?;
        std::fs::copy(late.join(from), pki.join(format!("{node}.{to}")))?;
    }
    let mut command = Command::new(binary("tandem")?);
    command.args(["dev", "start", node, "--dir"]).arg(house.cluster.dir());
    let refused = tokio::task::spawn_blocking(move || command.output()).await??;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    for words in ["TD0466", &format!("certificate of {node} in "), "`tandem ca issue`", "until"] {
        assert!(said(&refused).contains(words), "{}", said(&refused));
    }

    // It trusts both authorities: the others refuse it, and both sides say why.
    let guest = start_with(&house, node, &late)?;
    let whose = format!("the certificate of {node} is signed by tandem ");
    logs(&house, &leader, &["TD0467", &whose, "which is not trusted here"]).await?;
    logs(&house, "witness", &["TD0468", &whose]).await?;
    logs(&house, node, &["TD0468", "does not trust the authority of our certificate"]).await?;
    calls_come_in(&house).await?;
    drop(guest);

    for to in ["pem", "key"] {
        std::fs::rename(late.join(format!("new.{to}")), pki.join(format!("{node}.{to}")))?;
    }
    house.cluster.revive(node)?;
    let whole = |status: &Value| (status["failure_tolerance"] == 1).then_some(());
    house.api.until("/v1/cluster", WITHIN, whole).await?;
    assert_eq!(house.cluster.leader().await?, leader, "nobody was elected");
    for (phone, call_id, state) in [(&talker, &talk, "connected"), (&echoed, &echo, "in_flow")] {
        house.call_is(call_id, state).await?;
        assert!(phone.spacing_ms_max(call_id).is_some_and(|ms| ms <= SPACING_MS_MAX));
        assert_eq!(phone.hang_up(call_id).await?, 200);
    }
    house.cluster.stop().context("the cluster does not end")?;
    Ok(())
}
