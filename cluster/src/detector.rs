//! Who lives and leads, by what voters say of themselves: one detector for all groups, so that a
//! quiet group costs nothing.
//!
//! Pure: time is an input. [`pulse`](crate::pulse) feeds it and acts on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tandem_storage::raft::{NodeId, ShardId};

/// What a voter says of one group that it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Led {
    pub term: u64,
    /// Proposals a second.
    pub load: u32,
}

/// What a voter says of itself, again and again.
pub type Beat = BTreeMap<ShardId, Led>;

#[derive(Debug)]
struct Heard {
    at: Instant,
    /// Since when it has been heard without a break.
    since: Instant,
    beat: Beat,
}

#[derive(Debug)]
struct Peer {
    heard: Option<Heard>,
    /// While we are new it has had no time to say anything.
    early_until: Instant,
}

#[derive(Debug)]
pub struct Detector {
    /// A peer that says nothing for so long is gone.
    silence: Duration,
    peers: BTreeMap<NodeId, Peer>,
    /// A majority is one of each.
    quorums: Vec<Quorum>,
}

#[derive(Debug)]
struct Quorum {
    others: BTreeSet<NodeId>,
    with_us: bool,
}

impl Detector {
    pub fn new(
        peers: impl IntoIterator<Item = NodeId>,
        silence: Duration,
        started: Instant,
    ) -> Self {
        let peer = || Peer { heard: None, early_until: started + silence };
        let peers: BTreeMap<NodeId, Peer> = peers.into_iter().map(|id| (id, peer())).collect();
        let all = Quorum { others: peers.keys().copied().collect(), with_us: true };
        Self { silence, peers, quorums: vec![all] }
    }

    /// Who there is to listen to, and whose majorities count, from now on.
    pub fn follow(
        &mut self,
        me: NodeId,
        quorums: &[BTreeSet<NodeId>],
        peers: impl IntoIterator<Item = NodeId>,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.peers);
        // One that is new to us leads nothing yet, so nobody waits for what it says.
        let known = |id| (id, before.remove(&id).unwrap_or(Peer { heard: None, early_until: now }));
        self.peers = peers.into_iter().map(known).collect();
        let quorum = |voters: &BTreeSet<NodeId>| Quorum {
            others: voters.iter().copied().filter(|id| *id != me).collect(),
            with_us: voters.contains(&me),
        };
        self.quorums = quorums.iter().map(quorum).collect();
    }

    /// True where the peer was gone until now.
    pub fn hear(&mut self, peer: NodeId, beat: Beat, now: Instant) -> bool {
        let back = !self.lives(peer, now);
        let Some(known) = self.peers.get_mut(&peer) else { return false };
        let since = known.heard.as_ref().filter(|_| !back).map_or(now, |heard| heard.since);
        known.heard = Some(Heard { at: now, since, beat });
        back
    }

    /// Its death is proven. What it says from now on is another life's.
    pub fn bury(&mut self, peer: NodeId, now: Instant) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.heard = None;
            known.early_until = known.early_until.min(now);
        }
    }

    /// We have not looked for so long: peers may have spoken meanwhile.
    pub fn excuse(&mut self, late: Duration) {
        for peer in self.peers.values_mut() {
            peer.early_until += late;
            if let Some(heard) = &mut peer.heard {
                heard.at += late;
            }
        }
    }

    pub fn lives(&self, peer: NodeId, now: Instant) -> bool {
        let heard = self.peers.get(&peer).and_then(|peer| peer.heard.as_ref());
        heard.is_some_and(|heard| now < heard.at + self.silence)
    }

    /// How long it has been heard without a break; nothing where it is gone.
    pub fn lives_for(&self, peer: NodeId, now: Instant) -> Option<Duration> {
        let heard = self.peers.get(&peer)?.heard.as_ref().filter(|_| self.lives(peer, now))?;
        Some(now.saturating_duration_since(heard.since))
    }

    /// With ourselves, where we vote.
    pub fn majority_lives(&self, now: Instant) -> bool {
        self.quorums.iter().all(|Quorum { others, with_us }| {
            let us = usize::from(*with_us);
            let alive = us + others.iter().filter(|peer| self.lives(**peer, now)).count();
            alive > (us + others.len()) / 2
        })
    }

    /// A living peer says that it leads the group, in this term or a later one.
    pub fn leader(&self, shard: ShardId, term: u64, now: Instant) -> Option<NodeId> {
        self.alive(now).find_map(|(peer, beat)| {
            beat.get(&shard).is_some_and(|led| led.term >= term).then_some(peer)
        })
    }

    /// We are new, and some peer that may lead has had no time to say so.
    pub fn is_early(&self, now: Instant) -> bool {
        self.peers.values().any(|peer| peer.heard.is_none() && now < peer.early_until)
    }

    /// What living peers say.
    pub fn alive(&self, now: Instant) -> impl Iterator<Item = (NodeId, &Beat)> {
        self.peers.iter().filter_map(move |(id, peer)| {
            let heard = peer.heard.as_ref().filter(|heard| now < heard.at + self.silence)?;
            Some((*id, &heard.beat))
        })
    }
}

/// When this node stands for election in one group.
#[derive(Debug, Default)]
pub struct Candidacy {
    at: Option<Instant>,
    attempts: u32,
}

impl Candidacy {
    /// True where it is time. `pause` is drawn anew each time, so that two don't stand together for
    /// ever.
    pub fn step(&mut self, led: bool, now: Instant, pause: Duration) -> bool {
        let due = !led && self.at.is_some_and(|at| now >= at);
        self.attempts = if led { 0 } else { self.attempts + u32::from(due) };
        self.at = match self.at {
            _ if led => None,
            Some(at) if !due => Some(at),
            Some(_) | None => Some(now + pause),
        };
        due
    }

    /// Since somebody led last.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_millis(250);
    const S: ShardId = ShardId(3);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn leads(term: u64) -> Beat {
        Beat::from([(S, Led { term, load: 0 })])
    }

    #[test]
    fn peer_is_gone_after_its_silence_and_leads_only_in_its_term() {
        let begun = Instant::now();
        let mut detector = Detector::new([2, 3], SILENCE, begun);
        assert!(detector.is_early(begun));
        assert!(detector.hear(2, leads(5), begun), "new");
        assert!(!detector.hear(2, leads(5), begun + ms(50)));
        assert_eq!(detector.leader(S, 5, begun + ms(299)), Some(2));
        assert_eq!(detector.leader(S, 6, begun + ms(60)), None, "of an earlier term");
        assert_eq!(detector.leader(ShardId(4), 1, begun + ms(60)), None);
        assert_eq!(detector.lives_for(2, begun + ms(60)), Some(ms(60)));
        assert_eq!(detector.leader(S, 5, begun + ms(300)), None);
        assert!(!detector.is_early(begun + ms(250)));
        assert!(detector.hear(2, leads(5), begun + ms(400)), "back");
        assert_eq!(detector.lives_for(2, begun + ms(400)), Some(ms(0)));
    }

    #[test]
    fn majority_is_of_all_voters() {
        let begun = Instant::now();
        for (others, needed) in [(1_u64, 1_u64), (2, 1), (3, 2), (4, 2)] {
            let mut detector = Detector::new(2..2 + others, SILENCE, begun);
            for peer in 0..needed {
                assert!(!detector.majority_lives(begun), "{peer} of {others} others");
                detector.hear(2 + peer, Beat::new(), begun);
            }
            assert!(detector.majority_lives(begun), "{needed} of {others} others");
        }
    }

    #[test]
    fn majority_is_of_both_sides_while_voters_change() {
        let begun = Instant::now();
        let mut detector = Detector::new([2, 3], SILENCE, begun);
        detector.hear(3, Beat::new(), begun);
        let sides = [BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5])];
        detector.follow(1, &sides, [2, 3, 4, 5], begun);
        assert!(!detector.is_early(begun + ms(250)));
        assert!(!detector.majority_lives(begun), "nobody of the new side is heard");
        detector.hear(4, Beat::new(), begun);
        assert!(detector.majority_lives(begun));
        detector.follow(1, &sides[1..], [4, 5], begun);
        assert!(detector.majority_lives(begun));
        assert!(!detector.hear(2, leads(9), begun), "it is nobody any more");
        assert_eq!(detector.leader(S, 1, begun), None);
        // A learner hears the voters, and is none.
        detector.follow(6, &sides[1..], [1, 4, 5], begun);
        assert!(!detector.majority_lives(begun), "one of three");
        detector.hear(5, Beat::new(), begun);
        assert!(detector.majority_lives(begun));
    }

    #[test]
    fn own_standstill_is_no_silence_of_others() {
        let begun = Instant::now();
        let mut detector = Detector::new([2, 3], SILENCE, begun);
        detector.hear(2, leads(1), begun);
        detector.excuse(ms(800));
        assert_eq!(detector.leader(S, 1, begun + ms(900)), Some(2));
        assert_eq!(detector.leader(S, 1, begun + ms(1_050)), None);
    }

    #[test]
    fn proven_death_waits_for_no_silence() {
        let begun = Instant::now();
        let mut detector = Detector::new([2], SILENCE, begun);
        detector.hear(2, leads(1), begun);
        detector.bury(2, begun);
        assert_eq!(detector.leader(S, 1, begun), None);
        assert!(!detector.is_early(begun));
        assert!(detector.hear(2, Beat::new(), begun + ms(100)), "its next life");
    }

    #[test]
    fn candidate_waits_its_pause_and_again_after_each_attempt() {
        let begun = Instant::now();
        let mut candidacy = Candidacy::default();
        assert!(!candidacy.step(false, begun, ms(30)));
        assert!(!candidacy.step(false, begun + ms(29), ms(30)));
        assert!(candidacy.step(false, begun + ms(30), ms(70)));
        assert!(!candidacy.step(false, begun + ms(99), ms(10)));
        assert!(candidacy.step(false, begun + ms(100), ms(10)));
        assert_eq!(candidacy.attempts(), 2);
        assert!(!candidacy.step(true, begun + ms(105), ms(10)));
        assert!(!candidacy.step(false, begun + ms(200), ms(10)), "a new one");
    }
}
