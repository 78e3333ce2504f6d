//! The distributor against queueing theory.
//!
//! Queues forget slowly: a mean wait is sure to 1 % only after some hundred thousand callers, which
//! are minutes of the core's time. So the way to the formulas has two steps, and neither leaves room
//! for a bug. A textbook's queue meets the same callers as the core, and must make each wait as
//! long: there is no noise in that. The textbook alone, which is a thousand times faster, then runs
//! for as long as the formulas need. `acd erlang-c` and `acd erlang-a` go the long way in one step.

use std::thread;

use tandem_sim_acd::report::{Figures, Report};
use tandem_sim_acd::textbook::Sums;
use tandem_sim_acd::{BUILT_IN, Scenario, laboratory::Laboratory};

const DEVIATION_MAX: f64 = 0.02;
const SEEDS: [u64; 4] = [1, 2, 3, 4];
/// Virtual hours that the core plays for each seed.
const PLAYED_HOURS: f64 = 15.0;
/// Virtual hours of the textbook's queue for each of its seeds: some millions of callers in all.
const TEXTBOOK_HOURS: f64 = 6_000.0;
const TEXTBOOK_SEEDS: std::ops::Range<u64> = 100..104;

fn scenario(name: &str, hours: f64) -> Scenario {
    Scenario { hours, ..Scenario::read(name).unwrap() }
}

fn play(scenario: &Scenario, seed: u64) -> Report {
    let tally = Laboratory::new(scenario, seed).run();
    Report::new(scenario.clone(), seed, &tally, &Sums::expected(scenario, seed))
}

#[test]
fn world_makes_every_caller_wait_as_long_as_the_textbook_does() {
    for (name, _) in BUILT_IN {
        let scenario = scenario(name, 5.0);
        if !scenario.is_simple() {
            continue;
        }
        let report = play(&scenario, 1);
        assert_eq!(report.as_textbook, Some(true), "{name}:\n{report}");
    }
}

#[test]
fn world_agrees_with_erlang_c() {
    agrees_with_its_model("erlang-c");
}

#[test]
fn world_agrees_with_erlang_a() {
    agrees_with_its_model("erlang-a");
}

fn agrees_with_its_model(name: &str) {
    let short = scenario(name, PLAYED_HOURS);
    let reports = thread::scope(|scope| {
        let plays = SEEDS.map(|seed| {
            scope.spawn({
                let short = &short;
                move || play(short, seed)
            })
        });
        plays.map(|play| play.join().unwrap())
    });
    for report in &reports {
        assert_eq!(report.as_textbook, Some(true), "{report}");
        follows_little(report);
    }
    let model = &reports[0].model.as_ref().expect("a formula fits").figures;
    let long = scenario(name, TEXTBOOK_HOURS);
    let textbook: Vec<Sums> = TEXTBOOK_SEEDS.map(|seed| Sums::expected(&long, seed)).collect();
    for (name, of, sums) in FIGURES {
        let Some(model) = of(model) else { continue };
        let (above, below) =
            textbook.iter().map(sums).fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
        let deviation = above / below / model - 1.0;
        println!("{name}: {:.5}, formula {model:.5}, {:+.3} %", above / below, deviation * 100.0);
        assert!(deviation.abs() <= DEVIATION_MAX, "{name} deviates by {deviation}");
        // What the core itself came to is off by no more than its noise allows.
        let count = SEEDS.len() as f64;
        let mean = reports.iter().filter_map(|r| of(&r.figures)).sum::<f64>() / count;
        let square = |report: &Report| of(&report.spread).map(|half_width| half_width.powi(2));
        let half_width = reports.iter().filter_map(square).sum::<f64>().sqrt() / count;
        println!("    played {mean:.5} ± {half_width:.5}, {:+.3} %", (mean / model - 1.0) * 100.0);
        assert!((mean - model).abs() <= 1.5 * half_width, "{name}: {mean} ± {half_width}");
    }
}

/// Queue length and waits are counted apart; `L = λ·W` ties them.
fn follows_little(report: &Report) {
    let figures = &report.figures;
    let per_s = report.counts.offered as f64 / (report.scenario.hours * 3_600.0);
    let queue = per_s * figures.mean_wait_s.unwrap();
    let counted = figures.mean_queue.unwrap();
    assert!((counted / queue - 1.0).abs() < 0.01, "{counted} is not λ·W, {queue}");
}

/// Name, where a report has it, and the two sums whose ratio it is.
type Figure = (&'static str, fn(&Figures) -> Option<f64>, fn(&Sums) -> (f64, f64));

const FIGURES: [Figure; 5] = [
    ("abandonment", |f| f.abandonment, |s| (s.abandoned as f64, s.offered as f64)),
    ("probability of waiting", |f| f.waiting_probability, |s| (s.waited as f64, s.offered as f64)),
    ("service level", |f| f.service_level, |s| (s.in_time as f64, s.offered as f64)),
    ("ASA", |f| f.asa_s, |s| (s.answered_wait_ms as f64 / 1_000.0, s.answered as f64)),
    (
        "mean wait",
        |f| f.mean_wait_s,
        |s| ((s.answered_wait_ms + s.abandoned_wait_ms) as f64 / 1_000.0, s.offered as f64),
    ),
];
