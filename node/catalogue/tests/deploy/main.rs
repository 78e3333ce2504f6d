//! What `deploy/` says of metrics is made from the catalogue: `TANDEM_BLESS=1` writes it, then review it.

mod documents;
mod grafana;
mod rules;

use std::path::{Path, PathBuf};

const BLESS: &str = "TANDEM_BLESS";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn is_as_made(file: &str, made: &str) {
    let path = deploy().join(file);
    if std::env::var_os(BLESS).is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, made).expect("write");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "deploy/{file} is not what the catalogue says. Write it with\n\n    \
         {BLESS}=1 cargo test --release --locked -p tandem-catalogue\n\nthen review it."
    );
}

#[test]
fn document_is_as_made() {
    is_as_made("METRICS.md", &documents::metrics());
}

#[test]
fn alert_rules_are_as_made() {
    is_as_made("alerts/tandem.rules.yml", &rules::rules());
}

#[test]
fn dashboard_is_as_made() {
    is_as_made("grafana/tandem.json", &grafana::dashboard());
}

#[test]
fn each_expression_of_the_dashboard_asks_metrics_of_the_catalogue() {
    let mut asked = 0;
    for expression in grafana::expressions() {
        let word = |it: char| !(it.is_ascii_alphanumeric() || it == '_');
        let ours = |it: &&str| it.starts_with("tandem_") || it.starts_with("process_");
        for name in expression.split(word).filter(ours) {
            let known =
                tandem_catalogue::all().any(|it| it.lines().iter().any(|line| line == name));
            assert!(known, "{name} in {expression}");
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked}");
}

#[test]
fn each_alert_has_its_page() {
    for (metric, alert) in rules::alerts() {
        let page = deploy().join("runbooks").join(alert.page);
        let text = std::fs::read_to_string(&page).unwrap_or_default();
        assert!(text.contains("## What to do"), "{} of {} has no page", alert.page, metric.name);
    }
}

#[test]
fn each_alert_is_tested() {
    let tests =
        std::fs::read_to_string(deploy().join("alerts/tandem.test.yml")).unwrap_or_default();
    for (_, alert) in rules::alerts() {
        let line = format!("alertname: {}\n", alert.name);
        assert!(tests.contains(&line), "alerts/tandem.test.yml does not try {}", alert.name);
    }
}
