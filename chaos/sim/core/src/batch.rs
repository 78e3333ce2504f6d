//! Many seeds, one after the other.

use std::ops::Range;

use crate::coverage::Coverage;
use crate::limits;
use crate::{Options, Outcome, Simulation};

#[derive(Debug, Default)]
pub struct Batch {
    pub seeds: u64,
    pub commands: u64,
    pub applies: u64,
    pub calls: u64,
    pub faults: u64,
    /// The poorest seed so far: its commands, and which it is.
    pub least: Option<(u64, u64)>,
    pub coverage: Coverage,
    pub failed: Option<Outcome>,
}

impl Batch {
    /// Runs seeds until one fails. `progress` hears of each.
    pub fn run(seeds: Range<u64>, options: &Options, mut progress: impl FnMut(&Self)) -> Self {
        let mut batch = Self::default();
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
        let this = (outcome.commands, outcome.seed);
        self.least = Some(self.least.map_or(this, |least| least.min(this)));
        self.coverage.add(&outcome.coverage);
    }

    /// A sentence, where some seed had so little to do that it has not tested much.
    pub fn poverty(&self) -> Option<String> {
        let (commands, seed) =
            self.least.filter(|(commands, _)| *commands < limits::COMMANDS_MIN)?;
        let wanted = limits::COMMANDS_MIN;
        Some(format!("seed {seed} has only {commands} commands; each must have {wanted}"))
    }
}

#[test]
fn batch_names_its_poorest_seed_where_that_is_below_the_minimum() {
    let short = Options { virtual_ms: 2_000, ..Options::default() };
    let batch = Batch::run(0..3, &short, |_| ());
    let (commands, seed) = batch.least.expect("three seeds ran");
    let said = format!("seed {seed} has only {commands} commands; each must have 500");
    assert_eq!(batch.poverty(), Some(said));
    assert_eq!(Batch::run(0..1, &Options::default(), |_| ()).poverty(), None);
}
