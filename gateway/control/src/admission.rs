//! Whom the gateway lets in while it, or the cluster, is slow to take what comes: live calls always,
//! then agents' phones, new calls last. Pure: time is an input.
//!
//! The delay that counts is the least of a window, as in `CoDel` (RFC 8289 §3.1): a burst, an
//! election or a disk that stood still makes some events wait, and only too much work makes all of them
//! wait. The share that is let in then falls and rises as TCP's window does (RFC 5681): a server that
//! is told how much it may send knows no better either (RFC 7339 §5).

use tandem_sip::Millis;

use crate::limits::{AGENTS_DELAY_MS_MAX, NEW_CALLS_DELAY_MS_MAX};

/// Longer than a commit takes on a busy disk.
const WINDOW_MS: u64 = 250;
const ALL: u64 = 1_000;
/// So many of a thousand come through at the worst: they tell when it is over.
const LEAST: u64 = 20;
/// What one good window gives back, of a thousand.
const STEP: u64 = 20;
/// Fewer events than this in a window are no load, however long they have waited: 80 a second.
const EVENTS_MIN: u64 = 20;

/// Who asks to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    NewCall,
    /// A registration, a subscription or a text.
    Agent,
}

#[derive(Debug)]
struct Share {
    delay_ms_max: u64,
    /// Of a thousand.
    admitted: u64,
    credit: u64,
}

impl Share {
    fn new(delay_ms_max: u64) -> Self {
        Self { delay_ms_max, admitted: ALL, credit: 0 }
    }

    fn on_window(&mut self, delay_ms: u64) {
        self.admitted = if delay_ms > self.delay_ms_max {
            let in_proportion = self.admitted * self.delay_ms_max / delay_ms;
            in_proportion.max(self.admitted / 2).max(LEAST)
        } else {
            (self.admitted + STEP).min(ALL)
        };
    }

    fn admit(&mut self) -> bool {
        self.credit += self.admitted;
        let admitted = self.credit >= ALL;
        self.credit -= if admitted { ALL } else { 0 };
        admitted
    }
}

#[derive(Debug)]
pub struct Admission {
    window_ends: Millis,
    /// Events that were accepted in this window, and the shortest wait of theirs.
    events: u64,
    least_ms: u64,
    /// The shortest wait of a message for its turn in this gateway.
    least_turn_ms: u64,
    new_calls: Share,
    agents: Share,
}

impl Admission {
    pub fn new(now: Millis) -> Self {
        Self {
            window_ends: now.after(WINDOW_MS),
            events: 0,
            least_ms: u64::MAX,
            least_turn_ms: u64::MAX,
            new_calls: Share::new(NEW_CALLS_DELAY_MS_MAX),
            agents: Share::new(AGENTS_DELAY_MS_MAX),
        }
    }

    /// A message has its turn in this gateway after it has waited for so long.
    pub fn on_turn(&mut self, now: Millis, waited_ms: u64) {
        self.settle(now);
        self.least_turn_ms = self.least_turn_ms.min(waited_ms);
    }

    /// An event counts after it has waited for so long.
    pub fn on_accepted(&mut self, now: Millis, waited_ms: u64) {
        self.settle(now);
        self.events += 1;
        self.least_ms = self.least_ms.min(waited_ms);
    }

    pub fn admits(&mut self, now: Millis, asks: Asks) -> bool {
        self.settle(now);
        match asks {
            Asks::NewCall => self.new_calls.admit(),
            Asks::Agent => self.agents.admit(),
        }
    }

    /// New calls that are let in, of a thousand.
    pub fn new_calls_permille(&self) -> u64 {
        self.new_calls.admitted
    }

    /// Ends a window that is over.
    pub fn settle(&mut self, now: Millis) {
        if now < self.window_ends {
            return;
        }
        // A window that nobody has asked about was an idle one.
        let idle = now >= self.window_ends.after(WINDOW_MS);
        let events = std::mem::take(&mut self.events);
        let least_ms = std::mem::replace(&mut self.least_ms, u64::MAX);
        let turn_ms = std::mem::replace(&mut self.least_turn_ms, u64::MAX);
        let turn_ms = if turn_ms == u64::MAX { 0 } else { turn_ms };
        let loaded = events >= EVENTS_MIN;
        for share in [&mut self.new_calls, &mut self.agents] {
            if idle || events == 0 {
                // Who is told nothing has nothing to do.
                share.admitted = ALL;
            } else {
                share.on_window(if loaded { least_ms.saturating_add(turn_ms) } else { 0 });
            }
        }
        self.window_ends = now.after(WINDOW_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forty events a window, each of which waits so long; what of a thousand new calls came through.
    fn windows(admission: &mut Admission, now: &mut u64, count: u64, waited_ms: u64) -> u64 {
        for _ in 0..count * 10 {
            *now += WINDOW_MS / 10;
            (0..4).for_each(|_| admission.on_accepted(Millis(*now), waited_ms));
        }
        (0..1_000).filter(|_| admission.admits(Millis(*now), Asks::NewCall)).count() as u64
    }

    #[test]
    fn cluster_that_keeps_up_takes_all() {
        let (mut admission, mut now) = (Admission::new(Millis(0)), 0);
        assert_eq!(windows(&mut admission, &mut now, 100, NEW_CALLS_DELAY_MS_MAX), 1_000);
    }

    #[test]
    fn who_waits_in_vain_is_turned_away_and_let_in_again_when_it_is_over() {
        let (mut admission, mut now) = (Admission::new(Millis(0)), 0);
        let too_long = 3 * NEW_CALLS_DELAY_MS_MAX / 2;
        let mut before = 1_000;
        for _ in 0..4 {
            let admitted = windows(&mut admission, &mut now, 2, too_long);
            assert!(admitted < before, "{admitted} of {before}");
            before = admitted;
        }
        // Agents are let in as before.
        assert!((0..100).all(|_| admission.admits(Millis(now), Asks::Agent)));
        assert!(windows(&mut admission, &mut now, 100, 10 * too_long) >= LEAST);
        assert!(!(0..100).all(|_| admission.admits(Millis(now), Asks::Agent)));
        let over = windows(&mut admission, &mut now, 20, 1);
        assert!((LEAST + 300..1_000).contains(&over), "{over}");
        assert_eq!(windows(&mut admission, &mut now, 60, 1), 1_000);
    }

    #[test]
    fn burst_that_is_over_within_a_window_turns_nobody_away() {
        let (mut admission, mut now) = (Admission::new(Millis(0)), 0);
        for _ in 0..50 {
            now += WINDOW_MS / 5;
            admission.on_accepted(Millis(now), 2_000);
            admission.on_accepted(Millis(now), 3);
        }
        assert_eq!(admission.new_calls_permille(), 1_000);
    }

    #[test]
    fn wait_for_a_turn_in_the_gateway_counts_as_well() {
        let mut admission = Admission::new(Millis(0));
        for now in 1..4 * WINDOW_MS {
            admission.on_turn(Millis(now), NEW_CALLS_DELAY_MS_MAX - 10);
            admission.on_accepted(Millis(now), 20);
        }
        assert!(admission.new_calls_permille() < 1_000);
    }

    #[test]
    fn few_events_that_wait_for_an_election_turn_nobody_away() {
        let mut admission = Admission::new(Millis(0));
        for n in 1..100 {
            admission.on_accepted(Millis(n * WINDOW_MS / 2), 400);
            assert!(admission.admits(Millis(n * WINDOW_MS / 2), Asks::NewCall));
        }
    }

    #[test]
    fn silence_ends_it() {
        let (mut admission, mut now) = (Admission::new(Millis(0)), 0);
        assert!(windows(&mut admission, &mut now, 20, 10 * NEW_CALLS_DELAY_MS_MAX) < 100);
        now += 3 * WINDOW_MS;
        assert!((0..100).all(|_| admission.admits(Millis(now), Asks::NewCall)));
    }
}
