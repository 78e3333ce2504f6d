//! Since when who leads can have been the only one to renew leases.

/// What a node sees of who leads, told whenever that changes. Moments are of its boot clock, in milliseconds.
///
/// A renewal is confirmed by a majority behind the moment in which it was asked for, and a majority that has elected a leader
/// confirms no other: what others have renewed was asked for before the election. A new leader can serve only when the first
/// entry of its term is committed, which a slow disk may make late: leases need not be counted from there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reign {
    /// The term in which this node leads, and since when.
    leads: Option<(u64, u64)>,
    serves: bool,
}

impl Reign {
    /// `leads`: it was elected in this term; `serves`: it has what was committed before, and a majority answers it.
    pub fn see(&mut self, term: u64, leads: bool, serves: bool, now_ms: u64) {
        // It has renewed leases itself until now.
        let has_stopped = self.serves && !serves;
        self.serves = leads && serves;
        let before = self.leads.filter(|(of, _)| *of == term && !has_stopped);
        self.leads = leads.then(|| before.unwrap_or((term, now_ms)));
    }

    /// What this node counts leases from that were renewed by others, or by itself before it stopped serving. Without a
    /// lead: from now on.
    pub fn since_ms(&self, now_ms: u64) -> u64 {
        self.leads.map_or(now_ms, |(_, since_ms)| since_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reign_begins_with_the_election_and_not_with_the_first_commit() {
        let mut reign = Reign::default();
        reign.see(3, false, false, 100);
        assert_eq!(reign.since_ms(150), 150);
        reign.see(4, true, false, 200);
        reign.see(4, true, true, 800);
        assert_eq!(reign.since_ms(900), 200);
    }

    #[test]
    fn who_stops_serving_within_its_term_counts_from_there() {
        let mut reign = Reign::default();
        reign.see(4, true, true, 200);
        // No majority answers: what it renewed a moment ago holds.
        reign.see(4, true, false, 5_000);
        reign.see(4, true, true, 5_300);
        assert_eq!(reign.since_ms(6_000), 5_000);
        // It gives its lead away, and gets it back in the same term.
        reign.see(4, false, false, 7_000);
        reign.see(4, true, true, 7_100);
        assert_eq!(reign.since_ms(8_000), 7_100);
    }

    #[test]
    fn another_term_is_another_reign_though_nothing_was_seen_between() {
        let mut reign = Reign::default();
        reign.see(4, true, true, 200);
        reign.see(6, true, true, 9_000);
        assert_eq!(reign.since_ms(9_500), 9_000);
    }
}
