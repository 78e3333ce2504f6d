//! The witness's state machine: it votes and keeps the log, and knows how far others applied it.
//! Nothing of what the entries say is kept.

use crate::machine::{Applied, Machine, Outcome, Row, StateMachine};
use crate::raft::ShardId;
use crate::state::{Error, State};

/// Reads no command and has no rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullMachine;

impl Machine for NullMachine {
    fn restore(&mut self, _rows: &mut dyn Iterator<Item = Row>) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, _entry: Applied<'_>) -> Outcome {
        Outcome::default()
    }

    /// Of a node's snapshot only how far it has come is of use here.
    fn keeps_rows(&self) -> bool {
        false
    }
}

/// Keeps the applied log id and the membership: without them a purged log couldn't be opened
/// again. Its snapshots are empty, and must never be sent to a node.
pub type Witness = StateMachine<NullMachine>;

/// # Errors
/// Where the store can't be read.
pub fn open(shard: ShardId, state: State) -> Result<Witness, Error> {
    StateMachine::open(shard, state, NullMachine)
}
