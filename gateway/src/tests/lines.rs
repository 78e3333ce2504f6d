//! Which lines a process serves, and when it is silent.

use std::net::SocketAddr;
use std::time::Duration;

use tandem_lease::{LEASE_MS, RENEW_MS};
use tandem_wire::Bounds;

use super::harness::{FakeNode, GATEWAY, Gateway, Phone, options};
use crate::link::pb;
use crate::options::Peer;

const OTHER: &str = "gateway-u";

fn life(line: &str, life: u64, held: bool) -> pb::Life {
    let process = if held { GATEWAY } else { OTHER };
    pb::Life { line: line.into(), life, held, process: process.into() }
}

/// A gateway that may serve another's line, and where that one is.
async fn with_peer(node: &FakeNode) -> (Gateway, SocketAddr) {
    let data = tempfile::tempdir().unwrap();
    let mut options = options(&[node], data.path());
    let vip = super::harness::vip();
    let peer = Peer { name: OTHER.into(), vip, api: vip, copies: None };
    options.peers.push(peer);
    (Gateway::start_within(options, data, Bounds::default()).await, vip)
}

/// Whether anybody answers there, asked until it is as wanted.
async fn answers_at_last(phone: &Phone, wanted: bool) {
    for number in 0..200 {
        phone.send(&phone.text("OPTIONS", &format!("o{number}"), "", "")).await;
        if phone.heard_within(Duration::from_millis(50)).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("somebody answers: {}", !wanted);
}

#[tokio::test]
async fn process_serves_the_lines_that_it_holds_and_no_others() {
    let node = FakeNode::start("node-a", Some(1)).await;
    node.grant(vec![life(GATEWAY, 7, true)]);
    let (gateway, vip) = with_peer(&node).await;
    let own = Phone::new(&gateway).await;
    let other = Phone::at(vip).await;
    answers_at_last(&own, true).await;
    answers_at_last(&other, false).await;
    node.grant(vec![life(GATEWAY, 7, true), life(OTHER, 9, true)]);
    answers_at_last(&other, true).await;
    answers_at_last(&own, true).await;
    node.grant(vec![life(GATEWAY, 8, false), life(OTHER, 9, true)]);
    answers_at_last(&own, false).await;
    answers_at_last(&other, true).await;
    // What is said of an earlier life is late on the way.
    node.grant(vec![life(GATEWAY, 7, true), life(OTHER, 9, true)]);
    tokio::time::sleep(Duration::from_millis(2 * RENEW_MS)).await;
    answers_at_last(&own, false).await;
    node.grant(vec![life(GATEWAY, 9, true), life(OTHER, 10, false)]);
    answers_at_last(&own, true).await;
    answers_at_last(&other, false).await;
    // Given to it once more: it goes on in that life, and not in the one whose lease nobody renews.
    node.grant(vec![life(GATEWAY, 11, true), life(OTHER, 10, false)]);
    tokio::time::sleep(Duration::from_millis(LEASE_MS + RENEW_MS)).await;
    answers_at_last(&own, true).await;
}

#[tokio::test]
async fn process_that_is_told_nothing_falls_silent_and_speaks_again() {
    let node = FakeNode::start("node-a", Some(1)).await;
    let (gateway, _) = with_peer(&node).await;
    let phone = Phone::new(&gateway).await;
    answers_at_last(&phone, true).await;
    node.tell_lines(false);
    tokio::time::sleep(Duration::from_millis(LEASE_MS)).await;
    answers_at_last(&phone, false).await;
    node.tell_lines(true);
    answers_at_last(&phone, true).await;
}
