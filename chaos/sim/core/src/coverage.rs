//! What a run has seen: which faults in which state of a call, which pairs of states of each
//! machine, and marks of subtle branches. What a batch of seeds never sees, it does not test.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::Fault;

/// Columns of the table: what a fault finds.
pub const STATES: [&str; 16] = [
    "no call",
    "in flow",
    "waiting",
    "offered",
    "dialing",
    "unacked",
    "connected",
    "held",
    "ending",
    "prompt",
    "awaiting",
    "transfer",
    "routing",
    "consult",
    "outward",
    "conference",
];

pub const MARKS: [&str; 53] = [
    "a CANCEL comes after the answer",
    "a caller is refused",
    "a peer without RTP is reported",
    "the quality of a leg is reported",
    "an actor is quarantined",
    "an effect of an old leader is fenced",
    "a command panics",
    "a gateway without a lease is silent",
    "a stopped gateway is replaced",
    "an operator asks again over a takeover",
    "a key is refused for another request",
    "a recording is paused",
    "a transfer goes over",
    "a transfer comes back",
    "a transfer ends with its call",
    "who has placed a call sends on whom it called",
    "a phone hears how its transfer ended",
    "a session is refreshed",
    "a consultation is completed",
    "a consultation is completed while it rings",
    "a consultation comes to nothing",
    "a colleague who is asked hangs up",
    "a consultation ends with its call",
    "all three speak together",
    "the agent leaves a conference",
    "the colleague leaves a conference",
    "a caller acknowledges a 180",
    "an UPDATE changes a call before its answer",
    "a phone's 180 is acknowledged",
    "a call goes out",
    "a carrier is heard before it answers",
    "another branch of a carrier is heard",
    "who is called from our side hears a carrier",
    "the next carrier is asked",
    "a silent carrier is left alone",
    "a carrier is left alone as it asks",
    "no trunk takes a call",
    "a carrier is found down",
    "a carrier is found up again",
    "a carrier that is down is passed over",
    "a carrier that is down is asked for want of another",
    "an agent has two calls",
    "two calls are joined",
    "a ringing call is picked up",
    "a conversation is taken over",
    "the next phone of an agent rings",
    "who is not reached hears a tone",
    "an event is given up by its leader",
    "a lamp shows a call",
    "a subscription is refreshed",
    "a subscription is taken back",
    "who takes over has a wall clock that was set",
    "a leader begins by its wall clock",
];

#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// By kind of fault, by state.
    pub cells: Vec<[u64; STATES.len()]>,
    /// Machine, from, to.
    pub pairs: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    pub marks: BTreeSet<&'static str>,
}

impl Coverage {
    pub fn strike(&mut self, fault: Fault, states: &BTreeSet<usize>) {
        self.cells.resize(Fault::KINDS.len(), [0; STATES.len()]);
        for state in states {
            self.cells[fault.kind()][*state] += 1;
        }
    }

    pub fn pair(&mut self, machine: &'static str, from: &'static str, to: &'static str) {
        *self.pairs.entry((machine, from, to)).or_default() += 1;
    }

    pub fn mark(&mut self, name: &'static str) {
        self.marks.insert(name);
    }

    pub fn add(&mut self, other: &Self) {
        self.cells.resize(Fault::KINDS.len(), [0; STATES.len()]);
        for (row, more) in self.cells.iter_mut().zip(&other.cells) {
            for (cell, count) in row.iter_mut().zip(more) {
                *cell += count;
            }
        }
        for (pair, count) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
        self.marks.extend(&other.marks);
    }

    /// Cells that were never reached: fault and state.
    pub fn empty_cells(&self) -> Vec<(&'static str, &'static str)> {
        let mut empty = Vec::new();
        for (kind, name) in Fault::KINDS.iter().enumerate() {
            for (state, of) in STATES.iter().enumerate() {
                if self.cells.get(kind).is_none_or(|row| row[state] == 0) {
                    empty.push((*name, *of));
                }
            }
        }
        empty
    }

    pub fn missing_marks(&self) -> Vec<&'static str> {
        MARKS.iter().copied().filter(|mark| !self.marks.contains(mark)).collect()
    }

    /// Pairs that the tables allow and nobody saw.
    pub fn missing_pairs(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        crate::inv_transitions::allowed().filter(|pair| !self.pairs.contains_key(pair)).collect()
    }

    pub fn table(&self) -> String {
        let mut text = format!("{:20}", "fault × call");
        for state in STATES {
            text.push_str(&format!("{state:>11}"));
        }
        text.push('\n');
        for (kind, name) in Fault::KINDS.iter().enumerate() {
            text.push_str(&format!("{name:20}"));
            for state in 0..STATES.len() {
                let count = self.cells.get(kind).map_or(0, |row| row[state]);
                text.push_str(&format!("{count:>11}"));
            }
            text.push('\n');
        }
        text
    }

    pub fn pair_lines(&self) -> String {
        let lines = self.pairs.iter().map(|((machine, from, to), count)| {
            format!("{machine:8} {from:>12} → {to:12} {count}\n")
        });
        lines.collect()
    }
}

/// Cells that can't be reached, each with its reason.
const IMPOSSIBLE: &[(&str, &str, &str)] = &[];

pub fn is_impossible((fault, state): (&str, &str)) -> bool {
    IMPOSSIBLE.iter().any(|(of, at, _)| *of == fault && *at == state)
}
