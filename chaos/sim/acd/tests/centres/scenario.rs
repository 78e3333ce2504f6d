//! What a scenario may say, and that the same one with the same seed says the same.

use tandem_sim_acd::{BUILT_IN, Scenario, run};

const GOOD: &str = r#"
title = "a test"
agents = 3
hours = 2
waiting_max = 20
after_call_work_s = 5
answer_delay_s = 2

[arrivals]
per_hour = 100

[talk_time]
mean_s = 60

[patience]
mean_s = 40
"#;

fn refused(good: &str, bad: &str) -> String {
    let text = GOOD.replace(good, bad);
    assert_ne!(text, GOOD, "{good} is in the scenario");
    run(&text, 1).expect_err("a bad scenario").to_string()
}

#[test]
fn same_seed_gives_the_same_report_byte_for_byte() {
    let report = run(GOOD, 7).unwrap().to_string();
    assert_eq!(run(GOOD, 7).unwrap().to_string(), report);
    assert_ne!(run(GOOD, 8).unwrap().to_string(), report);
}

#[test]
fn seed_of_the_scenario_counts_where_none_is_given() {
    let seeded = format!("seed = 7\n{GOOD}");
    let report = run(GOOD, 7).unwrap().to_string();
    assert_eq!(run(&seeded, None).unwrap().to_string(), report);
    assert_ne!(run(&seeded, 8).unwrap().to_string(), report);
}

#[test]
fn value_out_of_range_is_refused_with_its_key_and_range() {
    assert_eq!(
        refused("agents = 3", "agents = 0"),
        "the scenario's agents is 0: it must be from 1 to 5000"
    );
    assert_eq!(
        refused("per_hour = 100", "per_hour = nan"),
        "the scenario's arrivals.per_hour is NaN: it must be from 0.001 to 360000"
    );
    assert_eq!(
        refused("mean_s = 40", "mean_s = -1"),
        "the scenario's patience.mean_s is -1: it must be from 0.1 to 86400"
    );
    assert_eq!(
        refused("hours = 2", "hours = 900_000"),
        "the scenario's hours is 900000: it must be at most 200000 at this rate of arrivals: a play \
         has no more than 20000000 calls"
    );
}

#[test]
fn unknown_missing_and_mistyped_keys_are_refused_by_name() {
    let unknown = refused("agents = 3", "agents = 3\nagnets = 4");
    assert!(unknown.contains("unknown field `agnets`, expected one of"), "{unknown}");
    let unknown = refused("mean_s = 40", "mean_s = 40\ncolour = 1");
    assert!(unknown.contains("unknown field `colour`, expected `mean_s`"), "{unknown}");
    let missing = refused("per_hour = 100", "");
    assert!(missing.contains("missing field `per_hour`"), "{missing}");
    let mistyped = refused("agents = 3", "agents = \"three\"");
    assert!(mistyped.contains("agents = \"three\"") && mistyped.contains("u16"), "{mistyped}");
    let variant = refused("mean_s = 60", "mean_s = 60\ndistribution = \"normal\"");
    assert!(
        variant.contains("unknown variant `normal`, expected `exponential` or `constant`"),
        "{variant}"
    );
}

#[test]
fn unknown_name_is_refused_with_those_that_are_known() {
    assert_eq!(
        run("monday", 1).expect_err("no such scenario").to_string(),
        "there is no scenario \"monday\"; there are erlang-a, erlang-c, impatient, morning, support, or give \
         the text of one (TOML)"
    );
}

#[test]
fn built_in_scenarios_are_all_readable() {
    for (name, _) in BUILT_IN {
        Scenario::read(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn full_queue_refuses_and_the_report_says_so() {
    let text = GOOD
        .replace("waiting_max = 20", "waiting_max = 1")
        .replace("per_hour = 100", "per_hour = 900");
    let report = run(&text, 1).unwrap();
    assert!(report.counts.refused > 0 && report.as_textbook.is_none());
    assert_eq!(report.counts.queue_max, 1);
}
