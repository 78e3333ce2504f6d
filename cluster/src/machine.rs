//! Any machine as one type: a node's groups differ in what they replicate, not in how.

use tandem_storage::machine::{Applied, Machine, Outcome, Row};

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

    fn after_persist(&mut self, index: u64) {
        self.0.after_persist(index);
    }
}
