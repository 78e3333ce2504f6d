//! The table at the end.

use comfy_table::{Table, presets};

#[derive(Default)]
pub struct Verdict {
    rows: Vec<(String, bool, String)>,
}

impl Verdict {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn judge(&mut self, what: &str, kept: bool, detail: &str) {
        self.rows.push((what.to_owned(), kept, detail.to_owned()));
    }

    pub fn all_kept(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|(_, kept, _)| *kept)
    }

    pub fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["what", "kept", "seen"]);
        for (what, kept, detail) in &self.rows {
            table.add_row([what.as_str(), if *kept { "yes" } else { "NO" }, detail.as_str()]);
        }
        println!("{table}");
        let kept = self.rows.iter().filter(|(_, kept, _)| *kept).count();
        println!("{kept} of {} kept", self.rows.len());
    }
}
