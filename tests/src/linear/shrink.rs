//! The part of a history that shows that it is not linearizable: for people, who read no thousand lines.

use std::time::Duration;

use super::{Done, Model, Verdict, check};

/// What is left of a history that is not linearizable when its end, then its reads and what nobody knows
/// the end of are taken away as far as it stays so; in the order of calls.
pub fn shortest<M: Model + Clone>(start: &M::State, history: &[Done<M>]) -> Vec<Done<M>> {
    let wrong = |part: &[Done<M>]| check(start, part) == Verdict::NotLinearizable;
    let mut ends: Vec<Duration> =
        history.iter().filter_map(|done| Some(done.answered.as_ref()?.0)).collect();
    ends.sort_unstable();
    // Whatever begins like a history that is not linearizable is not, either.
    let too_short = ends.partition_point(|end| !wrong(&up_to(history, *end)));
    let mut part = ends.get(too_short).map_or_else(|| history.to_vec(), |end| up_to(history, *end));
    part.sort_by_key(|done| done.called);
    let mut at = 0;
    while at < part.len() {
        let may_go = M::is_read(&part[at].operation) || part[at].answered.is_none();
        let mut without = part.clone();
        without.remove(at);
        if may_go && wrong(&without) {
            part = without;
        } else {
            at += 1;
        }
    }
    part
}

/// As it was known at that moment.
fn up_to<M: Model + Clone>(history: &[Done<M>], end: Duration) -> Vec<Done<M>> {
    let called = history.iter().filter(|done| done.called <= end);
    let known = called.map(|done| Done {
        answered: done.answered.clone().filter(|(at, _)| *at <= end),
        ..done.clone()
    });
    known.collect()
}
