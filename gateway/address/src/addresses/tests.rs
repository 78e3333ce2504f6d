//! In a network of their own, with real interfaces: that needs root.

use std::future::Future;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::limits::RENEW_MS;

const LINE: &str = "gateway-a";
const V4: &str = "10.77.0.11";
const V6: &str = "fd77::11";
const SLACK: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(20);

/// On a thread with a network of its own: two ends of a cable, `us` and `them`.
fn in_own_network<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        // SAFETY: unshare(2) takes a number; it moves this thread alone, and what it starts.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "this test needs root");
        ip("link add us type veth peer name them");
        ip("link set us up");
        ip("link set them up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    };
    std::thread::spawn(run).join().unwrap();
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn stands(address: &str) -> bool {
    ip("addr show dev us").contains(&format!("{address}/"))
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(LOOK).await;
    }
    begun.elapsed()
}

fn on_interface() -> Arc<Addresses> {
    let way = Way::Interface { name: "us".into(), prefix: None };
    Addresses::new(&way, [V4, V6].map(|text| text.parse().unwrap())).unwrap()
}

#[test]
fn address_is_on_the_interface_from_take_to_give_up() {
    in_own_network(|| async {
        let addresses = on_interface();
        for address in [V4, V6] {
            let held = addresses.take(LINE, address.parse().unwrap()).await.unwrap();
            assert!(stands(address));
            // At once: no duplicate is looked for.
            std::net::UdpSocket::bind((address.parse::<IpAddr>().unwrap(), 5060)).unwrap();
            // Taken anew by a restarted process, or for another life of the line.
            let again = addresses.take(LINE, address.parse().unwrap()).await.unwrap();
            held.give_up().await;
            assert!(stands(address), "it is the later life's");
            again.give_up().await;
            assert!(!stands(address));
        }
    });
}

#[test]
fn address_that_nobody_renews_leaves_by_itself_and_one_that_is_kept_stays() {
    in_own_network(|| async {
        let addresses = on_interface();
        let kept = addresses.take(LINE, V4.parse().unwrap()).await.unwrap();
        let fence = Fence::none();
        let left = addresses.take("gateway-b", V6.parse().unwrap()).await.unwrap();
        let keeps = kept.keep(&fence);
        let gone = until("it ends by itself", || !stands(V6));
        tokio::select! {
            error = keeps => panic!("{error}"),
            took = gone => println!("{V6} was gone after {took:?}"),
        }
        assert!(stands(V4));
        drop(left);
    });
}

#[test]
fn address_goes_when_the_lease_is_over_and_comes_back_when_it_is_renewed() {
    in_own_network(|| async {
        let addresses = on_interface();
        let held = addresses.take(LINE, V4.parse().unwrap()).await.unwrap();
        let fence = Fence::asked_at(clock::boot_ms());
        let play = async {
            let took = until("it goes with the lease", || !stands(V4)).await;
            assert!(took < Duration::from_millis(RENEW_MS) + SLACK, "{took:?}");
            assert!(!fence.is_held());
            fence.renew(clock::boot_ms());
            held.renewed();
            until("it comes back", || stands(V4)).await;
        };
        tokio::select! {
            error = held.keep(&fence) => panic!("{error}"),
            () = play => {}
        }
    });
}

#[test]
fn what_an_earlier_life_has_left_is_cleared_and_what_stands_for_good_is_not() {
    in_own_network(|| async {
        // The host's own is the first of its network: with the first one all others go (`promote_secondaries`).
        ip("addr add 10.77.0.99/24 dev us valid_lft 60 preferred_lft 60");
        ip(&format!("addr add {V4}/24 dev us valid_lft 60 preferred_lft 60"));
        ip(&format!("addr add {V6}/128 dev us"));
        on_interface().clear().await;
        assert!(!stands(V4) && stands(V6) && stands("10.77.0.99"));
    });
}

#[test]
fn neighbours_are_told_and_a_host_that_claims_the_address_is_answered_once() {
    in_own_network(|| async {
        for address in [V4, V6] {
            let address: IpAddr = address.parse().unwrap();
            let addresses = on_interface();
            let held = addresses.take(LINE, address).await.unwrap();
            let fence = Fence::none();
            // What a host at the other end of the cable hears, and whom it takes for itself.
            let there = Neighbours::open("them", address).unwrap();
            // Each time in two forms by ARP, in one by neighbour discovery; the fourth time is seconds away.
            let packets = if address.is_ipv4() { 6 } else { 3 };
            let heard = async {
                for _ in 0..packets {
                    there.claimed().await.unwrap();
                }
                there.announce().unwrap();
                let said = Instant::now();
                there.claimed().await.unwrap();
                assert!(said.elapsed() < Duration::from_secs(2), "{:?}", said.elapsed());
            };
            let heard = tokio::time::timeout(Duration::from_secs(10), heard);
            tokio::select! {
                error = held.keep(&fence) => panic!("{error}"),
                heard = heard => heard.expect("neighbours are told"),
            }
            held.give_up().await;
        }
    });
}

#[test]
fn address_of_an_interface_that_is_not_there_is_refused_in_a_sentence() {
    in_own_network(|| async {
        let way = Way::Interface { name: "none0".into(), prefix: None };
        let address = V4.parse().unwrap();
        let addresses = Addresses::new(&way, [address]).unwrap();
        let error = addresses.take(LINE, address).await.err().unwrap();
        assert_eq!(error.to_string(), "this host has no interface none0");
    });
}

#[tokio::test]
async fn hook_that_has_failed_to_take_is_asked_to_undo_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("hook");
    let said = dir.path().join("said");
    let text = format!("echo $TANDEM_ACTION >> {}\n[ $TANDEM_ACTION = drop ]\n", said.display());
    std::fs::write(&script, text).unwrap();
    let arguments = vec![script.display().to_string()];
    let way = Way::Hook(Hook { command: "/bin/sh".into(), arguments });
    let address = V4.parse().unwrap();
    let addresses = Addresses::new(&way, [address]).unwrap();
    let error = addresses.take(LINE, address).await.err().unwrap();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    let read = || std::fs::read_to_string(&said).unwrap_or_default();
    until("it is asked to undo it", || read() == "take\ndrop\n").await;
}
