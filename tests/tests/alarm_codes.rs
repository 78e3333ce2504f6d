//! The codes of what an operator reads in a log, asked of the sources themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && !["target", "tests"].iter().any(|other| name == *other) {
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

#[test]
fn each_code_says_one_thing_in_one_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut said: BTreeMap<String, BTreeSet<(PathBuf, String)>> = BTreeMap::new();
    for folder in ["actors", "storage", "cluster", "gateway", "node"] {
        let mut files = Vec::new();
        sources(&root.join(folder), &mut files);
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
    for (code, things) in said {
        assert_eq!(things.len(), 1, "{code} says several things: {things:?}");
    }
}
