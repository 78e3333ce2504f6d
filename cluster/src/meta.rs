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
}

/// The command that sets a key.
pub fn put(key: &str, value: Vec<u8>) -> Vec<u8> {
    Put { key: key.to_owned(), value }.encode_to_vec()
}

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
        let change = Change {
            family: META,
            key: put.key.clone().into_bytes(),
            value: Some(put.value.clone()),
        };
        self.state.values.lock().insert(put.key, put.value);
        Outcome { changes: vec![change], reply: Vec::new() }
    }

    fn after_persist(&mut self, index: u64) {
        self.state.applied.send_modify(|at| *at = index);
    }
}
