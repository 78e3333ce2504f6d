//! The pulse of a voter: it says that it lives and what it leads, hears the same of its peers,
//! stands for election where nobody leads, lets quiet groups rest and spreads leaders over the
//! nodes. Groups have no timers of their own.
//!
//! A leader claims to lead only while it hears a majority itself, so that one that is cut off on
//! its incoming side alone is replaced, too. A voter that hears of a living leader refuses whoever
//! stands against it: the leases of openraft lapse while a group rests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tandem_storage::raft::{NodeId, ShardId};
use tokio::sync::{Notify, watch};

use crate::detector::{Beat, Candidacy, Detector, Led};
use crate::disk::Disks;
use crate::members::Directory;
use crate::mending::Outs;
use crate::network::Hub;
use crate::pb::frame::Body;
use crate::{Role, Shard, Timers, balance, pb};

/// Between two looks at whether a lead should go to another node.
const BALANCE_EVERY: Duration = Duration::from_secs(1);
/// A node must have been there for so long before it is given a lead: in that time its state is compared, also where
/// nothing is done but what tells the time.
const SETTLED: Duration = Duration::from_secs(8);
/// Leads that are given away at one look.
const MOVES_MAX: usize = 4;
/// The load of a group is told as a mean over about so many looks.
const LOAD_LOOKS: u32 = 5;
/// Who finds nobody leading waits before it stands: from an eighth of the silence that makes a peer
/// dead, so that an election that an obituary began comes first, to a quarter of it.
const PAUSE_SHARE_MIN: u64 = 8;
const PAUSE_SHARE_MAX: u64 = 4;
/// While it hears no majority, it stands this seldom: votes may come where beats do not.
const HOPELESS: Duration = Duration::from_secs(1);

/// What the answers to peers need of it.
pub struct Heart {
    pub me: NodeId,
    pub detector: Mutex<Detector>,
    /// Something has changed that peers should know at once.
    pub nudge: Notify,
    /// Since when no majority has been heard; nothing where one is.
    pub alone: watch::Sender<Option<Instant>>,
}

impl Heart {
    pub fn new(me: NodeId, peers: impl IntoIterator<Item = NodeId>, timers: Timers) -> Self {
        let silence = Duration::from_millis(timers.election_ms_min);
        let detector = Mutex::new(Detector::new(peers, silence, Instant::now()));
        Self { me, detector, nudge: Notify::new(), alone: watch::Sender::new(None) }
    }

    /// Takes note of whether a majority is heard.
    fn look_around(&self, now: Instant) {
        let alone = !self.detector.lock().majority_lives(now);
        self.alone.send_if_modified(|since| {
            let changed = since.is_some() != alone;
            if changed {
                *since = alone.then_some(now);
            }
            changed
        });
    }

    /// For how long no majority has been heard.
    pub fn alone_for(&self) -> Duration {
        self.alone.borrow().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether a living leader is known, so that `candidate` has no reason to stand.
    pub fn knows_leader(&self, shard: &Shard, candidate: NodeId) -> bool {
        let (detector, now) = (self.detector.lock(), Instant::now());
        let leading = leads(self.me, shard);
        if leading.is_some() {
            // One that has voted in a later term obeys us no more, and must be heard of now.
            shard.rest.wake(&shard.raft, now);
            return !shard.rest.is_moving() && detector.majority_lives(now);
        }
        detector.leader(shard.id, shard.known().term, now).is_some_and(|leader| leader != candidate)
    }
}

/// The term in which this voter leads.
fn leads(me: NodeId, shard: &Shard) -> Option<u64> {
    let now = shard.known();
    (now.leader == Some(me)).then_some(now.term)
}

pub fn beat_from(beat: pb::Beat) -> Beat {
    let led = beat.leads.into_iter().filter_map(|led| {
        let shard = ShardId(u16::try_from(led.shard).ok()?);
        Some((shard, Led { term: led.term, load: led.load }))
    });
    led.collect()
}

fn beat_to(beat: &Beat) -> pb::Beat {
    let leads = beat.iter().map(|(shard, led)| pb::Led {
        shard: u32::from(shard.0),
        term: led.term,
        load: led.load,
    });
    pb::Beat { leads: leads.collect() }
}

pub struct Pulse {
    pub role: Role,
    pub heart: Arc<Heart>,
    pub hub: Arc<Hub>,
    pub disks: Arc<Disks>,
    pub timers: Timers,
    pub shards: BTreeMap<ShardId, Shard>,
    pub directory: Arc<Directory>,
    pub outs: Arc<Outs>,
    /// Those that are to lead nothing where another can, by name.
    pub drained: watch::Receiver<BTreeSet<String>>,
}

impl Pulse {
    /// Until the runtime ends.
    pub async fn run(mut self) {
        let every = Duration::from_millis(self.timers.heartbeat_ms);
        let mut candidacies = Candidacies::default();
        let mut loads = Loads::default();
        let mut looked = Instant::now();
        let mut balanced = looked;
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.heart.nudge.notified() => {}
                Ok(()) = self.drained.changed() => {}
            }
            let now = Instant::now();
            let late = now.saturating_duration_since(looked).saturating_sub(2 * every);
            if !late.is_zero() {
                self.heart.detector.lock().excuse(late);
            }
            looked = now;
            self.heart.look_around(now);
            let beat = self.beat(&loads);
            for peer in self.hub.all_urgent() {
                // A peer that is away finds out when it is back.
                peer.tell(ShardId::META.0, Body::Beat(beat_to(&beat)));
            }
            for shard in self.shards.values() {
                shard.rest.settle(&shard.raft, leads(self.heart.me, shard).is_some(), now);
            }
            if self.role == Role::Node {
                self.stand(&mut candidacies, now).await;
                if now >= balanced + BALANCE_EVERY {
                    loads.look(&self.shards, now.saturating_duration_since(balanced));
                    balanced = now;
                    self.balance(&loads, now);
                } else if self.is_drained(self.heart.me) {
                    self.balance(&loads, now);
                }
            }
        }
    }

    fn beat(&self, loads: &Loads) -> Beat {
        if self.heart.alone.borrow().is_some() {
            return Beat::new();
        }
        let led = self.shards.iter().filter_map(|(id, shard)| {
            let term = leads(self.heart.me, shard).filter(|_| !shard.rest.is_moving())?;
            Some((*id, Led { term, load: loads.of(*id) }))
        });
        led.collect()
    }

    /// Stands for election in the groups that nobody leads.
    async fn stand(&self, candidacies: &mut Candidacies, now: Instant) {
        let silence = self.timers.election_ms_min;
        let hopeless = !self.heart.detector.lock().majority_lives(now);
        if std::mem::replace(&mut candidacies.hopeless, hopeless) && !hopeless {
            candidacies.of.clear();
        }
        for (id, shard) in &self.shards {
            let term = shard.known().term;
            let led = {
                let detector = self.heart.detector.lock();
                // In the first term of all the group is not founded yet.
                term == 0
                    || leads(self.heart.me, shard).is_some()
                    || detector.is_early(now)
                    || detector.leader(*id, term, now).is_some()
                    || self.yields(*id, &detector, now)
            };
            let pause = rand::random_range(silence / PAUSE_SHARE_MIN..=silence / PAUSE_SHARE_MAX);
            let pause = if hopeless { HOPELESS } else { Duration::from_millis(pause) };
            let candidacy = candidacies.of.entry(*id).or_default();
            if !candidacy.step(led, now, pause) {
                continue;
            }
            metrics::counter!("tandem_raft_candidacies_total", "shard" => id.to_string())
                .increment(1);
            if candidacy.attempts() == 1 {
                tracing::info!(shard = %id, term, "nobody leads: standing for election");
            }
            // Whoever is alone has nobody to ask first.
            let pre_vote = !self.hub.is_alone();
            if let Err(error) = shard.raft.trigger().elect(pre_vote).await {
                tracing::error!(shard = %id, %error, "TD0401 a group has stopped");
            }
        }
    }

    /// Its replica is out, and another node lives that can lead, or have the lead after this one was elected.
    fn yields(&self, shard: ShardId, detector: &Detector, now: Instant) -> bool {
        if !self.outs.is_mine_out(shard) {
            return false;
        }
        let live = self.directory.live();
        let Some(group) = live.groups.get(&shard) else { return false };
        let can_lead =
            |id: NodeId| id != self.heart.me && group.is_voter(id) && !self.outs.is_out(id, shard);
        live.nodes().any(|id| can_lead(id) && detector.lives(id, now))
    }

    fn is_drained(&self, id: NodeId) -> bool {
        let drained = self.drained.borrow();
        let live = self.directory.live();
        live.members.iter().any(|member| member.id == id && drained.contains(&member.name))
    }

    /// Gives leads to nodes that have less to do; all of them, where this one is to have none.
    fn balance(&self, loads: &Loads, now: Instant) {
        let mut theirs: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
        let nodes: Vec<NodeId> = self.directory.live().nodes().collect();
        {
            let detector = self.heart.detector.lock();
            for (peer, beat) in detector.alive(now).filter(|(peer, _)| nodes.contains(peer)) {
                let settled = detector.lives_for(peer, now).is_some_and(|lived| lived >= SETTLED);
                // One that has stepped away from its disk must not be given its leads back.
                let is_well = self.outs.of(peer).is_empty() && !self.is_drained(peer);
                if settled && is_well && self.disks.of(peer).is_some_and(|disk| disk.is_healthy()) {
                    theirs.insert(peer, beat.values().map(|led| led.load).collect());
                }
            }
        }
        let mut mine: BTreeMap<ShardId, u32> = BTreeMap::new();
        for (id, shard) in &self.shards {
            if leads(self.heart.me, shard).is_some() && !shard.rest.is_moving() {
                mine.insert(*id, loads.of(*id));
            }
        }
        let mut moves = Vec::new();
        if self.is_drained(self.heart.me) {
            moves = balance::give_all(&mine, theirs);
            moves.truncate(MOVES_MAX);
        } else {
            while moves.len() < MOVES_MAX
                && let Some((id, to)) = balance::next_move(&mine, &theirs)
                && let Some(load) = mine.remove(&id)
            {
                theirs.entry(to).or_default().push(load);
                moves.push((id, to));
            }
        }
        for (id, to) in moves {
            let Some(shard) = self.shards.get(&id).cloned() else { return };
            tokio::spawn(async move {
                if let Err(error) = shard.move_leader(to).await {
                    tracing::info!(shard = %shard.id, to, %error, "the lead was not given away");
                }
            });
        }
    }
}

/// When this node stands, in each group.
#[derive(Default)]
struct Candidacies {
    of: BTreeMap<ShardId, Candidacy>,
    /// No majority is heard that could elect anybody.
    hopeless: bool,
}

/// Proposals a second of each group.
#[derive(Default)]
struct Loads {
    known: BTreeMap<ShardId, (u64, u32)>,
}

impl Loads {
    fn look(&mut self, shards: &BTreeMap<ShardId, Shard>, over: Duration) {
        for (id, shard) in shards {
            let count = shard.rest.proposed();
            let (before, mean) = self.known.entry(*id).or_insert((count, 0));
            let rate =
                (count - *before) * 1_000 / u64::try_from(over.as_millis()).unwrap_or(1).max(1);
            let rate = u32::try_from(rate).unwrap_or(u32::MAX);
            // Rounded to the new value, so that a mean reaches it, and 0, too.
            let step = rate.abs_diff(*mean).div_ceil(LOAD_LOOKS);
            *mean = if rate > *mean { *mean + step } else { *mean - step };
            *before = count;
        }
    }

    fn of(&self, shard: ShardId) -> u32 {
        self.known.get(&shard).map_or(0, |(_, mean)| *mean)
    }
}
