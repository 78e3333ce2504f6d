//! The catalogue of metrics is what the sources count and what processes expose.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_catalogue::Kind;
use tandem_tests::house::House;
use tandem_tests::phone::Incoming;

const WITHIN: Duration = Duration::from_secs(15);
/// Where the Makefile puts it unless it is told otherwise.
const PROMTOOL: &str = "/var/tmp/tandem-peers/prometheus/usr/bin/promtool";

/// The sources that may count: all but tests and what is never installed.
const FOLDERS: [&str; 5] = ["actors", "storage", "cluster", "gateway", "node"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let other = ["target", "tests", "catalogue", "tests.rs"].iter().any(|it| name == *it);
        if path.is_dir() && !other {
            sources(&path, found);
        } else if !other && path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every literal of a text that is a metric's name.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').filter(|literal| {
        let ours = literal.starts_with("tandem_") || literal.starts_with("process_");
        let word = literal.bytes().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        ours && word
    })
}

/// Name of the macro, name of the metric: each use of a macro of `metrics` with a literal.
fn macros(text: &str) -> Vec<(Kind, &str)> {
    let mut found = Vec::new();
    for (word, kind) in
        [("counter!(", Kind::Counter), ("gauge!(", Kind::Gauge), ("histogram!(", Kind::Summary)]
    {
        for (at, _) in text.match_indices(word) {
            let rest = text[at + word.len()..].trim_start();
            let Some(rest) = rest.strip_prefix('"') else { continue };
            found.push((kind, rest.split('"').next().unwrap_or_default()));
        }
    }
    found
}

fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut files = Vec::new();
    FOLDERS.iter().for_each(|folder| sources(&root.join(folder), &mut files));
    files.iter().map(|file| std::fs::read_to_string(file).expect("a source")).collect()
}

#[test]
fn each_name_of_the_sources_is_in_the_catalogue_and_each_of_the_catalogue_in_the_sources() {
    let texts = texts();
    let used: BTreeSet<&str> = texts.iter().flat_map(|text| names(text)).collect();
    let listed: BTreeSet<&str> = tandem_catalogue::all().map(|metric| metric.name).collect();
    let unlisted: Vec<_> = used.difference(&listed).collect();
    let unused: Vec<_> = listed.difference(&used).collect();
    assert!(unlisted.is_empty(), "not in the catalogue: {unlisted:?}");
    assert!(unused.is_empty(), "counted nowhere: {unused:?}");
}

#[test]
fn each_macro_of_the_sources_is_of_the_kind_that_the_catalogue_says() {
    let texts = texts();
    let all: Vec<_> = texts.iter().flat_map(|text| macros(text)).collect();
    assert!(all.len() > 100, "the macros are not found: {}", all.len());
    for (kind, name) in all {
        let metric = tandem_catalogue::find(name);
        assert_eq!(metric.map(|metric| metric.kind), Some(kind), "{name}");
    }
}

/// What one exposition says of one name.
#[derive(Default)]
struct Exposed {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The exposition by the names of its `# TYPE` lines; a line of none is an error.
fn parse(text: &str) -> Result<BTreeMap<String, Exposed>> {
    let mut all: BTreeMap<String, Exposed> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("a help")?;
            help.clone_into(&mut all.entry(name.to_owned()).or_default().help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("a type")?;
            kind.clone_into(&mut all.entry(name.to_owned()).or_default().kind);
        } else {
            let end = line.find(['{', ' ']).context("a sample")?;
            let name = &line[..end];
            let stem = ["_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let known = [Some(name), stem].into_iter().flatten().find(|it| all.contains_key(*it));
            let known = known.with_context(|| format!("{name} has no type"))?;
            let labels = line[end..].strip_prefix('{').and_then(|rest| rest.rsplit_once('}'));
            let exposed = all.get_mut(known).context("just found")?;
            for label in labels.map_or("", |(labels, _)| labels).split(',') {
                if let Some((label, _)) = label.split_once('=') {
                    exposed.labels.insert(label.to_owned());
                }
            }
        }
    }
    Ok(all)
}

fn is_as_listed(process: &str, name: &str, exposed: &Exposed) -> Result<()> {
    let metric = tandem_catalogue::find(name);
    let metric = metric.with_context(|| format!("{process}: {name} is not in the catalogue"))?;
    ensure!(exposed.kind == metric.kind.word(), "{process}: {name} is a {}", exposed.kind);
    ensure!(exposed.help == metric.help, "{process}: {name} says {:?}", exposed.help);
    for label in &exposed.labels {
        let quantile = metric.kind == Kind::Summary && label == "quantile";
        let listed = quantile || metric.labels.contains(&label.as_str());
        ensure!(listed, "{process}: {name} has the label {label}");
    }
    Ok(())
}

/// A call of each kind is on, and one is over, so that most of what can be counted is.
async fn busy_house(block: u8) -> Result<(House, Vec<tandem_tests::phone::Phone>)> {
    let house = House::open(block).await?;
    let agent = house.agent("1001", 0, Incoming::Answer { after_ms: 50 }).await?;
    let talker = house.caller("13800000001", 0).await?;
    house.call(&talker, "4001", "connected").await?;
    let other = house.caller("13800000002", 1).await?;
    let echo = house.call(&other, "4003", "in_flow").await?;
    other.receives(&echo, 50, WITHIN).await?;
    ensure!(other.hang_up(&echo).await? == 200, "a BYE is honoured");
    house.cdr(&echo).await?;
    Ok((house, vec![agent, talker, other]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_exposes_what_the_catalogue_says_and_nothing_else() -> Result<()> {
    let (house, _phones) = busy_house(35).await?;
    let least =
        [("node-a", 25), ("node-b", 25), ("gateway-a", 25), ("gateway-b", 20), ("witness", 10)];
    for (name, at_least) in least {
        let base = format!("http://{}", house.cluster.process(name)?.http);
        let (status, text) = house.api.probe(&base, "/metrics").await?;
        ensure!(status == 200, "/metrics of {name} was answered {status}");
        let exposed = parse(&text)?;
        println!("{name} exposes {} metrics", exposed.len());
        ensure!(exposed.len() >= at_least, "{name} exposes {} metrics only", exposed.len());
        for (metric, exposed) in &exposed {
            is_as_listed(name, metric, exposed)?;
        }
        promtool(&["check", "metrics"], &text).with_context(|| format!("/metrics of {name}"))?;
    }
    Ok(())
}

/// promtool of Debian's Prometheus, which `make test` brings.
fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    let path = std::env::var("TANDEM_PROMTOOL").unwrap_or_else(|_| PROMTOOL.to_owned());
    let mut command = std::process::Command::new(&path);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn();
    let mut child = child.with_context(|| format!("{path} is missing: run `make promtool`"))?;
    // It reads all of it before it says anything, and the exposition fits what it says of it.
    child.stdin.take().context("stdin is piped")?.write_all(input.as_bytes())?;
    let ended = child.wait_with_output()?;
    let said = [ended.stdout, ended.stderr].concat();
    ensure!(ended.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn alert_rules_are_sound_and_each_is_raised_by_what_it_is_about() -> Result<()> {
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts");
    let path = |file: &str| alerts.join(file).to_string_lossy().into_owned();
    promtool(&["check", "rules", &path("tandem.rules.yml")], "")?;
    promtool(&["test", "rules", &path("tandem.test.yml")], "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takeovers_of_live_calls_are_counted_once_and_by_the_new_leader() -> Result<()> {
    let (house, _phones) = busy_house(36).await?;
    let live = house.api.get("/v1/calls").await?["items"].as_array().context("a list")?.len();
    let dead = house.cluster.leader().await?;
    let next = if dead == "node-a" { "node-b" } else { "node-a" };
    let http = house.cluster.process(next)?.http.clone();
    let risked = house.metric(&http, "tandem_calls_at_risk_total ").await?;
    house.cluster.bury(&dead).await?;
    let led = async { while house.cluster.leader().await.ok().as_deref() != Some(next) {} };
    tokio::time::timeout(WITHIN, led).await.context("nobody leads")?;
    let begun = async {
        while house.metric(&http, "tandem_calls_at_risk_total ").await? < risked + live as f64 {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(WITHIN, begun).await.context("the takeover is not counted")??;
    let now = house.metric(&http, "tandem_calls_at_risk_total ").await?;
    println!("{live} live calls, {} at risk", now - risked);
    ensure!(live > 0 && now - risked == live as f64, "{live} calls, {} at risk", now - risked);
    ensure!(house.metric(&http, "tandem_calls_lost_total ").await? == 0.0, "none was lost");
    Ok(())
}
