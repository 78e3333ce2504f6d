use super::digit;
use crate::ivr::keys::{Digit, Keys};
use crate::limits::DIGITS_EARLY_MAX;

fn text(digits: impl IntoIterator<Item = Digit>) -> String {
    digits.into_iter().map(Digit::as_char).collect()
}

/// What counts after each of (life, number, key).
fn counted(presses: &[(u64, u64, char)]) -> Vec<String> {
    let mut keys = Keys::default();
    presses.iter().map(|(life, n, key)| text(keys.on_pressed(*life, *n, digit(*key)))).collect()
}

#[test]
fn keys_count_in_the_order_pressed_whatever_the_order_of_the_log() {
    assert_eq!(counted(&[(1, 1, '1'), (1, 2, '2'), (1, 3, '3')]), ["1", "2", "3"]);
    assert_eq!(counted(&[(1, 3, '3'), (1, 1, '1'), (1, 2, '2')]), ["", "1", "23"]);
    assert_eq!(counted(&[(1, 2, '2'), (1, 3, '3'), (1, 1, '1')]), ["", "", "123"]);
}

#[test]
fn key_counts_once_however_often_it_comes() {
    assert_eq!(counted(&[(1, 1, '1'), (1, 1, '1'), (1, 2, '2'), (1, 1, '1')]), ["1", "", "2", ""]);
    assert_eq!(counted(&[(1, 2, '2'), (1, 2, '2'), (1, 1, '1')]), ["", "", "12"]);
}

#[test]
fn next_life_of_the_gateway_counts_anew_and_what_is_missing_of_the_last_is_lost() {
    let presses = [(1, 1, '1'), (1, 3, '3'), (2, 1, '4'), (1, 2, '2'), (2, 2, '5')];
    assert_eq!(counted(&presses), ["1", "", "34", "", "5"]);
}

#[test]
fn key_that_never_comes_is_waited_for_no_longer_than_others_fit() {
    let mut keys = Keys::default();
    for number in 2..2 + DIGITS_EARLY_MAX as u64 {
        assert_eq!(keys.on_pressed(1, number, digit('7')), []);
    }
    let last = 2 + DIGITS_EARLY_MAX as u64;
    assert_eq!(text(keys.on_pressed(1, last, digit('8'))).len(), DIGITS_EARLY_MAX + 1);
    assert_eq!((keys.counted, keys.early.len()), (last, 0));
    assert_eq!(keys.on_pressed(1, 1, digit('1')), []);
    assert_eq!(text(keys.on_pressed(1, last + 1, digit('9'))), "9");
}

#[test]
fn phone_that_sends_a_key_both_ways_has_pressed_it_once() {
    let mut keys = Keys::default();
    assert_eq!(text(keys.on_info(digit('1'))), "1");
    assert_eq!(keys.on_pressed(1, 1, digit('1')), []);
    assert_eq!(text(keys.on_info(digit('1'))), "1");
    let mut keys = Keys::default();
    assert_eq!(text(keys.on_pressed(1, 1, digit('1'))), "1");
    assert_eq!(keys.on_info(digit('1')), None);
}

#[test]
fn only_keys_of_a_telephone_are_digits() {
    assert_eq!("0123456789*#ABCD".chars().filter_map(Digit::new).count(), 16);
    assert_eq!(Digit::new('E'), None);
    assert_eq!(Digit::new('a'), None);
}
