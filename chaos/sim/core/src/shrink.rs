//! A failing seed cut to fewer faults and calls: delta debugging (Zeller, Hildebrandt 2002) over
//! the planned lists.

use crate::limits;
use crate::plan::Plan;
use crate::{Options, Outcome, Simulation};

#[derive(Debug)]
pub struct Shrunk {
    pub faults: Vec<usize>,
    pub calls: Vec<usize>,
    pub runs: usize,
    /// Of the smallest run that still fails, with its story.
    pub outcome: Outcome,
}

/// None where the seed does not fail. Only a failure of the same property counts.
pub fn shrink(seed: u64, options: &Options) -> Option<Shrunk> {
    let first = Simulation::new(seed, options.clone()).run();
    let property = first.violation?.property;
    let plan = Plan::of(seed, options.virtual_ms);
    let all = |keep: &Option<Vec<usize>>, count: usize| {
        keep.clone().unwrap_or_else(|| (0..count).collect::<Vec<usize>>())
    };
    let mut faults = all(&options.keep_faults, plan.strikes.len());
    let mut calls = all(&options.keep_calls, plan.calls.len());
    let mut runs = 0;
    let mut fails = |faults: &[usize], calls: &[usize]| {
        runs += 1;
        let options = Options {
            keep_faults: Some(faults.to_vec()),
            keep_calls: Some(calls.to_vec()),
            story: false,
            record: false,
            ..options.clone()
        };
        let outcome = Simulation::new(seed, options).run();
        outcome.violation.is_some_and(|violation| violation.property == property)
    };
    // Fewer calls may make faults needless and the other way round.
    for _ in 0..2 {
        faults = reduce(faults, |faults| fails(faults, &calls));
        calls = reduce(calls, |calls| fails(&faults, calls));
    }
    let last = Options {
        keep_faults: Some(faults.clone()),
        keep_calls: Some(calls.clone()),
        story: true,
        ..options.clone()
    };
    let outcome = Simulation::new(seed, last).run();
    Some(Shrunk { faults, calls, runs, outcome })
}

/// The smallest part of the list that still fails, as far as cutting finds it.
fn reduce(mut list: Vec<usize>, mut fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut parts = 2;
    let mut runs = 0;
    while !list.is_empty() && runs < limits::SHRINK_RUNS_MAX / 4 {
        let size = list.len().div_ceil(parts);
        let mut cut = false;
        let mut start = 0;
        while start < list.len() && runs < limits::SHRINK_RUNS_MAX / 4 {
            let end = (start + size).min(list.len());
            let rest: Vec<usize> = list[..start].iter().chain(&list[end..]).copied().collect();
            runs += 1;
            if fails(&rest) {
                list = rest;
                cut = true;
            } else {
                start = end;
            }
        }
        if size == 1 && !cut {
            break;
        }
        if !cut {
            parts = (parts * 2).min(list.len());
        }
    }
    list
}

#[test]
fn list_is_cut_to_what_fails() {
    let list: Vec<usize> = (0..40).collect();
    let left = reduce(list, |part| part.contains(&7) && part.contains(&31));
    assert_eq!(left, [7, 31]);
    assert_eq!(reduce(vec![1, 2, 3], |_| true), [] as [usize; 0]);
}
