//! What voters know of each other's disks, and when a leader steps away from its own.
//!
//! Consensus goes on where a leader's disk stands still, as long as the others' do not: they are a
//! majority without it. But whoever leads so has one failure less to give, and while its disk
//! stalls it could not even save a vote. So after [`STALL_MS_MAX`] another node leads, if one can.
//! What stalls for a shorter time changes nothing: heartbeats need no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::TransferLeaderRequest;
use parking_lot::Mutex;
use tandem_storage::log::{Health, Log};
use tandem_storage::raft::{NodeId, ShardId};

use crate::members::{Directory, Member, Role};
use crate::mending::Outs;
use crate::network::Hub;
use crate::pb::frame::Body;
use crate::shard::Shard;
use crate::{pb, wire};

/// A write that has taken this long makes a leader step away, and its process not ready.
pub const STALL_MS_MAX: u64 = 2_000;
/// One that has taken this long is reason enough not to give that voter the lead.
const HEALTHY_STALL_MS_MAX: u64 = 500;
const LOOK_MS: u64 = 100;
/// A voter tells of its disk when that changes, and this often.
const TELL_MS: u64 = 500;
/// What a voter said of its disk is forgotten after this.
const TOLD_MS_MAX: u64 = 2_000;
/// A node that lacks more entries is no successor: nothing is proposed until it has them.
const LAG_MAX: u64 = 1_000;
/// Attempts, one a look, to give one group away in one term; then timers have to do.
const HAND_OVERS_MAX: u32 = 20;

/// How the disk of a voter's log does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// How long the write in progress has taken so far.
    pub stalled_ms: u64,
    /// Why no write succeeds any more.
    pub failed: Option<String>,
    /// Of a hundred syncs of the last minute one took longer; none where nothing was synced.
    pub sync_p99_us: Option<u64>,
}

impl Disk {
    pub fn of(log: &Log) -> Self {
        let failed = match &*log.health().borrow() {
            Health::Well => None,
            Health::Failed(why) => Some(why.clone()),
        };
        Self { stalled_ms: log.stalled_ms(), failed, sync_p99_us: log.sync_p99_us() }
    }

    /// What is wrong with it, in a sentence with its code.
    ///
    /// # Errors
    /// Where it has failed, or its write takes [`STALL_MS_MAX`].
    pub fn check(&self) -> Result<(), String> {
        match &self.failed {
            Some(why) => Err(format!("TD0421 {why}")),
            None if self.stalled_ms >= STALL_MS_MAX => {
                Err(format!("TD0420 a write has taken {} ms so far", self.stalled_ms))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.failed.is_none() && self.stalled_ms < HEALTHY_STALL_MS_MAX
    }
}

impl From<pb::Disk> for Disk {
    fn from(told: pb::Disk) -> Self {
        let failed = (!told.failed.is_empty()).then_some(told.failed);
        let sync_p99_us = (told.sync_p99_us > 0).then_some(told.sync_p99_us);
        Self { stalled_ms: told.stalled_ms, failed, sync_p99_us }
    }
}

impl From<&Disk> for pb::Disk {
    fn from(disk: &Disk) -> Self {
        Self {
            stalled_ms: disk.stalled_ms,
            failed: disk.failed.clone().unwrap_or_default(),
            sync_p99_us: disk.sync_p99_us.unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// What peers said last of theirs.
#[derive(Default)]
pub struct Disks {
    told: Mutex<BTreeMap<NodeId, (Disk, Instant)>>,
    versions: Mutex<BTreeMap<NodeId, String>>,
    outs: Mutex<BTreeMap<NodeId, BTreeSet<ShardId>>>,
    last: Mutex<BTreeMap<NodeId, BTreeMap<ShardId, u64>>>,
}

impl Disks {
    pub fn told(&self, by: NodeId, disk: Disk) {
        self.told.lock().insert(by, (disk, Instant::now()));
    }

    /// Which build it runs; earlier ones do not say.
    pub fn told_version(&self, by: NodeId, version: String) {
        self.versions.lock().insert(by, version);
    }

    /// Nothing where it was not heard of lately, or does not say.
    pub fn version_of(&self, voter: NodeId) -> Option<String> {
        self.of(voter)?;
        self.versions.lock().get(&voter).filter(|version| !version.is_empty()).cloned()
    }

    pub fn told_last(&self, by: NodeId, last: BTreeMap<ShardId, u64>) {
        self.last.lock().insert(by, last);
    }

    pub fn told_outs(&self, by: NodeId, outs: BTreeSet<ShardId>) {
        self.outs.lock().insert(by, outs);
    }

    /// The shards of which another voter said last that its rows are not to be used.
    pub fn outs_of(&self, id: NodeId) -> BTreeSet<ShardId> {
        self.outs.lock().get(&id).cloned().unwrap_or_default()
    }

    /// Where the logs of another voter or learner ended when it said so last.
    pub fn last_of(&self, id: NodeId) -> Option<BTreeMap<ShardId, u64>> {
        self.last.lock().get(&id).cloned()
    }

    /// Nothing where it was not heard of lately.
    pub fn of(&self, voter: NodeId) -> Option<Disk> {
        let told = self.told.lock();
        let (disk, at) = told.get(&voter)?;
        (at.elapsed() < Duration::from_millis(TOLD_MS_MAX)).then(|| disk.clone())
    }
}

/// A voter other than this one.
#[derive(Clone, Debug)]
struct Peer {
    id: NodeId,
    role: Role,
    disk: Option<Disk>,
}

/// How far the voters of a group are that this node leads, but those that are out.
struct Led {
    last: u64,
    matched: BTreeMap<NodeId, u64>,
}

/// Who is to lead a group in the place of a leader with this disk. Only if the others are a majority by
/// themselves: otherwise nobody could be elected before this disk answers again.
fn successor(mine: &Disk, peers: &[Peer], led: &Led) -> Option<NodeId> {
    if mine.check().is_ok() {
        return None;
    }
    let healthy = || peers.iter().filter(|peer| peer.disk.as_ref().is_some_and(Disk::is_healthy));
    let voters = peers.len() + 1;
    if healthy().count() < voters / 2 + 1 {
        return None;
    }
    let matched = |id: NodeId| led.matched.get(&id).copied();
    let near = healthy().filter(|peer| {
        peer.role == Role::Node
            && matched(peer.id).is_some_and(|at| at.saturating_add(LAG_MAX) >= led.last)
    });
    near.max_by_key(|peer| (matched(peer.id), std::cmp::Reverse(peer.id))).map(|peer| peer.id)
}

/// Looks after this voter's disk until the runtime ends.
pub struct Watch {
    pub log: Log,
    pub directory: Arc<Directory>,
    pub disks: Arc<Disks>,
    pub hub: Arc<Hub>,
    pub shards: BTreeMap<ShardId, Shard>,
    pub outs: Arc<Outs>,
    pub version: String,
}

/// What was told of this voter, and when.
struct Told {
    healthy: bool,
    outs: Vec<u32>,
    at: Instant,
}

#[derive(Default)]
struct Seen {
    told: Option<Told>,
    /// The alarm that is raised.
    alarm: Option<Instant>,
    /// Of each group: the term, and attempts to give it away in that.
    given: BTreeMap<ShardId, (u64, u32)>,
}

impl Watch {
    pub async fn run(self) {
        let mut health = self.log.health();
        let mut seen = Seen::default();
        loop {
            let mine = Disk::of(&self.log);
            metrics::gauge!("tandem_log_stalled_seconds").set(mine.stalled_ms as f64 / 1e3);
            metrics::gauge!("tandem_log_failed").set(f64::from(u8::from(mine.failed.is_some())));
            self.tell(&mine, &mut seen);
            alarm(&mine, &mut seen);
            if mine.check().is_err() {
                self.step_away(&mine, &mut seen).await;
            }
            tokio::select! {
                failed = health.changed() => if failed.is_err() {
                    return;
                },
                () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => {}
            }
        }
    }

    fn tell(&self, mine: &Disk, seen: &mut Seen) {
        let again = Duration::from_millis(TELL_MS);
        let outs = self.outs.mine().into_iter().map(|shard| u32::from(shard.0)).collect();
        let now = Told { healthy: mine.is_healthy(), outs, at: Instant::now() };
        let says_so = |told: &Told| {
            (told.healthy, &told.outs) == (now.healthy, &now.outs) && told.at.elapsed() < again
        };
        if seen.told.as_ref().is_some_and(says_so) {
            return;
        }
        let out = now.outs.clone();
        seen.told = Some(now);
        let last = self.shards.values().map(|it| (u32::from(it.id.0), it.progress().last));
        let version = self.version.clone();
        let told = pb::Disk { last: last.collect(), out, version, ..pb::Disk::from(mine) };
        for channel in self.hub.all_urgent() {
            channel.tell(ShardId::META.0, Body::Disk(told.clone()));
        }
    }

    async fn step_away(&self, mine: &Disk, seen: &mut Seen) {
        let (me, live) = (self.directory.me.id, self.directory.live());
        let others = live.members.iter().filter(|it| it.id != me && live.is_voter(it.id));
        let peer = |member: &Member| Peer {
            id: member.id,
            role: member.role,
            disk: self.disks.of(member.id),
        };
        let peers: Vec<Peer> = others.map(peer).collect();
        for (id, shard) in &self.shards {
            let now = shard.raft.metrics().borrow_watched().clone();
            if now.current_leader != Some(me) {
                continue;
            }
            let matched = now.replication.iter().flatten();
            let matched = matched.filter(|(to, _)| !self.outs.is_out(**to, *id));
            let matched = matched.filter_map(|(id, at)| Some((*id, at.as_ref()?.index)));
            let led = Led { last: now.last_log_index.unwrap_or(0), matched: matched.collect() };
            let Some(to) = successor(mine, &peers, &led) else { continue };
            let (term, attempts) = seen.given.entry(*id).or_default();
            if *term != now.current_term {
                (*term, *attempts) = (now.current_term, 0);
                tracing::warn!(shard = %id, to, disk = ?mine, "TD0422 the lead is given away");
                metrics::counter!("tandem_log_leads_given_away_total").increment(1);
            }
            *attempts += 1;
            if *attempts > HAND_OVERS_MAX {
                continue;
            }
            shard.give_away(now.current_term);
            if now.running_state.is_ok() {
                // A group that waits for the disk already takes no orders, and needs none.
                let trigger = shard.raft.trigger();
                let asked = trigger.transfer_leader(to);
                let within = Duration::from_millis(LOOK_MS);
                if let Ok(Err(error)) = tokio::time::timeout(within, asked).await {
                    tracing::debug!(shard = %id, %error, "a group that has stopped is given away");
                }
            } else {
                // It leads nobody any more, and its followers need not wait until they find out.
                let request = TransferLeaderRequest::new(now.vote, to, None);
                for channel in self.hub.all_urgent() {
                    channel.tell(id.0, Body::Transfer(wire::transfer(&request)));
                }
            }
        }
    }
}

/// Raised once, and taken back once.
fn alarm(mine: &Disk, seen: &mut Seen) {
    match (mine.check(), seen.alarm) {
        (Err(why), None) => {
            tracing::error!("{why}");
            metrics::counter!("tandem_log_stalls_total").increment(1);
            seen.alarm = Some(Instant::now());
        }
        (Ok(()), Some(since)) => {
            tracing::info!(after = ?since.elapsed(), "the disk of the log writes again");
            seen.alarm = None;
        }
        (Err(_), Some(_)) | (Ok(()), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stalled(stalled_ms: u64) -> Disk {
        Disk { stalled_ms, ..Disk::default() }
    }

    fn failed() -> Disk {
        let why = "the log at log/ can't be written: I/O error".to_owned();
        Disk { failed: Some(why), sync_p99_us: Some(812), ..Disk::default() }
    }

    /// Node 2 and witness 3.
    fn peers(node: Option<Disk>, witness: Option<Disk>) -> Vec<Peer> {
        vec![
            Peer { id: 2, role: Role::Node, disk: node },
            Peer { id: 3, role: Role::Witness, disk: witness },
        ]
    }

    fn led(last: u64, matched: &[(NodeId, u64)]) -> Led {
        Led { last, matched: matched.iter().copied().collect() }
    }

    #[test]
    fn leader_steps_away_from_a_disk_that_stalls_for_two_seconds_or_fails() {
        let well = peers(Some(stalled(0)), Some(stalled(499)));
        let led = led(70, &[(2, 69), (3, 70)]);
        for (mine, to) in [
            (stalled(0), None),
            (stalled(STALL_MS_MAX - 1), None),
            (stalled(STALL_MS_MAX), Some(2)),
            (failed(), Some(2)),
        ] {
            assert_eq!(successor(&mine, &well, &led), to, "{mine:?}");
        }
    }

    #[test]
    fn leader_stays_where_the_others_could_elect_nobody() {
        let led = led(70, &[(2, 70), (3, 70)]);
        let (well, slow) = (Some(stalled(0)), Some(stalled(HEALTHY_STALL_MS_MAX)));
        for (node, witness) in [
            (slow.clone(), well.clone()),
            (Some(failed()), well.clone()),
            (None, well.clone()),
            // The node alone is no majority.
            (well.clone(), slow),
            (well.clone(), Some(failed())),
            (well, None),
        ] {
            let peers = peers(node, witness);
            assert_eq!(successor(&stalled(9_000), &peers, &led), None, "{peers:?}");
        }
        // Two voters: neither goes without the other.
        let alone = [Peer { id: 2, role: Role::Node, disk: Some(stalled(0)) }];
        assert_eq!(successor(&failed(), &alone, &led), None);
    }

    #[test]
    fn successor_is_the_node_that_is_nearest_and_no_witness() {
        let mine = stalled(STALL_MS_MAX);
        let mut five = peers(Some(stalled(0)), Some(stalled(0)));
        five.push(Peer { id: 4, role: Role::Node, disk: Some(stalled(0)) });
        five.push(Peer { id: 5, role: Role::Node, disk: None });
        let at = |two, four| led(2_000, &[(2, two), (3, 2_000), (4, four), (5, 2_000)]);
        assert_eq!(successor(&mine, &five, &at(1_990, 1_995)), Some(4));
        assert_eq!(successor(&mine, &five, &at(1_995, 1_995)), Some(2));
        assert_eq!(successor(&mine, &five, &at(999, 998)), None, "both lack too much");
        assert_eq!(successor(&mine, &five, &led(0, &[])), None, "nothing is known of them");
    }

    #[test]
    fn what_a_voter_says_of_its_disk_is_read_as_it_was_said() {
        for disk in [stalled(0), stalled(1_234), failed()] {
            assert_eq!(Disk::from(pb::Disk::from(&disk)), disk);
        }
        assert_eq!(stalled(1_999).check(), Ok(()));
        assert!(stalled(2_000).check().unwrap_err().ends_with(" a write has taken 2000 ms so far"));
        assert!(
            failed().check().unwrap_err().ends_with(" the log at log/ can't be written: I/O error")
        );
    }
}
