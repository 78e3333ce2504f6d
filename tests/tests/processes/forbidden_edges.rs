//! Dependency edges that ARCHITECTURE.md forbids, asked of Cargo itself.

use std::collections::BTreeSet;
use std::process::Command;

/// Every crate, ours or not, that `package` needs to run.
fn dependencies(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .filter(|name| name != package)
        .collect()
}

fn ours(package: &str) -> BTreeSet<String> {
    dependencies(package).into_iter().filter(|name| name.starts_with("tandem")).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn pure_crates_need_no_runtime_no_clock_and_no_randomness() {
    for package in ["tandem-sip", "tandem-core", "tandem-control"] {
        let all = dependencies(package);
        for banned in
            ["tokio", "ractor", "rand", "getrandom", "tonic", "rocksdb", "openraft", "mio", "time"]
        {
            assert!(!all.contains(banned), "{package} needs {banned}");
        }
    }
}

#[test]
fn each_crate_uses_only_those_of_ours_that_it_may() {
    for (package, may) in [
        ("tandem-sip", set(&[])),
        ("tandem-core", set(&["tandem-sip"])),
        ("tandem-runtime", set(&["tandem-core", "tandem-sip"])),
        ("tandem-storage", set(&[])),
        ("tandem-pki", set(&[])),
        ("tandem-lease", set(&[])),
        ("tandem-address", set(&["tandem-lease"])),
        ("tandem-cluster", set(&["tandem-storage", "tandem-pki"])),
        ("tandem-control", set(&["tandem-core", "tandem-sip"])),
        ("tandem-wire", set(&["tandem-sip", "tandem-lease"])),
        ("tandem-media", set(&["tandem-sip", "tandem-lease"])),
        ("tandem-http", set(&[])),
        ("tandem-catalogue", set(&[])),
        (
            "tandem-gateway",
            set(&[
                "tandem-core",
                "tandem-sip",
                "tandem-control",
                "tandem-wire",
                "tandem-media",
                "tandem-http",
                "tandem-pki",
                "tandem-lease",
                "tandem-address",
            ]),
        ),
    ] {
        let uses = ours(package);
        let beyond: Vec<_> = uses.difference(&may).collect();
        assert!(beyond.is_empty(), "{package} may not use {beyond:?}");
    }
}
