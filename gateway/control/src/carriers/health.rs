//! Whether a trunk's peers are there: each is asked by OPTIONS (RFC 3261 §11), and called down or up
//! only when that has been said several times.
//!
//! ```text
//! up ──MISSES_DOWN in a row──▶ down ──ANSWERS_UP in a row, or one after HOLD_DOWN_MS of them──▶ up
//! ```
//! Any final answer says that the peer is there, as it does for Asterisk's `qualify`: carriers
//! answer 403, 404, 405 or 501 to an OPTIONS and take calls. 503 says that it takes none, and 408 that
//! what is behind it is gone.

use std::collections::BTreeMap;

use tandem_core::config::Config;
use tandem_core::trunk::outward::Peer;
use tandem_sip::Millis;

use super::Line;
use crate::limits;

const TIMED_OUT: u16 = 408;
const UNAVAILABLE: u16 = 503;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub line: Line,
    pub peer: Peer,
}

impl Target {
    pub fn set_gauge(&self, up: bool) {
        let Line { tenant, trunk } = &self.line;
        let labels = [
            ("tenant", tenant.to_string()),
            ("trunk", trunk.to_string()),
            ("peer", self.peer.to_string()),
        ];
        metrics::gauge!("tandem_trunk_peer_up", &labels).set(if up { 1.0 } else { 0.0 });
    }
}

/// Of a peer's state, with its number in this life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub target: Target,
    pub number: u64,
    pub up: bool,
    pub status: u16,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// `number` is of no other request.
    Ask { target: Target, number: u64 },
    /// It has waited long enough for an answer.
    Silent { branch: String },
}

#[derive(Debug)]
struct Known {
    every_ms: u64,
    /// When it is asked next, or no longer waited for.
    due_at: Millis,
    under_way: Option<String>,
    up: bool,
    misses: u32,
    answers: u32,
    answers_since: Option<Millis>,
    changes: u64,
}

#[derive(Debug, Default)]
pub struct Health {
    known: BTreeMap<Target, Known>,
    asked: BTreeMap<String, Target>,
    next: Option<Millis>,
    count: u64,
}

impl Health {
    /// Whoever is new is asked soon, one after the other; what is known of the others stays.
    pub fn configure<'c>(&mut self, now: Millis, configs: impl Iterator<Item = (u32, &'c Config)>) {
        let mut before = std::mem::take(&mut self.known);
        let of = |(tenant, config): (u32, &'c Config)| {
            config.trunks.iter().map(move |trunk| (tenant, trunk))
        };
        for (tenant, trunk) in configs.flat_map(of) {
            let Some(out) = trunk.out.as_ref().filter(|out| out.options_s > 0) else { continue };
            let every_ms = u64::from(out.options_s) * 1_000;
            for peer in &out.peers {
                let target = Target { line: Line { tenant, trunk: trunk.id.clone() }, peer: *peer };
                let wait_ms = self.known.len() as u64 * limits::OPTIONS_APART_MS;
                let mut known = before.remove(&target).unwrap_or(Known {
                    every_ms,
                    due_at: now.after(wait_ms),
                    under_way: None,
                    up: true,
                    misses: 0,
                    answers: 0,
                    answers_since: None,
                    changes: 0,
                });
                known.every_ms = every_ms;
                known.due_at = known.due_at.min(now.after(every_ms));
                self.known.insert(target, known);
            }
        }
        let known = &self.known;
        self.asked.retain(|_, target| known.contains_key(target));
        self.find_next();
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Each peer that is asked, and whether it is up.
    pub fn peers(&self) -> impl Iterator<Item = (&Target, bool)> {
        self.known.iter().map(|(target, known)| (target, known.up))
    }

    pub fn next(&self) -> Option<Millis> {
        self.next
    }

    pub fn pop_due(&mut self, now: Millis) -> Option<Due> {
        if self.next.is_none_or(|at| at > now) {
            return None;
        }
        let (target, known) = self.known.iter().find(|(_, known)| known.due_at <= now)?;
        if let Some(branch) = &known.under_way {
            return Some(Due::Silent { branch: branch.clone() });
        }
        self.count += 1;
        Some(Due::Ask { target: target.clone(), number: self.count })
    }

    pub fn asked(&mut self, now: Millis, target: &Target, branch: &str) {
        let Some(known) = self.known.get_mut(target) else { return };
        known.under_way = Some(branch.to_owned());
        known.due_at = now.after(limits::OPTIONS_REPLY_MS.min(known.every_ms));
        self.asked.insert(branch.to_owned(), target.clone());
        self.find_next();
    }

    /// None for a status: nothing came. An answer to a request that was given up says nothing.
    pub fn on_answer(&mut self, now: Millis, branch: &str, status: Option<u16>) -> Option<Change> {
        let target = self.asked.remove(branch)?;
        let known = self.known.get_mut(&target)?;
        known.under_way = None;
        let status = status.unwrap_or(TIMED_OUT);
        let is_there = status != TIMED_OUT && status != UNAVAILABLE;
        let outcome = if is_there { "answered" } else { "missed" };
        metrics::counter!("tandem_trunk_options_total", "outcome" => outcome).increment(1);
        let changed = if is_there { known.on_there(now) } else { known.on_missed() };
        // Whoever is in doubt is asked sooner, so that the doubt is short.
        let in_doubt = !known.up || known.misses > 0;
        let wait_ms = if in_doubt { limits::OPTIONS_DOUBT_MS } else { known.every_ms };
        known.due_at = now.after(wait_ms.min(known.every_ms));
        let (number, up) = (known.changes, known.up);
        self.find_next();
        changed.then_some(Change { target, number, up, status })
    }

    fn find_next(&mut self) {
        self.next = self.known.values().map(|known| known.due_at).min();
    }
}

impl Known {
    /// True where that changes what it is.
    fn on_there(&mut self, now: Millis) -> bool {
        self.misses = 0;
        if self.up {
            return false;
        }
        self.answers += 1;
        let since = *self.answers_since.get_or_insert(now);
        if self.answers < limits::OPTIONS_ANSWERS_UP && now.since(since) < limits::HOLD_DOWN_MS {
            return false;
        }
        self.change(true)
    }

    fn on_missed(&mut self) -> bool {
        (self.answers, self.answers_since) = (0, None);
        self.misses = self.misses.saturating_add(1);
        self.up && self.misses >= limits::OPTIONS_MISSES_DOWN && self.change(false)
    }

    fn change(&mut self, up: bool) -> bool {
        self.up = up;
        self.changes += 1;
        (self.answers, self.answers_since) = (0, None);
        true
    }
}

#[cfg(test)]
mod tests {
    use tandem_core::demo::demo_config;
    use tandem_core::trunk::outward::Outward;

    use super::*;

    const EVERY_S: u16 = 30;

    fn config(options_s: u16) -> Config {
        let mut config = demo_config();
        config.trunks[0].out = Some(Outward {
            peers: vec!["192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5060".parse().unwrap()],
            priority: 1,
            weight: 1,
            calls_per_second: 0,
            reply_ms: 4_000,
            no_answer_ms: 60_000,
            caller_id: None,
            hide_caller: false,
            called: Vec::new(),
            calling: Vec::new(),
            credentials: None,
            options_s,
            register: None,
        });
        config
    }

    struct Bench {
        health: Health,
        now: Millis,
        asked: u32,
    }

    impl Bench {
        /// Both peers have answered once.
        fn new() -> Self {
            let mut bench = Self { health: Health::default(), now: Millis(0), asked: 0 };
            bench.health.configure(bench.now, [(0, &config(EVERY_S))].into_iter());
            bench.answers(Some(200));
            bench.answers(Some(200));
            bench
        }

        /// The next that is due is asked and answers so; how long it took until it was asked.
        fn answers(&mut self, status: Option<u16>) -> (u64, Option<Change>) {
            let since = self.now;
            self.now = self.health.next().expect("somebody is to be asked").max(self.now);
            let Some(Due::Ask { target, .. }) = self.health.pop_due(self.now) else {
                panic!("nobody is asked")
            };
            self.asked += 1;
            let branch = self.asked.to_string();
            self.health.asked(self.now, &target, &branch);
            (self.now.since(since), self.health.on_answer(self.now, &branch, status))
        }

        /// The first peer alone.
        fn one() -> Self {
            let mut bench = Self::new();
            let mut config = config(EVERY_S);
            config.trunks[0].out.as_mut().unwrap().peers.truncate(1);
            bench.health.configure(bench.now, [(0, &config)].into_iter());
            bench
        }
    }

    #[test]
    fn peer_is_down_after_two_misses_and_up_after_three_answers() {
        let mut bench = Bench::one();
        assert_eq!(bench.answers(None).1, None);
        let (soon, change) = bench.answers(Some(503));
        assert_eq!(soon, limits::OPTIONS_DOUBT_MS, "in doubt it is asked sooner");
        let down = change.expect("it is down");
        assert_eq!((down.number, down.up, down.status), (1, false, 503));
        for status in [Some(200), Some(404), None, Some(200), Some(405)] {
            assert_eq!(bench.answers(status).1, None, "no flapping");
        }
        let up = bench.answers(Some(501)).1.expect("it is up");
        assert_eq!((up.number, up.up, up.status), (2, true, 501));
        assert_eq!(bench.answers(Some(200)).0, u64::from(EVERY_S) * 1_000);
    }

    #[test]
    fn peer_that_answers_for_long_enough_is_up_without_a_third_answer() {
        let mut bench = Bench::one();
        bench.answers(None);
        assert!(bench.answers(None).1.is_some_and(|change| !change.up));
        assert_eq!(bench.answers(Some(200)).1, None);
        bench.now = bench.now.after(limits::HOLD_DOWN_MS);
        assert!(bench.answers(Some(200)).1.is_some_and(|change| change.up));
    }

    #[test]
    fn silence_is_a_miss_and_a_late_answer_says_nothing() {
        let mut bench = Bench::one();
        bench.now = bench.health.next().unwrap();
        let Some(Due::Ask { target, .. }) = bench.health.pop_due(bench.now) else { panic!() };
        bench.health.asked(bench.now, &target, "a");
        assert_eq!(bench.health.pop_due(bench.now), None);
        bench.now = bench.now.after(limits::OPTIONS_REPLY_MS);
        assert_eq!(bench.health.pop_due(bench.now), Some(Due::Silent { branch: "a".into() }));
        assert_eq!(bench.health.on_answer(bench.now, "a", None), None);
        assert_eq!(bench.health.on_answer(bench.now, "a", Some(200)), None);
        assert!(bench.answers(None).1.is_some_and(|change| change.status == TIMED_OUT));
    }

    #[test]
    fn new_configuration_keeps_what_is_known_and_forgets_who_is_asked_no_more() {
        let mut bench = Bench::one();
        bench.answers(None);
        assert!(bench.answers(None).1.is_some());
        bench.health.configure(bench.now, [(0, &config(5))].into_iter());
        assert_eq!(bench.health.peers().map(|(_, up)| up).collect::<Vec<_>>(), [false, true]);
        bench.health.configure(bench.now, [(0, &config(0))].into_iter());
        assert!(bench.health.is_empty() && bench.health.next().is_none());
        bench.health.configure(bench.now, [(0, &config(5))].into_iter());
        assert!(bench.health.peers().all(|(_, up)| up), "they begin anew");
    }
}
