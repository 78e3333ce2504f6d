//! The meta shard's machine: keys and values with a version, watched in the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;
use tandem_storage::machine::{Applied, Machine, Outcome};
use tandem_storage::state::{Change, Row};
use tokio::sync::watch;

use crate::AnyMachine;

/// The one family of the meta shard.
pub const META: &str = "meta";

/// A command of the meta shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Put {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
    /// Nothing is put where the key has another value than this, or has one and should have none.
    #[prost(message, optional, tag = "3")]
    pub only_over: Option<Over>,
    /// What is put together with it, or not at all.
    #[prost(message, repeated, tag = "4")]
    pub also: Vec<Pair>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Pair {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Over {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub value: Option<Vec<u8>>,
}

/// The command that sets a key.
pub fn put(key: &str, value: Vec<u8>) -> Vec<u8> {
    Put { key: key.to_owned(), value, only_over: None, also: Vec::new() }.encode_to_vec()
}

/// The command that sets a key where its value is `known`: of two who know the same, one succeeds.
pub fn replace(key: &str, known: Option<Vec<u8>>, value: Vec<u8>) -> Vec<u8> {
    replace_and_put(key, known, value, Vec::new())
}

/// The same, with other keys that are set where it is.
pub fn replace_and_put(
    key: &str,
    known: Option<Vec<u8>>,
    value: Vec<u8>,
    also: Vec<(String, Vec<u8>)>,
) -> Vec<u8> {
    let only_over = Some(Over { value: known });
    let also = also.into_iter().map(|(key, value)| Pair { key, value }).collect();
    Put { key: key.to_owned(), value, only_over, also }.encode_to_vec()
}

/// Whether a command of [`put`] or [`replace`] has put its value, as its reply says.
pub fn has_put(reply: &[u8]) -> bool {
    reply != NOT_PUT
}

const NOT_PUT: &[u8] = b"not put";

/// What this node's replica of the meta shard holds.
#[derive(Clone)]
pub struct MetaState {
    values: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    applied: watch::Sender<u64>,
}

impl Default for MetaState {
    fn default() -> Self {
        Self { values: Arc::default(), applied: watch::channel(0).0 }
    }
}

impl MetaState {
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.values.lock().get(key).cloned()
    }

    /// What is under the keys that begin so, in their order.
    pub fn under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let values = self.values.lock();
        let from = values.range(prefix.to_owned()..);
        let under = from.take_while(|(key, _)| key.starts_with(prefix));
        under.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Changes with each entry that was applied and stored.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub fn machine(&self) -> AnyMachine {
        AnyMachine::new(MetaMachine { state: self.clone() })
    }
}

struct MetaMachine {
    state: MetaState,
}

impl Machine for MetaMachine {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), String> {
        let mut values = BTreeMap::new();
        for row in rows.filter(|row| row.family == META) {
            let key = String::from_utf8(row.key).map_err(|error| error.to_string())?;
            values.insert(key, row.value);
        }
        *self.state.values.lock() = values;
        self.state.applied.send_modify(|count| *count += 1);
        Ok(())
    }

    fn apply(&mut self, entry: Applied<'_>) -> Outcome {
        let Ok(put) = Put::decode(entry.command) else {
            // Every replica sees the same bytes and does the same: nothing.
            tracing::error!(index = entry.index, "TD0402 an entry of the meta shard can't be read");
            return Outcome::default();
        };
        let mut values = self.state.values.lock();
        if put.only_over.is_some_and(|over| over.value.as_ref() != values.get(&put.key)) {
            return Outcome { changes: Vec::new(), reply: NOT_PUT.to_vec() };
        }
        let first = Pair { key: put.key, value: put.value };
        let mut changes = Vec::with_capacity(1 + put.also.len());
        for Pair { key, value } in std::iter::once(first).chain(put.also) {
            changes.push(Change::of(META, key.clone().into_bytes(), Some(value.clone())));
            values.insert(key, value);
        }
        Outcome { changes, reply: Vec::new() }
    }

    fn after_persist(&mut self, index: u64) {
        self.state.applied.send_modify(|at| *at = index);
    }
}

#[cfg(test)]
mod tests {
    use tandem_storage::raft::ShardId;

    use super::*;

    #[test]
    fn value_is_replaced_only_where_it_is_what_was_known() {
        let state = MetaState::default();
        let mut machine = state.machine();
        let mut index = 0;
        let mut apply = |command: &[u8]| {
            index += 1;
            let entry =
                Applied { shard: ShardId::META, index, term: 1, command, proposed_here: false };
            let outcome = machine.apply(entry);
            assert_eq!(has_put(&outcome.reply), !outcome.changes.is_empty());
            has_put(&outcome.reply)
        };
        let (one, two) = (b"one".to_vec(), b"two".to_vec());
        assert!(!apply(&replace("a/1", Some(one.clone()), two.clone())));
        assert!(apply(&replace("a/1", None, one.clone())));
        assert!(!apply(&replace("a/1", None, two.clone())));
        assert!(!apply(&replace("a/1", Some(two.clone()), one.clone())));
        assert!(apply(&replace("a/1", Some(one.clone()), two.clone())));
        assert!(apply(&put("a/2", one.clone())) && apply(&put("b", one.clone())));
        let under = [("a/1".to_owned(), two), ("a/2".to_owned(), one)];
        assert_eq!(state.under("a/"), under);
        // Together, or not at all.
        let also = || vec![("c/1".to_owned(), b"with".to_vec()), ("c/2".to_owned(), Vec::new())];
        let (known, next) = (Some(b"one".to_vec()), b"three".to_vec());
        assert!(!apply(&replace_and_put("b", None, next.clone(), also())));
        assert_eq!(state.under("c/"), []);
        assert!(apply(&replace_and_put("b", known, next.clone(), also())));
        assert_eq!((state.get("b"), state.under("c/")), (Some(next), also()));
    }
}
