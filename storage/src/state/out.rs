//! Shards that are out: their rows here are not what their group has, so nobody may have them until those of
//! another node are in their place. A row of Raft's own says so, in the same write as what was applied last,
//! so that a restart finds them as they were left.

use std::collections::BTreeMap;

use rocksdb::IteratorMode;
use tokio::sync::watch;

use super::{Change, Error, OUT, RAFT, State, View, Wait};
use crate::raft::{LogId, ShardId, StoredMembership};
use crate::wire;

pub(super) fn out(shard: ShardId) -> Vec<u8> {
    [OUT, &shard.0.to_be_bytes()].concat()
}

impl State {
    /// The shards that are out, and the entry at which each was found to differ.
    pub fn outs(&self) -> watch::Receiver<BTreeMap<ShardId, u64>> {
        self.outs.subscribe()
    }

    pub fn out_since(&self, shard: ShardId) -> Option<u64> {
        self.outs.borrow().get(&shard).copied()
    }

    /// As [`State::write`], and from here on the shard is out: known to a restart when this returns.
    ///
    /// # Errors
    /// What RocksDB says.
    pub(crate) fn take_out(
        &self,
        shard: ShardId,
        changes: &[Change],
        last: &LogId,
        membership: &StoredMembership,
    ) -> Result<(), Error> {
        let mut batch = self.batch(shard, changes)?;
        batch.put_cf(self.family(RAFT)?, out(shard), last.index.to_be_bytes());
        self.commit(batch, shard, Some(last), membership, Wait::Yes)?;
        self.flush()?;
        self.set_out(shard, last.index);
        Ok(())
    }

    fn set_out(&self, shard: ShardId, since: u64) {
        self.outs.send_modify(|outs| {
            outs.insert(shard, since);
        });
    }

    /// Other rows are in the place of its own, and all that it needs is applied to them.
    pub fn let_in(&self, shard: ShardId) {
        self.outs.send_if_modified(|outs| outs.remove(&shard).is_some());
    }

    /// Those that the last life left so.
    pub(super) fn find_outs(&self) -> Result<(), Error> {
        for row in self.db.iterator_cf(self.family(RAFT)?, IteratorMode::Start) {
            let (key, value) = row?;
            let shard = key.strip_prefix(OUT).and_then(|key| <[u8; 2]>::try_from(key).ok());
            let Some(shard) = shard.map(|shard| ShardId(u16::from_be_bytes(shard))) else {
                continue;
            };
            let index = <[u8; 8]>::try_from(&*value).map(u64::from_be_bytes);
            let index = index.map_err(|_| Error::Row(shard, wire::Error::Missing("out since")))?;
            self.set_out(shard, index);
        }
        Ok(())
    }
}

impl View<'_> {
    /// Whether the rows of this moment may be used.
    ///
    /// # Errors
    /// Where they may not, or what RocksDB says.
    pub(crate) fn check(&self, shard: ShardId) -> Result<(), Error> {
        let found = self.snapshot.get_cf(self.state.family(RAFT)?, out(shard))?;
        if found.is_some() { Err(Error::Out(shard)) } else { Ok(()) }
    }
}
