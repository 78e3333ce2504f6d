//! Who belongs to the cluster, as `GET /v1/cluster/members` and `tandem cluster members --json` give it.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_cluster::changes::Standing;
use tandem_cluster::{Change, Cluster, Live, Member};
use tandem_gateway::link::pb;
use tokio::sync::watch;
use tonic::Status;

use super::replica::Place;

/// Nothing where this node does not lead the meta shard: it may not have heard of the last wish.
pub fn show(cluster: &Cluster) -> Option<Value> {
    let (settled, standings) = cluster.standings()?;
    let members: Vec<Value> = standings.iter().map(member).collect();
    Some(json!({"settled": settled, "members": members}))
}

fn member(standing: &Standing) -> Value {
    let Standing { member, votes, alive, behind, kept } = standing;
    let place = Place::of(member);
    let behind: Map<String, Value> =
        behind.iter().map(|(shard, behind)| (shard.to_string(), json!(behind))).collect();
    json!({
        "id": member.id,
        "name": member.name,
        "box": place.box_name,
        "address": member.address.to_string(),
        "link": place.link.map(|link| link.to_string()),
        "role": match (votes, member.is_witness()) {
            (false, _) => "learner",
            (true, true) => "witness",
            (true, false) => "node",
        },
        "witness": member.is_witness(),
        "healthy": alive,
        "behind": behind,
        "removable": {"ok": kept.is_none(), "why": kept.clone().unwrap_or_default()},
    })
}

/// Where gateways log in, as the groups' members change.
pub fn nodes(mut lives: watch::Receiver<Arc<Live>>) -> watch::Receiver<pb::Nodes> {
    let of = |live: &Live| {
        let at = |member: &Member| {
            let address = Place::of(member).link?.to_string();
            Some(pb::NodeAt { name: member.name.clone(), address })
        };
        pb::Nodes { nodes: live.members.iter().filter_map(at).collect() }
    };
    let (told, nodes) = watch::channel(of(&lives.borrow_and_update()));
    tokio::spawn(async move {
        while lives.changed().await.is_ok() {
            let now = of(&lives.borrow_and_update());
            told.send_if_modified(|nodes| {
                let changed = *nodes != now;
                *nodes = now;
                changed
            });
        }
    });
    nodes
}

/// What a gateway was asked for.
///
/// # Errors
/// Where it says nothing.
pub fn change_of(asked: &pb::ChangeMembers) -> Result<Change, Status> {
    use pb::change_members::Change as Asked;
    let change = asked.change.clone();
    Ok(match change.ok_or_else(|| Status::invalid_argument("a change is missing"))? {
        Asked::Add(add) => {
            Change::Add { name: add.name, address: add.address, witness: add.witness }
        }
        Asked::Remove(name) => Change::Remove { name },
        Asked::Replace(name) => Change::Replace { name },
    })
}
