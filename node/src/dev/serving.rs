//! Which gateway serves which address: each writes down what it serves, and the supervisor reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::MissedTickBehavior;

use super::folder::Folder;
use super::processes::Processes;
use super::supervisor::States;
use crate::config;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

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

    /// Looks for gateways that serve other lines than before, for ever.
    pub async fn keep(&self) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
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
        let gateways = self.cluster.read().gateways.clone();
        let alive = gateways
            .iter()
            .filter(|gateway| states.get(&gateway.name).is_some_and(|state| state.alive));
        let said = alive.map(|gateway| (gateway.name.clone(), self.said(&gateway.name)));
        who_serves(said)
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

/// Of two that say that they serve a line, the one in the later life does: the other stands still.
fn who_serves(said: impl Iterator<Item = (String, String)>) -> Serving {
    let mut latest: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for (process, text) in said {
        let lives = text.lines().filter_map(|line| line.rsplit_once(' '));
        for (line, life) in lives {
            let Ok(life) = life.parse() else { continue };
            let known = latest.entry(line.to_owned()).or_default();
            if known.0 <= life {
                *known = (life, process.clone());
            }
        }
    }
    latest.into_iter().map(|(line, (_, process))| (line, process)).collect()
}

#[test]
fn line_is_served_by_who_says_so_in_its_latest_life() {
    let said = [
        ("gateway-a", "gateway-a 5\n"),
        ("gateway-b", "gateway-a 7\ngateway-b 3\nnonsense\n"),
        ("gateway-c", ""),
    ];
    let said = said.map(|(process, text)| (process.to_owned(), text.to_owned()));
    let serving = who_serves(said.into_iter());
    let serves = |line: &str| serving.get(line).map(String::as_str);
    assert_eq!(serves("gateway-a"), Some("gateway-b"));
    assert_eq!(serves("gateway-b"), Some("gateway-b"));
    assert_eq!(serving.len(), 2);
}
