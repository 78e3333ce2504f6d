use super::*;
use queue::{Answer, Queue};
use register::Register;

fn ms(at: u64) -> Duration {
    Duration::from_millis(at)
}

fn write(client: u32, value: &str, called: u64, answered: Option<u64>) -> Done<Register> {
    let operation = register::Operation::Write(value.into());
    let answered = answered.map(|at| (ms(at), value.to_owned()));
    Done { client, operation, called: ms(called), answered }
}

fn read(client: u32, value: &str, called: u64, answered: u64) -> Done<Register> {
    let answered = Some((ms(answered), value.to_owned()));
    Done { client, operation: register::Operation::Read, called: ms(called), answered }
}

fn verdict(history: &[Done<Register>]) -> Verdict {
    check(&"start".to_owned(), history)
}

#[test]
fn nothing_and_what_comes_one_after_the_other_is_linearizable() {
    assert_eq!(verdict(&[]), Verdict::Linearizable);
    let history =
        [read(0, "start", 0, 1), write(0, "a", 2, Some(3)), read(1, "a", 4, 5), read(0, "a", 6, 7)];
    assert_eq!(verdict(&history), Verdict::Linearizable);
}

#[test]
fn read_during_a_write_may_see_it_or_not() {
    for seen in ["start", "a"] {
        let history = [write(0, "a", 0, Some(10)), read(1, seen, 2, 3)];
        assert_eq!(verdict(&history), Verdict::Linearizable, "{seen}");
    }
}

#[test]
fn stale_read_is_found() {
    let history = [write(0, "a", 0, Some(1)), read(1, "start", 2, 3)];
    assert_eq!(verdict(&history), Verdict::NotLinearizable);
    // What a deposed leader answers when the new one has taken another write.
    let history = [
        write(0, "a", 0, Some(1)),
        write(0, "b", 2, Some(3)),
        read(1, "b", 4, 5),
        read(2, "a", 4, 6),
    ];
    assert_eq!(verdict(&history), Verdict::NotLinearizable);
}

#[test]
fn reads_that_go_back_in_time_are_found_though_each_is_possible() {
    let history = [write(0, "a", 0, Some(10)), read(1, "a", 1, 2), read(2, "start", 3, 4)];
    assert_eq!(verdict(&history), Verdict::NotLinearizable);
}

#[test]
fn lost_write_is_found() {
    let history = [write(0, "a", 0, Some(1)), write(1, "b", 2, Some(3)), read(0, "a", 4, 5)];
    assert_eq!(verdict(&history), Verdict::NotLinearizable);
}

#[test]
fn value_that_nobody_wrote_is_found() {
    assert_eq!(verdict(&[read(0, "x", 0, 1)]), Verdict::NotLinearizable);
}

#[test]
fn what_nobody_knows_the_end_of_may_take_effect_late_or_never_but_not_twice() {
    let lost = write(0, "a", 0, None);
    assert_eq!(verdict(&[lost.clone(), read(1, "start", 5, 6)]), Verdict::Linearizable);
    let late = [lost.clone(), read(1, "start", 5, 6), read(1, "a", 7, 8)];
    assert_eq!(verdict(&late), Verdict::Linearizable);
    let before_its_call = [write(0, "a", 5, None), read(1, "a", 1, 2)];
    assert_eq!(verdict(&before_its_call), Verdict::NotLinearizable);
    let twice = [lost, read(1, "a", 1, 2), write(1, "b", 3, Some(4)), read(1, "a", 5, 6)];
    assert_eq!(verdict(&twice), Verdict::NotLinearizable);
}

#[test]
fn order_of_concurrent_writes_is_the_same_for_all() {
    let writes = [write(0, "a", 0, Some(10)), write(1, "b", 0, Some(10))];
    let seen = |first: &str, second: &str| {
        let reads = [read(2, first, 1, 2), read(2, second, 3, 4), read(3, second, 11, 12)];
        [writes.as_slice(), &reads].concat()
    };
    assert_eq!(verdict(&seen("a", "b")), Verdict::Linearizable);
    assert_eq!(verdict(&seen("b", "a")), Verdict::Linearizable);
    let torn = [seen("a", "b"), vec![read(4, "a", 13, 14)]].concat();
    assert_eq!(verdict(&torn), Verdict::NotLinearizable);
}

/// A register of real threads is linearizable, and no longer so when one answer is spoiled.
#[test]
fn long_history_of_a_register_is_decided_and_one_spoiled_answer_found() {
    let mut history = Vec::new();
    let (mut value, mut at) = ("start".to_owned(), 0);
    for round in 0..400 {
        let next = format!("v{round}");
        history.push(write(0, &next, at, Some(at + 30)));
        // Concurrent with the write: before it, after it.
        history.push(read(1, &value, at + 1, at + 20));
        history.push(read(2, &next, at + 10, at + 29));
        // Of each tenth nobody knows the end, and it takes effect a while later, if at all.
        if round % 10 == 0 {
            history.push(write(3, &format!("lost{round}"), at, None));
        }
        (value, at) = (next, at + 40);
    }
    assert_eq!(verdict(&history), Verdict::Linearizable);
    let spoiled = history.iter().position(|done| done.called == ms(200 * 40 + 10)).unwrap();
    history[spoiled].answered = Some((ms(200 * 40 + 29), "v150".to_owned()));
    assert_eq!(verdict(&history), Verdict::NotLinearizable);
    let shown = shortest(&"start".to_owned(), &history);
    assert!(shown.len() < 250, "{} of {}", shown.len(), history.len());
    assert!(shown.iter().any(|done| done.answered == history[spoiled].answered), "{shown:?}");
    assert!(shown.iter().filter(|done| Register::is_read(&done.operation)).count() <= 2);
}

fn join(caller: &str, called: u64, answered: Option<u64>) -> Done<Queue> {
    let operation = queue::Operation::Join(caller.into());
    let answered = answered.map(|at| (ms(at), Answer::Done));
    Done { client: 0, operation, called: ms(called), answered }
}

fn leave(caller: &str, called: u64, answered: Option<u64>) -> Done<Queue> {
    let operation = queue::Operation::Leave(caller.into());
    Done { operation, ..join(caller, called, answered) }
}

fn look(seen: &[&str], called: u64, answered: u64) -> Done<Queue> {
    let seen = seen.iter().map(|caller| (*caller).to_owned()).collect();
    let answered = Some((ms(answered), Answer::Waiting(seen)));
    Done { client: 1, operation: queue::Operation::Look, called: ms(called), answered }
}

#[test]
fn queue_shows_who_was_told_to_wait_in_the_order_of_arrival() {
    let of = |history: &[Done<Queue>]| check(&Vec::new(), history);
    let (a, b) = (join("a", 0, Some(1)), join("b", 2, Some(3)));
    let seen = |seen: &[&str]| of(&[a.clone(), b.clone(), look(seen, 4, 5)]);
    assert_eq!(seen(&["a", "b"]), Verdict::Linearizable);
    for wrong in [&["b", "a"][..], &["a"], &["b"], &[], &["a", "b", "b"]] {
        assert_eq!(seen(wrong), Verdict::NotLinearizable, "{wrong:?}");
    }
    // At the same time either may be the first, but for all alike.
    let (a, b) = (join("a", 0, Some(3)), join("b", 0, Some(3)));
    let history = [a, b, look(&["b", "a"], 4, 5), look(&["a", "b"], 6, 7)];
    assert_eq!(of(&history[..3]), Verdict::Linearizable);
    assert_eq!(of(&history), Verdict::NotLinearizable);
}

#[test]
fn queue_keeps_the_place_of_who_waits_when_others_leave() {
    let of = |history: &[Done<Queue>]| check(&Vec::new(), history);
    let joined = [join("a", 0, Some(1)), join("b", 2, Some(3)), join("c", 4, None)];
    let left = |history: &[Done<Queue>]| of(&[&joined[..], history].concat());
    assert_eq!(left(&[leave("a", 5, Some(6)), look(&["b", "c"], 7, 8)]), Verdict::Linearizable);
    assert_eq!(left(&[leave("a", 5, Some(6)), look(&["b"], 7, 8)]), Verdict::Linearizable);
    let still_there = left(&[leave("a", 5, Some(6)), look(&["a", "b"], 7, 8)]);
    assert_eq!(still_there, Verdict::NotLinearizable);
    // Nobody knows whether the leave has come through.
    for seen in [&["a", "b"][..], &["b"]] {
        assert_eq!(left(&[leave("a", 5, None), look(seen, 7, 8)]), Verdict::Linearizable);
    }
}
