//! The events that are not accepted yet, and the fence against old leaders: a copy of the rules of
//! `gateway/src/link/ledger.rs`, which have two more by now. There a login holds back what is behind
//! it, and a new call that a leader has seen is answered and told to be over when nobody leads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use tandem_core::command::GatewayEvent;
use tandem_core::effect::EffectId;
use tandem_sip::transaction::Key;

/// Ids of effects that are remembered.
const EFFECTS_RECENT_MAX: usize = 65_536;

/// What an event is about, where the gateway must be able to answer in the cluster's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    NewCall(Key),
    Register(Key),
    Existing,
}

#[derive(Debug)]
struct Pending {
    sequence: Option<u64>,
    event: Rc<GatewayEvent>,
    about: About,
    sent: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    Over,
    /// Answer 503 in the cluster's place.
    Refused(Key),
    Later,
}

#[derive(Debug, Default)]
pub struct Ledger {
    last_sequence: u64,
    vacant: BTreeSet<u64>,
    last_place: u64,
    pending: BTreeMap<u64, Pending>,
    places: BTreeMap<u64, u64>,
    unsent: BTreeSet<u64>,
}

impl Ledger {
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub fn push(&mut self, event: GatewayEvent, about: About) {
        self.last_place += 1;
        self.unsent.insert(self.last_place);
        let pending = Pending { sequence: None, event: Rc::new(event), about, sent: false };
        self.pending.insert(self.last_place, pending);
    }

    pub fn send_next(&mut self) -> Option<(u64, Rc<GatewayEvent>)> {
        let place = self.unsent.pop_first()?;
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
        pending.sent = true;
        Some((sequence, Rc::clone(&pending.event)))
    }

    pub fn send_all_again(&mut self) {
        for (place, pending) in &mut self.pending {
            pending.sent = false;
            self.unsent.insert(*place);
        }
    }

    /// An event of that number waits to be accepted.
    pub fn holds(&self, sequence: u64) -> bool {
        self.places.contains_key(&sequence)
    }

    pub fn on_accepted(&mut self, sequence: u64, overloaded: bool) -> Settled {
        let Some(place) = self.places.get(&sequence).copied() else { return Settled::Over };
        let existing =
            self.pending.get(&place).is_some_and(|pending| pending.about == About::Existing);
        if overloaded && existing {
            if let Some(pending) = self.pending.get_mut(&place) {
                pending.sent = false;
            }
            return Settled::Later;
        }
        self.places.remove(&sequence);
        self.unsent.remove(&place);
        let Some(pending) = self.pending.remove(&place) else { return Settled::Over };
        match pending.about {
            About::NewCall(key) | About::Register(key) if overloaded => {
                self.vacant.insert(sequence);
                Settled::Refused(key)
            }
            About::NewCall(_) | About::Register(_) | About::Existing => Settled::Over,
        }
    }

    pub fn send_refused_again(&mut self) {
        let refused = self.pending.iter().filter(|(_, pending)| !pending.sent);
        self.unsent.extend(refused.map(|(place, _)| *place));
    }

    /// New calls that no leader has ever seen.
    pub fn withdraw_new_calls(&mut self) -> Vec<Key> {
        let mut withdrawn = Vec::new();
        let unsent = &mut self.unsent;
        self.pending.retain(|place, pending| match &pending.about {
            About::NewCall(key) if pending.sequence.is_none() => {
                unsent.remove(place);
                withdrawn.push(key.clone());
                false
            }
            About::NewCall(_) | About::Register(_) | About::Existing => true,
        });
        withdrawn
    }

    /// One line for each event that waits.
    pub fn words(&self) -> Vec<String> {
        self.pending.values().map(|pending| crate::words::event(&pending.event)).collect()
    }
}

#[derive(Debug, Default)]
pub struct Fence {
    term: u64,
    recent: BTreeSet<EffectId>,
    order: VecDeque<EffectId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Do,
    Repeated,
    Fenced,
}

impl Fence {
    pub fn raise(&mut self, term: u64) {
        self.term = self.term.max(term);
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    pub fn judge(&mut self, term: u64, id: EffectId, fences: bool) -> Verdict {
        if fences && term < self.term {
            return Verdict::Fenced;
        }
        self.term = self.term.max(term);
        if !self.recent.insert(id) {
            return Verdict::Repeated;
        }
        self.order.push_back(id);
        if self.order.len() > EFFECTS_RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        Verdict::Do
    }
}
