//! `tandem doctor`: what of a machine or a cluster will hurt, and what to do about it. `judge` decides, `look` reads.

mod judge;
mod look;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::Which;
use super::client::{Client, runtime};
use super::status::table;
use crate::config;
use crate::dev::folder::Folder;
use crate::exit::Usage;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// It works, and something will hurt one day.
    Warning,
    /// It does not work, or not for long.
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The process, or what else was looked at.
    pub of: String,
    pub check: &'static str,
    pub level: Level,
    pub found: String,
    /// Empty where nothing needs doing.
    pub advice: String,
}

impl Finding {
    fn ok(of: &str, check: &'static str, found: impl Into<String>) -> Self {
        Self::new(of, check, Level::Ok, found, "")
    }

    fn new(
        of: &str,
        check: &'static str,
        level: Level,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { of: of.to_owned(), check, level, found: found.into(), advice: advice.into() }
    }
}

/// Of this machine, of the processes whose configuration `files` are, and of the cluster, where it can be asked.
pub fn run(files: &[PathBuf], which: Option<&Which>, json: bool) -> Result<()> {
    let mut files = files.to_vec();
    if let Some(dir) = which.and_then(|which| which.dir.as_deref()) {
        files.extend(of_cluster(dir)?);
    }
    if files.is_empty() && which.is_none() {
        let why = "say what to look at: the configuration file of a process, --dir or --endpoint";
        return Err(Usage(why.to_owned()).into());
    }
    let mut findings = look::machine();
    for file in &files {
        findings.extend(look::process(&config::load_server(file)?));
    }
    if let Some(which) = which {
        findings.push(cluster(which));
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        println!("{}", shown(&findings));
    }
    let wrong = findings.iter().filter(|finding| finding.level == Level::Wrong).count();
    if wrong > 0 {
        bail!("{wrong} of {} checks found what does not work", findings.len());
    }
    Ok(())
}

/// The processes that `tandem dev` runs.
fn of_cluster(dir: &Path) -> Result<Vec<PathBuf>> {
    let folder = Folder::existing(dir)?;
    let processes = crate::dev::processes::Processes::read(&folder)?;
    Ok(processes.processes.iter().map(|process| folder.process_config(&process.name)).collect())
}

fn cluster(which: &Which) -> Finding {
    let status = runtime().and_then(|runtime| {
        let client = Client::of(which)?;
        runtime.block_on(client.get("/v1/cluster"))
    });
    match status {
        Ok(status) => judge::versions(&running(&status)),
        Err(error) => Finding::new(
            "cluster",
            "versions",
            Level::Wrong,
            format!("the cluster does not answer: {error:#}"),
            "start it, or see the logs of its gateways and nodes",
        ),
    }
}

/// Each process with the version that it runs.
fn running(status: &Value) -> Vec<(String, String)> {
    let lists = [&status["nodes"], &status["gateways"]];
    let all = lists.into_iter().filter_map(Value::as_array).flatten();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    all.filter_map(|row| Some((text(&row["name"])?, text(&row["version"])?))).collect()
}

fn shown(findings: &[Finding]) -> String {
    let mut rows = table(["of", "check", "", "found", "what to do"]);
    for Finding { of, check, level, found, advice } in findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Wrong => "wrong",
        };
        rows.add_row([of, *check, level, found, advice]);
    }
    rows.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table_says_what_to_do() {
        let findings = [
            Finding::ok("node-a", "certificate", "until 2027-01-01"),
            Finding::new("node-a", "disk", Level::Wrong, "full", "make room"),
        ];
        let text = shown(&findings);
        assert!(text.contains("wrong") && text.contains("make room"), "{text}");
    }

    #[test]
    fn versions_are_those_of_processes_that_say() {
        let status = json!({
            "nodes": [{"name": "node-a", "version": "0.1.0"}, {"name": "node-b", "version": null}],
            "gateways": [{"name": "gateway-a", "version": "0.2.0"}],
        });
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(running(&status), [pair("node-a", "0.1.0"), pair("gateway-a", "0.2.0")]);
    }
}
