//! The table at the end: a column a peer, a row a feature.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use comfy_table::{Table, presets};

/// The rows, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    Registers,
    /// A carrier's switch: our gateways register with it.
    RegistersUs,
    IsCalled,
    CallsColleague,
    CallsQueue,
    CallsEcho,
    Holds,
    SendsKeys,
    HearsKeys,
    Transfers,
    AsksAndTransfers,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registers => "registers",
            Self::RegistersUs => "registers us",
            Self::IsCalled => "is called",
            Self::CallsColleague => "calls a colleague",
            Self::CallsQueue => "calls a queue",
            Self::CallsEcho => "calls the echo",
            Self::Holds => "holds and retrieves",
            Self::SendsKeys => "sends keys",
            Self::HearsKeys => "hears keys",
            Self::Transfers => "transfers",
            Self::AsksAndTransfers => "asks and transfers",
        })
    }
}

enum Outcome {
    Works,
    Fails(String),
}

#[derive(Default)]
struct Noted {
    cells: Vec<(&'static str, Feature, Outcome)>,
    /// Peers that were not tried, and why.
    left_out: Vec<(&'static str, String)>,
}

/// What peers that are tried at the same time tell.
#[derive(Default)]
pub struct Report {
    noted: Mutex<Noted>,
}

impl Report {
    /// Notes how a feature went, and says so at once.
    pub fn note(&self, peer: &'static str, feature: Feature, went: Result<()>) -> bool {
        let (outcome, works) = match went {
            Ok(()) => {
                println!("{peer}: {feature}: works");
                (Outcome::Works, true)
            }
            Err(error) => {
                let why = format!("{error:#}");
                println!("{peer}: {feature}: FAILS: {why}");
                (Outcome::Fails(why), false)
            }
        };
        self.lock().cells.push((peer, feature, outcome));
        works
    }

    /// Nothing of this peer was tried: that fails nothing, but it is seen.
    pub fn leave_out(&self, peer: &'static str, why: &str) {
        println!("{peer}: NOT RUN: {why}");
        self.lock().left_out.push((peer, why.to_owned()));
    }

    pub fn all_work(&self) -> bool {
        let noted = self.lock();
        let works = |outcome: &Outcome| match outcome {
            Outcome::Works => true,
            Outcome::Fails(_) => false,
        };
        !noted.cells.is_empty() && noted.cells.iter().all(|(_, _, outcome)| works(outcome))
    }

    pub fn print(&self) {
        let noted = self.lock();
        let left_out = noted.left_out.iter().map(|(peer, _)| *peer);
        let peers: BTreeSet<&str> =
            noted.cells.iter().map(|(peer, _, _)| *peer).chain(left_out).collect();
        let features: BTreeSet<Feature> = noted.cells.iter().map(|(_, it, _)| *it).collect();
        let mut table = Table::new();
        let header = std::iter::once("").chain(peers.iter().copied());
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
        for feature in features {
            let cell = |peer: &&str| {
                let found = noted.cells.iter().find(|(p, f, _)| p == peer && *f == feature);
                let left_out = noted.left_out.iter().any(|(p, _)| p == peer);
                match found {
                    None if left_out => "not run",
                    None => "–",
                    Some((_, _, Outcome::Works)) => "works",
                    Some((_, _, Outcome::Fails(_))) => "FAILS",
                }
            };
            let row = std::iter::once(feature.to_string());
            table.add_row(row.chain(peers.iter().map(|peer| cell(peer).to_owned())));
        }
        println!("{table}");
        for (peer, feature, outcome) in &noted.cells {
            match outcome {
                Outcome::Works => {}
                Outcome::Fails(why) => println!("{peer}: {feature}: {why}"),
            }
        }
        for (peer, why) in &noted.left_out {
            println!("{peer}: NOT RUN: {why}");
        }
    }

    /// Whoever panicked while noting has noted nothing by halves.
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
