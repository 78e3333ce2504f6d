//! `tandem node drain` and `undrain`.

use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::Method;
use serde_json::Value;

use super::client::{Client, runtime};
use super::status::{plain, rows};
use super::{DrainArgs, UndrainArgs};
use crate::exit::TimedOut;

/// Between two looks at what is left.
const LOOK_MS: u64 = 100;

fn path(name: &str) -> String {
    format!("/v1/cluster/drains/{name}")
}

/// Asks for it, and waits until nothing is left there.
pub fn drain(asked: &DrainArgs) -> Result<()> {
    let client = Client::of(&asked.which)?;
    let deadline = Instant::now() + Duration::from_secs(asked.timeout);
    runtime()?.block_on(async {
        client.order(Method::PUT, &path(&asked.name), None).await?;
        let mut told = String::new();
        loop {
            // A gateway may have nobody to ask for a moment: it is no failure of the drain.
            let left = client.get("/v1/cluster").await.ok().map(|now| left(&now, &asked.name));
            let nobody = || "nobody can tell what is left at the moment".to_owned();
            let how = left.clone().unwrap_or_else(|| Some(nobody()));
            let Some(how) = how else {
                println!("{}: nothing is left there", asked.name);
                return Ok(());
            };
            if how != told {
                println!("{}: {how}", asked.name);
                told = how;
            }
            if Instant::now() >= deadline {
                let s = asked.timeout;
                let why =
                    format!("not done within {s} s, and goes on without this command: {told}");
                return Err(TimedOut(why).into());
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    })
}

pub fn undrain(asked: &UndrainArgs) -> Result<()> {
    let client = Client::of(&asked.which)?;
    runtime()?.block_on(client.order(Method::DELETE, &path(&asked.name), None))
}

/// What a process or box still has, in words.
fn left(status: &Value, name: &str) -> Option<String> {
    let is_it = |row: &&Value| row["name"] == name || row["box"] == name;
    let leads = rows(&status["nodes"]).iter().filter(is_it).filter(|row| {
        let leads = rows(&row["leads"]);
        !leads.is_empty()
    });
    let leads = leads.map(|row| format!("{} leads {}", plain(&row["name"]), plain(&row["leads"])));
    let serves = rows(&status["gateways"]).iter().filter(is_it);
    let serves = serves.filter(|row| !rows(&row["vips"]).is_empty()).map(|row| {
        let (name, vips) = (plain(&row["name"]), plain(&row["vips"]));
        format!("{name} serves {vips} with {} calls", plain(&row["calls"]))
    });
    let all: Vec<String> = leads.chain(serves).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn box_is_empty_when_its_node_leads_nothing_and_its_gateway_serves_nobody() {
        let of = |leads: &[&str], vips: &[&str]| {
            json!({
                "nodes": [{"name": "node-a", "box": "a", "leads": leads},
                          {"name": "node-b", "box": "b", "leads": ["s1"]}],
                "gateways": [{"name": "gateway-a", "box": "a", "vips": vips, "calls": 3}],
            })
        };
        assert_eq!(left(&of(&[], &[]), "a"), None);
        let both = left(&of(&["meta", "s0"], &["127.0.0.10:5060"]), "a").unwrap();
        let words = "node-a leads meta, s0, gateway-a serves 127.0.0.10:5060 with 3 calls";
        assert_eq!(both, words);
        assert_eq!(left(&of(&["s0"], &["127.0.0.10:5060"]), "node-a").unwrap(), "node-a leads s0");
        assert!(left(&of(&[], &["127.0.0.10:5060"]), "gateway-a").is_some());
        assert!(left(&of(&[], &[]), "node-b").is_some());
    }
}
