//! Reads that see all that was acknowledged before they were asked for.
//!
//! A node that was cut off may still take itself for the leader. So a majority confirms that it leads, in a
//! round of heartbeats that begins after the read came, and what was committed by then is applied here
//! before the read looks ("read index", Ongaro's dissertation §6.4). This rests on no clock: a lease would
//! be wrong for a process that stood still, and an obituary ends leases early. One round serves all reads
//! that wait when it begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::LinearizerOption;
use openraft::errors::{LinearizableReadError, RaftError};
use tandem_storage::raft::TypeConfig;
use tokio::sync::{mpsc, oneshot};

use crate::Raft;
use crate::rest::Rest;
use crate::shard::Error;

/// Reads that wait in one group; beyond it one is refused.
pub const READS_MAX: usize = 4_096;
/// Without a majority a round is given up after this: as long as a follower's disk may stand still, for
/// it acknowledges no heartbeat before what came earlier.
pub const ROUND_MS_MAX: u64 = 1_000;

pub(crate) type Read = oneshot::Sender<Result<(), Error>>;

/// Until nobody can ask any more.
pub(crate) async fn confirm_in_rounds(
    raft: Raft,
    rest: Arc<Rest>,
    mut queue: mpsc::Receiver<Read>,
) {
    let mut reads = Vec::new();
    while queue.recv_many(&mut reads, READS_MAX).await > 0 {
        // A heartbeat that is lost must be followed by another.
        rest.wake(&raft, Instant::now());
        let confirmed = round(&raft).await;
        metrics::counter!("tandem_raft_read_rounds_total").increment(1);
        metrics::counter!("tandem_raft_reads_total").increment(reads.len() as u64);
        for read in reads.drain(..) {
            // Whoever asked may have gone.
            let _ = read.send(confirmed.clone());
        }
    }
}

async fn round(raft: &Raft) -> Result<(), Error> {
    let within = Duration::from_millis(ROUND_MS_MAX);
    let from_now_on = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(within);
    let confirmed = async {
        let read = raft.get_read_linearizer(from_now_on).await.map_err(|error| refused(&error))?;
        match read.try_await_ready(raft, Some(within)).await {
            Ok(Ok(_applied)) => Ok(()),
            Ok(Err(_behind)) => Err(Error::Unavailable),
            Err(error) => Err(Error::Stopped(error.to_string())),
        }
    };
    // The group may be too busy to begin.
    tokio::time::timeout(2 * within, confirmed).await.unwrap_or(Err(Error::Unavailable))
}

fn refused(error: &RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> Error {
    match error.api_error() {
        Some(LinearizableReadError::ForwardToLeader(_)) => Error::NotLeader,
        Some(LinearizableReadError::QuorumNotEnough(_)) => Error::Unavailable,
        None => Error::Stopped(error.to_string()),
    }
}
