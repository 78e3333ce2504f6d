//! The commands that need no cluster: exit codes and messages, by running the binary.

use std::path::Path;
use std::process::Output;

use crate::common::tandem;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn file(dir: &Path, text: &str) -> String {
    let path = dir.join("tandem.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn cli_gives_help_and_version_everywhere() {
    let commands: [&[&str]; 9] = [
        &[],
        &["dev"],
        &["dev", "start"],
        &["dev", "stop"],
        &["cluster", "status"],
        &["config", "check"],
        &["node"],
        &["gateway"],
        &["witness"],
    ];
    for command in commands {
        for option in ["--help", "--version"] {
            let output = tandem(&[command, &[option]].concat());
            assert_eq!(output.status.code(), Some(0), "{command:?} {option}: {}", stderr(&output));
            assert!(!output.stdout.is_empty(), "{command:?} {option}");
        }
    }
}

#[test]
fn cli_exits_2_when_usage_is_wrong() {
    let wrong: [&[&str]; 6] = [
        &["dance"],
        &["dev"],
        &["dev", "--dir", "x", "--boxes", "0"],
        &["cluster", "status"],
        &["cluster", "status", "--endpoint", "http://127.0.0.1:1"],
        &["config", "check"],
    ];
    for args in wrong {
        assert_eq!(tandem(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn dev_exits_2_when_shards_are_none_or_too_many() {
    for shards in ["0", "257", "four"] {
        let dir = tempfile::tempdir().unwrap();
        let output = tandem(&["dev", "--dir", dir.path().to_str().unwrap(), "--shards", shards]);
        assert_eq!(output.status.code(), Some(2), "{shards}");
        assert!(stderr(&output).contains("--shards"), "{}", stderr(&output));
    }
}

#[test]
fn config_check_exits_0_when_file_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "[dev]\naddress_base = \"127.0.9.0\"\n");
    let output = tandem(&["config", "check", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn config_check_names_file_line_key_and_expectation_when_file_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "[dev]\nport_offset = \"ten\"\naddres_base = \"127.0.9.0\"\n");
    let output = tandem(&["config", "check", &path]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines,
        [
            format!("{path}:2: dev.port_offset: is a string; expected an integer from 0 to 20000"),
            format!(
                "{path}:3: dev.addres_base: is not a key of this table; \
                 expected one of: address_base, port_offset"
            ),
        ]
    );
}

#[test]
fn config_check_exits_1_when_file_is_missing() {
    let output = tandem(&["config", "check", "/nonexistent/tandem.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn node_exits_1_with_a_sentence_when_its_table_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "");
    let output = tandem(&["node", "--config", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("[cluster] is missing"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("backtrace"), "{}", stderr(&output));
}

#[test]
fn status_exits_1_with_a_sentence_when_no_cluster_runs() {
    let dir = tempfile::tempdir().unwrap();
    let output = tandem(&["cluster", "status", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn dev_stop_exits_1_with_a_sentence_when_no_cluster_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let output = tandem(&["dev", "stop", "node-a", "--dir", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("no cluster runs in"), "{}", stderr(&output));
}
