//! The formulas against vectors that were computed elsewhere, and at the ends of their range.

use tandem_sim_acd::erlang::{ErlangC, erlang_b, least_agents, least_trunks};
use tandem_sim_acd::erlang_a::ErlangA;

/// Agrees to the digits that the vector has.
fn close(value: f64, vector: f64, digits: i32) {
    let tolerance = 0.5 * 10_f64.powi(-digits) * (1.0 + 1e-6);
    assert!((value - vector).abs() <= tolerance, "{value} is not {vector}");
}

#[test]
fn erlang_c_agrees_with_its_vectors() {
    // Calls an hour, AHT, agents; C, service level within 20 s, ASA, occupancy.
    for (per_hour, aht_s, agents, waits, level, asa_s, occupancy) in [
        (200.0, 180.0, 11, 0.682118, 0.389614, 122.7813, 0.909091),
        (200.0, 180.0, 13, 0.285270, 0.795595, 17.1162, 0.769231),
        (200.0, 180.0, 14, 0.174132, 0.888350, 7.8359, 0.714286),
        (1_200.0, 300.0, 105, 0.515707, 0.630479, 30.9424, 0.952381),
        (1_200.0, 300.0, 110, 0.237008, 0.878316, 7.1102, 0.909091),
        (12_000.0, 240.0, 820, 0.370996, 0.929928, 4.4519, 0.975610),
        (36_000.0, 300.0, 3_050, 0.262716, 0.990628, 1.5763, 0.983607),
    ] {
        let model = ErlangC::new(agents, per_hour / 3_600.0 * aht_s, aht_s).unwrap();
        close(model.probability_of_waiting(), waits, 6);
        close(model.service_level(20.0), level, 6);
        close(model.asa_s(), asa_s, 4);
        close(model.occupancy(), occupancy, 6);
    }
}

#[test]
fn staffing_and_trunks_agree_with_their_vectors() {
    for (per_hour, aht_s, agents) in
        [(200.0, 180.0, 14), (1_200.0, 300.0, 108), (12_000.0, 240.0, 813)]
    {
        assert_eq!(least_agents(per_hour / 3_600.0 * aht_s, aht_s, 20.0, 0.8), agents);
    }
    close(erlang_b(30, 25.0), 0.052603, 6);
    assert_eq!(least_trunks(440.0, 0.01), 466);
}

#[test]
fn erlang_a_agrees_with_its_vectors() {
    // Calls an hour, AHT, agents, patience; P(wait), P(abandon), E[wait], occupancy.
    for (per_hour, aht_s, agents, patience_s, waits, abandons, wait_s, occupancy) in [
        (200.0, 180.0, 11, 120.0, 0.382816, 0.094155, 11.2986, 0.823495),
        (200.0, 180.0, 9, 120.0, 0.613307, 0.192156, 23.0587, 0.897604),
        (1_200.0, 300.0, 100, 180.0, 0.451618, 0.044913, 8.0843, 0.955087),
        (1_200.0, 300.0, 95, 180.0, 0.625069, 0.074709, 13.4476, 0.973991),
    ] {
        let model = ErlangA::new(agents, per_hour / 3_600.0, aht_s, patience_s);
        close(model.probability_of_waiting(), waits, 6);
        close(model.probability_of_abandoning(), abandons, 6);
        close(model.mean_wait_s(), wait_s, 4);
        close(model.occupancy(), occupancy, 6);
    }
}

/// The integral for the waits of those who are served is a way of its own: what it says at the
/// end must be what the states say.
#[test]
fn erlang_a_serves_in_the_end_all_who_do_not_abandon() {
    for (per_s, agents, patience_s) in
        [(0.05, 11, 120.0), (0.05, 5, 30.0), (10.0, 3_050, 60.0), (1.0, 100, 3_600.0)]
    {
        let model = ErlangA::new(agents, per_s, 180.0, patience_s);
        let answered = 1.0 - model.probability_of_abandoning();
        let in_the_end = model.service_level(20.0 * patience_s);
        assert!((in_the_end - answered).abs() < 1e-6, "{in_the_end} of {answered}");
    }
}

#[test]
fn erlang_a_of_endless_patience_is_erlang_c() {
    let patient = ErlangA::new(13, 200.0 / 3_600.0, 180.0, 1e9);
    let c = ErlangC::new(13, 10.0, 180.0).unwrap();
    assert!((patient.asa_s() / c.asa_s() - 1.0).abs() < 1e-4, "{} s", patient.asa_s());
    assert!((patient.service_level(20.0) / c.service_level(20.0) - 1.0).abs() < 1e-4);
}

#[test]
fn formulas_stay_finite_at_the_ends_of_their_range() {
    assert_eq!(ErlangC::new(10, 10.0, 180.0), None);
    assert_eq!(erlang_b(0, 5.0), 1.0);
    assert_eq!(erlang_b(5_000, 1.0), 0.0);
    for (agents, per_s, patience_s) in
        [(1, 100.0, 86_400.0), (5_000, 0.001, 1.0), (5_000, 100.0, 0.1), (1, 0.001, 86_400.0)]
    {
        let model = ErlangA::new(agents, per_s, 300.0, patience_s);
        let abandons = model.probability_of_abandoning();
        assert!((0.0..=1.0).contains(&abandons), "{agents} agents: {abandons}");
        let level = model.service_level(20.0);
        assert!((-1e-9..=1.0 + 1e-9).contains(&level), "{agents} agents: {level}");
        assert!(model.occupancy() <= 1.0 + 1e-9 && model.asa_s().is_finite(), "{model:?}");
    }
}
