//! Transactions by name, with their timers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::rc::Rc;

use tandem_sip::Request;

use super::AckName;
use crate::transactions::{Client, Server};

#[derive(Debug)]
pub struct ServerEntry {
    pub server: Server,
    pub to: SocketAddr,
    pub over: u64,
    /// Kept until the final answer.
    pub request: Option<Rc<Request>>,
    /// Set with a 2xx to an INVITE.
    pub ack: Option<AckName>,
    /// An answer may be expected: the gateway knew the request itself.
    pub begun: u64,
}

#[derive(Debug)]
pub struct ClientEntry {
    pub client: Client,
    pub to: SocketAddr,
    pub over: u64,
    /// Status class and To tag of what was reported.
    pub seen: Vec<(u16, String)>,
}

#[derive(Debug)]
pub struct Table<K, T> {
    ids: BTreeMap<K, u64>,
    items: BTreeMap<u64, (K, T, Option<u64>)>,
    last_id: u64,
    wheel: BinaryHeap<Reverse<(u64, u64)>>,
}

impl<K, T> Default for Table<K, T> {
    fn default() -> Self {
        Self { ids: BTreeMap::new(), items: BTreeMap::new(), last_id: 0, wheel: BinaryHeap::new() }
    }
}

impl<K: Ord + Clone, T> Table<K, T> {
    pub fn insert(&mut self, key: K, item: T) -> u64 {
        self.last_id += 1;
        self.ids.insert(key.clone(), self.last_id);
        self.items.insert(self.last_id, (key, item, None));
        self.last_id
    }

    pub fn id(&self, key: &K) -> Option<u64> {
        self.ids.get(key).copied()
    }

    pub fn get(&mut self, id: u64) -> Option<&mut T> {
        self.items.get_mut(&id).map(|(_, item, _)| item)
    }

    pub fn key(&self, id: u64) -> Option<&K> {
        self.items.get(&id).map(|(key, _, _)| key)
    }

    pub fn remove(&mut self, id: u64) -> Option<T> {
        let (key, item, _) = self.items.remove(&id)?;
        self.ids.remove(&key);
        Some(item)
    }

    /// Sees to it that the item is looked at at `deadline`.
    pub fn arm(&mut self, id: u64, deadline: u64) {
        if let Some((_, _, armed)) = self.items.get_mut(&id)
            && armed.is_none_or(|at| deadline < at)
        {
            *armed = Some(deadline);
            self.wheel.push(Reverse((deadline, id)));
        }
    }

    pub fn next(&self) -> Option<u64> {
        self.wheel.peek().map(|Reverse((at, _))| *at)
    }

    pub fn pop_due(&mut self, now: u64) -> Option<u64> {
        let Reverse((at, id)) = *self.wheel.peek()?;
        if at > now {
            return None;
        }
        self.wheel.pop();
        if let Some((_, _, armed)) = self.items.get_mut(&id) {
            *armed = None;
        }
        Some(id)
    }
}
