//! `tandem cluster move-leader`.

use anyhow::Result;
use serde_json::json;

use super::MoveLeader;
use super::client::{Client, runtime};

pub fn run(asked: &MoveLeader) -> Result<()> {
    let client = Client::of(&asked.which)?;
    let runtime = runtime()?;
    let path = format!("/v1/cluster/shards/{}/leader", asked.shard);
    runtime.block_on(client.post(&path, &json!({"node": asked.node})))
}
