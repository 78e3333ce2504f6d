//! How events and changed calls find subscriptions: what follows from them.

use std::collections::{BTreeMap, BTreeSet};

use tandem_sip::ConnectionId;

use crate::ids::{AgentId, SubscriptionId};
use crate::subscription::state::Subscription;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Subscriptions {
    /// By our tag, which is random and names a dialog by itself.
    tags: BTreeMap<String, SubscriptionId>,
    subscribers: BTreeMap<AgentId, BTreeSet<SubscriptionId>>,
    /// By whom they watch, those that go on.
    watched: BTreeMap<AgentId, BTreeSet<SubscriptionId>>,
    connections: BTreeMap<ConnectionId, BTreeSet<SubscriptionId>>,
}

impl Subscriptions {
    pub(super) fn by_tag(&self, tag: &str) -> Option<SubscriptionId> {
        self.tags.get(tag).copied()
    }

    pub(super) fn of(&self, agent: &AgentId) -> impl Iterator<Item = SubscriptionId> {
        self.subscribers.get(agent).into_iter().flatten().copied()
    }

    pub(super) fn over(&self, connection: ConnectionId) -> impl Iterator<Item = SubscriptionId> {
        self.connections.get(&connection).into_iter().flatten().copied()
    }

    pub(super) fn has_watchers(&self) -> bool {
        !self.watched.is_empty()
    }

    pub(super) fn is_watched(&self, agent: &AgentId) -> bool {
        self.watched.contains_key(agent)
    }

    pub(super) fn watchers(&self, agent: &AgentId) -> impl Iterator<Item = SubscriptionId> {
        self.watched.get(agent).into_iter().flatten().copied()
    }

    pub(super) fn change(&mut self, old: Option<&Subscription>, new: Option<&Subscription>) {
        if let Some(old) = old {
            if new.is_none() {
                self.tags.remove(&old.dialog.local_tag);
                leave(&mut self.subscribers, &old.subscriber, old.id);
            }
            if let Some(agent) = old.watched() {
                leave(&mut self.watched, agent, old.id);
            }
            if let Some(connection) = old.carrier.connection() {
                leave(&mut self.connections, &connection, old.id);
            }
        }
        let Some(new) = new else { return };
        if old.is_none() {
            self.tags.insert(new.dialog.local_tag.clone(), new.id);
            self.subscribers.entry(new.subscriber.clone()).or_default().insert(new.id);
        }
        if let Some(agent) = new.watched().filter(|_| new.is_active()) {
            self.watched.entry(agent.clone()).or_default().insert(new.id);
        }
        if let Some(connection) = new.carrier.connection() {
            self.connections.entry(connection).or_default().insert(new.id);
        }
    }
}

fn leave<K: Ord>(of: &mut BTreeMap<K, BTreeSet<SubscriptionId>>, key: &K, id: SubscriptionId) {
    let Some(known) = of.get_mut(key) else { return };
    known.remove(&id);
    if known.is_empty() {
        of.remove(key);
    }
}
