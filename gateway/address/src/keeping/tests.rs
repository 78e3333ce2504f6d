use proptest::prelude::*;
use tandem_lease::LEASE_MS;

use super::*;

/// All that is done up to `end_ms`, with its moments, where the lease is renewed at `renewals_ms`.
fn plays(renewals_ms: &[u64], end_ms: u64) -> Vec<(u64, Due)> {
    let mut keeping = Keeping::taken_at(0);
    let mut done = Vec::new();
    for now in 0..end_ms {
        let asked = renewals_ms.iter().rev().find(|at| **at <= now);
        let until = asked.map_or(LEASE_MS, |at| at + LEASE_MS);
        loop {
            match keeping.next(now, until) {
                Due::Wait { .. } => break,
                due => done.push((now, due)),
            }
        }
    }
    done
}

fn every_200_ms(until_ms: u64) -> Vec<u64> {
    (0..until_ms / 200).map(|turn| turn * 200).collect()
}

#[test]
fn address_is_announced_again_and_renewed_while_its_lease_is_held() {
    let done = plays(&every_200_ms(7_000), 6_500);
    let announced = done.iter().filter(|(_, due)| *due == Due::Announce).map(|(at, _)| *at);
    assert_eq!(announced.collect::<Vec<_>>(), ANNOUNCE_AFTER_MS);
    let renewed = done.iter().filter(|(_, due)| *due == Due::Renew).map(|(at, _)| *at);
    assert_eq!(renewed.collect::<Vec<_>>(), [1_000, 2_000, 3_000, 4_000, 5_000, 6_000]);
    assert!(!done.iter().any(|(_, due)| matches!(due, Due::Drop | Due::Take)), "{done:?}");
}

#[test]
fn address_goes_with_its_lease_and_comes_back_with_it() {
    let mut renewals = every_200_ms(1_000);
    renewals.extend([5_000, 5_200]);
    let done = plays(&renewals, 5_301);
    let moved: Vec<_> =
        done.iter().filter(|(_, due)| matches!(due, Due::Drop | Due::Take)).collect();
    assert_eq!(moved, [&(800 + LEASE_MS, Due::Drop), &(5_000, Due::Take)]);
    // Neighbours hear of it as of one that came anew, and nothing is done for it while it is away.
    let since = done.iter().filter(|(at, _)| *at > 800 + LEASE_MS).collect::<Vec<_>>();
    let expected = [(5_000, Due::Take), (5_000, Due::Announce), (5_300, Due::Announce)];
    assert_eq!(since, expected.iter().collect::<Vec<_>>());
}

#[test]
fn wait_ends_with_the_lease_at_the_latest_and_without_one_has_no_end() {
    let mut keeping = Keeping::taken_at(0);
    assert_eq!(keeping.next(0, 250), Due::Announce);
    assert_eq!(keeping.next(0, 250), Due::Wait { until_ms: Some(250) });
    assert_eq!(keeping.next(250, 250), Due::Drop);
    assert_eq!(keeping.next(250, 250), Due::Wait { until_ms: None });
}

#[test]
fn claim_of_another_host_is_answered_once_in_ten_seconds_and_only_where_the_address_is_ours() {
    let mut keeping = Keeping::taken_at(0);
    assert!(keeping.defends(100));
    assert!(!keeping.defends(DEFEND_MS));
    assert!(keeping.defends(100 + DEFEND_MS));
    assert_eq!(keeping.next(20_000, 0), Due::Drop);
    assert!(!keeping.defends(60_000));
}

proptest! {
    /// However late the answers of nodes are: the address is on this host when the lease is held, and never otherwise, as soon as
    /// it was looked at.
    #[test]
    fn address_is_here_just_while_the_lease_is_held(
        pauses_ms in prop::collection::vec(1_u64..3_000, 1..20),
    ) {
        let mut keeping = Keeping::taken_at(0);
        let (mut now, mut until, mut here) = (0, LEASE_MS, true);
        for (turn, pause) in pauses_ms.iter().enumerate() {
            now += pause;
            if turn % 2 == 1 {
                until = now + LEASE_MS;
            }
            loop {
                match keeping.next(now, until) {
                    Due::Drop => here = false,
                    Due::Take => here = true,
                    Due::Wait { until_ms } => {
                        prop_assert!(until_ms.is_none_or(|at| at > now && at <= until));
                        break;
                    }
                    Due::Renew | Due::Announce => prop_assert!(here),
                }
            }
            prop_assert_eq!(here, now < until);
        }
    }
}
