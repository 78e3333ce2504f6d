use tandem_core::command::{Command, Envelope, OperatorCommand, RequestedState};
use tandem_core::ids::{AgentId, EntityId};
use tandem_core::{demo, wire};
use tandem_sip::Millis;

use super::compare::{against_hashes, against_log};
use super::source::{Entry, Recorded, Wanted, read};
use super::step::{Stepper, What};

fn entry(index: u64, command: Command) -> Entry {
    let envelope = Envelope {
        at: Millis(1_700_000_000_000 + index),
        seed: index,
        version: 1,
        origin: None,
        done: Vec::new(),
        command,
    };
    Entry { index, term: 1, envelope: Some(wire::encode_envelope(&envelope)) }
}

fn set(index: u64, agent: &str, reason: &str) -> Entry {
    let state = RequestedState::NotReady { reason: reason.to_owned() };
    let agent = AgentId::from(agent);
    entry(index, Command::Operator(OperatorCommand::SetAgentState { agent, state }))
}

fn log() -> Recorded {
    let config = Box::new(demo::demo_config());
    let raft = Entry { index: 1, term: 1, envelope: None };
    let entries = vec![
        raft,
        entry(2, Command::Configure(config)),
        set(3, "1001", "lunch"),
        set(4, "1002", "lunch"),
    ];
    Recorded { shard: 0, entries }
}

#[test]
fn step_shows_an_entity_before_and_after_what_touched_it() {
    let log = log();
    let mut stepper = Stepper::new(0);
    let steps: Vec<_> = log.entries.iter().map(|entry| stepper.step(entry)).collect();
    assert!(matches!(steps[0].what, What::Raft));
    assert!(steps[1].changes.iter().all(|change| change.before.is_none()));
    let touched: Vec<_> = steps[2].changes.iter().map(|change| &change.entity).collect();
    assert_eq!(touched, [&EntityId::Agent(AgentId("1001".into()))]);
    let change = &steps[2].changes[0];
    assert!(change.before.as_ref().unwrap().contains("LoggedOut"));
    assert!(change.after.as_ref().unwrap().contains("lunch"));
    let mut text = Vec::new();
    super::print::text(&mut text, &steps[2], None).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("3 term 1 2023-11-14T22:13:20.003Z operator: agent 1001"), "{text}");
    assert!(text.contains("lunch"), "{text}");
}

#[test]
fn logs_and_builds_that_differ_are_told_by_the_first_index() {
    let ours = log();
    assert_eq!(against_log(&ours, &log()).unwrap(), "the same up to the end, 4");
    let mut theirs = log();
    theirs.entries[2] = set(3, "1001", "dinner");
    assert_eq!(against_log(&ours, &theirs).unwrap_err(), "they differ first at index 3");
    let mut shorter = log();
    shorter.entries.pop();
    assert!(against_log(&ours, &shorter).unwrap().contains("one ends there, the other at 4"));

    let mut stepper = Stepper::new(0);
    let steps = ours.entries.iter().map(|entry| stepper.step(entry));
    let mut hashes: std::collections::BTreeMap<_, _> =
        steps.map(|step| (step.index, step.hash)).collect();
    assert!(against_hashes(&ours, &hashes).unwrap().contains("4 entries"));
    hashes.insert(4, "0".repeat(64));
    assert!(against_hashes(&ours, &hashes).unwrap_err().contains("first after index 4"));
}

#[test]
fn a_trace_that_was_saved_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.trace");
    let bytes = log().trace().encode();
    std::fs::write(&path, &bytes).unwrap();
    let wanted = Wanted { node: "node-a", shard: "s0" };
    assert_eq!(read(&path, &wanted).unwrap().trace(), log().trace());

    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = read(&path, &wanted).unwrap_err();
    assert!(error.is::<crate::exit::Usage>());
    assert!(error.to_string().contains("torn at byte"), "{error}");
}
