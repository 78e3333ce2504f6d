//! The promise in two figures: calls that takeovers put at risk, and calls that they cost.

use tandem_core::survival::Survival;

use crate::ports::Leadership;
use crate::replica::Released;

/// A rate wants both to be there before the first takeover.
pub fn expose() {
    add(Survival::default());
}

/// An entry is counted by the process that leads in the term in which it was written: once, and not
/// again by a replica that follows, or that reads its log anew.
pub fn count(released: &Released, leads: Leadership) {
    if is_told_here(released.term, leads) {
        add(released.survival);
    }
}

fn is_told_here(term: u64, leads: Leadership) -> bool {
    leads.leading && leads.term == term
}

fn add(survival: Survival) {
    metrics::counter!("tandem_calls_at_risk_total").increment(survival.at_risk);
    metrics::counter!("tandem_calls_lost_total").increment(survival.lost);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_told_by_the_leader_of_its_term_alone() {
        let leads = |leading, term| Leadership { leading, term };
        assert!(is_told_here(7, leads(true, 7)));
        assert!(!is_told_here(7, leads(false, 7)), "a follower says nothing");
        assert!(!is_told_here(6, leads(true, 7)), "a predecessor has told it");
    }
}
