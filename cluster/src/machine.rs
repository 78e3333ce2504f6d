//! Any machine as one type: a node's groups differ in what they replicate, not in how.

use tandem_storage::machine::{Applied, Machine, Outcome, Row};
use tandem_storage::raft::{LogId, Membership};

/// A type of its own, so that futures of a group need not name a trait object.
pub struct AnyMachine(Box<dyn Machine>);

impl AnyMachine {
    pub fn new(machine: impl Machine) -> Self {
        Self(Box::new(machine))
    }
}

impl Machine for AnyMachine {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), String> {
        self.0.restore(rows)
    }

    fn apply(&mut self, entry: Applied<'_>) -> Outcome {
        self.0.apply(entry)
    }

    fn on_blank(&mut self, log_id: &LogId) {
        self.0.on_blank(log_id);
    }

    fn on_membership(&mut self, log_id: &LogId, membership: &Membership) {
        self.0.on_membership(log_id, membership);
    }

    fn after_persist(&mut self, index: u64) {
        self.0.after_persist(index);
    }

    fn keeps_rows(&self) -> bool {
        self.0.keeps_rows()
    }

    fn history(&self) -> &'static [&'static str] {
        self.0.history()
    }

    fn differs(&self) -> bool {
        self.0.differs()
    }
}
