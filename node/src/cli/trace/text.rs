//! The ladder in characters.

use std::fmt::Write as _;

use super::ladder::{Arrow, Trace};

/// Characters of a column, its lifeline in the middle.
const COLUMN: usize = 26;
/// Of the time and what is around it.
const MARGIN: &str = "              ";

pub fn ladder(trace: &Trace) -> String {
    let parties = trace.parties();
    let mut text = String::new();
    let names: String = parties.iter().map(|name| format!("{name:^COLUMN$}")).collect();
    // Writing to a string can't fail.
    let _ = writeln!(text, "call {}\n\n{MARGIN}{}", trace.call, names.trim_end());
    for item in &trace.items {
        match Trace::arrow(&parties, item) {
            Some(arrow) => {
                let line = draw(parties.len(), arrow, &item.summary);
                let _ = writeln!(text, "{}  {line}", item.time());
            }
            None => {
                let _ = writeln!(text, "{}    {}: {}", item.time(), item.gateway, item.summary);
            }
        }
    }
    for gateway in &trace.missing {
        let _ = writeln!(text, "\n{gateway} did not say what it saw");
    }
    text
}

fn draw(columns: usize, arrow: Arrow, label: &str) -> String {
    let middle = |column: usize| column * COLUMN + COLUMN / 2;
    let mut line = vec![' '; columns * COLUMN];
    for column in 0..columns {
        line[middle(column)] = '│';
    }
    let (left, right) = (middle(arrow.from.min(arrow.to)), middle(arrow.from.max(arrow.to)));
    line[left + 1..right].fill('─');
    if arrow.to > arrow.from {
        line[right - 1] = '▶';
    } else {
        line[left + 1] = '◀';
    }
    let room = right - left - 5;
    let label: Vec<char> = label.chars().take(room).collect();
    let begin = left + (right - left - label.len()) / 2;
    line[begin - 1] = ' ';
    line[begin + label.len()] = ' ';
    line[begin..begin + label.len()].copy_from_slice(&label);
    line.into_iter().collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn ladder_shows_arrows_events_and_who_is_missing() {
        let text = super::ladder(&super::super::ladder::example());
        expect![[r#"
            call 00000000000000a1

                                192.0.2.1:5060              gateway-a                 gateway-b              192.0.2.7:40001
            12:00:00.001               │───── INVITE 4001 ──────▶│                         │                         │
            12:00:00.003               │◀ 100 Trying (INVITE) ───│                         │                         │
            12:00:00.004    gateway-a: media version 1: music
            12:00:00.005               │                         │                         │───── INVITE 1001 ──────▶│
            12:00:00.009               │                         │                         │◀ 180 Ringing (INVITE) ──│

            gateway-c did not say what it saw
        "#]].assert_eq(&text);
    }

    #[test]
    fn label_that_is_too_long_is_cut() {
        let arrow = super::Arrow { from: 0, to: 1 };
        let line = super::draw(2, arrow, &"x".repeat(300));
        assert_eq!(line.chars().count(), 26 + 14);
    }
}
