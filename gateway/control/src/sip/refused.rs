//! INVITEs that this gateway refused in the cluster's place. An earlier leader, or an earlier life
//! of this gateway, may have brought one of them to the cluster all the same.

use std::collections::{HashMap, VecDeque};

use tandem_sip::Method;
use tandem_sip::transaction::Key;

use crate::limits;

#[derive(Debug, Default)]
pub struct Refused {
    /// And whether the cluster was told that nobody waits for its answer.
    known: HashMap<Key, bool>,
    order: VecDeque<Key>,
}

/// What an answer of the cluster meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meets {
    /// Somebody who waits for it.
    Waiting,
    /// A caller who was refused here: the cluster must be told, once.
    Refused { first: bool },
}

impl Refused {
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Only of INVITEs: another refused request leaves nothing behind.
    pub fn note(&mut self, key: &Key) {
        if key.method != Method::Invite.as_str() || self.known.insert(key.clone(), false).is_some()
        {
            return;
        }
        self.order.push_back(key.clone());
        if self.order.len() > limits::REFUSED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// The same INVITE again, and this time it is taken: the refusal never arrived.
    pub fn forget(&mut self, key: &Key) {
        if self.known.remove(key).is_some() {
            self.order.retain(|known| known != key);
        }
    }

    pub fn meet(&mut self, key: &Key) -> Meets {
        match self.known.get_mut(key) {
            None => Meets::Waiting,
            Some(told) => Meets::Refused { first: !std::mem::replace(told, true) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key { branch: n.to_string(), sent_by: String::new(), method: "INVITE".into() }
    }

    #[test]
    fn refusal_is_met_first_once_and_the_oldest_is_forgotten() {
        let mut refused = Refused::default();
        refused.note(&key(0));
        refused.note(&key(0));
        assert_eq!(refused.meet(&key(0)), Meets::Refused { first: true });
        assert_eq!(refused.meet(&key(0)), Meets::Refused { first: false });
        assert_eq!(refused.meet(&key(1)), Meets::Waiting);
        for n in 1..=limits::REFUSED_MAX {
            refused.note(&key(n));
        }
        assert_eq!(refused.meet(&key(0)), Meets::Waiting);
        assert_eq!(refused.meet(&key(1)), Meets::Refused { first: true });
        refused.forget(&key(1));
        assert_eq!(refused.meet(&key(1)), Meets::Waiting);
    }
}
