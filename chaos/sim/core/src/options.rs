//! How a run is asked for, and what it came to.

use std::collections::BTreeMap;

use crate::coverage::Coverage;
use crate::limits;
use crate::plant::Plant;
use crate::record::Record;
use crate::trace::Line;
use crate::violation::Violation;

#[derive(Clone, Debug)]
pub struct Options {
    /// Of the part of the run in which callers call and faults strike.
    pub virtual_ms: u64,
    pub plant: Option<Plant>,
    /// Only these of the planned faults and calls, by their numbers; all where it is none.
    pub keep_faults: Option<Vec<usize>>,
    /// Those that operators place are counted on behind the callers'.
    pub keep_calls: Option<Vec<usize>>,
    /// These faults last so long and not as planned, milliseconds.
    pub shorter: BTreeMap<usize, u64>,
    /// Keeps the lines of a story.
    pub story: bool,
    /// Keeps the log.
    pub record: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            virtual_ms: limits::VIRTUAL_MS_DEFAULT,
            plant: None,
            keep_faults: None,
            keep_calls: None,
            shorter: BTreeMap::new(),
            story: false,
            record: false,
        }
    }
}

impl Options {
    pub fn has(&self, plant: Plant) -> bool {
        cfg!(feature = "plants") && self.plant == Some(plant)
    }
}

#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// Entries of the log that were applied by the first replica to come to them.
    pub commands: u64,
    /// Entries that any replica applied, again after a restart too.
    pub applies: u64,
    pub calls: usize,
    pub faults: usize,
    pub trace_hash: u64,
    pub violation: Option<Violation>,
    pub coverage: Coverage,
    pub story: Vec<Line>,
    /// Where it was asked for.
    pub record: Option<Record>,
    /// Virtual time at the end.
    pub ended_at_ms: u64,
}
