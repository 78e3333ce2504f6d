//! What the API says of calls, queues and agents at one moment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use tandem_tests::{Api, Cluster};

use crate::cast::Cast;
use crate::verdict::Verdict;

/// A generous upper bound: the verdict on speed is the benchmark's.
const NEW_LEADER_S_MAX: u64 = 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub id: String,
    pub state: String,
    pub to: String,
    pub agent: Option<String>,
    pub position: Option<u64>,
}

pub struct Snapshot {
    /// By the caller's Call-ID.
    pub calls: BTreeMap<String, Call>,
    /// Call ids with the time they joined, in the order of the queue.
    pub queues: BTreeMap<String, Vec<(String, String)>>,
    pub agents: BTreeMap<String, (String, Option<String>)>,
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

impl Snapshot {
    pub async fn take(api: &Api) -> Result<Self> {
        let mut calls = BTreeMap::new();
        for call in api.items("/v1/calls").await? {
            let caller = call["legs"]
                .as_array()
                .and_then(|legs| legs.iter().find(|leg| leg["role"] == "caller"))
                .and_then(|leg| text(&leg["sip_call_id"]))
                .unwrap_or_default();
            calls.insert(
                caller,
                Call {
                    id: text(&call["id"]).unwrap_or_default(),
                    state: text(&call["state"]).unwrap_or_default(),
                    to: text(&call["to"]).unwrap_or_default(),
                    agent: text(&call["agent"]),
                    position: call["position"].as_u64(),
                },
            );
        }
        let mut queues = BTreeMap::new();
        for queue in api.items("/v1/queues").await? {
            let waiting = queue["waiting"].as_array().cloned().unwrap_or_default();
            let entries = waiting
                .iter()
                .map(|entry| {
                    (
                        text(&entry["call"]).unwrap_or_default(),
                        text(&entry["since"]).unwrap_or_default(),
                    )
                })
                .collect();
            queues.insert(text(&queue["name"]).unwrap_or_default(), entries);
        }
        let mut agents = BTreeMap::new();
        for agent in api.items("/v1/agents").await? {
            agents.insert(
                text(&agent["id"]).unwrap_or_default(),
                (text(&agent["state"]).unwrap_or_default(), text(&agent["call"])),
            );
        }
        Ok(Self { calls, queues, agents })
    }

    pub fn print(&self, when: &str) {
        println!("          {when}:");
        for call in self.calls.values() {
            let with = call.agent.as_deref().map(|agent| format!(" agent {agent}"));
            let place = call.position.map(|place| format!(" place {place}"));
            println!(
                "            call {} to {} {}{}{}",
                call.id,
                call.to,
                call.state,
                with.unwrap_or_default(),
                place.unwrap_or_default()
            );
        }
    }

    /// Every call but the one that hung up is as it was; so are queues and agents.
    pub fn judge_kept(&self, after: &Self, cast: &Cast, verdict: &mut Verdict, died: &str) {
        let gone = cast.hung_up_in_failover();
        for (caller, call) in &self.calls {
            if Some(caller.as_str()) == gone {
                let over = !after.calls.contains_key(caller);
                verdict.judge(
                    &format!("{} to {} hung up", call.id, call.to),
                    over,
                    "left the list",
                );
                continue;
            }
            let now = after.calls.get(caller);
            let detail =
                now.map_or("lost".to_owned(), |now| format!("{} → {}", call.state, now.state));
            verdict.judge(
                &format!("{died} killed: call {} to {}", call.id, call.to),
                now == Some(call),
                &detail,
            );
        }
        for (name, waiting) in &self.queues {
            let same = after.queues.get(name) == Some(waiting);
            let detail = format!("{} in queue, order and times", waiting.len());
            verdict.judge(&format!("{died} killed: queue {name}"), same, &detail);
        }
        let differ: Vec<_> = self
            .agents
            .iter()
            .filter(|(id, state)| after.agents.get(*id) != Some(*state))
            .map(|(id, state)| format!("{id}: {state:?} → {:?}", after.agents.get(id)))
            .collect();
        let detail = if differ.is_empty() {
            format!("{} as they were", self.agents.len())
        } else {
            differ.join("; ")
        };
        verdict.judge(&format!("{died} killed: agents"), differ.is_empty(), &detail);
    }
}

/// Waits until another gateway than `dead` serves the first address; gives the ms since `killed_at`.
pub async fn another_serves(cluster: &Cluster, dead: &str, killed_at: Instant) -> Result<u128> {
    loop {
        let sip = cluster.processes()?.sip;
        if sip.first().is_some_and(|vip| !vip.serving.is_empty() && vip.serving != dead) {
            return Ok(killed_at.elapsed().as_millis());
        }
        if killed_at.elapsed() > Duration::from_secs(NEW_LEADER_S_MAX) {
            bail!("no gateway serves {dead}'s address {NEW_LEADER_S_MAX} s after the kill");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a node other than `dead` leads and answers; gives the ms since `killed_at`.
pub async fn new_leader_commits(api: &Api, dead: &str, killed_at: Instant) -> Result<u128> {
    loop {
        if let Ok(status) = api.get("/v1/cluster").await {
            let leads = status["nodes"].as_array().is_some_and(|nodes| {
                nodes.iter().any(|node| {
                    node["name"] != dead
                        && node["leads"]
                            .as_array()
                            .is_some_and(|shards| shards.iter().any(|shard| shard == "s0"))
                })
            });
            if leads {
                return Ok(killed_at.elapsed().as_millis());
            }
        }
        if killed_at.elapsed() > Duration::from_secs(NEW_LEADER_S_MAX) {
            bail!("no new leader within {NEW_LEADER_S_MAX} s of the kill");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
