//! The codes of what an operator reads in a log, asked of the sources themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The catalogue of metrics only names the codes' pages.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && !["target", "tests", "catalogue"].iter().any(|other| name == *other) {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each `TDnnnn` of a text, with what stands behind it up to the end of its literal.
fn codes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("TD0").filter_map(|(at, _)| {
        let code = text.get(at..at + 6)?;
        let is_code = code[2..].bytes().all(|byte| byte.is_ascii_digit());
        let rest = &text[at + 6..];
        is_code.then(|| (code, rest.split('"').next().unwrap_or_default()))
    })
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Each code, with the crates that say it and what they say.
fn said() -> BTreeMap<String, BTreeSet<(PathBuf, String)>> {
    let mut said: BTreeMap<String, BTreeSet<(PathBuf, String)>> = BTreeMap::new();
    for folder in ["actors", "storage", "cluster", "gateway", "node"] {
        let mut files = Vec::new();
        sources(&workspace().join(folder), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source");
            let of_crate = file.ancestors().find(|dir| dir.join("Cargo.toml").exists());
            for (code, what) in codes(&text) {
                let place = (of_crate.expect("a crate").to_path_buf(), what.to_owned());
                said.entry(code.to_owned()).or_default().insert(place);
            }
        }
    }
    assert!(said.len() >= 20, "the codes are not found: {said:?}");
    said
}

#[test]
fn each_code_says_one_thing_in_one_crate() {
    for (code, things) in said() {
        assert_eq!(things.len(), 1, "{code} says several things: {things:?}");
    }
}

#[test]
fn each_code_has_a_page_and_each_page_a_code() {
    let pages = workspace().join("deploy/runbooks/codes");
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(&pages).expect("the pages").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a page");
        let name = entry.file_name().to_string_lossy().into_owned();
        let code = name.strip_suffix(".md").expect("a page").to_owned();
        assert!(text.starts_with(&format!("# {code}: ")), "{name} is of another code");
        let mut from = 0;
        for part in ["it means", "it costs callers", "to look at", "to do"] {
            let title = format!("\n## What {part}\n\n");
            let at = text[from..].find(&title).unwrap_or_else(|| panic!("{name} lacks {title:?}"));
            from += at + title.len();
            assert!(text[from..].len() > 8, "{name} says nothing under {title:?}");
        }
        there.insert(code);
    }
    let said: BTreeSet<String> = said().into_keys().collect();
    assert_eq!(said.difference(&there).collect::<Vec<_>>(), Vec::<&String>::new(), "no page");
    assert_eq!(there.difference(&said).collect::<Vec<_>>(), Vec::<&String>::new(), "no code");
}
