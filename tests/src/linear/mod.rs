//! Whether a history of concurrent operations is linearizable: could each have taken effect at one moment
//! between its call and its answer, one after the other, so that all answers come out as they did?
//!
//! The search is Wing and Gong's with Lowe's memory of what has been tried ("Testing for linearizability",
//! 2017), one key at a time, for a history is linearizable if that of each key is (Horn and Kroening,
//! "Faster linearizability checking via P-compositionality", 2015).
//!
//! An operation that nobody knows the end of (a time-out, a connection that broke) may take effect at any
//! moment after its call, or never.

pub mod queue;
pub mod register;
mod shrink;

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

pub use shrink::shortest;

/// Steps of one search, each with some 200 bytes to remember; a history that needs more is not decided.
const STEPS_MAX: u64 = 2_000_000;

/// What the thing does when one asks it at a time.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Operation: Clone + Debug;
    type Answer: Clone + Debug;

    /// The state after it, where that answer is possible; any is, where none is known.
    fn step(
        state: &Self::State,
        operation: &Self::Operation,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;

    /// It changes nothing, so that a history without it is one, too.
    fn is_read(operation: &Self::Operation) -> bool;

    /// Whether an answer can come of nothing but this operation having taken effect. One of unknown
    /// end that no answer shows is left out: the search would try it everywhere in vain.
    fn shows(answer: &Self::Answer, operation: &Self::Operation) -> bool;
}

#[derive(Clone, Debug)]
pub struct Done<M: Model> {
    pub client: u32,
    pub operation: M::Operation,
    /// Since the history began.
    pub called: Duration,
    /// When, and what; nothing where nobody knows.
    pub answered: Option<(Duration, M::Answer)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    NotLinearizable,
    /// The search had taken too many steps.
    Undecided,
}

/// Of the operations on one key, from `start` on, in any order.
pub fn check<M: Model>(start: &M::State, history: &[Done<M>]) -> Verdict {
    let matters = |done: &&Done<M>| {
        let answers = || history.iter().filter_map(|other| other.answered.as_ref());
        done.answered.is_some() || answers().any(|(_, a)| M::shows(a, &done.operation))
    };
    let history: Vec<&Done<M>> = history.iter().filter(matters).collect();
    Search::new(start.clone(), &history).run()
}

/// A call or an answer of the operation `of`, in the order of time.
#[derive(Clone, Copy)]
struct Event {
    of: usize,
    is_call: bool,
    before: usize,
    after: usize,
}

/// Of the list of events; it stands before the first and behind the last.
const END: usize = 0;

struct Search<'h, M: Model> {
    history: &'h [&'h Done<M>],
    /// A list through which the events that are left are linked.
    events: Vec<Event>,
    /// Of each operation, its answer's place there.
    answers: Vec<Option<usize>>,
    state: M::State,
    /// A bit for each operation that has taken effect.
    taken: Vec<u64>,
    tried: HashSet<(Vec<u64>, M::State)>,
    unanswered_left: usize,
}

impl<'h, M: Model> Search<'h, M> {
    fn new(state: M::State, history: &'h [&'h Done<M>]) -> Self {
        let mut order = Vec::new();
        for (of, done) in history.iter().enumerate() {
            order.push((done.called, false, of));
            order.extend(done.answered.as_ref().map(|(at, _)| (*at, true, of)));
        }
        // What is called in the moment in which another is answered may have been before it.
        order.sort_unstable();
        let last = order.len();
        let mut events = vec![Event { of: 0, is_call: false, before: last, after: last.min(1) }];
        let mut answers = vec![None; history.len()];
        for (at, (_, is_answer, of)) in (1..).zip(order) {
            let after = if at == last { END } else { at + 1 };
            events.push(Event { of, is_call: !is_answer, before: at - 1, after });
            if is_answer {
                answers[of] = Some(at);
            }
        }
        let unanswered_left = answers.iter().flatten().count();
        let taken = vec![0; history.len().div_ceil(64)];
        Self { history, events, answers, state, taken, tried: HashSet::new(), unanswered_left }
    }

    fn run(mut self) -> Verdict {
        let mut path: Vec<(usize, M::State)> = Vec::new();
        let mut at = self.events[END].after;
        for _ in 0..STEPS_MAX {
            if self.unanswered_left == 0 {
                return Verdict::Linearizable;
            }
            let event = self.events[at];
            if event.is_call {
                let done = self.history[event.of];
                let answer = done.answered.as_ref().map(|(_, answer)| answer);
                let next = M::step(&self.state, &done.operation, answer);
                match next.filter(|next| self.is_new(event.of, next)) {
                    Some(next) => {
                        path.push((at, std::mem::replace(&mut self.state, next)));
                        self.take(at);
                        at = self.events[END].after;
                    }
                    None => at = event.after,
                }
            } else {
                // It was answered, so that it must have taken effect by now.
                let Some((call, before)) = path.pop() else { return Verdict::NotLinearizable };
                self.state = before;
                self.give_back(call);
                at = self.events[call].after;
            }
        }
        Verdict::Undecided
    }

    /// Nothing like it was tried: the same operations have led to another state.
    fn is_new(&mut self, of: usize, next: &M::State) -> bool {
        let mut taken = self.taken.clone();
        taken[of / 64] |= 1 << (of % 64);
        self.tried.insert((taken, next.clone()))
    }

    fn take(&mut self, call: usize) {
        let of = self.events[call].of;
        self.taken[of / 64] |= 1 << (of % 64);
        self.unlink(call);
        if let Some(answer) = self.answers[of] {
            self.unlink(answer);
            self.unanswered_left -= 1;
        }
    }

    fn give_back(&mut self, call: usize) {
        let of = self.events[call].of;
        self.taken[of / 64] &= !(1 << (of % 64));
        // In the reverse order of `take`.
        if let Some(answer) = self.answers[of] {
            self.link(answer);
            self.unanswered_left += 1;
        }
        self.link(call);
    }

    fn unlink(&mut self, at: usize) {
        let Event { before, after, .. } = self.events[at];
        self.events[before].after = after;
        self.events[after].before = before;
    }

    fn link(&mut self, at: usize) {
        let Event { before, after, .. } = self.events[at];
        self.events[before].after = at;
        self.events[after].before = at;
    }
}

#[cfg(test)]
mod tests;
