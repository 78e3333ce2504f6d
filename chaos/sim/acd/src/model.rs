//! What theory expects of a scenario, in the words of the report.

use crate::erlang::ErlangC;
use crate::erlang_a::ErlangA;
use crate::report::Figures;
use crate::scenario::{Distribution, Scenario};

#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub name: &'static str,
    pub figures: Figures,
}

impl Model {
    /// The formula that fits, where one does and has a steady state.
    pub fn of(scenario: &Scenario) -> Option<Self> {
        if !scenario.is_simple() {
            return None;
        }
        match &scenario.queue().patience {
            None => c(scenario),
            Some(patience) if patience.distribution == Distribution::Exponential => {
                Some(a(scenario, patience.mean_s))
            }
            Some(_) => None,
        }
    }
}

/// Ringing is a part of the holding time, and of every wait.
fn c(scenario: &Scenario) -> Option<Model> {
    let (delay_s, holding_s) = (scenario.answer_delay_s, scenario.holding_s());
    let model = ErlangC::new(scenario.agents.into(), scenario.load(), holding_s)?;
    let wait_s = model.asa_s() + delay_s;
    let ringing = delay_s / holding_s;
    let figures = Figures {
        abandonment: None,
        service_level: Some(in_time(scenario, |at| model.service_level(at))),
        asa_s: Some(wait_s),
        ata_s: None,
        mean_wait_s: Some(wait_s),
        waiting_probability: Some(model.probability_of_waiting()),
        occupancy: Some(model.occupancy() * (1.0 - ringing)),
        ringing: Some(model.occupancy() * ringing),
        mean_queue: Some(scenario.per_second() * wait_s),
    };
    Some(Model { name: "Erlang C", figures })
}

/// Callers give up while it rings, too: of those who reach an agent the share `stay` is answered,
/// and an agent is held for `rings_s` and, if they stay, for the work.
fn a(scenario: &Scenario, patience_s: f64) -> Model {
    let stay = (-scenario.answer_delay_s / patience_s).exp();
    let rings_s = (1.0 - stay) * patience_s;
    let works_s = scenario.queue().talk_time.mean_s + scenario.after_call_work_s;
    let holding_s = rings_s + stay * works_s;
    let (agents, per_s) = (u32::from(scenario.agents), scenario.per_second());
    let model = ErlangA::new(agents, per_s, holding_s, patience_s);
    let reach = 1.0 - model.probability_of_abandoning();
    let answered = reach * stay;
    let asa_s = model.asa_s() + scenario.answer_delay_s;
    let wait_s = model.mean_wait_s() + reach * rings_s;
    let figures = Figures {
        abandonment: Some(1.0 - answered),
        service_level: Some(stay * in_time(scenario, |at| model.service_level(at))),
        asa_s: Some(asa_s),
        ata_s: Some((wait_s - answered * asa_s) / (1.0 - answered)),
        mean_wait_s: Some(wait_s),
        waiting_probability: Some(1.0 - (1.0 - model.probability_of_waiting()) * stay),
        occupancy: Some(model.occupancy() * stay * works_s / holding_s),
        ringing: Some(model.occupancy() * rings_s / holding_s),
        mean_queue: Some(per_s * wait_s),
    };
    Model { name: "Erlang A", figures }
}

/// The model's agent answers when found, ours a ringing later.
fn in_time(scenario: &Scenario, level: impl Fn(f64) -> f64) -> f64 {
    let within_s = scenario.queue().service_level.threshold_s - scenario.answer_delay_s;
    if within_s < 0.0 { 0.0 } else { level(within_s) }
}
