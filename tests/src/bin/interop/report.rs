//! The table at the end: a row a peer, a column a feature.

use anyhow::Result;
use comfy_table::{Table, presets};

#[derive(Default)]
pub struct Report {
    cells: Vec<(String, &'static str, Result<(), String>)>,
}

impl Report {
    /// Notes how a feature went, and says so at once.
    pub fn note(&mut self, peer: &str, feature: &'static str, went: Result<()>) -> bool {
        let went = went.map_err(|error| format!("{error:#}"));
        match &went {
            Ok(()) => println!("{peer}: {feature}: works"),
            Err(why) => println!("{peer}: {feature}: FAILS: {why}"),
        }
        let works = went.is_ok();
        self.cells.push((peer.to_owned(), feature, went));
        works
    }

    pub fn all_work(&self) -> bool {
        !self.cells.is_empty() && self.cells.iter().all(|(_, _, went)| went.is_ok())
    }

    pub fn print(&self) {
        let mut peers: Vec<&str> = Vec::new();
        let mut features: Vec<&str> = Vec::new();
        for (peer, feature, _) in &self.cells {
            if !peers.contains(&peer.as_str()) {
                peers.push(peer);
            }
            if !features.contains(feature) {
                features.push(feature);
            }
        }
        let mut table = Table::new();
        let header = std::iter::once("").chain(features.iter().copied());
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
        for peer in &peers {
            let cell = |feature: &&str| {
                let found = self.cells.iter().find(|(p, f, _)| p == peer && f == feature);
                match found {
                    None => "–",
                    Some((_, _, Ok(()))) => "works",
                    Some((_, _, Err(_))) => "FAILS",
                }
            };
            let row = std::iter::once(*peer).chain(features.iter().map(cell));
            table.add_row(row);
        }
        println!("{table}");
        for (peer, feature, went) in &self.cells {
            if let Err(why) = went {
                println!("{peer}: {feature}: {why}");
            }
        }
    }
}
