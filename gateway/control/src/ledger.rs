//! The events of one shard that are not accepted yet, and the fence against old leaders.
//! Pure: no clock, no I/O.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use tandem_core::command::{GatewayEvent, TransactionKey};
use tandem_core::effect::EffectId;
use tandem_sip::Millis;

use crate::limits;
use crate::link::Accepted;

/// What an event is about, where the gateway must be able to answer in the cluster's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    NewCall(TransactionKey),
    Register(TransactionKey),
    /// Of a call that lives, or that a leader may have in its log: never given up.
    Existing,
    /// Nothing else is sent until it counts: what came before it would count as nothing.
    Login,
}

#[derive(Clone, Debug, PartialEq)]
struct Pending {
    /// Given when it is first sent.
    sequence: Option<u64>,
    event: Arc<GatewayEvent>,
    about: About,
    /// To the leader of now.
    sent_at: Option<Millis>,
    /// Sent on an earlier session, or to an earlier leader: it may be in a log, whatever the
    /// leader of now says.
    may_be_logged: bool,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Committed, or it will never be; or it was settled before.
    Over,
    /// Answer 503 in the cluster's place. `again`: the event stays, to be sent again later.
    Refused { transaction: TransactionKey, retry_after_s: u32, again: bool },
    /// It stays, to be sent again later.
    Later,
}

/// No room: the caller answers 503, or takes the message as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Events in the order in which they happened.
#[derive(Debug, Default)]
pub struct Ledger {
    last_sequence: u64,
    /// Numbers of refused events. The next event takes one, so that the shard counts without
    /// holes.
    vacant: BTreeSet<u64>,
    last_place: u64,
    pending: BTreeMap<u64, Pending>,
    places: BTreeMap<u64, u64>,
    unsent: BTreeSet<u64>,
    /// The place of the login, until it counts.
    login: Option<u64>,
}

impl Ledger {
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// An event of that number waits to be accepted.
    pub fn holds(&self, sequence: u64) -> bool {
        self.places.contains_key(&sequence)
    }

    /// When that event was sent to the leader of now.
    pub fn sent_at(&self, sequence: u64) -> Option<Millis> {
        self.pending.get(self.places.get(&sequence)?)?.sent_at
    }

    /// What waits, in order.
    pub fn events(&self) -> impl Iterator<Item = &GatewayEvent> {
        self.pending.values().map(|pending| pending.event.as_ref())
    }

    /// # Errors
    /// [`Full`] where too many wait, by what the event is about.
    pub fn push(&mut self, event: GatewayEvent, about: About) -> Result<(), Full> {
        let max = match about {
            About::NewCall(_) => limits::PENDING_NEW_CALLS_MAX,
            About::Register(_) => limits::PENDING_REGISTERS_MAX,
            About::Existing | About::Login => limits::PENDING_EVENTS_MAX,
        };
        if self.pending.len() >= max {
            return Err(Full);
        }
        self.last_place += 1;
        self.unsent.insert(self.last_place);
        if about == About::Login {
            self.login = Some(self.last_place);
        }
        let event = Arc::new(event);
        let (sequence, sent_at) = (None, None);
        let pending = Pending { sequence, event, about, sent_at, may_be_logged: false };
        self.pending.insert(self.last_place, pending);
        Ok(())
    }

    /// The next event for the leader, with its number. The caller sends it.
    pub fn send_next(&mut self, now: Millis) -> Option<(u64, Arc<GatewayEvent>)> {
        let place = match self.login {
            Some(login) => self.unsent.take(&login)?,
            None => self.unsent.pop_first()?,
        };
        let pending = self.pending.get_mut(&place)?;
        let sequence = match pending.sequence {
            Some(sequence) => sequence,
            None => {
                let sequence = self.vacant.pop_first().unwrap_or_else(|| {
                    self.last_sequence += 1;
                    self.last_sequence
                });
                self.places.insert(sequence, place);
                sequence
            }
        };
        pending.sequence = Some(sequence);
        pending.sent_at = Some(now);
        Some((sequence, Arc::clone(&pending.event)))
    }

    /// A new leader, or a new session with the same: everything is sent again.
    pub fn send_all_again(&mut self) {
        for (place, pending) in &mut self.pending {
            pending.may_be_logged |= pending.sequence.is_some();
            pending.sent_at = None;
            self.unsent.insert(*place);
        }
    }

    /// What was sent at `before` or earlier, and nothing was said to: the leader may have given its
    /// commit up, or never have had it. It is one more of the same number, which counts once. False
    /// where nothing waits for an answer.
    pub fn send_unanswered_again(&mut self, before: Millis) -> bool {
        let mut waits = false;
        for (place, pending) in &mut self.pending {
            let Some(sent_at) = pending.sent_at else { continue };
            waits = true;
            if sent_at <= before {
                pending.may_be_logged = true;
                pending.sent_at = None;
                self.unsent.insert(*place);
            }
        }
        waits
    }

    /// `silent`: nothing was said to that request yet.
    pub fn on_accepted(
        &mut self,
        accepted: &Accepted,
        silent: impl Fn(&TransactionKey) -> bool,
    ) -> Settled {
        let Some(place) = self.places.get(&accepted.sequence).copied() else {
            return Settled::Over;
        };
        if accepted.overloaded {
            return self.on_refused(place, accepted, silent);
        }
        self.remove(place);
        Settled::Over
    }

    fn on_refused(
        &mut self,
        place: u64,
        accepted: &Accepted,
        silent: impl Fn(&TransactionKey) -> bool,
    ) -> Settled {
        let Some(pending) = self.pending.get_mut(&place) else { return Settled::Over };
        let (sequence, retry_after_s) = (accepted.sequence, accepted.retry_after_s);
        let again = pending.may_be_logged;
        let transaction = match &pending.about {
            About::NewCall(transaction) | About::Register(transaction) if silent(transaction) => {
                transaction.clone()
            }
            // What was answered has counted, or is of a call that lives.
            About::NewCall(_) | About::Register(_) | About::Existing | About::Login => {
                pending.sent_at = None;
                return Settled::Later;
            }
        };
        if again {
            // Whoever led before may have it in its log: its number is not free. A registration
            // that comes to pass does no harm; a call's answer meets a caller who was refused.
            pending.sent_at = None;
            pending.about = About::Existing;
        } else {
            self.remove(place);
            self.vacant.insert(sequence);
        }
        Settled::Refused { transaction, retry_after_s, again }
    }

    fn remove(&mut self, place: u64) {
        self.unsent.remove(&place);
        if self.login == Some(place) {
            self.login = None;
        }
        if let Some(sequence) = self.pending.remove(&place).and_then(|pending| pending.sequence) {
            self.places.remove(&sequence);
        }
    }

    /// Events that were refused and not sent since: the time to try again has come.
    pub fn send_refused_again(&mut self) {
        let refused = self.pending.iter().filter(|(_, pending)| pending.sent_at.is_none());
        self.unsent.extend(refused.map(|(place, _)| *place));
    }

    /// New calls to be answered here for want of a leader. What none has ever seen is taken out;
    /// what one has seen may yet be committed, and stays.
    pub fn withdraw_new_calls(
        &mut self,
        silent: impl Fn(&TransactionKey) -> bool,
    ) -> Vec<TransactionKey> {
        let mut withdrawn = Vec::new();
        self.pending.retain(|place, pending| match &pending.about {
            About::NewCall(transaction) if pending.sequence.is_none() => {
                self.unsent.remove(place);
                withdrawn.push(transaction.clone());
                false
            }
            About::NewCall(transaction) if silent(transaction) => {
                withdrawn.push(transaction.clone());
                pending.about = About::Existing;
                true
            }
            About::NewCall(_) | About::Register(_) | About::Existing | About::Login => true,
        });
        withdrawn
    }
}

/// Which effects are to be done: of no old leader, and each once.
#[derive(Debug, Default)]
pub struct Fence {
    term: u64,
    recent: HashSet<EffectId>,
    order: VecDeque<EffectId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Do,
    /// It was done: say so again.
    Repeated,
    /// Of a leader that leads no more.
    Fenced,
}

impl Fence {
    /// A leader of this term was heard of.
    pub fn raise(&mut self, term: u64) {
        self.term = self.term.max(term);
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    pub fn judge(&mut self, term: u64, id: EffectId) -> Verdict {
        if term < self.term {
            return Verdict::Fenced;
        }
        self.term = term;
        if !self.recent.insert(id) {
            return Verdict::Repeated;
        }
        self.order.push_back(id);
        if self.order.len() > limits::EFFECTS_RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        Verdict::Do
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(branch: &str) -> TransactionKey {
        TransactionKey {
            gateway: "g".into(),
            branch: branch.into(),
            sent_by: "x".into(),
            method: "INVITE".into(),
        }
    }

    fn event(n: u8) -> GatewayEvent {
        GatewayEvent::ClientTimeout { branch: n.to_string() }
    }

    fn sent(ledger: &mut Ledger) -> Vec<(u64, u8)> {
        std::iter::from_fn(|| ledger.send_next(Millis(0)))
            .map(|(sequence, event)| match event.as_ref() {
                GatewayEvent::ClientTimeout { branch } => (sequence, branch.parse().unwrap()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn settle(ledger: &mut Ledger, sequence: u64, overloaded: bool) -> Settled {
        let accepted = Accepted { shard: 0, sequence, overloaded, retry_after_s: 3 };
        ledger.on_accepted(&accepted, |transaction| *transaction.branch != *"promised")
    }

    #[test]
    fn ledger_sends_all_again_in_order_when_the_leader_changes() {
        let mut ledger = Ledger::default();
        for n in 1..=4 {
            ledger.push(event(n), About::Existing).unwrap();
        }
        assert_eq!(sent(&mut ledger), [(1, 1), (2, 2), (3, 3), (4, 4)]);
        assert_eq!(settle(&mut ledger, 2, false), Settled::Over);
        ledger.send_all_again();
        ledger.push(event(5), About::Existing).unwrap();
        assert_eq!(sent(&mut ledger), [(1, 1), (3, 3), (4, 4), (5, 5)]);
        assert_eq!(settle(&mut ledger, 2, false), Settled::Over);
        assert_eq!(ledger.len(), 4);
    }

    #[test]
    fn ledger_sends_nothing_but_the_login_until_it_counts() {
        let mut ledger = Ledger::default();
        ledger.push(event(1), About::Login).unwrap();
        ledger.push(event(2), About::Existing).unwrap();
        assert_eq!(sent(&mut ledger), [(1, 1)]);
        assert_eq!(settle(&mut ledger, 1, true), Settled::Later);
        assert_eq!(sent(&mut ledger), []);
        ledger.send_refused_again();
        assert_eq!(sent(&mut ledger), [(1, 1)]);
        ledger.send_all_again();
        assert_eq!(sent(&mut ledger), [(1, 1)]);
        assert_eq!(settle(&mut ledger, 1, false), Settled::Over);
        assert_eq!(sent(&mut ledger), [(2, 2)]);
    }

    #[test]
    fn ledger_refuses_a_new_call_when_the_leader_is_overloaded() {
        let mut ledger = Ledger::default();
        ledger.push(event(1), About::NewCall(key("a"))).unwrap();
        ledger.push(event(2), About::Existing).unwrap();
        assert_eq!(sent(&mut ledger).len(), 2);
        let refused = Settled::Refused { transaction: key("a"), retry_after_s: 3, again: false };
        assert_eq!(settle(&mut ledger, 1, true), refused);
        assert_eq!(settle(&mut ledger, 2, true), Settled::Later);
        ledger.send_refused_again();
        // The refused call's number is taken by the next event: no hole stays.
        ledger.push(event(3), About::Existing).unwrap();
        assert_eq!(sent(&mut ledger), [(2, 2), (1, 3)]);
    }

    /// `tandem-sim --core --seed 18320`: an earlier leader's log may hold what this one refuses.
    #[test]
    fn ledger_keeps_a_refused_call_that_an_earlier_leader_may_have_logged() {
        let mut ledger = Ledger::default();
        ledger.push(event(1), About::NewCall(key("a"))).unwrap();
        ledger.push(event(2), About::Register(key("b"))).unwrap();
        assert_eq!(sent(&mut ledger), [(1, 1), (2, 2)]);
        ledger.send_all_again();
        assert_eq!(sent(&mut ledger), [(1, 1), (2, 2)]);
        let refused = |key| Settled::Refused { transaction: key, retry_after_s: 3, again: true };
        assert_eq!(settle(&mut ledger, 1, true), refused(key("a")));
        assert_eq!(settle(&mut ledger, 2, true), refused(key("b")));
        // Neither number is given to another event.
        ledger.push(event(3), About::Existing).unwrap();
        assert_eq!(sent(&mut ledger), [(3, 3)]);
        ledger.send_refused_again();
        assert_eq!(sent(&mut ledger), [(1, 1), (2, 2)]);
        assert_eq!(settle(&mut ledger, 1, true), Settled::Later);
        assert_eq!(settle(&mut ledger, 1, false), Settled::Over);
        assert_eq!(settle(&mut ledger, 2, false), Settled::Over);
        assert_eq!(ledger.len(), 1);
    }

    /// A leader that gave up its commit, and went on leading for ten minutes: all of a gateway's
    /// events came too early behind those.
    #[test]
    fn ledger_sends_again_what_its_leader_said_nothing_to() {
        let mut ledger = Ledger::default();
        ledger.push(event(1), About::NewCall(key("a"))).unwrap();
        ledger.push(event(2), About::Existing).unwrap();
        assert_eq!(ledger.send_next(Millis(10)).unwrap().0, 1);
        assert_eq!(ledger.send_next(Millis(20)).unwrap().0, 2);
        assert!(ledger.send_unanswered_again(Millis(9)));
        assert_eq!(sent(&mut ledger), []);
        assert!(ledger.send_unanswered_again(Millis(10)));
        assert_eq!(ledger.send_next(Millis(30)).unwrap().0, 1);
        assert_eq!(ledger.send_next(Millis(30)), None);
        // Its number is not free, though the second time it is refused.
        let again = true;
        let refused = Settled::Refused { transaction: key("a"), retry_after_s: 3, again };
        assert_eq!(settle(&mut ledger, 1, true), refused);
        ledger.push(event(3), About::Existing).unwrap();
        assert_eq!(sent(&mut ledger), [(3, 3)]);
        for sequence in 1..=3 {
            assert_eq!(settle(&mut ledger, sequence, false), Settled::Over);
        }
        assert!(!ledger.send_unanswered_again(Millis(99)));
    }

    #[test]
    fn ledger_withdraws_calls_and_keeps_what_a_leader_has_seen() {
        let mut ledger = Ledger::default();
        ledger.push(event(1), About::NewCall(key("promised"))).unwrap();
        ledger.push(event(2), About::NewCall(key("seen"))).unwrap();
        assert_eq!(sent(&mut ledger), [(1, 1), (2, 2)]);
        ledger.send_all_again();
        ledger.push(event(3), About::NewCall(key("unseen"))).unwrap();
        ledger.push(event(4), About::Existing).unwrap();
        let silent = |transaction: &TransactionKey| *transaction.branch != *"promised";
        assert_eq!(ledger.withdraw_new_calls(silent), [key("seen"), key("unseen")]);
        assert_eq!(ledger.withdraw_new_calls(silent), []);
        // Its caller has heard 100: no leader's refusal can take that back.
        assert_eq!(settle(&mut ledger, 1, true), Settled::Later);
        ledger.send_refused_again();
        assert_eq!(sent(&mut ledger), [(1, 1), (2, 2), (3, 4)]);
        assert_eq!(settle(&mut ledger, 1, false), Settled::Over);
        assert_eq!(settle(&mut ledger, 2, false), Settled::Over);
    }

    #[test]
    fn ledger_is_full_for_new_calls_before_it_is_for_live_ones() {
        let mut ledger = Ledger::default();
        for _ in 0..limits::PENDING_NEW_CALLS_MAX {
            ledger.push(event(1), About::NewCall(key("a"))).unwrap();
        }
        assert_eq!(ledger.push(event(1), About::NewCall(key("a"))), Err(Full));
        ledger.push(event(1), About::Register(key("a"))).unwrap();
        ledger.push(event(1), About::Existing).unwrap();
    }

    #[test]
    fn fence_drops_effects_of_an_old_leader_and_repeated_ones() {
        let id = |index| EffectId { shard: 0, index, ordinal: 0 };
        let mut fence = Fence::default();
        assert_eq!(fence.judge(3, id(1)), Verdict::Do);
        assert_eq!(fence.judge(3, id(1)), Verdict::Repeated);
        fence.raise(5);
        assert_eq!(fence.judge(4, id(2)), Verdict::Fenced);
        assert_eq!(fence.judge(6, id(2)), Verdict::Do);
        assert_eq!(fence.judge(5, id(3)), Verdict::Fenced);
        assert_eq!(fence.term(), 6);
    }
}
