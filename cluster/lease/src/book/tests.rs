use proptest::prelude::*;

use super::*;
use crate::{DRIFT_PPM_MAX, Fence, PPM};

const LINE: &str = "gateway-a";

fn grant(process: &str, incarnation: u64, life: u64) -> Grant {
    Grant { process: process.to_owned(), incarnation, life }
}

fn asker(process: &str, incarnation: u64) -> Asker {
    let (drained, unable) = (false, false);
    Asker { process: process.to_owned(), incarnation, serves: 1, drained, unable }
}

fn given(process: &str, incarnation: u64) -> Next {
    Next::Give { process: process.to_owned(), incarnation }
}

#[test]
fn line_goes_on_elsewhere_when_its_lease_is_over_and_not_before() {
    let (mut book, of_a) = (Book::default(), grant(LINE, 1, 10));
    book.begin(1_000);
    let askers = [asker("gateway-b", 2)];
    let over = 1_000 + LEASE_MS + MARGIN_MS;
    let next = |book: &Book, now| book.next(LINE, LINE, Some(&of_a), &askers, now);
    // Of a lease of which it has not heard, a new leader knows no moment but its own beginning.
    assert_eq!(next(&book, over - 1), Next::Wait { until_ms: over });
    assert_eq!(next(&book, over), given("gateway-b", 2));
    book.renew(LINE, 10, 1_700);
    assert_eq!(next(&book, over), Next::Wait { until_ms: over + 700 });
    assert_eq!(next(&book, over + 700), given("gateway-b", 2));
}

#[test]
fn line_of_a_process_that_is_proven_dead_goes_on_at_once() {
    let (mut book, of_a) = (Book::default(), grant(LINE, 5, 10));
    book.begin(0);
    book.renew(LINE, 10, 100);
    let askers = [asker("gateway-b", 2)];
    // An obituary of an earlier life proves nothing of this one.
    book.mourn(LINE, 4);
    assert!(matches!(book.next(LINE, LINE, Some(&of_a), &askers, 200), Next::Wait { .. }));
    book.mourn(LINE, 5);
    assert_eq!(book.next(LINE, LINE, Some(&of_a), &askers, 200), given("gateway-b", 2));
    // Nor does it take what it asked for before it died.
    let only = [asker(LINE, 5)];
    assert_eq!(book.next(LINE, LINE, Some(&of_a), &only, 200), Next::Nothing);
}

#[test]
fn own_process_comes_first_and_the_others_wait_for_it() {
    let mut book = Book::default();
    book.begin(1_000);
    let other = asker("gateway-b", 2);
    let both = [other.clone(), asker(LINE, 1)];
    assert_eq!(book.next(LINE, LINE, None, &both, 1_000), given(LINE, 1));
    let only = [other];
    let home = 1_000 + HOME_MS;
    assert_eq!(book.next(LINE, LINE, None, &only, 1_001), Next::Wait { until_ms: home });
    assert_eq!(book.next(LINE, LINE, None, &only, home), given("gateway-b", 2));
    // One that was given back is free.
    let back = grant("", 0, 3);
    assert_eq!(book.next(LINE, LINE, Some(&back), &only, 1_001), given("gateway-b", 2));
}

#[test]
fn who_serves_least_is_next() {
    let book = Book::default();
    let askers = [
        Asker { serves: 2, ..asker("gateway-b", 1) },
        Asker { serves: 1, ..asker("gateway-c", 1) },
    ];
    let back = grant("", 0, 3);
    assert_eq!(book.next(LINE, LINE, Some(&back), &askers, 0), given("gateway-c", 1));
}

#[test]
fn who_is_drained_serves_only_where_nobody_else_can() {
    let book = Book::default();
    let own = Asker { drained: true, ..asker(LINE, 1) };
    let busy = Asker { serves: 5, ..asker("gateway-c", 1) };
    let back = grant("", 0, 3);
    let next = |askers: &[Asker]| book.next(LINE, LINE, Some(&back), askers, 0);
    assert_eq!(next(&[own.clone(), busy]), given("gateway-c", 1));
    assert_eq!(next(&[own]), given(LINE, 1));
}

#[test]
fn line_goes_to_who_can_serve_it_and_to_nobody_where_nobody_can() {
    let book = Book::default();
    let back = grant("", 0, 3);
    let unable = |process, incarnation| Asker { unable: true, ..asker(process, incarnation) };
    let next = |askers: &[Asker]| book.next(LINE, LINE, Some(&back), askers, 0);
    assert_eq!(next(&[unable(LINE, 1), asker("gateway-b", 2)]), given("gateway-b", 2));
    assert_eq!(next(&[unable(LINE, 1), unable("gateway-b", 2)]), Next::Nothing);
}

#[test]
fn renewal_of_an_earlier_life_changes_nothing() {
    let mut book = Book::default();
    book.renew(LINE, 10, 1_000);
    book.renew(LINE, 9, 9_000);
    assert_eq!(book.over_at_ms(LINE, &grant("gateway-b", 1, 10)), 1_000 + LEASE_MS + MARGIN_MS);
}

/// What a boot clock of that rate shows, in nanoseconds of true time and milliseconds of the clock.
fn shows(true_ns: u64, ppm: i64) -> u64 {
    let rate = u128::from(PPM.saturating_add_signed(ppm));
    u64::try_from(u128::from(true_ns) * rate / u128::from(PPM) / 1_000_000).unwrap()
}

proptest! {
    /// However the clocks run, and whenever it asked: a holder is silent before its line is another's.
    #[test]
    fn no_two_processes_hold_a_line(
        asked_ns in 0..3_600_000_000_000_u64,
        heard_after_ns in 0..2_000_000_000_u64,
        later_ns in 0..3_000_000_000_u64,
        holder_ppm in -(DRIFT_PPM_MAX as i64)..=(DRIFT_PPM_MAX as i64),
        leader_ppm in -(DRIFT_PPM_MAX as i64)..=(DRIFT_PPM_MAX as i64),
    ) {
        let fence = Fence::asked_at(shows(asked_ns, holder_ppm));
        let heard_ns = asked_ns + heard_after_ns;
        let mut book = Book::default();
        book.renew(LINE, 7, shows(heard_ns, leader_ppm));
        let now_ns = heard_ns + later_ns;
        let askers = [asker("gateway-b", 2)];
        let grant = grant(LINE, 1, 7);
        let next = book.next(LINE, LINE, Some(&grant), &askers, shows(now_ns, leader_ppm));
        if matches!(next, Next::Give { .. }) {
            prop_assert!(!fence.is_held_at(shows(now_ns, holder_ppm)));
        }
    }
}
