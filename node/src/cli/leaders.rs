//! `tandem cluster move-leader`.

use anyhow::Result;
use serde_json::json;

use super::MoveLeader;
use super::client::Client;

pub fn run(asked: &MoveLeader) -> Result<()> {
    let client = Client::of(&asked.which)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let path = format!("/v1/cluster/shards/{}/leader", asked.shard);
    runtime.block_on(client.post(&path, &json!({"node": asked.node})))
}
