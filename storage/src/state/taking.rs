//! Another node's rows in the place of a shard's own: what has come, part by part, and what it takes to have
//! all of it or none, whenever this node dies.

use std::fs;
use std::sync::atomic::Ordering;

use prost::Message as _;
use rocksdb::{IteratorMode, WriteBatch};

use super::out::out;
use super::{
    Error, LEFT, RAFT, Row, State, TAKING_IN, Wait, applied_from, applied_of, key_of, taking_in,
};
use crate::parts::{Cut, Digest, Left, digest_of};
use crate::raft::{ShardId, SnapshotMeta};
use crate::snapshot::{Incoming, Received};
use crate::{proto, wire};

impl State {
    /// Where a snapshot of another node is put, part by part.
    ///
    /// # Errors
    /// What the disk says.
    pub fn receive(&self, shard: ShardId) -> Result<Incoming, Error> {
        let dir = self.received.as_ref().ok_or(Error::InMemory)?;
        let number = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{}-{number:06}.snapshot", shard.0));
        let left = dir.join(format!("{}{LEFT}", shard.0));
        Incoming::create(path.clone(), left).map_err(|error| Error::Folder { path, error })
    }

    /// What came of a shard's last snapshot, where that broke off.
    ///
    /// # Errors
    /// What the disk says.
    pub fn left(&self, shard: ShardId) -> Result<Option<Left>, Error> {
        let Some(dir) = &self.received else { return Ok(None) };
        Left::open(&dir.join(format!("{}{LEFT}", shard.0))).map_err(Error::Left)
    }

    /// The names of the parts that are here, for who is about to send them, until `take` has enough.
    ///
    /// # Errors
    /// What RocksDB or the disk says.
    pub fn digests(
        &self,
        shard: ShardId,
        take: &mut dyn FnMut(Digest) -> bool,
    ) -> Result<(), Error> {
        if let Some(left) = self.left(shard)?
            && !left.digests().all(|digest| take(*digest))
        {
            return Ok(());
        }
        let view = self.view();
        for part in Cut::new(view.rows(shard, &[], &[])?) {
            if !take(digest_of(&part?)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A snapshot's rows, which can be read to their end, in the place of the shard's own, flushed.
    /// The file is gone after it; a node that dies meanwhile does it again when it starts.
    ///
    /// # Errors
    /// What RocksDB or the file says.
    pub fn replace(
        &self,
        shard: ShardId,
        mut received: Received,
        of: &SnapshotMeta,
    ) -> Result<(), Error> {
        self.begin_to_take_in(shard, &received, of)?;
        received.needed = true;
        self.take_in(shard, received, of)
    }

    pub(crate) fn begin_to_take_in(
        &self,
        shard: ShardId,
        received: &Received,
        of: &SnapshotMeta,
    ) -> Result<(), Error> {
        let marker = proto::TakingIn {
            file: received.name().unwrap_or_default().to_owned(),
            applied: Some(applied_of(of.last_log_id.as_ref(), &of.last_membership)),
        };
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(RAFT)?, taking_in(shard), marker.encode_to_vec());
        self.write_unlogged(batch, Wait::Yes)
    }

    /// As far as a death in the middle leaves it.
    #[cfg(test)]
    pub(crate) fn take_half(&self, shard: ShardId, received: &Received) {
        self.forget(shard).unwrap();
        let first = received.parts().unwrap().next().unwrap().unwrap();
        self.put(shard, &first).unwrap();
    }

    fn take_in(
        &self,
        shard: ShardId,
        mut received: Received,
        of: &SnapshotMeta,
    ) -> Result<(), Error> {
        let half = |error| Error::HalfTaken(shard, error);
        self.forget(shard)?;
        for part in received.parts().map_err(half)? {
            self.put(shard, &part.map_err(half)?)?;
        }
        self.settle(shard, of)?;
        received.needed = false;
        Ok(())
    }

    /// Rows of another state of this process in the place of the shard's own.
    pub(crate) fn copy(
        &self,
        shard: ShardId,
        from: &Self,
        their: ShardId,
        of: &SnapshotMeta,
    ) -> Result<(), Error> {
        let view = from.view();
        self.forget(shard)?;
        for row in view.rows(their, &[], &[])? {
            self.put(shard, &[row?])?;
        }
        self.settle(shard, of)
    }

    /// Without a row, but as far as `of`.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn settle(&self, shard: ShardId, of: &SnapshotMeta) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(RAFT)?, taking_in(shard));
        batch.delete_cf(self.family(RAFT)?, out(shard));
        self.commit(batch, shard, of.last_log_id.as_ref(), &of.last_membership, Wait::Yes)?;
        self.flush()
    }

    fn put(&self, shard: ShardId, rows: &[Row]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for row in rows {
            batch.put_cf(self.family(&row.family)?, key_of(shard, &row.key), &row.value);
        }
        self.write_unlogged(batch, Wait::Yes)
    }

    /// All rows of a shard, but not what it has applied.
    fn forget(&self, shard: ShardId) -> Result<(), Error> {
        for name in self.families {
            let mut batch = WriteBatch::default();
            self.delete_under(&mut batch, name, &key_of(shard, &[]))?;
            self.write_unlogged(batch, Wait::Yes)?;
        }
        Ok(())
    }

    /// What was being taken in when the node died, from its file; other files there are of no use.
    pub(super) fn take_in_again(&self) -> Result<(), Error> {
        let Some(dir) = &self.received else { return Ok(()) };
        let folder = |error| Error::Folder { path: dir.clone(), error };
        fs::create_dir_all(dir).map_err(folder)?;
        let mut found = Vec::new();
        for row in self.db.iterator_cf(self.family(RAFT)?, IteratorMode::Start) {
            let (key, value) = row?;
            let shard = key.strip_prefix(TAKING_IN).and_then(|key| <[u8; 2]>::try_from(key).ok());
            if let Some(shard) = shard {
                found.push((ShardId(u16::from_be_bytes(shard)), value));
            }
        }
        for (shard, value) in found {
            let row = |error: wire::Error| Error::Row(shard, error);
            let marker = proto::TakingIn::decode(&*value).map_err(|e| row(e.into()))?;
            let applied = marker.applied.ok_or(wire::Error::Missing("applied")).map_err(row)?;
            let (last_log_id, last_membership) = applied_from(applied).map_err(row)?;
            let received = Received::again(dir.join(&marker.file));
            tracing::warn!(%shard, file = marker.file, "TD0209 a snapshot is taken in again");
            self.take_in(shard, received, &SnapshotMeta { last_log_id, last_membership })?;
        }
        for file in fs::read_dir(dir).map_err(folder)? {
            let path = file.map_err(folder)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // One that broke off with the process is of use to the next.
            let of = name.split_once('-').filter(|(of, _)| of.parse::<u16>().is_ok());
            let kept = of
                .is_some_and(|(of, _)| fs::rename(&path, dir.join(format!("{of}{LEFT}"))).is_ok());
            if !kept && !name.ends_with(LEFT) {
                crate::snapshot::remove(&path);
            }
        }
        Ok(())
    }
}
