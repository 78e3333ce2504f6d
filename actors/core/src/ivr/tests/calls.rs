use tandem_sip::Method;

use super::{Led, choice, digit, gather, prompt};
use crate::command::{Command, GatewayEvent, Inbound};
use crate::effect::Source;
use crate::ids::QueueId;
use crate::ivr::flow::{Action, Gather, StepId};
use crate::query;
use crate::tests::shard::{Shard, key, words};
use crate::world::{Rejection, Reply};

/// The shard's clock goes on with each entry: the ACK, and what the test does next.
const ENTRIES_MS: u64 = 2;

#[test]
fn caller_is_answered_and_hears_the_menu() {
    let mut shard = Shard::new();
    let (call, effects) = shard.invite("c1", "4000");
    assert_eq!(words(&effects), ["100", "200", "media [menu]"]);
    let shown = &query::calls(&shard.leader)[0];
    assert_eq!(shown.state, "in_flow");
    let flow = shown.flow.as_ref().unwrap();
    assert_eq!((flow.name.as_str(), flow.version, flow.step.as_str()), ("main", 1, "menu"));
    assert_eq!((flow.prompt.as_deref(), flow.digits.as_str(), flow.tries), (Some("menu"), "", 0));
    assert_eq!(prompt(&effects).offset_ms, 0);
    assert!(prompt(&effects).barge_in);
    shard.ack(call.unwrap());
    assert_eq!(words(&shard.bye(call.unwrap(), 2)), ["200", "media []"]);
    let cdr = query::show_cdr(&shard.cdrs[0]);
    assert_eq!((cdr.disposition.as_str(), cdr.hung_up_by.as_str()), ("answered", "caller"));
    assert_eq!(cdr.flow.as_deref(), Some("main"));
    assert_eq!(cdr.flow_path.unwrap(), ["menu"]);
}

#[test]
fn key_stops_the_prompt_and_leads_to_its_queue_where_waiting_begins() {
    let mut led = Led::dial("4000");
    led.shard.now += 3_000;
    assert_eq!(words(&led.press('2')), ["media [music]"]);
    let call = led.shard.call(led.call);
    assert_eq!(call.state_name(), "queued");
    assert_eq!(call.queue, Some(QueueId("sales".into())));
    assert_eq!(call.queued_at.unwrap().since(call.answered_at.unwrap()), 3_000 + ENTRIES_MS);
    assert_eq!(led.place(), ("sales", "over", "2"));
    assert_eq!(query::calls(&led.shard.leader)[0].flow, None);
    // Whoever waits presses in vain.
    assert_eq!(led.press('1'), []);
    let (reply, effects) = led.prompt_ends_as(1);
    assert!(matches!(reply, Reply::Rejected(Rejection::NotFound(_))));
    assert_eq!(effects, []);
}

#[test]
fn announcement_is_played_whatever_is_pressed_and_ends_with_a_bye() {
    let mut led = Led::dial("4000");
    let effects = led.press('3');
    assert_eq!(words(&effects), ["media [notice]"]);
    assert!(!prompt(&effects).barge_in);
    assert_eq!(led.press('1'), []);
    assert_eq!(led.place().1, "playing");
    assert_eq!(words(&led.prompt_ends()), ["media []", "BYE"]);
    let cdr = query::show_cdr(&led.shard.cdrs[0]);
    assert_eq!((cdr.disposition.as_str(), cdr.hung_up_by.as_str()), ("answered", "system"));
    assert_eq!(cdr.flow_path.unwrap(), ["menu", "notice", "hang_up"]);

    let mut led = Led::dial("4004");
    assert_eq!(words(&led.prompt_ends()), ["media []", "BYE"]);
    assert_eq!(led.shard.cdrs[0].flow.as_ref().unwrap().to_string(), "notice");
}

#[test]
fn bye_of_the_flow_waits_for_the_callers_ack() {
    let mut shard = Shard::new();
    let call = shard.invite("c1", "4004").0.unwrap();
    let leg = shard.call(call).legs[0].id;
    let ended = GatewayEvent::PromptEnded { call, leg, play: 1, missing: true };
    assert_eq!(words(&shard.event(ended).1), ["media []"]);
}

#[test]
fn five_seconds_without_a_key_ask_again_and_the_third_time_ends_the_call() {
    let mut led = Led::dial("4000");
    for tries in 1..=2 {
        assert_eq!(words(&led.prompt_ends()), ["media [silence]"]);
        led.shard.due(4_999);
        assert_eq!(led.place().1, "awaiting");
        led.shard.due(1);
        assert_eq!(led.place(), ("menu", "prompting", ""));
        assert_eq!(led.run().tries(), tries);
    }
    led.prompt_ends();
    led.shard.due(5_000);
    assert_eq!(led.place(), ("goodbye", "playing", ""));
    assert_eq!(words(&led.prompt_ends()), ["media []", "BYE"]);
}

#[test]
fn unknown_key_counts_as_a_try_beside_those_without_one() {
    let mut led = Led::dial("4000");
    assert_eq!(words(&led.press('9')), ["media [menu]"]);
    led.prompt_ends();
    led.shard.due(5_000);
    assert_eq!((led.run().no_match, led.run().no_input), (1, 1));
    assert_eq!(words(&led.press('*')), ["media [goodbye]"]);
}

#[test]
fn agent_of_the_flow_rings_behind_ringback_and_talks() {
    let mut shard = Shard::new();
    shard.register(1001);
    let mut led = Led::enter(shard, "4000");
    assert_eq!(words(&led.press('0')), ["INVITE", "media [ringback silence]"]);
    assert_eq!(led.shard.call(led.call).state_name(), "dialing");
    let invite = led.shard.ringing(led.call).unwrap();
    // The caller was answered long ago: neither 180 nor 200 goes to it.
    assert_eq!(words(&led.shard.answer(&invite, 180).1), [] as [&str; 0]);
    assert_eq!(words(&led.shard.answer(&invite, 200).1), ["ACK", "media [leg leg]"]);
    assert_eq!(led.place().1, "over");
    assert_eq!(led.press('1'), []);
    let effects = led.shard.bye(led.call, 2);
    assert_eq!(words(&effects), ["200", "media []", "BYE"]);
    let cdr = query::show_cdr(&led.shard.cdrs[0]);
    assert_eq!((cdr.disposition.as_str(), cdr.agent.as_deref()), ("answered", Some("1001")));
    assert_eq!(cdr.flow_path.unwrap(), ["menu", "operator"]);
}

#[test]
fn agent_who_is_not_there_busy_or_silent_leads_back_to_the_menu() {
    let mut led = Led::dial("4000");
    assert_eq!(words(&led.press('0')), ["media [menu]"], "nobody is registered");
    assert_eq!(led.run().path, [0, 4, 0].map(StepId));

    for status in [486, 603, 480] {
        let mut shard = Shard::new();
        shard.register(1001);
        let mut led = Led::enter(shard, "4000");
        led.press('0');
        let invite = led.shard.ringing(led.call).unwrap();
        assert_eq!(words(&led.shard.answer(&invite, status).1), ["media [menu]"]);
        assert_eq!(led.shard.call(led.call).state_name(), "in_flow");
        assert_eq!(led.shard.agent_state(1001), "ready");
        assert_eq!(led.press('1').len(), 2, "music, and the agent rings again");
    }

    let mut shard = Shard::new();
    shard.register(1001);
    let mut led = Led::enter(shard, "4000");
    led.press('0');
    let invite = led.shard.ringing(led.call).unwrap();
    led.shard.answer(&invite, 180);
    assert_eq!(led.press('5'), [], "while it rings keys mean nothing");
    led.shard.due(30_000);
    assert_eq!(led.place(), ("menu", "prompting", ""));
    assert_eq!(led.shard.agent_state(1001), "ready");
}

#[test]
fn caller_who_hangs_up_while_the_flows_agent_rings_was_answered() {
    let mut shard = Shard::new();
    shard.register(1001);
    let mut led = Led::enter(shard, "4000");
    led.press('0');
    let invite = led.shard.ringing(led.call).unwrap();
    led.shard.answer(&invite, 180);
    assert_eq!(words(&led.shard.bye(led.call, 2)), ["200", "media []", "CANCEL"]);
    assert_eq!(query::show_cdr(&led.shard.cdrs[0]).disposition, "answered");
    assert_eq!(led.shard.agent_state(1001), "ready");
}

#[test]
fn full_queue_leads_on() {
    let full = Shard::with(|config| config.queues[0].waiting_max = 0);
    let mut led = Led::enter(full, "4000");
    assert_eq!(words(&led.press('1')), ["media [goodbye]"]);
}

#[test]
fn keys_that_commit_out_of_order_lead_where_they_were_pressed_for() {
    let steps = account();
    let mut led = Led::through(&steps);
    assert_eq!(led.press_as(2, '2'), []);
    assert_eq!(led.press_as(3, '3'), []);
    assert_eq!(led.place(), ("account", "prompting", ""));
    assert_eq!(words(&led.press_as(1, '1')), ["media [silence]"]);
    assert_eq!(led.place(), ("account", "collecting", "123"));
    assert_eq!(led.press_as(2, '2'), [], "it has counted");
    assert_eq!(led.place(), ("account", "collecting", "123"));
}

/// An account's number of two to four digits, then by its value.
fn account() -> [(&'static str, Action); 4] {
    let gather = Gather { no_input: StepId(3), no_match: StepId(3), ..gather() };
    let cases = vec![choice("42", 2)];
    [
        ("account", Action::Collect { gather, digits_min: 2, next: StepId(1) }),
        ("known", Action::Branch { cases, otherwise: StepId(3) }),
        ("vip", Action::Play { prompt: "vip".into(), next: StepId(3) }),
        ("end", Action::HangUp),
    ]
}

#[test]
fn digits_end_with_the_terminator_the_last_one_or_inter_digit_silence() {
    let mut led = Led::through(&account());
    led.press('4');
    led.press('2');
    assert_eq!(words(&led.press('#')), ["media [vip]"]);

    let mut led = Led::through(&account());
    for digit in ['1', '2', '3'] {
        led.press(digit);
    }
    assert_eq!(words(&led.press('4')), ["media []", "BYE"]);
    assert_eq!(led.shard.cdrs[0].flow_path.len(), 3);

    let mut led = Led::through(&account());
    led.press('4');
    led.press('2');
    led.shard.due(1_999);
    assert_eq!(led.place(), ("account", "collecting", "42"));
    led.shard.due(1);
    assert_eq!(led.place(), ("vip", "playing", "42"));
}

#[test]
fn too_few_digits_are_a_wrong_answer() {
    let mut led = Led::through(&account());
    led.press('4');
    led.shard.due(2_000);
    assert_eq!(led.place(), ("account", "prompting", ""));
    led.press('4');
    assert_eq!(words(&led.press('#')), ["media []", "BYE"]);
}

#[test]
fn menu_waits_for_more_digits_only_where_they_may_come() {
    let gather = Gather { no_input: StepId(3), no_match: StepId(3), ..gather() };
    let choices = vec![choice("1", 1), choice("12", 2)];
    let menu = ("menu", Action::Menu { gather, choices });
    let play = |prompt: &str| Action::Play { prompt: prompt.into(), next: StepId(3) };
    let steps = [menu, ("one", play("one")), ("twelve", play("twelve")), ("end", Action::HangUp)];
    let mut led = Led::through(&steps);
    led.press('1');
    assert_eq!(led.place(), ("menu", "collecting", "1"));
    assert_eq!(words(&led.press('2')), ["media [twelve]"]);
    let mut led = Led::through(&steps);
    led.press('1');
    led.shard.due(2_000);
    assert_eq!(led.place().0, "one");
    let mut led = Led::through(&steps);
    led.press('1');
    assert_eq!(words(&led.press('3')), ["media [ask]"], "no choice begins with 13");
}

#[test]
fn keys_behind_a_missing_one_count_when_the_time_is_over() {
    let mut led = Led::through(&account());
    led.prompt_ends();
    led.press_as(2, '4');
    led.press_as(3, '2');
    assert_eq!(led.place(), ("account", "awaiting", ""));
    led.shard.due(5_000);
    assert_eq!(led.place(), ("account", "collecting", "42"));
    assert_eq!(led.press_as(1, '9'), [], "too late");
}

#[test]
fn menu_without_barge_in_takes_keys_only_after_its_prompt() {
    let gather = Gather { barge_in: false, no_input: StepId(1), no_match: StepId(1), ..gather() };
    let choices = vec![choice("1", 1)];
    let mut led =
        Led::through(&[("menu", Action::Menu { gather, choices }), ("end", Action::HangUp)]);
    assert_eq!(led.press('1'), []);
    assert_eq!(led.place(), ("menu", "prompting", ""));
    led.prompt_ends();
    assert_eq!(words(&led.press('1')), ["media []", "BYE"]);
}

#[test]
fn flow_goes_on_at_the_same_place_with_the_next_leader() {
    let mut led = Led::through(&account());
    led.press('4');
    let before = led.run().clone();
    led.shard.apply(Command::Elected { node: "node-b".into(), dark: false });
    assert_eq!(led.run(), &before);
    assert_eq!(led.press_as(1, '4'), [], "sent again to the new leader");
    assert_eq!(led.run(), &before);
    led.press('2');
    assert_eq!(led.place(), ("account", "collecting", "42"));
}

#[test]
fn gateways_new_life_goes_on_in_the_prompt_where_it_is_by_now() {
    let mut led = Led::dial("4000");
    let first = led.run().turn;
    led.shard.now += 1_700;
    let ports = (0..40).map(|n| 20_000 + 2 * n).collect();
    led.shard.log_in(ports);
    let plan = led.shard.leader.outbox.values().last().cloned().unwrap();
    assert_eq!(
        (prompt(std::slice::from_ref(&plan)).offset_ms, prompt(std::slice::from_ref(&plan)).play),
        (1_700 + ENTRIES_MS, first)
    );
    // Its keys are counted from 1 again.
    assert_eq!(words(&led.press_as(1, '2')), ["media [music]"]);
}

#[test]
fn prompt_whose_end_nobody_reports_is_taken_for_ended() {
    let mut led = Led::dial("4000");
    led.shard.due(crate::limits::PROMPT_MS_MAX);
    assert_eq!(led.place().1, "awaiting");
}

#[test]
fn info_brings_a_key_once_and_is_answered() {
    let mut led = Led::dial("4000");
    let mut info = led.shard.of_peer(led.call, 0, Method::Info, 2);
    let send = |led: &mut Led, request: tandem_sip::Request| {
        let inbound = Inbound {
            names: Vec::new(),
            transaction: key(&request),
            source: "127.0.0.1:6000".parse().unwrap(),
            carrier: tandem_sip::Carrier::Udp,
            request: request.into(),
            offer: None,
        };
        led.shard.event(GatewayEvent::Info { inbound, digit: digit('9') }).1
    };
    assert_eq!(words(&send(&mut led, info.clone())), ["200", "media [menu]"]);
    assert_eq!(led.run().no_match, 1);
    // An earlier one that comes after it counts as nothing.
    info.headers.cseq.number = 1;
    assert_eq!(words(&send(&mut led, info.clone())), ["500"]);
    assert_eq!(led.run().no_match, 1);
    // In a call without a flow it is answered, and that is all.
    let mut echo = Led::dial("4003");
    let info = echo.shard.of_peer(echo.call, 0, Method::Info, 2);
    assert_eq!(words(&send(&mut echo, info)), ["200"]);
    assert_eq!(echo.press('1'), []);
    assert_eq!(echo.shard.call(echo.call).flow, None);
}

#[test]
fn held_caller_hears_the_prompt_where_it_is_after_the_retrieve() {
    let mut led = Led::dial("4000");
    led.shard.now += 1_000;
    let effects = led.shard.hold(led.call, 0, 2, true);
    assert_eq!(prompt(&effects).offset_ms, 1_000 + ENTRIES_MS);
    let crate::effect::Body::Media(plan) = &effects.last().unwrap().body else { panic!("a plan") };
    assert_eq!(plan.legs[0].remote, None);
    assert!(matches!(plan.legs[0].source, Source::Prompt(_)));
}
