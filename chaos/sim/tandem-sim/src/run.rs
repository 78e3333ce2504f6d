//! What the flags ask for.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use tandem_sim_core::batch::Batch;
use tandem_sim_core::shrink::{self, Part, Shrunk};
use tandem_sim_core::trace::Line;
use tandem_sim_core::{Options, Outcome, Plant, Simulation, Violation, coverage, limits};

use crate::Flags;

/// Newtypes, for clap gives a plain `Vec` a meaning of its own.
#[derive(Clone, Debug)]
pub struct List(pub Vec<usize>);

/// Faults, and how long those last that do not last as planned.
#[derive(Clone, Debug)]
pub struct Faults(pub Vec<(usize, Option<u64>)>);

#[derive(Clone, Debug)]
pub struct Seeds(pub std::ops::Range<u64>);

/// Lines at the end of a story that are printed for a failing run.
const STORY_LINES_MAX: usize = 120;
/// Entries before a violation that a replay is told to show.
const REPLAY_ENTRIES: u64 = 20;
/// A batch says how far it is this often.
const PROGRESS_SEEDS: u64 = 500;

pub fn seeds(text: &str) -> Result<Seeds, String> {
    let (from, to) = text.split_once("..").ok_or("a range is FROM..TO, for instance 0..5000")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok(Seeds(from..to)) } else { Err("the range is empty".into()) }
}

/// `3,7:150`: the third as planned, the seventh for 150 ms.
pub fn faults(text: &str) -> Result<Faults, String> {
    if text == "none" {
        return Ok(Faults(Vec::new()));
    }
    let wrong = |text: &str| format!("{text:?} is no fault of a list, for instance 3,7:150");
    let faults = text.split(',').map(|text| {
        let (number, lasts) = match text.trim().split_once(':') {
            Some((number, lasts)) => (number, Some(lasts.parse().map_err(|_| wrong(text))?)),
            None => (text.trim(), None),
        };
        Ok((number.parse().map_err(|_| wrong(text))?, lasts))
    });
    faults.collect::<Result<_, _>>().map(Faults)
}

pub fn list(text: &str) -> Result<List, String> {
    if text == "none" {
        return Ok(List(Vec::new()));
    }
    let numbers = text
        .split(',')
        .map(|text| text.trim().parse().map_err(|_| format!("{text:?} is no number of a list")));
    numbers.collect::<Result<_, _>>().map(List)
}

/// `90s`, `500ms` or `2m`.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let parsed = units.iter().find_map(|(unit, ms)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*ms)
    });
    let ms = parsed.ok_or("a time is a number with ms, s or m, for instance 90s")?;
    if (1_000..=limits::VIRTUAL_MS_MAX).contains(&ms) {
        Ok(ms)
    } else {
        Err("virtual time is between 1s and 60m".into())
    }
}

pub fn run(flags: &Flags) -> ExitCode {
    if flags.list_plants {
        for plant in Plant::ALL {
            println!("{plant}");
        }
        return ExitCode::SUCCESS;
    }
    if !flags.core {
        eprintln!("only the core can be simulated yet: say --core");
        return ExitCode::from(2);
    }
    if let Some(scenario) = &flags.acd {
        return acd(scenario, flags.seed);
    }
    let options = Options {
        virtual_ms: flags.virtual_ms,
        plant: flags.plant,
        keep_faults: flags
            .keep_faults
            .as_ref()
            .map(|list| list.0.iter().map(|(number, _)| *number).collect()),
        shorter: flags
            .keep_faults
            .iter()
            .flat_map(|list| &list.0)
            .filter_map(|(number, lasts)| Some((*number, (*lasts)?)))
            .collect(),
        keep_calls: flags.keep_calls.clone().map(|list| list.0),
        story: flags.story,
        record: flags.trace.is_some(),
    };
    match (flags.seed, &flags.seeds) {
        (Some(seed), _) => one(seed, &options, flags),
        (None, Some(Seeds(seeds))) => many(seeds.clone(), &options, flags),
        (None, None) => {
            eprintln!("which run? Say --seed N or --seeds FROM..TO");
            ExitCode::from(2)
        }
    }
}

/// A file, or the name of a built-in scenario.
fn acd(named: &str, seed: Option<u64>) -> ExitCode {
    let is_file = std::path::Path::new(named).is_file();
    let scenario = if is_file { std::fs::read_to_string(named) } else { Ok(named.to_owned()) };
    let said = match scenario {
        Ok(scenario) => tandem_sim_acd::run(&scenario, seed).map_err(|error| error.to_string()),
        Err(error) => Err(format!("{named} can't be read: {error}")),
    };
    match said {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            // A parser's picture of the line is worth less here than one line.
            let line: Vec<_> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            eprintln!("{}", line.join("; "));
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64, options: &Options, flags: &Flags) -> ExitCode {
    let outcome = Simulation::new(seed, options.clone()).run();
    if let Some((path, record)) = flags.trace.as_ref().zip(outcome.record.as_ref())
        && let Err(error) = std::fs::write(path, record.log.encode())
    {
        eprintln!("the trace can't be written to {}: {error}", path.display());
        return ExitCode::from(2);
    }
    if options.story {
        print!("{}", told(&outcome.story));
    }
    let code = report(&outcome, options, flags.no_shrink);
    if let (Some(path), Some(violation)) = (&flags.trace, &outcome.violation) {
        println!("step through it with\n  tandem replay {} {}", path.display(), around(violation));
    }
    code
}

/// The entries before the one that showed it.
fn around(violation: &Violation) -> String {
    let from = violation.index.saturating_sub(REPLAY_ENTRIES);
    format!("--from {from} --to {}", violation.index)
}

/// What was found, and the last line.
fn report(outcome: &Outcome, options: &Options, no_shrink: bool) -> ExitCode {
    if outcome.violation.is_some()
        && !no_shrink
        && !options.story
        && let Some(shrunk) = shrink::shrink(outcome.seed, options)
    {
        print_shrunk(outcome.seed, options, &shrunk);
    }
    if let Some(violation) = &outcome.violation {
        println!("{violation}");
    }
    let word = if outcome.violation.is_some() { "VIOLATION" } else { "ok" };
    println!(
        "seed {} {word} trace={:016x} calls={} faults={}",
        outcome.seed, outcome.trace_hash, outcome.calls, outcome.faults
    );
    ExitCode::from(u8::from(outcome.violation.is_some()))
}

fn print_shrunk(seed: u64, options: &Options, shrunk: &Shrunk) {
    let story = &shrunk.outcome.story;
    let from = story.len().saturating_sub(STORY_LINES_MAX);
    if from > 0 {
        println!("… {from} lines before …");
    }
    print!("{}", told(&story[from..]));
    println!(
        "cut to {} faults and {} calls in {} runs; replay it with",
        shrunk.part.faults.len(),
        shrunk.part.calls.len(),
        shrunk.runs
    );
    let mut command = format!("tandem-sim --core --seed {seed}");
    if options.virtual_ms != limits::VIRTUAL_MS_DEFAULT {
        let _ = write!(command, " --virtual {}ms", options.virtual_ms);
    }
    if let Some(plant) = options.plant {
        let _ = write!(command, " --plant {plant}");
    }
    let _ = write!(command, " --keep-faults {}", faults_of(&shrunk.part));
    let _ = write!(command, " --keep-calls {}", joined(&shrunk.part.calls));
    println!("  {command} --story");
    if let Some(violation) = &shrunk.outcome.violation {
        println!("or step through its log, entity by entity, with");
        println!("  {command} --no-shrink --trace run.trace");
        println!("  tandem replay run.trace {}", around(violation));
    }
}

fn faults_of(part: &Part) -> String {
    let words: Vec<String> = part
        .faults
        .iter()
        .map(|number| match part.shorter.get(number) {
            Some(lasts_ms) => format!("{number}:{lasts_ms}"),
            None => number.to_string(),
        })
        .collect();
    if words.is_empty() { "none".into() } else { words.join(",") }
}

fn joined(numbers: &[usize]) -> String {
    if numbers.is_empty() {
        return "none".into();
    }
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    words.join(",")
}

fn told(story: &[Line]) -> String {
    let lines = story.iter().map(|line| {
        let (seconds, ms) = (line.at_ms / 1_000, line.at_ms % 1_000);
        format!("{seconds:4}.{ms:03}  {:12} {}\n", line.who, line.what)
    });
    lines.collect()
}

fn many(seeds: std::ops::Range<u64>, options: &Options, flags: &Flags) -> ExitCode {
    let begun = Instant::now();
    let batch = Batch::run(seeds.clone(), options, |batch| {
        if batch.seeds.is_multiple_of(PROGRESS_SEEDS) {
            eprintln!("{} seeds, {}", batch.seeds, speed(batch, begun));
        }
    });
    print!("{}", batch.coverage.table());
    print!("{}", batch.coverage.pair_lines());
    let empty = batch.coverage.empty_cells();
    let empty: Vec<_> = empty.into_iter().filter(|cell| !coverage::is_impossible(*cell)).collect();
    let (pairs, marks) = (batch.coverage.missing_pairs(), batch.coverage.missing_marks());
    println!("empty cells {empty:?}\nunseen pairs {pairs:?}\nunseen marks {marks:?}");
    let (commands_min, poorest) = batch.least.unwrap_or_default();
    println!(
        "{} seeds, {} calls, {} faults, {} commands (least {commands_min}, of seed {poorest}), {}",
        batch.seeds,
        batch.calls,
        batch.faults,
        batch.commands,
        speed(&batch, begun)
    );
    if let Some(outcome) = &batch.failed {
        return report(outcome, options, flags.no_shrink);
    }
    let whole = empty.is_empty() && pairs.is_empty() && marks.is_empty();
    let poverty = batch.poverty().filter(|_| flags.require_coverage);
    if let Some(sentence) = &poverty {
        println!("{sentence}");
        return ExitCode::FAILURE;
    }
    println!("seeds {}..{} ok", seeds.start, seeds.end);
    ExitCode::from(u8::from(flags.require_coverage && !whole))
}

fn speed(batch: &Batch, begun: Instant) -> String {
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    format!("{} commands/s, {} applied/s", batch.commands * 1_000 / ms, batch.applies * 1_000 / ms)
}

#[test]
fn virtual_time_without_a_word_is_the_default_of_the_library() {
    use clap::Parser as _;
    let flags = Flags::try_parse_from(["tandem-sim", "--core"]).map(|flags| flags.virtual_ms);
    assert_eq!(flags.ok(), Some(limits::VIRTUAL_MS_DEFAULT));
}
