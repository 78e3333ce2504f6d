//! `tandem recordings`: what was recorded, the audio, and whether it is still what was recorded.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use comfy_table::{Table, presets};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, runtime};
use super::{Get, List, Recordings, Verify};

/// Digits of a recording's or call's id.
const ID_DIGITS: usize = 16;
/// Recordings of one answer of the API.
const PAGE: usize = 500;

pub fn run(command: &Recordings) -> Result<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        match command {
            Recordings::List(args) => list(args).await,
            Recordings::Get(args) => get(args).await,
            Recordings::Verify(args) => verify(args).await,
        }
    })
}

async fn list(args: &List) -> Result<()> {
    if let Some(call) = &args.call {
        check_id(call, "call")?;
    }
    let client = Client::of(&args.which)?.of_tenant(args.tenant.as_deref());
    let mut query = Vec::new();
    query.extend(args.call.as_ref().map(|call| ("call", call.clone())));
    query.extend(args.since.as_ref().map(|since| ("since", since.clone())));
    let items = all(&client, &query, args.limit).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!({"items": items}))?);
    } else {
        println!("{}", table(&items));
    }
    Ok(())
}

/// Page by page.
async fn all(client: &Client, query: &[(&str, String)], most: usize) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    while items.len() < most {
        let limit = PAGE.min(most - items.len());
        let mut path = format!("/v1/recordings?limit={limit}");
        let cursor_now = cursor.iter().map(|cursor| ("cursor", cursor));
        for (name, value) in query.iter().map(|(name, value)| (*name, value)).chain(cursor_now) {
            // A time has nothing but these that would be read as something else.
            let value = value.replace('%', "%25").replace('+', "%2B").replace('&', "%26");
            let _ = write!(path, "&{name}={}", value.replace('#', "%23").replace(' ', "%20"));
        }
        let page = client.get(&path).await?;
        items.extend(page["items"].as_array().into_iter().flatten().cloned());
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(items)
}

fn table(items: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "recording",
        "call",
        "began",
        "seconds",
        "state",
        "gaps",
        "pauses",
        "copies",
    ]);
    for item in items {
        let text = |name: &str| item[name].as_str().unwrap_or("-").to_owned();
        let count = |name: &str| item[name].as_array().map_or(0, Vec::len).to_string();
        let copies = item["copies"].as_array().into_iter().flatten().filter_map(Value::as_str);
        table.add_row([
            text("id"),
            text("call"),
            text("began_at"),
            item["duration_ms"].as_u64().map_or("-".to_owned(), |ms| format!("{}", ms / 1_000)),
            state(item).to_owned(),
            count("gaps"),
            count("pauses"),
            copies.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.to_string()
}

fn state(item: &Value) -> &'static str {
    match (item["sealed"] == true, item["cut"] == true) {
        (_, true) => "cut",
        (true, false) => "sealed",
        (false, false) => "running",
    }
}

async fn get(args: &Get) -> Result<()> {
    check_id(&args.id, "recording")?;
    let client = Client::of(&args.which)?.of_tenant(args.tenant.as_deref());
    let audio = client.bytes(&format!("/v1/recordings/{}/audio", args.id)).await?;
    let file = &args.output;
    write(file, &audio)?;
    let bytes = audio.len();
    if args.json {
        let told = json!({"id": args.id, "file": file.display().to_string(), "bytes": bytes});
        println!("{}", serde_json::to_string_pretty(&told)?);
    } else {
        println!("{}: {bytes} bytes", file.display());
    }
    Ok(())
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("{} can't be written", file.display()))
}

async fn verify(args: &Verify) -> Result<()> {
    let client = Client::of(&args.which)?.of_tenant(args.tenant.as_deref());
    let wanted = match (&args.id, args.all) {
        (Some(id), _) => {
            check_id(id, "recording")?;
            vec![client.get(&format!("/v1/recordings/{id}")).await?]
        }
        (None, true) => all(&client, &[], usize::MAX).await?,
        (None, false) => bail!("say which: an id, or --all"),
    };
    let mut verdicts = Vec::new();
    let mut bad = Vec::new();
    for known in &wanted {
        let id = known["id"].as_str().unwrap_or_default();
        let base = format!("/v1/recordings/{id}");
        let verdict = if args.repair {
            client.ask_patiently(Method::POST, &format!("{base}/repair")).await?
        } else {
            client.ask_patiently(Method::GET, &format!("{base}/verify")).await?
        };
        bad.extend(sentences(known, &verdict));
        verdicts.push(verdict);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!({"items": verdicts, "bad": bad}))?);
    } else if bad.is_empty() {
        let copies: usize =
            verdicts.iter().map(|verdict| verdict["copies"].as_array().map_or(0, Vec::len)).sum();
        println!("{} recordings, {copies} copies: all as they were recorded", verdicts.len());
    }
    if bad.is_empty() { Ok(()) } else { bail!(bad.join("\n")) }
}

/// What is wrong with a recording, copy by copy.
fn sentences(known: &Value, verdict: &Value) -> Vec<String> {
    let id = known["id"].as_str().unwrap_or_default();
    let found = verdict["copies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut bad = Vec::new();
    for copy in found.iter().filter(|copy| copy["good"] != true) {
        let gateway = copy["gateway"].as_str().unwrap_or_default();
        let damaged = copy["damaged"].as_array().map(Vec::as_slice).unwrap_or_default();
        let what = match damaged {
            [] => "is not the file that was sealed".to_owned(),
            [first, rest @ ..] => {
                let more = if rest.is_empty() {
                    String::new()
                } else {
                    format!(", and {} more", rest.len())
                };
                format!("has a damaged chunk: {} at {} ms{more}", first["chunk"], first["at_ms"])
            }
        };
        bad.push(format!("recording {id}: the copy of {gateway} {what}"));
    }
    let missing = verdict["missing"].as_array().map(Vec::as_slice).unwrap_or_default();
    for copy in known["copies"].as_array().into_iter().flatten() {
        let is_found = found.iter().any(|found| found["gateway"] == *copy);
        let gateway = copy.as_str().unwrap_or_default();
        if missing.contains(copy) {
            bad.push(format!("recording {id}: {gateway} does not answer"));
        } else if !is_found {
            bad.push(format!("recording {id}: {gateway} has no copy any more"));
        } else if known["sealed"] == true
            && let Some(found) = found.iter().find(|found| found["gateway"] == *copy)
            && found["good"] == true
            && known["cut"] != true
            && found["hash"] != known["hash"]
        {
            bad.push(format!("recording {id}: the copy of {gateway} is of another recording"));
        }
    }
    bad
}

fn check_id(id: &str, what: &str) -> Result<()> {
    let digits = id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits {
        bail!("{id:?} is no {what}: an id is {ID_DIGITS} hex digits, as the API has it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Value {
        json!({"id": "00000000000000a1", "sealed": true, "cut": false, "hash": "aa",
               "copies": ["gateway-a", "gateway-b"]})
    }

    fn copy(gateway: &str, good: bool) -> Value {
        json!({"gateway": gateway, "good": good, "damaged": [], "hash": "aa"})
    }

    #[test]
    fn nothing_is_said_when_every_copy_is_good() {
        let verdict =
            json!({"copies": [copy("gateway-a", true), copy("gateway-b", true)], "missing": []});
        assert!(sentences(&known(), &verdict).is_empty());
    }

    #[test]
    fn damaged_chunk_is_named_with_its_gateway_and_place() {
        let mut damaged = copy("gateway-b", false);
        damaged["damaged"] = json!([{"chunk": 2, "at_ms": 1000}, {"chunk": 3, "at_ms": 2000}]);
        let verdict = json!({"copies": [copy("gateway-a", true), damaged], "missing": []});
        let said = "recording 00000000000000a1: the copy of gateway-b has a damaged chunk: \
                    2 at 1000 ms, and 1 more";
        assert_eq!(sentences(&known(), &verdict), [said]);
    }

    #[test]
    fn copy_that_is_gone_is_told_from_a_gateway_that_is_silent() {
        let gone = json!({"copies": [copy("gateway-a", true)], "missing": []});
        assert!(sentences(&known(), &gone)[0].ends_with("gateway-b has no copy any more"));
        let silent = json!({"copies": [copy("gateway-a", true)], "missing": ["gateway-b"]});
        assert!(sentences(&known(), &silent)[0].ends_with("gateway-b does not answer"));
    }
}
