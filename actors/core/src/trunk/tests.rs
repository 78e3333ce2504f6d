use tandem_sip::Millis;

use super::outward::Peer;
use super::routing::{self, is_number};
use super::state::Trunk;
use crate::config::Config;
use crate::demo::demo_config;
use crate::limits;
use crate::rng::Rng;
use crate::tests::shard::with_carriers;
use crate::trunk::outward::Route;

fn config() -> Config {
    let mut config = demo_config();
    with_carriers(&mut config);
    config
}

fn order(config: &Config, seed: u64) -> Vec<String> {
    let hops = routing::hops(config, "0049", &mut Rng::new(seed));
    hops.iter().map(|hop| format!("{} {}", hop.trunk, hop.peer)).collect()
}

#[test]
fn bucket_gives_the_tokens_of_a_second_and_no_more() {
    let mut trunk = Trunk::new("t".into());
    let mut taken =
        |at: u64, per_second| (0..100).filter(|_| trunk.take_token(Millis(at), per_second)).count();
    assert_eq!(taken(1_000_000, 3), 3);
    assert_eq!(taken(1_000_333, 3), 0);
    assert_eq!(taken(1_000_334, 3), 1);
    assert_eq!(taken(1_009_000, 3), 3);
    assert_eq!(taken(1_009_000, 0), 100);
    // Another pace holds from the next call on.
    assert_eq!(taken(1_010_000, 100), 100);
}

#[test]
fn held_peer_is_free_again_and_forgotten() {
    let mut trunk = Trunk::new("t".into());
    let peer = |n: u8| std::net::SocketAddr::from(([192, 0, 2, n], 5060));
    trunk.hold(peer(1), 503, Millis(1_000), 500);
    assert_eq!(trunk.holds(peer(1), Millis(1_499)).map(|hold| hold.status), Some(503));
    assert_eq!(trunk.holds(peer(1), Millis(1_500)), None);
    assert_eq!(trunk.holds(peer(2), Millis(1_000)), None);
    trunk.hold(peer(2), 408, Millis(1_500), 500);
    assert_eq!(trunk.held.len(), 1);
    for n in 3..=u8::MAX {
        trunk.hold(peer(n), 408, Millis(1_500), 500);
    }
    assert_eq!(trunk.held.len(), limits::PEERS_MAX);
}

#[test]
fn longest_prefix_names_the_trunks() {
    let mut config = config();
    config.routes.push(Route { prefix: "0049".into(), trunks: vec!["south".into()] });
    let names = |number: &str| -> Vec<String> {
        routing::trunks(&config, number).iter().map(|(trunk, _)| trunk.id.to_string()).collect()
    };
    assert_eq!(names("00441"), ["north", "south"]);
    assert_eq!(names("00491"), ["south"]);
    assert!(names("0149").is_empty() && names("00-49").is_empty() && names("").is_empty());
}

#[test]
fn peers_are_tried_by_priority_and_then_as_they_are_listed() {
    let expected = ["north 192.0.2.1:5060", "north 192.0.2.2:5060", "south 192.0.2.3:5060"];
    for seed in 0..20 {
        assert_eq!(order(&config(), seed), expected);
    }
}

#[test]
fn trunks_of_one_priority_share_the_calls_by_weight() {
    let mut config = config();
    let [.., north, south] = config.trunks.as_mut_slice() else { panic!("two carriers") };
    let (north, south) = (north.out.as_mut().unwrap(), south.out.as_mut().unwrap());
    (north.priority, north.weight, south.weight) = (2, 30, 10);
    let first = (0..1_000).filter(|seed| order(&config, *seed)[0].starts_with("north")).count();
    assert!((700..800).contains(&first), "{first} of 1000 by three quarters of the weight");
    assert_eq!(order(&config, 7), order(&config, 7));
    assert_eq!(order(&config, 7).len(), 3);
    for trunk in &mut config.trunks {
        if let Some(out) = &mut trunk.out {
            out.weight = 0;
        }
    }
    assert!(order(&config, 7)[0].starts_with("north"));
}

#[test]
fn numbers_are_digits_with_a_plus_in_front_or_none() {
    assert!(is_number("+4930") && is_number("0049*7#"));
    let long = "1".repeat(limits::DIGITS_MAX + 1);
    assert!(!is_number("+") && !is_number("") && !is_number("49+30") && !is_number("bob"));
    assert!(!is_number(&long));
}

#[test]
fn peer_is_an_address_with_a_port_and_perhaps_a_transport() {
    for text in ["192.0.2.7:5060", "[2001:db8::1]:5061;transport=tls", "192.0.2.7:1;transport=tcp"]
    {
        assert_eq!(text.parse::<Peer>().map(|peer| peer.to_string()).as_deref(), Ok(text));
    }
    for text in ["192.0.2.7", "sbc.example.net:5060", "192.0.2.7:0", "0.0.0.0:5060", ""] {
        assert_eq!(text.parse::<Peer>(), Err(()), "{text}");
    }
    assert_eq!("192.0.2.7:5060;transport=sctp".parse::<Peer>(), Err(()));
}
