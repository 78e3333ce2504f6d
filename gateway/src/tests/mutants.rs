//! Tens of thousands of spoiled datagrams over the real socket, and calls meanwhile.

use std::path::PathBuf;

use tandem_core::command::GatewayEvent;
use tokio::sync::oneshot;

use super::harness::{FakeNode, Gateway, Phone};
use super::mutate::{Numbers, mutant};

const MUTANTS: usize = 20_000;
const SEED: u64 = 5_118;
/// Between two calls of somebody else.
const BETWEEN_CALLS: usize = 1_000;

/// Accepts whatever comes and answers the calls of `live`, until it is told to stop.
async fn serve(mut node: FakeNode, mut stop: oneshot::Receiver<()>) -> FakeNode {
    loop {
        let event = tokio::select! {
            (sequence, event) = node.next() => {
                node.accept(sequence).await;
                event
            }
            _ = &mut stop => return node,
        };
        match event {
            GatewayEvent::Invite(inbound) => {
                let request = &inbound.request;
                let status = if request.headers.call_id.contains("live") { 200 } else { 486 };
                let response = request.respond(status, None, Some("t"));
                node.respond(1, &inbound.transaction, response).await;
            }
            GatewayEvent::Request(inbound) => {
                let response = inbound.request.respond(200, None, Some("t"));
                node.respond(1, &inbound.transaction, response).await;
            }
            GatewayEvent::Login(_)
            | GatewayEvent::Register(_)
            | GatewayEvent::Cancel { .. }
            | GatewayEvent::Ack { .. }
            | GatewayEvent::Response { .. }
            | GatewayEvent::ClientTimeout { .. }
            | GatewayEvent::AckTimeout { .. }
            | GatewayEvent::RtpSilence { .. }
            | GatewayEvent::Recorded(_) => {}
        }
    }
}

fn corpus(hostile: &Phone) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../actors/sip/torture/rfc4475");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut corpus: Vec<_> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for method in ["REGISTER", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "UPDATE"] {
        corpus.push(hostile.text(method, "z", "Max-Forwards: 70\r\n", "").into_bytes());
    }
    corpus.extend(std::iter::repeat_n(hostile.invite("z").into_bytes(), 20));
    corpus
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutants_over_the_socket_disturb_no_call() {
    println!("{MUTANTS} mutants, seed {SEED}");
    let (gateway, node) = Gateway::with_leader().await;
    let (hostile, phone) = (Phone::new(&gateway).await, Phone::new(&gateway).await);
    let (stop, stopped) = oneshot::channel();
    let node = tokio::spawn(serve(node, stopped));
    let (mut numbers, corpus) = (Numbers(SEED), corpus(&hostile));
    let mut answers = 0;
    for count in 0..MUTANTS {
        let (one, other) =
            (&corpus[numbers.below(corpus.len())], &corpus[numbers.below(corpus.len())]);
        let mut datagram = mutant(&mut numbers, one, other);
        // What a datagram over the loopback holds.
        datagram.truncate(60_000);
        hostile.send_bytes(&datagram).await;
        // Each is SIP, or `drain` would say so.
        answers += hostile.drain();
        if count % BETWEEN_CALLS == 0 {
            let branch = format!("live{count}");
            assert_eq!(phone.ask(&phone.invite(&branch)).await.status, 200, "call {count}");
            let ack = phone.text("ACK", &format!("ack{count}"), "", "");
            let ack = ack.replace(&format!("call-ack{count}"), &format!("call-{branch}"));
            phone.send(&ack.replace("To: <sip:4003@demo>", "To: <sip:4003@demo>;tag=t")).await;
            let bye = phone.text("BYE", &format!("bye{count}"), "", "");
            let bye = bye.replace("To: <sip:4003@demo>", "To: <sip:4003@demo>;tag=t");
            phone.send(&bye).await;
            // The 200 of the INVITE may come again before its ACK is there.
            while phone.response().await.headers.cseq.method != tandem_sip::Method::Bye {}
        }
    }
    assert!(answers > MUTANTS / 50, "{answers} answers");
    assert!(!gateway.task.is_finished());
    stop.send(()).unwrap();
    node.await.unwrap();
}
