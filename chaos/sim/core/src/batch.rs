//! Many seeds, one after the other.

use std::ops::Range;

use crate::coverage::Coverage;
use crate::{Options, Outcome, Simulation};

#[derive(Debug, Default)]
pub struct Batch {
    pub seeds: u64,
    pub commands: u64,
    pub applies: u64,
    pub calls: u64,
    pub faults: u64,
    /// The least commands of one seed.
    pub commands_min: u64,
    pub coverage: Coverage,
    pub failed: Option<Outcome>,
}

impl Batch {
    /// Runs seeds until one fails. `progress` hears of each.
    pub fn run(seeds: Range<u64>, options: &Options, mut progress: impl FnMut(&Self)) -> Self {
        let mut batch = Self { commands_min: u64::MAX, ..Self::default() };
        for seed in seeds {
            let outcome = Simulation::new(seed, options.clone()).run();
            batch.add(&outcome);
            if outcome.violation.is_some() {
                batch.failed = Some(outcome);
                break;
            }
            progress(&batch);
        }
        batch
    }

    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.commands += outcome.commands;
        self.applies += outcome.applies;
        self.calls += outcome.calls as u64;
        self.faults += outcome.faults as u64;
        self.commands_min = self.commands_min.min(outcome.commands);
        self.coverage.add(&outcome.coverage);
    }
}
