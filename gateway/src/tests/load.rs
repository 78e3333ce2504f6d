use std::time::Duration;

use tandem_core::command::GatewayEvent;
use tokio::time::Instant;

use super::harness::{Gateway, Phone};

const CALLS: usize = 300;

/// Calls at many times the rate that is asked for; each gets its 200, none waits long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_quickly_when_many_come_at_once() {
    let (gateway, mut node) = Gateway::with_leader().await;
    let phone = Phone::new(&gateway).await;
    let leader = tokio::spawn(async move {
        for _ in 0..CALLS {
            let invite = match node.event().await {
                GatewayEvent::Invite(invite) => invite,
                other => panic!("{other:?}"),
            };
            let request = &invite.request;
            node.respond(1, &invite.transaction, request.respond(100, None, None)).await;
            node.respond(1, &invite.transaction, request.respond(200, None, Some("t"))).await;
        }
        node
    });
    let mut waits_us = Vec::new();
    for call in 0..CALLS {
        let begun = Instant::now();
        phone.send(&phone.invite(&format!("c{call}"))).await;
        loop {
            let response = phone.response().await;
            if response.status == 200 && response.headers.branch() == format!("z9hG4bKc{call}") {
                break;
            }
        }
        waits_us.push(begun.elapsed().as_micros());
    }
    waits_us.sort_unstable();
    println!(
        "INVITE → 200 over the link: p50 {} µs, p99 {} µs",
        waits_us[CALLS / 2],
        waits_us[CALLS * 99 / 100]
    );
    // Generous: the machine may be busy with other tests.
    assert!(waits_us[CALLS / 2] < Duration::from_millis(100).as_micros());
    drop(leader.await.unwrap());
}
