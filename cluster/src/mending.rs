//! A replica that is out, because its state is not what its group has: it votes and keeps its log, serves
//! nobody, leads only where nobody else could, as a witness does, and is made again from the rows of another
//! node. Whoever leads comes first: its state is the one that the others are compared with. Any other node that
//! has applied the comparison and is not out itself has the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tandem_storage::log::Log;
use tandem_storage::raft::{NodeId, ShardId};
use tandem_storage::state::State;

use crate::alarm::Alarm;
use crate::disk::Disks;
use crate::members::Directory;
use crate::pull::Asking;
use crate::pulse::Heart;
use crate::shard::Shard;

/// As long as no node gives its rows, they are asked again after this.
const AGAIN: Duration = Duration::from_millis(500);

/// Which replicas are out: this node's, and those of others by what they said last.
pub struct Outs {
    pub me: NodeId,
    pub state: State,
    pub disks: Arc<Disks>,
}

impl Outs {
    pub fn is_out(&self, id: NodeId, shard: ShardId) -> bool {
        if id == self.me { self.is_mine_out(shard) } else { self.of(id).contains(&shard) }
    }

    pub fn is_mine_out(&self, shard: ShardId) -> bool {
        self.state.out_since(shard).is_some()
    }

    pub fn mine(&self) -> BTreeSet<ShardId> {
        self.state.outs().borrow().keys().copied().collect()
    }

    pub fn of(&self, id: NodeId) -> BTreeSet<ShardId> {
        if id == self.me { self.mine() } else { self.disks.outs_of(id) }
    }
}

/// Makes this node's replicas again that are out, until the runtime ends.
pub struct Mending {
    pub asking: Asking,
    pub state: State,
    pub log: Log,
    pub heart: Arc<Heart>,
    pub directory: Arc<Directory>,
    pub outs: Arc<Outs>,
    pub shards: BTreeMap<ShardId, Shard>,
}

impl Mending {
    pub async fn run(self) {
        let mut changes = self.state.outs();
        let mut alarms: BTreeMap<ShardId, Alarm> = BTreeMap::new();
        loop {
            let outs = changes.borrow_and_update().clone();
            for id in self.shards.keys() {
                let is_out = f64::from(u8::from(outs.contains_key(id)));
                metrics::gauge!("tandem_state_out", "shard" => id.to_string()).set(is_out);
            }
            alarms.retain(|id, _| outs.contains_key(id));
            for (id, since) in &outs {
                match self.mend(*id, *since).await {
                    Ok(from) => {
                        metrics::counter!("tandem_state_mended_total").increment(1);
                        tracing::warn!(shard = %id, from, "TD0434 this node's state is well again");
                    }
                    Err(why) if alarms.entry(*id).or_default().is_due(Instant::now()) => {
                        tracing::error!(
                            shard = %id, since,
                            "TD0435 this node's state can't be made again yet: {why}"
                        );
                    }
                    Err(why) => tracing::debug!(shard = %id, why, "it can't be made again yet"),
                }
            }
            if self.state.outs().borrow().is_empty() {
                if changes.changed().await.is_err() {
                    return;
                }
            } else {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// The name of the node whose rows it has now.
    async fn mend(&self, id: ShardId, since: u64) -> Result<String, String> {
        let shard = self.shards.get(&id).ok_or("it is of no group here")?;
        let live = self.directory.live();
        let leader = self.heart.detector.lock().leader(id, 0, Instant::now());
        let others = live.nodes().filter(|it| *it != self.outs.me && !self.outs.is_out(*it, id));
        let mut why = "there is no other node whose state is well".to_owned();
        for from in in_turn(leader, others) {
            let Some(member) = live.member(from) else { continue };
            let mended = match self.asking.rows(member, id, since, &self.state).await {
                Ok((of, received)) => {
                    let mut log = self.log.shard(id);
                    let mended = shard.raft.with_state_machine(move |machine| {
                        async move { machine.mend(received, &of, &mut log).await }.boxed()
                    });
                    match mended.await {
                        Ok(Ok(())) => Ok(()),
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(error) => Err(error.to_string()),
                    }
                }
                Err(error) => Err(error),
            };
            match mended {
                Ok(()) => return Ok(member.name.clone()),
                Err(error) => why = format!("{}: {error}", member.name),
            }
        }
        Err(why)
    }
}

/// Who is asked, in this order.
fn in_turn(leader: Option<NodeId>, others: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
    let mut all: Vec<NodeId> = others.collect();
    all.sort_by_key(|id| (Some(*id) != leader, *id));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_is_asked_first_and_then_everybody_else() {
        assert_eq!(in_turn(Some(4), [2, 3, 4].into_iter()), [4, 2, 3]);
        assert_eq!(in_turn(None, [3, 2].into_iter()), [2, 3]);
        assert_eq!(in_turn(Some(1), [3, 2].into_iter()), [2, 3], "a witness, or one that is out");
    }

    #[test]
    fn replica_of_another_is_out_as_long_as_it_says_so() {
        let state = State::in_memory([].as_slice()).unwrap();
        let outs = Outs { me: 1, state, disks: Arc::default() };
        let shard = ShardId(3);
        assert!(!outs.is_out(1, shard) && !outs.is_out(2, shard));
        outs.disks.told_outs(2, BTreeSet::from([shard]));
        assert!(outs.is_out(2, shard) && !outs.is_out(2, ShardId(4)) && !outs.is_out(1, shard));
        outs.disks.told_outs(2, BTreeSet::new());
        assert!(!outs.is_out(2, shard));
    }
}
