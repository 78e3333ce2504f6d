//! `tandem cluster members`, `add`, `remove` and `replace`.

use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, runtime};
use super::status::{plain, rows, table, yes};
use super::{AddMember, Changed, Status};
use crate::exit::TimedOut;

/// Between two looks at how far a change has come.
const LOOK_MS: u64 = 200;
const PATH: &str = "/v1/cluster/members";

pub fn show(asked: &Status) -> Result<()> {
    let client = Client::of(&asked.which)?;
    let members = runtime()?.block_on(client.get(PATH))?;
    if asked.json {
        println!("{}", serde_json::to_string_pretty(&members)?);
    } else {
        println!("{}", people(&members));
    }
    Ok(())
}

pub fn add(asked: &AddMember) -> Result<()> {
    let AddMember { changed, address, witness } = asked;
    let body = json!({"name": changed.name, "address": address, "witness": witness});
    change(changed, Method::POST, PATH, Some(&body), true)
}

pub fn remove(asked: &Changed) -> Result<()> {
    change(asked, Method::DELETE, &format!("{PATH}/{}", asked.name), None, false)
}

pub fn replace(asked: &Changed) -> Result<()> {
    change(asked, Method::POST, &format!("{PATH}/{}/replace", asked.name), None, true)
}

/// Asks for it, and waits until it is done.
fn change(
    asked: &Changed,
    method: Method,
    path: &str,
    body: Option<&Value>,
    stays: bool,
) -> Result<()> {
    let client = Client::of(&asked.which)?;
    let deadline = Instant::now() + Duration::from_secs(asked.timeout);
    runtime()?.block_on(async {
        client.order(method, path, body).await?;
        let mut told = String::new();
        loop {
            // A gateway may have nobody to ask for a moment: it is no failure of the change.
            let now = client.get(PATH).await.unwrap_or_default();
            let how = progress(&now, &asked.name);
            if how != told {
                println!("{how}");
                told = how;
            }
            if is_done(&now, &asked.name, stays) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let s = asked.timeout;
                return Err(TimedOut(format!(
                    "not done within {s} s, and goes on without this command: {told}"
                ))
                .into());
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    })
}

fn is_done(members: &Value, name: &str, stays: bool) -> bool {
    let there = rows(&members["members"]).iter().any(|member| member["name"] == name);
    members["settled"] == true && there == stays
}

fn progress(members: &Value, name: &str) -> String {
    let replicas = rows(&members["members"]).iter().filter(|member| member["name"] == name);
    let replicas: Vec<String> = replicas
        .map(|member| {
            let (id, role) = (plain(&member["id"]), plain(&member["role"]));
            format!("replica {id} is a {role}, {}", behind(&member["behind"]))
        })
        .collect();
    match (replicas.is_empty(), members["settled"].as_bool()) {
        (_, None) => "nobody can tell how far it has come at the moment".to_owned(),
        (true, _) => format!("{name} is no member"),
        (false, _) => format!("{name}: {}", replicas.join("; ")),
    }
}

fn behind(shards: &Value) -> String {
    let all = shards.as_object().into_iter().flatten();
    let lacks: Vec<String> = all
        .filter(|(_, behind)| behind.as_u64() != Some(0))
        .map(|(shard, behind)| match behind.as_u64() {
            Some(entries) => format!("{shard} {entries}"),
            None => format!("{shard} ?"),
        })
        .collect();
    if lacks.is_empty() { "caught up".to_owned() } else { format!("behind: {}", lacks.join(", ")) }
}

/// For people.
fn people(members: &Value) -> String {
    let mut all = table(["id", "name", "address", "role", "healthy", "behind", "may be removed"]);
    for member in rows(&members["members"]) {
        let removable = &member["removable"];
        all.add_row([
            plain(&member["id"]),
            plain(&member["name"]),
            plain(&member["address"]),
            plain(&member["role"]),
            yes(&member["healthy"]),
            behind(&member["behind"]),
            match removable["ok"].as_bool() {
                Some(false) => format!("no: {}", plain(&removable["why"])),
                _ => yes(&removable["ok"]),
            },
        ]);
    }
    let settled = members["settled"] == true;
    let note = if settled { "" } else { "\n\na change is under way" };
    format!("{all}{note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settled: bool, role: &str) -> Value {
        json!({"settled": settled, "members": [
            {"id": 4, "name": "node-b", "address": "127.0.0.1:7102", "role": role, "healthy": true,
             "behind": {"meta": 0, "s0": 12, "s1": null},
             "removable": {"ok": false, "why": "the quorum would be lost"}}]})
    }

    #[test]
    fn change_is_done_when_all_groups_are_there_and_the_name_is_or_is_gone() {
        assert!(!is_done(&of(false, "node"), "node-b", true));
        assert!(is_done(&of(true, "node"), "node-b", true));
        assert!(!is_done(&of(true, "node"), "node-b", false));
        assert!(is_done(&of(true, "node"), "node-c", false));
        assert!(!is_done(&Value::Null, "node-b", false), "nobody has said so");
    }

    #[test]
    fn members_and_progress_say_what_is_lacking() {
        let text = people(&of(false, "learner"));
        for words in
            ["a change is under way", "no: the quorum would be lost", "behind: s0 12, s1 ?"]
        {
            assert!(text.contains(words), "{words} is not in {text}");
        }
        let text = progress(&of(false, "learner"), "node-b");
        assert_eq!(text, "node-b: replica 4 is a learner, behind: s0 12, s1 ?");
    }
}
