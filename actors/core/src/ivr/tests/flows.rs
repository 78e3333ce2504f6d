use std::sync::Arc;

use super::{choice, digit, flow, gather};
use crate::command::Command;
use crate::demo::demo_config;
use crate::ivr::flow::{Action, Flow, Gather, StepId};
use crate::limits;
use crate::tests::shard::Shard;

fn play(next: u16) -> Action {
    Action::Play { prompt: "notice".into(), next: StepId(next) }
}

fn menu(gather: Gather, choices: &[(&str, u16)]) -> Action {
    let choices = choices.iter().map(|(digits, step)| choice(digits, *step)).collect();
    Action::Menu { gather, choices }
}

fn problems(steps: &[(&str, Action)]) -> Vec<String> {
    flow(steps).problems().iter().map(ToString::to_string).collect()
}

#[test]
fn flows_of_the_demo_tenant_have_no_problem() {
    for flow in &demo_config().flows {
        assert_eq!(flow.problems(), [], "{}", flow.name);
    }
}

#[test]
fn flow_that_goes_round_without_a_key_is_refused_with_its_way() {
    let silent = Gather { no_input: StepId(1), ..gather() };
    let steps = [
        ("hello", play(1)),
        ("menu", menu(silent, &[("1", 2)])),
        ("extension", Action::Extension { agent: "1001".into(), failed: StepId(1) }),
    ];
    assert_eq!(problems(&steps), ["goes round without a key of the caller: menu → menu"]);
    let round = [("a", play(1)), ("b", play(2)), ("c", play(1)), ("end", Action::HangUp)];
    assert_eq!(problems(&round), ["goes round without a key of the caller: b → c → b"]);
    // With a key in between it goes round as often as the caller likes.
    let gather = Gather { no_input: StepId(1), ..gather() };
    let keyed = [("menu", menu(gather, &[("1", 0)])), ("end", Action::HangUp)];
    assert_eq!(problems(&keyed), [] as [&str; 0]);
}

#[test]
fn flow_with_steps_that_are_not_there_or_menus_that_make_no_sense_is_refused() {
    assert_eq!(problems(&[]), ["has 0 steps; a flow has 1 to 10000"]);
    assert_eq!(problems(&[("a", play(7))]), ["leads to step 7, which is not there"]);
    let twice = [("a", Action::HangUp), ("a", Action::HangUp)];
    assert_eq!(problems(&twice), ["has the name of another step"]);
    let end = ("end", Action::HangUp);
    let asks = |gather: Gather, choices: &[(&str, u16)]| {
        let to_end = Gather { no_input: StepId(1), no_match: StepId(1), ..gather };
        problems(&[("menu", menu(to_end, choices)), end.clone()])
    };
    assert_eq!(asks(gather(), &[]), ["offers nothing"]);
    assert_eq!(asks(gather(), &[("1", 1), ("1", 1)]), ["names 1 twice"]);
    assert_eq!(asks(gather(), &[("x", 1)]), ["names \"x\", which nobody can press"]);
    assert_eq!(asks(gather(), &[("12345", 1)]), ["offers 5 digits and takes 4"]);
    assert_eq!(asks(gather(), &[("#", 1)]), ["offers the key that ends the digits"]);
    let slow = Gather { inter_digit_ms: 10_001, ..gather() };
    assert_eq!(asks(slow, &[("1", 1)]), ["inter_digit_ms is 10001; it may be 1000 to 10000"]);
    let never = Gather { tries_max: 0, ..gather() };
    assert_eq!(asks(never, &[("1", 1)]), ["tries_max is 0; it may be 1 to 10"]);
    let collect = Action::Collect {
        gather: Gather { no_input: StepId(1), ..gather() },
        digits_min: 5,
        next: StepId(1),
    };
    assert_eq!(problems(&[("collect", collect), end]), ["wants 5 digits of 4 at most"]);
}

#[test]
fn largest_flow_is_judged_without_recursion() {
    let count = limits::FLOW_STEPS_MAX as u16;
    let names: Vec<String> = (0..count).map(|at| at.to_string()).collect();
    let mut steps: Vec<(&str, Action)> =
        (1..).zip(&names).map(|(next, name)| (name.as_str(), play(next))).collect();
    *steps.last_mut().expect("steps") = ("end", Action::HangUp);
    assert_eq!(flow(&steps).problems(), []);
    *steps.last_mut().expect("steps") = ("end", play(0));
    assert_eq!(flow(&steps).problems().len(), 1);
    assert!(digit('#').to_string() == "#");
}

/// Versions of the flow, and of those that are kept beside it.
fn versions(shard: &Shard, name: &str) -> (Vec<u64>, Vec<u64>) {
    let config = shard.leader.config.as_ref().expect("a configuration");
    let of = |flows: &[Arc<Flow>]| {
        flows.iter().filter(|flow| *flow.name.0 == *name).map(|flow| flow.version).collect()
    };
    (of(&config.flows), of(&config.retired))
}

#[test]
fn flow_has_a_new_version_when_its_steps_change_and_calls_keep_the_one_they_began_with() {
    let mut shard = Shard::new();
    assert_eq!(versions(&shard, "main"), (vec![1], vec![]));
    let mut config = demo_config();
    config.version = 2;
    shard.apply(Command::Configure(Box::new(config.clone())));
    assert_eq!(versions(&shard, "main"), (vec![1], vec![]), "nothing has changed");

    let call = shard.invite("c1", "4000").0.expect("a call");
    let longer = |config: &mut crate::config::Config, ms| {
        let Action::Menu { gather, .. } = &mut Arc::make_mut(&mut config.flows[0]).steps[0].action
        else {
            panic!("a menu")
        };
        gather.first_digit_ms = ms;
    };
    longer(&mut config, 6_000);
    shard.apply(Command::Configure(Box::new(config.clone())));
    assert_eq!(versions(&shard, "main"), (vec![2], vec![1]));
    longer(&mut config, 7_000);
    shard.apply(Command::Configure(Box::new(config.clone())));
    assert_eq!(versions(&shard, "main"), (vec![3], vec![1]), "nobody is in version 2");
    config.flows.remove(0);
    shard.apply(Command::Configure(Box::new(config.clone())));
    assert_eq!(versions(&shard, "main"), (vec![], vec![1]));
    assert_eq!(shard.invite("c2", "4000").0, None, "its number leads nowhere");
    shard.bye(call, 2);
    let config = demo_config();
    shard.apply(Command::Configure(Box::new(config)));
    assert_eq!(versions(&shard, "main"), (vec![2], vec![]), "never a version of before");
    assert_eq!(shard.cdrs[1].flow_path.len(), 1);
}
