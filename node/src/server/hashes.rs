//! Do the replicas of a group have the same state? Who leads it says now and then what its own has come to.

use std::time::Duration;

use tandem_http::backend::Check;
use tandem_runtime::tenants::chain::Chain;
use tandem_runtime::tenants::entry;
use tandem_storage::raft::ShardId;
use tokio::time::MissedTickBehavior;

/// Between two comparisons of a group in which something has changed.
const EVERY_MS: u64 = 5_000;

/// Of each group on this node.
#[derive(Default)]
pub struct Hashes(Vec<(ShardId, Chain)>);

impl Hashes {
    pub fn watch(&mut self, id: ShardId, group: tandem_cluster::Shard, chain: Chain) {
        tokio::spawn(tell(group, chain.clone()));
        self.0.push((id, chain));
    }

    /// Whether this node is what the others are.
    pub fn check(&self) -> Check {
        let differs = |(id, chain): &(ShardId, Chain)| Some((*id, chain.differs_at()?));
        let found = self.0.iter().find_map(differs);
        let why = match found {
            None => "is that of whoever leads".to_owned(),
            Some((id, index)) => {
                format!("of {id} is another than its leader's since entry {index}")
            }
        };
        Check { name: "state".to_owned(), ok: found.is_none(), why }
    }
}

async fn tell(group: tandem_cluster::Shard, chain: Chain) {
    let mut tick = tokio::time::interval(Duration::from_millis(EVERY_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let leadership = group.leadership();
    // A comparison is an entry, too: it alone is no change.
    let mut told = 0;
    loop {
        tick.tick().await;
        if leadership.has_changed().is_err() {
            return;
        }
        let Some((index, hash)) = chain.last().filter(|(index, _)| *index > told) else {
            continue;
        };
        if leadership.borrow().leading {
            // Where it fails, another leads, who does the same.
            let done = group.propose(entry::check(index, hash)).await;
            told = done.map_or(told, |done| done.index);
        }
    }
}
