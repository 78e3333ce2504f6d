//! What the command prints, and how it exits.

use std::process::{Command, Output};

fn tandem_sim(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_tandem-sim");
    Command::new(program).args(arguments).output().expect("it starts")
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn run_without_a_finding_says_ok_and_exits_0() {
    let output = tandem_sim(&["--core", "--seed", "7"]);
    let line = last_line(&output);
    assert!(line.starts_with("seed 7 ok trace="), "{line}");
    assert!(line.contains(" calls=") && line.contains(" faults="), "{line}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(line, last_line(&tandem_sim(&["--seed", "7", "--core", "--virtual", "90s"])));
}

#[test]
fn run_with_a_finding_says_violation_and_how_to_replay_it_and_exits_1() {
    let output = tandem_sim(&["--core", "--seed", "0", "--plant", "cdr-twice"]);
    let line = last_line(&output);
    assert!(line.starts_with("seed 0 VIOLATION trace="), "{line}");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let replay = text.lines().find(|line| line.contains("--story")).expect("a command");
    let arguments: Vec<&str> = replay.split_whitespace().skip(1).collect();
    assert_eq!(tandem_sim(&arguments).status.code(), Some(1), "{replay}");
    assert!(text.contains("--trace run.trace") && text.contains("  tandem replay run.trace"));
}

#[test]
fn trace_of_a_run_is_written_or_a_sentence_says_why_not() {
    let path = std::env::temp_dir().join(format!("tandem-sim-{}.trace", std::process::id()));
    let name = path.to_str().expect("UTF-8");
    let output = tandem_sim(&[
        "--core",
        "--seed",
        "0",
        "--plant",
        "cdr-twice",
        "--no-shrink",
        "--trace",
        name,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("tandem replay {name} --from ")), "{text}");
    let bytes = std::fs::read(&path).expect("the trace");
    assert!(bytes.starts_with(b"TDTRACE\n"));
    std::fs::remove_file(&path).expect("its own file");
    let output = tandem_sim(&["--core", "--seed", "1", "--trace", "/no/such/folder/run.trace"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("the trace can't be written to /no/such/folder/run.trace"), "{said}");
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1));
}

#[test]
fn plants_are_listed_one_a_line() {
    let output = tandem_sim(&["--list-plants"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().count() >= 12 && text.lines().any(|line| line == "cdr-twice"), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn bad_input_is_one_sentence_and_exit_2() {
    let bad: [&[&str]; 11] = [
        &["--core", "--seeds", "0..2", "--trace", "run.trace"],
        &["--core", "--acd", "no-such-scenario"],
        &["--acd", "erlang-c"],
        &["--core", "--seed", "1", "--plant", "no-such-bug"],
        &["--core", "--seed", "one"],
        &["--core", "--seed", "1", "--virtual", "soon"],
        &["--core", "--seeds", "9..3"],
        &["--core", "--seed", "1", "--keep-faults", "1,x"],
        &["--core", "--seed", "1", "--keep-faults", "1:long"],
        &["--core"],
        &["--seed", "1"],
    ];
    for arguments in bad {
        let output = tandem_sim(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn laboratory_prints_the_same_report_for_the_same_scenario_and_seed() {
    let dir = std::env::temp_dir().join(format!("tandem-sim-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let path = dir.join("short.toml");
    let text = include_str!("../../acd/scenarios/support.toml");
    std::fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let first = tandem_sim(&["--core", "--acd", path, "--seed", "3"]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let report = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(report.contains("service level") && report.contains("ASA"), "{report}");
    assert_eq!(first.stdout, tandem_sim(&["--core", "--acd", path, "--seed", "3"]).stdout);
    std::fs::remove_dir_all(&dir).expect("its own folder");
}

#[test]
fn scenario_file_that_is_wrong_is_one_sentence_with_its_key_and_exit_2() {
    let path = std::env::temp_dir().join(format!("tandem-sim-bad-{}.toml", std::process::id()));
    let text = include_str!("../../acd/scenarios/morning.toml");
    let name = path.to_str().expect("UTF-8");
    for (good, bad, key) in [
        ("probability = 0.05", "probability = 5", "ignored_rings.probability is 5"),
        ("last = 12", "last = 17", "queues.support.agents.last is 17"),
        ("per_hour = 190", "per_minute = 3", "unknown field `per_minute`"),
        ("name = \"sales\"", "name = \"support\"", "name \"support\" twice"),
    ] {
        assert!(text.contains(good), "{good}");
        std::fs::write(&path, text.replace(good, bad)).expect("a file");
        let output = tandem_sim(&["--core", "--acd", name]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(key) && output.stdout.is_empty(), "{said}");
    }
    std::fs::remove_file(&path).expect("its own file");
}
