//! Logs are kept short: a node purges what pins old segments, a witness what every node has
//! flushed. Both purge at their budget whatever others lack: they need a snapshot then.
//!
//! openraft purges a busy group by itself, behind a snapshot each so many entries. A quiet one
//! never gets there, and its few entries would keep the file in which they stand, and all behind
//! it. A witness makes no snapshot that anybody could use, so it must not forget what a node may
//! still lack: nodes tell it what they have on their disks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver as _;
use tandem_storage::log::{Log, Pin};
use tandem_storage::raft::{NodeId, ShardId};
use tandem_storage::state::State;

use crate::alarm::Alarm;
use crate::budget::{Budgets, Level};
use crate::members::Directory;
use crate::network::Hub;
use crate::pb::frame::Body;
use crate::service::Groups;
use crate::{Raft, pb};

/// How much of the log is kept, and how often that is looked after.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of a group from one flush to the next.
    pub snapshot_every: u64,
    /// Entries that a lagging voter may lack before it gets a snapshot.
    pub log_kept: u64,
    /// Segments of a node's log; beyond it groups are purged for their files' sake.
    pub segments_max: u64,
    /// Entries of one group that a witness keeps for a node that is away.
    pub witness_entries_max: u64,
    /// Of the log's files. A witness keeps nothing for anybody that is beyond it.
    pub log_bytes_max: u64,
    /// Of the state's files.
    pub state_bytes_max: u64,
    pub look_every_ms: u64,
}

pub const LOG_MIB_MAX_DEFAULT: u64 = 2_048;
/// Less would not hold the segments that a log keeps in any case, spares and the one that is filled.
pub const LOG_MIB_MAX_LEAST: u64 = 512;
pub const STATE_MIB_MAX_DEFAULT: u64 = 65_536;
/// While a log is longer than it should be it is looked after so many times as often.
const HASTE: u64 = 10;

impl Default for Limits {
    fn default() -> Self {
        Self {
            snapshot_every: 50_000,
            log_kept: 20_000,
            segments_max: 4,
            witness_entries_max: 200_000,
            log_bytes_max: LOG_MIB_MAX_DEFAULT << 20,
            state_bytes_max: STATE_MIB_MAX_DEFAULT << 20,
            look_every_ms: 5_000,
        }
    }
}

/// What both kinds of voter look after.
pub struct Upkeep {
    pub rafts: BTreeMap<ShardId, Raft>,
    pub limits: Limits,
    pub log: Log,
    pub budgets: Arc<Budgets>,
}

impl Upkeep {
    async fn pause(&self) {
        let is_long = self.log.stats().segments_live > self.limits.segments_max;
        let every_ms = self.limits.look_every_ms / if is_long { HASTE } else { 1 };
        tokio::time::sleep(Duration::from_millis(every_ms)).await;
        self.budgets.look();
    }

    /// Until the runtime ends.
    pub async fn of_node(self, state: State, hub: Arc<Hub>, directory: Arc<Directory>) {
        let (mut told, mut alarms) = (BTreeMap::new(), Alarms::new());
        loop {
            self.pause().await;
            if let Err(error) = state.show_memory() {
                tracing::debug!(%error, "what the state holds in memory");
            }
            if self.log.stats().segments_live > self.limits.segments_max {
                for pin in self.log.pins() {
                    let Some(raft) = self.rafts.get(&pin.shard) else { continue };
                    if lacks_some(raft, pin.index) {
                        behind(alarms.entry(pin.shard).or_default(), pin);
                    }
                    flush_and_purge(raft, pin.index).await;
                }
            }
            for shard in self.rafts.keys() {
                let Some(index) = state.flushed_index(*shard) else { continue };
                for witness in directory.live().witnesses() {
                    if told.get(&(*shard, witness)) == Some(&index) {
                        continue;
                    }
                    let flushed = Body::Flushed(pb::Flushed { index });
                    let asked = hub.urgent(witness).and_then(|to| to.ask(shard.0, flushed));
                    // Without an answer it is told again.
                    let within = Duration::from_millis(self.limits.look_every_ms);
                    let Some(asked) = asked else { continue };
                    if let Ok(Ok(Body::Noted(_))) = tokio::time::timeout(within, asked).await {
                        told.insert((*shard, witness), index);
                    }
                }
            }
        }
    }

    /// Until the runtime ends.
    pub async fn of_witness(self, groups: Arc<Groups>) {
        let mut alarms = Alarms::new();
        loop {
            self.pause().await;
            // Learners, too: they lack more than anybody.
            let live = groups.directory.live();
            let nodes = live.members.iter().filter(|member| !member.is_witness());
            let nodes: Vec<NodeId> = nodes.map(|member| member.id).collect();
            for (shard, raft) in &self.rafts {
                let now = raft.metrics().borrow_watched().clone();
                let applied = now.last_applied.map_or(0, |applied| applied.index);
                let flushed = groups.flushed_by_all(*shard, &nodes);
                let most = applied.saturating_sub(self.limits.witness_entries_max);
                if flushed.is_none_or(|flushed| flushed < most) && most > 0 {
                    tracing::warn!(
                        %shard, ?flushed, upto = most,
                        "TD0404 a node is so far behind that it will need a snapshot of the other"
                    );
                }
                let upto = flushed.unwrap_or(0).max(most).min(applied);
                let purged = now.purged.map_or(0, |purged| purged.index);
                if upto > purged {
                    flush_and_purge(raft, upto).await;
                }
            }
            if self.budgets.used().borrow().log.level == Level::Enough {
                continue;
            }
            for pin in self.log.pins() {
                let Some(raft) = self.rafts.get(&pin.shard) else { continue };
                if groups.flushed_by_all(pin.shard, &nodes).is_none_or(|at| at < pin.index) {
                    behind(alarms.entry(pin.shard).or_default(), pin);
                }
                let applied = raft.metrics().borrow_watched().last_applied;
                let applied = applied.map_or(0, |applied| applied.index);
                flush_and_purge(raft, pin.index.min(applied)).await;
            }
        }
    }
}

/// Of each group.
type Alarms = BTreeMap<ShardId, Alarm>;

/// Whoever leads knows a voter that does not have its log up to there.
fn lacks_some(raft: &Raft, upto: u64) -> bool {
    let now = raft.metrics().borrow_watched().clone();
    let mut matched = now.replication.iter().flatten();
    matched.any(|(_, at)| at.is_none_or(|at| at.index < upto))
}

fn behind(alarm: &mut Alarm, pin: Pin) {
    if alarm.is_due(Instant::now()) {
        tracing::warn!(
            shard = %pin.shard, upto = pin.index,
            "TD0439 the log is as long as it may be: who lacks what goes now will need a snapshot"
        );
    }
}

/// What is purged is behind the snapshot before this one: the new one takes a while.
async fn flush_and_purge(raft: &Raft, upto: u64) {
    let snapshot = raft.metrics().borrow_watched().snapshot.map_or(0, |last| last.index);
    let done = async {
        if snapshot < upto {
            raft.trigger().snapshot().await?;
        }
        if snapshot > 0 {
            raft.trigger().purge_log(upto).await?;
        }
        Ok::<(), openraft::errors::Fatal<_>>(())
    };
    if let Err(error) = done.await {
        tracing::error!(%error, "TD0401 a group has stopped");
    }
}
