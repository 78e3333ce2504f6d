//! What the gateway knows of one shard: who leads it, what waits for it, what was done for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_core::command::GatewayEvent;
use tandem_core::effect::EffectId;
use tandem_sip::Millis;

use crate::ledger::{Fence, Ledger};
use crate::limits;
use crate::link::Leading;

#[derive(Debug, Default)]
pub struct Shard {
    pub ledger: Ledger,
    pub fence: Fence,
    /// Nodes that say that they lead, with their terms.
    leading: BTreeMap<usize, u64>,
    /// Who is obeyed now.
    leader: Option<(usize, u64)>,
    done: Vec<EffectId>,
    done_since: Option<Millis>,
    retry_at: Option<Millis>,
    /// When it is looked which events nobody has answered.
    look_at: Option<Millis>,
    /// The login event is on its way or done.
    pub logged_in: bool,
    leaderless_since: Option<Millis>,
    /// New calls that waited for a leader were turned away.
    turned_away: bool,
}

impl Shard {
    pub fn leader(&self) -> Option<usize> {
        self.leader.map(|(node, _)| node)
    }

    pub fn on_leading(&mut self, node: usize, leading: &Leading) {
        if leading.leading {
            self.leading.insert(node, leading.term);
            self.fence.raise(leading.term);
        } else {
            self.leading.remove(&node);
        }
        self.elect();
    }

    /// The session with a node ended, or began anew.
    pub fn on_session_over(&mut self, node: usize) {
        self.leading.remove(&node);
        self.elect();
    }

    /// The highest term counts; what waits is sent again to whoever is new.
    pub fn elect(&mut self) {
        let best = self
            .leading
            .iter()
            .map(|(node, term)| (*node, *term))
            .filter(|(_, term)| *term >= self.fence.term())
            .max_by_key(|(_, term)| *term);
        if best != self.leader {
            self.leader = best;
            self.ledger.send_all_again();
        }
    }

    /// Takes note of whether it is led; where it is not, it may have been so since then.
    pub fn note_leader(&mut self, since: Millis) {
        if self.leader.is_some() {
            (self.leaderless_since, self.turned_away) = (None, false);
        } else {
            self.leaderless_since.get_or_insert(since);
        }
    }

    /// Nobody has led for longer than calls may wait.
    pub fn is_leaderless(&self, now: Millis) -> bool {
        self.leaderless_since.is_some_and(|since| now.since(since) >= limits::NO_QUORUM_MS_MAX)
    }

    /// True once each time that calls have waited for too long.
    pub fn turns_away(&mut self, now: Millis) -> bool {
        self.is_leaderless(now) && !std::mem::replace(&mut self.turned_away, true)
    }

    pub fn note_done(&mut self, now: Millis, id: EffectId) {
        if self.done.len() >= limits::DONE_KEPT_MAX {
            // The next leader or session sends it again, and hears of it then.
            self.done.remove(0);
        }
        self.done.push(id);
        self.done_since.get_or_insert(now);
    }

    /// A batch that is full or has waited long enough. Asked only where there is a leader to tell:
    /// a new one may have sent its effects before it says that it leads.
    pub fn take_done(&mut self, now: Millis) -> Option<Vec<EffectId>> {
        let due = self.done.len() >= limits::DONE_BATCH_MAX
            || self.done_since.is_some_and(|since| now.since(since) >= limits::DONE_WAIT_MS_MAX);
        if !due {
            return None;
        }
        let batch = self.done.len().min(limits::DONE_BATCH_MAX);
        let rest = self.done.split_off(batch);
        let batch = std::mem::replace(&mut self.done, rest);
        self.done_since = (!self.done.is_empty()).then_some(now);
        Some(batch)
    }

    /// A refused event of a live call is tried again after a while.
    pub fn retry_later(&mut self, now: Millis) {
        self.retry_at.get_or_insert(now.after(limits::EVENT_RETRY_MS));
    }

    /// The next event for the leader.
    pub fn send_next(&mut self, now: Millis) -> Option<(u64, Arc<GatewayEvent>)> {
        let next = self.ledger.send_next(now)?;
        self.look_at.get_or_insert(now.after(limits::EVENT_UNANSWERED_MS));
        Some(next)
    }

    pub fn on_time(&mut self, now: Millis) {
        if self.look_at.is_some_and(|at| now >= at) {
            let before = Millis(now.0.saturating_sub(limits::EVENT_UNANSWERED_MS));
            let waits = self.ledger.send_unanswered_again(before);
            self.look_at = waits.then(|| now.after(limits::EVENT_UNANSWERED_MS));
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            self.ledger.send_refused_again();
        }
    }

    pub fn next(&self) -> Option<Millis> {
        let told = self.done_since.filter(|_| self.leader.is_some());
        let done = told.map(|since| since.after(limits::DONE_WAIT_MS_MAX));
        let look = self.look_at.filter(|_| self.leader.is_some());
        let leaderless = self.leaderless_since.filter(|_| !self.turned_away);
        let leaderless = leaderless.map(|since| since.after(limits::NO_QUORUM_MS_MAX));
        [done, self.retry_at, look, leaderless].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(shard: &mut Shard, node: usize, term: u64, leading: bool) {
        shard.on_leading(node, &Leading { shard: 0, term, leading });
    }

    #[test]
    fn shard_obeys_the_highest_term_whoever_speaks_last() {
        let mut shard = Shard::default();
        says(&mut shard, 0, 3, true);
        assert_eq!(shard.leader(), Some(0));
        says(&mut shard, 1, 4, true);
        says(&mut shard, 0, 3, true);
        assert_eq!(shard.leader(), Some(1));
        // The newest leader's session is gone: the older term leads nothing any more.
        shard.on_session_over(1);
        assert_eq!(shard.leader(), None);
        says(&mut shard, 0, 5, true);
        assert_eq!(shard.leader(), Some(0));
        says(&mut shard, 0, 6, false);
        assert_eq!(shard.leader(), None);
    }

    #[test]
    fn shard_gathers_done_effects_until_the_batch_is_full_or_old() {
        let id = |index| EffectId { shard: 0, index, ordinal: 0 };
        let mut shard = Shard::default();
        shard.note_done(Millis(10), id(1));
        // Nobody is to be told yet.
        assert_eq!(shard.next(), None);
        says(&mut shard, 0, 1, true);
        assert_eq!(shard.take_done(Millis(11)), None);
        assert_eq!(shard.next(), Some(Millis(10 + limits::DONE_WAIT_MS_MAX)));
        assert_eq!(shard.take_done(Millis(15)).unwrap().len(), 1);
        for index in 0..=limits::DONE_BATCH_MAX as u64 {
            shard.note_done(Millis(20), id(index));
        }
        assert_eq!(shard.take_done(Millis(20)).unwrap().len(), limits::DONE_BATCH_MAX);
        assert_eq!(shard.take_done(Millis(20)), None);
        assert_eq!(shard.take_done(Millis(25)).unwrap().len(), 1);
        for index in 0..=limits::DONE_KEPT_MAX as u64 {
            shard.note_done(Millis(30), id(index));
        }
        assert_eq!(shard.take_done(Millis(30)).unwrap()[0].index, 1, "the oldest is forgotten");
    }
}
