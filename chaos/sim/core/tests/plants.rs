//! The simulator is tested itself: each planted bug is found within a bounded number of seeds, and
//! without it those seeds find nothing.

use tandem_sim_core::batch::Batch;
use tandem_sim_core::{Options, Plant};

/// Seeds that a plant may need.
const SEEDS_MAX: u64 = 150;
/// Seeds without a plant that must leave no cell of the coverage table empty.
const COVERAGE_SEEDS: u64 = 480;

#[test]
fn every_planted_bug_is_found_within_the_bound() {
    let mut missed = Vec::new();
    for plant in Plant::ALL.iter().copied() {
        let options = Options { plant: Some(plant), ..Options::default() };
        let batch = Batch::run(0..SEEDS_MAX, &options, |_| ());
        match batch.failed.and_then(|outcome| outcome.violation) {
            Some(violation) => println!("{plant}: {} seeds, {violation}", batch.seeds),
            None => missed.push(plant.name()),
        }
    }
    assert_eq!(missed, [] as [&str; 0], "not found in {SEEDS_MAX} seeds");
}

#[test]
fn seeds_without_a_planted_bug_find_nothing_and_leave_no_cell_empty() {
    let batch = Batch::run(0..COVERAGE_SEEDS, &Options::default(), |_| ());
    let violation = batch.failed.as_ref().map(|outcome| (outcome.seed, &outcome.violation));
    assert_eq!(violation, None);
    println!("{} seeds, {} commands", batch.seeds, batch.commands);
    let coverage = &batch.coverage;
    assert_eq!(batch.poverty(), None);
    assert_eq!(coverage.empty_cells(), []);
    assert_eq!(coverage.missing_pairs(), []);
    assert_eq!(coverage.missing_marks(), [] as [&str; 0]);
}
