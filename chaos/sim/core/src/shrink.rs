//! A failing seed cut to fewer faults and calls: delta debugging (Zeller, Hildebrandt 2002) over
//! the planned lists; then faults that last no longer than they must.
//!
//! It works because chance is drawn for each thing by itself (see `draws`): what is left out takes
//! nobody else's delays and losses with it.

use std::collections::BTreeMap;

use crate::limits;
use crate::plan::Plan;
use crate::{Options, Outcome, Simulation};

#[derive(Debug)]
pub struct Shrunk {
    pub part: Part,
    pub runs: usize,
    /// Of the smallest run that still fails, with its story.
    pub outcome: Outcome,
}

/// What is left of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub faults: Vec<usize>,
    pub calls: Vec<usize>,
    /// Faults that last shorter than planned, milliseconds.
    pub shorter: BTreeMap<usize, u64>,
}

impl Part {
    fn len(&self) -> usize {
        self.faults.len() + self.calls.len()
    }

    /// The options of a run of this part only.
    pub fn of(&self, options: &Options) -> Options {
        Options {
            keep_faults: Some(self.faults.clone()),
            keep_calls: Some(self.calls.clone()),
            shorter: self.shorter.clone(),
            story: false,
            record: false,
            ..options.clone()
        }
    }
}

/// None where the seed does not fail. Only a failure of the same property counts.
pub fn shrink(seed: u64, options: &Options) -> Option<Shrunk> {
    let first = Simulation::new(seed, options.clone()).run();
    let property = first.violation?.property;
    let plan = Plan::of(seed, options.virtual_ms);
    let all = |keep: &Option<Vec<usize>>, count: usize| {
        keep.clone().unwrap_or_else(|| (0..count).collect::<Vec<usize>>())
    };
    let mut part = Part {
        faults: all(&options.keep_faults, plan.strikes.len()),
        calls: all(&options.keep_calls, plan.calls.len() + plan.placed_calls.len()),
        shorter: options.shorter.clone(),
    };
    let mut runs = 0;
    let mut fails = |part: &Part| {
        if runs >= limits::SHRINK_RUNS_MAX {
            return false;
        }
        runs += 1;
        let outcome = Simulation::new(seed, part.of(options)).run();
        outcome.violation.is_some_and(|violation| violation.property == property)
    };
    // Fewer calls may make faults needless and the other way round.
    loop {
        let before = part.len();
        let faults = part.faults.clone();
        part.faults =
            reduce(faults, |faults| fails(&Part { faults: faults.to_vec(), ..part.clone() }));
        let calls = part.calls.clone();
        part.calls = reduce(calls, |calls| fails(&Part { calls: calls.to_vec(), ..part.clone() }));
        if part.len() == before {
            break;
        }
    }
    part.shorter.retain(|fault, _| part.faults.contains(fault));
    for fault in part.faults.clone() {
        let Some(planned) = plan.strikes.get(fault).map(|strike| strike.lasts_ms) else { continue };
        part = shorten(part, fault, planned, &mut fails);
    }
    let last = Options { story: true, record: options.record, ..part.of(options) };
    let outcome = Simulation::new(seed, last).run();
    Some(Shrunk { part, runs, outcome })
}

/// The smallest part of the list that still fails, as far as cutting finds it.
fn reduce(mut list: Vec<usize>, mut fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut parts = 2;
    while !list.is_empty() {
        let size = list.len().div_ceil(parts);
        let mut cut = false;
        let mut start = 0;
        while start < list.len() {
            let end = (start + size).min(list.len());
            let rest: Vec<usize> = list[..start].iter().chain(&list[end..]).copied().collect();
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

/// Half as long, and half of that, while it fails.
fn shorten(
    mut part: Part,
    fault: usize,
    planned_ms: u64,
    fails: &mut impl FnMut(&Part) -> bool,
) -> Part {
    let mut lasts_ms = part.shorter.get(&fault).copied().unwrap_or(planned_ms) / 2;
    while lasts_ms >= limits::FAULT_MS_MIN {
        let mut shorter = part.clone();
        shorter.shorter.insert(fault, lasts_ms);
        if !fails(&shorter) {
            break;
        }
        part = shorter;
        lasts_ms /= 2;
    }
    part
}

#[test]
fn list_is_cut_to_what_fails() {
    let list: Vec<usize> = (0..40).collect();
    let left = reduce(list, |part| part.contains(&7) && part.contains(&31));
    assert_eq!(left, [7, 31]);
    assert_eq!(reduce(vec![1, 2, 3], |_| true), [] as [usize; 0]);
}

#[test]
fn fault_is_shortened_to_what_fails() {
    let part = Part { faults: vec![4], ..Part::default() };
    let left = shorten(part, 4, 1_000, &mut |part| part.shorter[&4] >= 200);
    assert_eq!(left.shorter, [(4, 250)].into());
}
