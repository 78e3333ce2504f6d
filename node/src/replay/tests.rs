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
    Entry { index, term: 1, command: Some(wire::encode_envelope(&envelope)) }
}

fn set(index: u64, agent: &str, reason: &str) -> Entry {
    let state = RequestedState::NotReady { reason: reason.to_owned() };
    let agent = AgentId::from(agent);
    entry(index, Command::Operator(OperatorCommand::SetAgentState { agent, state }))
}

fn log() -> Recorded {
    let config = Box::new(demo::demo_config());
    let raft = Entry { index: 1, term: 1, command: None };
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

/// In the shard that it leaves, and in the one where it comes to.
#[test]
fn tenant_is_followed_where_it_moves() {
    use tandem_runtime::tenants::entry::{Import, ImportedRow, Step, step};

    let moved = |index, what| Entry { index, term: 1, command: Some(step(0, what)) };
    let told = |stepper: &mut Stepper, entry: &Entry| {
        let mut text = Vec::new();
        super::print::text(&mut text, &stepper.step(entry), None).unwrap();
        String::from_utf8(text).unwrap()
    };
    let mut from = Stepper::new(0);
    assert!(told(&mut from, &entry(1, Command::Trim)).contains("done"));
    let freeze = moved(2, Step::Freeze(0));
    assert_eq!(told(&mut from, &freeze), "2 term 1 tenant 0: is frozen, epoch 0\n");
    let late = told(&mut from, &entry(3, Command::Trim));
    assert_eq!(late, "3 term 1 a command of tenant 0, which moves\n");
    let gone = told(&mut from, &moved(4, Step::Drop(1)));
    assert!(gone.contains("is elsewhere, epoch 1"), "{gone}");

    let mut to = Stepper::new(1);
    let early = told(&mut to, &set(1, "1001", "lunch"));
    assert_eq!(early, "1 term 1 a command of tenant 0, which is not here\n");
    let mut world = tandem_core::World::new(0);
    let configure = entry(1, Command::Configure(Box::new(demo::demo_config())));
    let envelope = wire::decode_envelope(configure.command.as_deref().unwrap()).unwrap();
    let (at, seed) = (envelope.at, envelope.seed);
    let at = tandem_core::Meta { at, seed, version: 1, shard: 0, index: 1, term: 1 };
    world.apply(&at, &envelope);
    let rows = world.live_rows().into_iter().map(|row| ImportedRow {
        family: row.family.to_owned(),
        key: row.key,
        value: row.value,
    });
    let import = Import { epoch: 1, part: 0, last: true, rows: rows.collect(), attempt: 1 };
    let comes = told(&mut to, &moved(2, Step::Import(import)));
    assert!(comes.contains("comes, epoch 1: part 0 with") && comes.contains("the last"), "{comes}");
    assert!(told(&mut to, &moved(3, Step::Open(2))).contains("refused"));
    assert!(told(&mut to, &moved(4, Step::Open(1))).contains("is here"));
    let here = to.step(&set(5, "1001", "lunch"));
    assert!(here.changes[0].after.as_ref().unwrap().contains("lunch"));
}
