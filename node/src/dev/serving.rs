//! Which gateway serves which address: each writes down what it serves, and the supervisor reads it. One that goes on saying
//! that it serves what is another's by now stands still, and its listeners keep phones from that one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::time::MissedTickBehavior;

use super::folder::Folder;
use super::processes::Processes;
use super::supervisor::States;
use crate::config;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Who has lost a line and runs says so within a few times the interval of a lease's renewal. One that stood still for some seconds, with its
/// machine for instance, wakes up and gives way by itself.
const OUTLIVED: Duration = Duration::from_secs(15);

/// Line → the process that serves it.
pub type Serving = BTreeMap<String, String>;

/// Keeps `processes.json` current.
pub struct Publisher {
    folder: Folder,
    cluster: Arc<RwLock<config::Cluster>>,
    /// What was written last.
    known: Mutex<(States, Serving)>,
}

impl Publisher {
    pub fn new(folder: Folder, cluster: Arc<RwLock<config::Cluster>>) -> Self {
        Self { folder, cluster, known: Mutex::default() }
    }

    /// Processes have come or gone.
    pub fn on_change(&self, states: &States) {
        let mut known = self.known.lock();
        *known = (states.clone(), self.look(states));
        self.write(&known);
    }

    /// Looks for gateways that serve other lines than before, for ever; `kill` is for who has outlived a lease.
    pub async fn keep(&self, kill: impl Fn(&str)) {
        let mut outlived = Outlived::default();
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let said = self.said_by_all(&self.known.lock().0);
            for process in outlived.look(Instant::now(), &said) {
                kill(&process);
            }
            self.refresh();
        }
    }

    /// Until somebody serves each line: gateways that are ready have said so, or are about to.
    pub async fn all_served(&self) {
        let lines = self.cluster.read().gateways.len();
        while self.refresh() < lines {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How many lines are served.
    fn refresh(&self) -> usize {
        let mut known = self.known.lock();
        let serving = self.look(&known.0);
        if serving != known.1 {
            known.1 = serving;
            self.write(&known);
        }
        known.1.len()
    }

    fn look(&self, states: &States) -> Serving {
        who_serves(&self.said_by_all(states))
    }

    /// What each gateway that is alive says that it serves.
    fn said_by_all(&self, states: &States) -> Vec<(String, String)> {
        let gateways = self.cluster.read().gateways.clone();
        let alive = gateways
            .iter()
            .filter(|gateway| states.get(&gateway.name).is_some_and(|state| state.alive));
        alive.map(|gateway| (gateway.name.clone(), self.said(&gateway.name))).collect()
    }

    fn said(&self, gateway: &str) -> String {
        let path: PathBuf = self.folder.data(gateway).join(tandem_gateway::SERVED);
        // One that has not begun has not written it.
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn write(&self, (states, serving): &(States, Serving)) {
        let written =
            Processes::of(&self.cluster.read(), &self.folder, states, serving).write(&self.folder);
        if let Err(error) = written {
            tracing::error!(%error, "processes.json is out of date");
        }
    }
}

/// Line, life, process: each line as a process says that it serves it.
fn lives(said: &[(String, String)]) -> impl Iterator<Item = (&str, u64, &str)> {
    said.iter().flat_map(|(process, text)| {
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines.filter_map(move |(line, life)| Some((line, life.parse().ok()?, process.as_str())))
    })
}

/// Of two that say that they serve a line, the one in the later life does: the other stands still.
fn latest(said: &[(String, String)]) -> BTreeMap<&str, (u64, &str)> {
    let mut latest: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for (line, life, process) in lives(said) {
        let known = latest.entry(line).or_insert((life, process));
        if known.0 <= life {
            *known = (life, process);
        }
    }
    latest
}

fn who_serves(said: &[(String, String)]) -> Serving {
    let serves = latest(said).into_iter();
    serves.map(|(line, (_, process))| (line.to_owned(), process.to_owned())).collect()
}

/// Processes whose leases are over and who don't know it.
#[derive(Default)]
struct Outlived(BTreeMap<String, Instant>);

impl Outlived {
    /// Those of whom it was seen for long enough, once each.
    fn look(&mut self, now: Instant, said: &[(String, String)]) -> Vec<String> {
        let latest = latest(said);
        let old = |line: &str, life: u64| latest.get(line).is_some_and(|(last, _)| life < *last);
        let are: BTreeSet<&str> = lives(said)
            .filter(|(line, life, _)| old(line, *life))
            .map(|(_, _, process)| process)
            .collect();
        self.0.retain(|process, _| are.contains(process.as_str()));
        for process in are {
            self.0.entry(process.to_owned()).or_insert(now);
        }
        let due = |since: &Instant| now.duration_since(*since) >= OUTLIVED;
        let due: Vec<String> =
            self.0.iter().filter(|(_, since)| due(since)).map(|(name, _)| name.clone()).collect();
        self.0.retain(|process, _| !due.contains(process));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(process, text)| ((*process).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn line_is_served_by_who_says_so_in_its_latest_life() {
        let serving = who_serves(&said(&[
            ("gateway-a", "gateway-a 5\n"),
            ("gateway-b", "gateway-a 7\ngateway-b 3\nnonsense\n"),
            ("gateway-c", ""),
        ]));
        let serves = |line: &str| serving.get(line).map(String::as_str);
        assert_eq!(serves("gateway-a"), Some("gateway-b"));
        assert_eq!(serves("gateway-b"), Some("gateway-b"));
        assert_eq!(serving.len(), 2);
    }

    #[test]
    fn holder_that_goes_on_saying_that_it_serves_what_is_anothers_is_found_once() {
        let (begun, mut outlived) = (Instant::now(), Outlived::default());
        let mut look = |after: Duration, a: &str| {
            let said = said(&[("gateway-a", a), ("gateway-b", "gateway-a 7\ngateway-b 3\n")]);
            outlived.look(begun + after, &said)
        };
        let moment = Duration::from_millis(50);
        // It runs, and says so a moment later.
        assert!(look(Duration::ZERO, "gateway-a 5\n").is_empty());
        assert!(look(moment, "").is_empty());
        assert!(look(OUTLIVED, "gateway-a 5\n").is_empty(), "the time counts from now on");
        assert!(look(2 * OUTLIVED - moment, "gateway-a 5\n").is_empty());
        assert_eq!(look(2 * OUTLIVED, "gateway-a 5\n"), ["gateway-a"]);
        assert!(look(2 * OUTLIVED + moment, "gateway-a 5\n").is_empty());
        // Its line in a later life than the other's is its own again.
        assert!(look(5 * OUTLIVED, "gateway-a 9\n").is_empty());
    }
}
