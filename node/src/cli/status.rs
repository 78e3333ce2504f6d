//! `tandem cluster status`.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Duration;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::Which;
use super::client::{Client, runtime};

/// While nodes elect, what was seen last is shown, with its age.
const PATH: &str = "/v1/cluster?within_ms=150";
/// To the first line, and nothing behind it (ECMA-48 §8.3.21, §8.3.39).
const CLEAR: &str = "\x1b[H\x1b[2J";

pub fn run(which: &Which, json: bool, watch: Option<u16>) -> Result<()> {
    let runtime = runtime()?;
    if let Some(every_s) = watch {
        let every = Duration::from_secs(every_s.into());
        return runtime.block_on(async {
            tokio::select! {
                stopped = repaint(which, json, every) => stopped,
                interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
            }
        });
    }
    let client = Client::of(which)?;
    let status = runtime.block_on(client.get(PATH))?;
    println!("{}", shown(&status, json)?);
    Ok(())
}

fn shown(status: &Value, json: bool) -> Result<String> {
    Ok(if json { serde_json::to_string_pretty(status)? } else { tables(status) })
}

/// On a terminal over what was there; elsewhere one below the other. Ends where nobody reads it.
async fn repaint(which: &Which, json: bool, every: Duration) -> Result<()> {
    let clear = if stdout().is_terminal() { CLEAR } else { "" };
    loop {
        // Gateways come and go: each look finds those of now.
        let look = async { Client::of(which)?.get(PATH).await };
        let text = match look.await {
            Ok(status) => shown(&status, json)?,
            Err(error) => format!("the cluster does not answer: {error:#}"),
        };
        writeln!(stdout(), "{clear}{text}")?;
        tokio::time::sleep(every).await;
    }
}

/// A younger status is as good as new.
const AGE_MS_TOLD: u64 = 1_000;

/// For people.
fn tables(status: &Value) -> String {
    let mut text = format!(
        "failure tolerance: {}    feature version: {}\n\n",
        plain(&status["failure_tolerance"]),
        plain(&status["feature_version"])
    );
    if let Some(age_ms) = status["age_ms"].as_u64().filter(|age_ms| *age_ms > AGE_MS_TOLD) {
        let s = age_ms / 1_000;
        text +=
            &format!("this was so {s} s ago: since then no majority has answered who tells it\n\n");
    }
    let mut nodes = table([
        "node",
        "box",
        "role",
        "healthy",
        "version",
        "leads",
        "lag",
        "fsync p99",
        "can be lost",
    ]);
    for node in rows(&status["nodes"]) {
        nodes.add_row([
            named(node),
            plain(&node["box"]),
            plain(&node["role"]),
            yes(&node["healthy"]),
            plain(&node["version"]),
            plain(&node["leads"]),
            plain(&node["lag"]),
            millis(&node["sync_p99_us"]),
            losable(status, &node["name"]),
        ]);
    }
    let mut gateways = table([
        "gateway",
        "box",
        "healthy",
        "version",
        "service addresses",
        "calls",
        "can be lost",
    ]);
    for gateway in rows(&status["gateways"]) {
        gateways.add_row([
            named(gateway),
            plain(&gateway["box"]),
            yes(&gateway["healthy"]),
            plain(&gateway["version"]),
            plain(&gateway["vips"]),
            plain(&gateway["calls"]),
            losable(status, &gateway["name"]),
        ]);
    }
    let mut boxes = table(["box", "can be lost"]);
    let processes = |name: &str| {
        rows(&status["nodes"])
            .iter()
            .chain(rows(&status["gateways"]))
            .any(|row| row["name"] == name)
    };
    for name in status["can_lose"].as_object().into_iter().flat_map(|map| map.keys()) {
        if !processes(name) {
            boxes.add_row([name.clone(), losable(status, &Value::from(name.as_str()))]);
        }
    }
    text.push_str(&format!("{nodes}\n\n{gateways}"));
    if boxes.row_count() > 0 {
        text.push_str(&format!("\n\n{boxes}"));
    }
    text
}

pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table
}

pub(super) fn rows(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn named(row: &Value) -> String {
    let note = if row["drained"] == true { " (drained)" } else { "" };
    format!("{}{note}", plain(&row["name"]))
}

fn losable(status: &Value, name: &Value) -> String {
    let verdict = &status["can_lose"][name.as_str().unwrap_or_default()];
    match verdict["ok"].as_bool() {
        Some(true) => "yes".to_owned(),
        Some(false) => match verdict["wait_for"].as_str().filter(|it| !it.is_empty()) {
            Some(wait_for) => format!("no: {}; wait for {wait_for}", plain(&verdict["why"])),
            None => format!("no: {}", plain(&verdict["why"])),
        },
        None => "unknown".to_owned(),
    }
}

/// Of microseconds.
fn millis(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |us| format!("{:.1} ms", us / 1_000.0))
}

pub(super) fn yes(value: &Value) -> String {
    match value.as_bool() {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => "unknown".to_owned(),
    }
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_tells_why_when_a_box_can_not_be_lost() {
        let status = serde_json::json!({
            "failure_tolerance": 0,
            "feature_version": 1,
            "nodes": [{"name": "node-a", "role": "node", "healthy": true, "version": "0.1.0",
                       "leads": ["meta", "s0"], "lag": 0, "sync_p99_us": 1_240}],
            "gateways": [{"name": "gateway-a", "vips": ["127.0.0.10:5060"], "calls": 3, "drained": true}],
            "can_lose": {"node-a": {"ok": false, "why": "node-b is down",
                                    "wait_for": "node-b to be back"},
                         "gateway-a": {"ok": true, "why": ""},
                         "a": {"ok": false, "why": "node-b is down"}},
        });
        let text = tables(&status);
        assert!(text.contains("failure tolerance: 0"), "{text}");
        assert!(text.contains("meta, s0") && text.contains("1.2 ms"), "{text}");
        assert!(text.contains("gateway-a (drained)") && !text.contains("node-a ("), "{text}");
        assert_eq!(text.matches("no: node-b is down").count(), 2, "{text}");
        assert!(text.contains("node-b is down; wait for node-b to be back"), "{text}");
    }
}
