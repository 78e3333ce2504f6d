//! Days with intervals, queues that share agents, agents who ignore rings.

use tandem_sim_acd::report::{IntervalFigures, Report};
use tandem_sim_acd::run;

fn play(text: &str) -> Report {
    run(text, 5).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    run(text, 1).expect_err("a bad scenario").to_string()
}

/// Four agents; `arrivals` is a line of TOML.
fn one_queue(hours: f64, arrivals: &str) -> String {
    format!(
        "title = \"a test\"\nagents = 4\nhours = {hours}\nwarm_up_hours = 2\nwaiting_max = 30\n\
         arrivals.{arrivals}\ntalk_time.mean_s = 60\npatience.mean_s = 60\n"
    )
}

/// An interval is so long here, that what is left of the one before it does not count.
#[test]
fn day_of_two_intervals_comes_to_what_two_steady_days_come_to() {
    let day = "profile = [{ hours = 20, per_hour = 120 }, { hours = 20, per_hour = 260 }]";
    let day = play(&one_queue(160.0, day));
    assert_eq!(day.as_textbook, Some(true), "{day}");
    assert_eq!(day.model, None);
    let text = day.to_string();
    assert!(text.contains("0-20 h, 120 an hour") && text.contains("20-40 h, 260"), "{text}");
    for (interval, per_hour) in [(0, 120), (1, 260)] {
        let steady = play(&one_queue(80.0, &format!("per_hour = {per_hour}")));
        let (in_day, alone) = (&day.queues[0].intervals[interval], &steady.queues[0].whole);
        near("offered", in_day.offered as f64, alone.offered as f64, 0.03);
        near("occupancy", in_day.occupancy.unwrap(), alone.occupancy.unwrap(), 0.03);
        // Each is off by chance: the difference by no more than three of its standard errors.
        let spread = &steady.spread;
        let off = |what: &str, value: f64, other: f64, half_width: Option<f64>| {
            let bound = 2.03 * half_width.unwrap();
            assert!((value - other).abs() <= bound, "{what}: {value} and {other}, ± {bound}");
        };
        let abandoned = |of: &IntervalFigures| of.abandoned as f64 / of.offered as f64;
        off("abandonment", abandoned(in_day), abandoned(alone), spread.abandonment);
        off("service level", level(in_day), level(alone), spread.service_level);
        off("ASA", in_day.asa_s.unwrap(), alone.asa_s.unwrap(), spread.asa_s);
    }
    // And the two are not alike.
    let [quiet, busy] = &day.queues[0].intervals[..] else { panic!("two intervals") };
    assert!(busy.asa_s > quiet.asa_s.map(|s| 2.0 * s) && level(busy) < level(quiet));
}

fn level(figures: &IntervalFigures) -> f64 {
    figures.service_level.unwrap()
}

fn near(what: &str, value: f64, other: f64, share: f64) {
    assert!((value / other - 1.0).abs() <= share, "{what}: {value} and {other}");
}

/// Formulas of FEATURES.md §4.1 to 4.3 on one interval.
#[test]
fn whole_of_a_queue_is_the_sum_of_its_intervals() {
    let report = play("morning");
    assert_eq!(report.queues.len(), 2);
    for queue in &report.queues {
        let sum = |of: fn(&IntervalFigures) -> u64| queue.intervals.iter().map(of).sum::<u64>();
        assert_eq!(queue.whole.offered, sum(|i| i.offered));
        assert_eq!(queue.whole.answered, sum(|i| i.answered));
        assert_eq!(queue.whole.offered, queue.whole.answered + queue.whole.abandoned);
    }
    let offered: u64 = report.queues.iter().map(|queue| queue.whole.offered).sum();
    assert_eq!(offered, report.counts.offered);
    assert!(report.counts.ignored > 0 && report.as_textbook.is_none());
    assert_eq!(report, play("morning"));
}

/// One agent, callers who never meet: each ring is ignored or not, and each ignored one costs the
/// ring and the rest. A caller who had lost the waiting time would wait for 0 or one ring only.
#[test]
fn caller_keeps_the_waiting_time_while_an_agent_ignores_the_ring() {
    let report = play(
        "title = \"one agent\"\nagents = 1\nhours = 2000\nwaiting_max = 10\n\
         arrivals = { per_hour = 1, distribution = \"constant\" }\n\
         talk_time = { mean_s = 60, distribution = \"constant\" }\n\
         ignored_rings = { probability = 0.5, ring_out_s = 10, back_after_s = 5 }\n",
    );
    let whole = &report.queues[0].whole;
    assert_eq!((whole.offered, whole.abandoned), (whole.answered, 0));
    // 15 s for each ignored ring: p/(1 - p) of them, to within three standard errors.
    let expected_s = 15.0 * report.counts.ignored as f64 / whole.answered as f64;
    assert!((whole.asa_s.unwrap() - expected_s).abs() < 1e-9, "{report}");
    near("ASA", whole.asa_s.unwrap(), 15.0, 0.1);
    assert!(
        report.counts.wait_ms_max >= 60_000 && report.counts.wait_ms_max.is_multiple_of(15_000)
    );
}

/// The laboratory itself stops where a caller is offered before one who came earlier.
#[test]
fn caller_keeps_the_place_while_agents_ignore_rings() {
    let report = play(&format!(
        "{}ignored_rings = {{ probability = 0.4, ring_out_s = 8, back_after_s = 20 }}\n",
        one_queue(60.0, "per_hour = 200")
            .replace("patience.mean_s = 60\n", "patience.mean_s = 90\n")
    ));
    assert!(report.counts.ignored > 1_000 && report.counts.queue_max > 5, "{report}");
}

#[test]
fn shared_agents_serve_both_queues_and_no_queue_changes_anothers_callers() {
    let queue = |name: &str, first: u16, last: u16| {
        format!(
            "[[queues]]\nname = \"{name}\"\nagents = {{ first = {first}, last = {last} }}\n\
             arrivals.per_hour = 100\ntalk_time.mean_s = 60\npatience.mean_s = 120\n"
        )
    };
    let head = "title = \"two\"\nagents = 4\nhours = 40\nwaiting_max = 40\n";
    let alone = play(&format!("{head}{}", queue("a", 1, 2)));
    let apart = play(&format!("{head}{}{}", queue("a", 1, 2), queue("b", 3, 4)));
    let shared = play(&format!("{head}{}{}", queue("a", 1, 4), queue("b", 1, 4)));
    assert_eq!(alone.queues[0].whole, apart.queues[0].whole);
    for queue in 0..2 {
        let (own, pool) = (&apart.queues[queue].whole, &shared.queues[queue].whole);
        assert_eq!(own.offered, pool.offered);
        // A pool of four is better than twice a pool of two.
        assert!(level(pool) > level(own) && pool.asa_s < own.asa_s, "{own:?} {pool:?}");
    }
    assert_eq!(shared.queues[0].whole.occupancy, shared.queues[1].whole.occupancy);
    assert!(shared.agents.iter().all(|agent| agent.answered > 0));
}

#[test]
fn bad_centre_is_refused_with_its_key() {
    let queue = "[[queues]]\nname = \"a\"\narrivals.per_hour = 10\ntalk_time.mean_s = 60\n";
    let head = "title = \"x\"\nagents = 4\nhours = 2\n";
    let bad = |text: &str| refused(&format!("{head}{text}"));
    let mut said = Vec::new();
    for (text, expected) in [
        ("arrivals.per_hour = 1\n", "the scenario's talk_time is missing: give it here, or queues"),
        ("talk_time.mean_s = 1\n", "the scenario's arrivals is missing: give it here, or queues"),
        (&format!("patience.mean_s = 9\n{queue}"), "patience stands beside [[queues]]"),
        (&format!("{queue}{queue}"), "the scenario's queues name \"a\" twice"),
        (&queue.replace("\"a\"", "\"a b\""), "the scenario's queues.name is \"a b\": it must be 1"),
        (
            &queue.replace("per_hour", "profile = []\narrivals.per_hour"),
            "both per_hour and a profile",
        ),
        (&queue.replace("per_hour = 10", "profile = []"), "profile (its length) is 0: it must be"),
        (
            &queue.replace("per_hour = 10", "profile = [{ hours = 1, per_hour = 0 }]"),
            "queues.a.arrivals.profile (its mean) is 0: it must be from 0.001 to 360000",
        ),
        (
            &queue.replace("per_hour = 10", "profile = [{ hours = 9, per_hour = 5 }]"),
            "the scenario's hours is 2: it must be from 9 to",
        ),
        (
            &format!("{queue}agents = {{ first = 3, last = 9 }}\n"),
            "the scenario's queues.a.agents.last is 9: it must be from 3 to 4",
        ),
        (
            &format!("ignored_rings.probability = 1\n{queue}"),
            "the scenario's ignored_rings.probability is 1: it must be from 0 to 0.95",
        ),
        (
            &format!("answer_delay_s = 20\nignored_rings.probability = 0.1\n{queue}"),
            "the scenario's ignored_rings.ring_out_s is 15: it must be from 21 to",
        ),
    ] {
        let sentence = bad(text);
        assert!(sentence.contains(expected), "{text}\n{sentence}");
        said.push(sentence);
    }
    assert!(said.iter().all(|sentence| sentence.lines().count() == 1), "{said:?}");
}
