//! Do the replicas of a group have the same state? Who leads it says now and then what its own has come to.
//! A replica that has another is out from that entry on: its node is not ready until the replica has been made again
//! (see `cluster/src/mending.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use tandem_http::backend::Check;
use tandem_runtime::tenants::chain::Chain;
use tandem_runtime::tenants::entry;
use tandem_storage::raft::ShardId;
use tandem_storage::state::State;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Between two comparisons of a group in which something has changed: a node that is back is compared before it has
/// been there for long enough to be given a lead.
const EVERY_MS: u64 = 2_000;

/// Of each group on this node.
pub struct Hashes {
    /// The replicas that are out, and since which entry.
    outs: watch::Receiver<BTreeMap<ShardId, u64>>,
}

impl Hashes {
    pub fn of(state: &State) -> Self {
        Self { outs: state.outs() }
    }

    pub fn watch(&self, group: tandem_cluster::Shard, chain: Chain) {
        tokio::spawn(tell(group, chain));
    }

    /// Whether this node is what the others are.
    pub fn check(&self) -> Check {
        let found = self.outs.borrow().first_key_value().map(|(id, since)| (*id, *since));
        let why = match found {
            None => "is that of whoever leads".to_owned(),
            Some((id, since)) => {
                format!("of {id} is not its leader's since entry {since}, and is being made again")
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
