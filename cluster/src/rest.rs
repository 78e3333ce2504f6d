//! A group to which nothing is proposed rests: its leader sends no heartbeats, and the detector
//! alone watches over it. Who proposes wakes it, and pays for that with one round to a majority.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::type_config::TypeConfigExt as _;
use parking_lot::Mutex;
use tandem_storage::raft::{NodeId, TypeConfig};

use crate::Raft;

/// Long enough for followers to learn from heartbeats what was committed last.
const AWAKE: Duration = Duration::from_secs(2);
/// Without a majority by then the proposal finds out by itself.
const CONFIRM: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct State {
    awake: bool,
    used: Instant,
    /// The leader is giving the lead away: it proposes nothing more, and does not claim to lead.
    moving: bool,
}

/// Of one group on this voter.
#[derive(Debug)]
pub struct Rest {
    state: Mutex<State>,
    proposed: AtomicU64,
}

impl Default for Rest {
    fn default() -> Self {
        let state = State { awake: false, used: Instant::now(), moving: false };
        Self { state: Mutex::new(state), proposed: AtomicU64::new(0) }
    }
}

impl Rest {
    /// True where it has slept until now.
    pub fn wake(&self, raft: &Raft, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.used = now;
        let slept = !std::mem::replace(&mut state.awake, true);
        if slept {
            raft.runtime_config().tick(true);
        }
        slept
    }

    /// So many proposals are about to be made: returns once the leader's lease is sure.
    pub async fn wake_to_propose(&self, me: NodeId, raft: &Raft, count: u64) {
        self.proposed.fetch_add(count, Ordering::Relaxed);
        let leads = raft.metrics().borrow_watched().current_leader == Some(me);
        if leads && self.wake(raft, Instant::now()) {
            confirm(raft).await;
        }
    }

    /// Lets the group sleep where it is not used, or not led from here.
    pub fn settle(&self, raft: &Raft, leads: bool, now: Instant) {
        let mut state = self.state.lock();
        let used = leads && now < state.used + AWAKE;
        if state.awake && !used {
            state.awake = false;
            raft.runtime_config().tick(false);
        }
    }

    pub fn set_moving(&self, moving: bool) {
        self.state.lock().moving = moving;
    }

    pub fn is_moving(&self) -> bool {
        self.state.lock().moving
    }

    /// Proposals since the process began.
    pub fn proposed(&self) -> u64 {
        self.proposed.load(Ordering::Relaxed)
    }
}

/// A majority still obeys this leader. openraft refuses proposals of one that has not heard so
/// within its lease.
async fn confirm(raft: &Raft) {
    let begun = TypeConfig::now();
    let mut metrics = raft.metrics();
    if raft.trigger().heartbeat().await.is_err() {
        return;
    }
    let confirmed = async {
        loop {
            let acked = metrics.borrow_watched().last_quorum_acked;
            if acked.is_some_and(|acked| *acked >= begun) || metrics.changed().await.is_err() {
                return;
            }
        }
    };
    // Whoever proposes is told by the group itself where it can't commit.
    let _ = tokio::time::timeout(CONFIRM, confirmed).await;
}
