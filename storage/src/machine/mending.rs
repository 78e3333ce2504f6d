//! A replica that is out, from there until it is what its group is again.

use std::io;

use futures::stream;
use openraft::RaftLogReader;

use super::{Machine, StateMachine};
use crate::raft::{LogId, ShardId, SnapshotMeta, TypeConfig};
use crate::snapshot::Received;
use crate::state::Change;

/// Why a replica is out still.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the rows that came end at {came:?}; {shard} is out since entry {since}")]
    TooOld { shard: ShardId, came: Option<u64>, since: u64 },
    #[error("the log has no entry {0}, which the rows that came lack")]
    LogGone(u64),
    #[error("with the rows that came it differs again, at entry {0}")]
    Again(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<M: Machine> StateMachine<M> {
    /// Nothing is applied from here on; what these entries wrote is kept until there is better.
    pub(super) async fn take_out(
        &mut self,
        changes: Vec<Change>,
        last: LogId,
    ) -> Result<(), io::Error> {
        let (state, shard, membership) = (self.state.clone(), self.shard, self.membership.clone());
        let write = move || state.take_out(shard, &changes, &last, &membership);
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
        Ok(())
    }

    pub(super) fn let_in(&mut self) {
        self.out = false;
        self.state.let_in(self.shard);
    }

    /// Puts rows of another node in the place of those that are not to be used, then applies what was
    /// passed over and is behind them, from the log. Nothing is done where a snapshot came first.
    ///
    /// # Errors
    /// It is out as before; the rows of another moment or node may do.
    pub async fn mend(
        &mut self,
        received: Received,
        of: &SnapshotMeta,
        log: &mut impl RaftLogReader<TypeConfig>,
    ) -> Result<(), Error> {
        if !self.out {
            return Ok(());
        }
        let came = of.last_log_id.map(|last| last.index);
        let since = self.state.out_since(self.shard).unwrap_or_default();
        if came.is_none_or(|came| came < since) {
            return Err(Error::TooOld { shard: self.shard, came, since });
        }
        self.put_rows(received, of).await?;
        (self.applied, self.membership) = (of.last_log_id, of.last_membership.clone());
        self.out = false;
        let caught_up = self.catch_up(log).await;
        let again = self.out;
        self.out |= caught_up.is_err();
        caught_up?;
        if again {
            return Err(Error::Again(self.applied.map_or(0, |last| last.index)));
        }
        self.let_in();
        self.state.offer_snapshot(self.shard);
        Ok(())
    }

    /// Up to what consensus takes for applied.
    async fn catch_up(&mut self, log: &mut impl RaftLogReader<TypeConfig>) -> Result<(), Error> {
        let end = self.handed.map_or(0, |last| last.index + 1);
        while !self.out {
            let next = self.applied.map_or(0, |last| last.index + 1);
            if next >= end {
                break;
            }
            let entries = log.limited_get_log_entries(next, end).await?;
            if entries.first().is_none_or(|first| first.log_id.index != next) {
                return Err(Error::LogGone(next));
            }
            self.take_in(stream::iter(entries.into_iter().map(|entry| Ok((entry, None))))).await?;
        }
        Ok(())
    }
}
