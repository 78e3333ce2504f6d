//! From what the control task sees to what is found of a call.

use std::net::SocketAddr;

use tandem_core::effect::{Body as EffectBody, Effect, EffectId, MediaPlan};
use tandem_core::ids::{CallId, EntityId, GatewayId};
use tandem_sip::{Flow, Message, Way};

use super::record::{Body, frames};
use super::{Options, Tracer, segments};

const CALL: CallId = CallId(0xa1);

fn addresses() -> (SocketAddr, SocketAddr) {
    (([127, 0, 0, 10], 5060).into(), ([192, 0, 2, 1], 5070).into())
}

fn message(call_id: &str, method: &str, rest: &str) -> Message {
    let text = format!(
        "{method} sip:4001@127.0.0.10 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1\r\n\
         From: <sip:1@192.0.2.1>;tag=f\r\nTo: <sip:4001@127.0.0.10>\r\nCall-ID: {call_id}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:1@192.0.2.1>\r\n{rest}\r\n"
    );
    tandem_sip::parse(text.as_bytes()).unwrap()
}

fn hear(tracer: &Tracer, message: &Message) {
    let (local, peer) = addresses();
    tracer.received(&Flow::udp(local, peer), message);
}

/// The cluster answers: that names the dialog's call.
fn answer(tracer: &Tracer, call: CallId, invite: &Message) {
    let Message::Request(invite) = invite else { panic!("a response") };
    let gateway = GatewayId::from("gateway-a");
    let effect = |body| Effect {
        id: EffectId { shard: 0, index: 7, ordinal: 0 },
        entity: EntityId::Call(call),
        gateway: gateway.clone(),
        body,
    };
    let transaction = tandem_core::command::TransactionKey {
        gateway: gateway.clone(),
        branch: "z9hG4bK1".into(),
        sent_by: "192.0.2.1:5070".into(),
        method: "INVITE".into(),
    };
    let response = invite.respond(200, None, Some("t"));
    let (local, peer) = addresses();
    tracer.effect(&effect(EffectBody::Respond { transaction, response: response.clone().into() }));
    tracer.sent(local, &Way::udp(peer), &response.to_bytes());
    let plan = MediaPlan { call, version: 3, legs: Vec::new(), recording: None };
    tracer.effect(&effect(EffectBody::Media(plan)));
}

fn summaries(records: &[super::record::Record]) -> Vec<String> {
    let summary = |record| super::show("g", record)["summary"].as_str().unwrap().to_owned();
    records.iter().map(summary).collect()
}

#[tokio::test]
async fn call_is_found_with_what_was_said_before_the_cluster_knew_it() {
    let dir = tempfile::tempdir().unwrap();
    let tracer = Tracer::start(Options::new(dir.path().join("trace"))).unwrap();
    let invite = message("c1", "INVITE", "Authorization: Digest response=\"5ec2e7\"\r\n");
    hear(&tracer, &invite);
    let other = message("c2", "INVITE", "");
    hear(&tracer, &other);
    hear(&tracer, &message("c1", "REGISTER", ""));
    answer(&tracer, CALL, &invite);
    answer(&tracer, CallId(0xb2), &other);
    hear(&tracer, &message("c1", "BYE", ""));
    let records = tracer.of_call(CALL).await.unwrap();
    assert_eq!(
        summaries(&records),
        [
            "INVITE 4001",
            "the cluster answers 200 OK to INVITE",
            "200 OK (INVITE)",
            "media version 3: released",
            "BYE"
        ]
    );
    let Body::Sip { bytes, .. } = &records[0].body else { panic!("{records:?}") };
    assert!(!String::from_utf8_lossy(bytes).contains("5ec2e7"));
    assert!(records.is_sorted_by_key(|record| record.at_us));
    assert_eq!(tracer.of_call(CallId(1)).await.unwrap(), []);
}

#[tokio::test]
async fn next_life_finds_what_the_last_one_wrote_up_to_its_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(dir.path().join("trace"));
    let invite = message("c1", "INVITE", "");
    {
        let tracer = Tracer::start(options.clone()).unwrap();
        hear(&tracer, &invite);
        answer(&tracer, CALL, &invite);
        assert_eq!(tracer.of_call(CALL).await.unwrap().len(), 4);
    }
    let segment = segments::list(&options.dir).unwrap().pop().unwrap();
    let whole = std::fs::read(&segment.path).unwrap();
    // Killed in the middle of the last frame.
    std::fs::write(&segment.path, &whole[..whole.len() - 3]).unwrap();
    let tracer = Tracer::start(options).unwrap();
    hear(&tracer, &message("c1", "BYE", ""));
    let found = summaries(&tracer.of_call(CALL).await.unwrap());
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found.last().map(String::as_str), Some("BYE"));
}

#[tokio::test]
async fn budget_is_kept_and_the_oldest_calls_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let bytes_max = 64 * 1024;
    let options = Options { bytes_max, ..Options::new(dir.path().join("trace")) };
    let tracer = Tracer::start(options.clone()).unwrap();
    let calls = 400;
    for number in 1..=calls {
        let invite = message(&format!("c{number}"), "INVITE", "");
        hear(&tracer, &invite);
        answer(&tracer, CallId(number), &invite);
        // Each flush may begin a segment.
        if number % 10 == 0 {
            tracer.of_call(CallId(number)).await.unwrap();
        }
    }
    let held: u64 = segments::list(&options.dir).unwrap().iter().map(|s| s.bytes).sum();
    assert!(held <= bytes_max, "{held} bytes");
    assert_eq!(tracer.of_call(CallId(1)).await.unwrap(), []);
    assert_eq!(tracer.of_call(CallId(calls)).await.unwrap().len(), 4);
}

#[tokio::test]
async fn segment_of_another_day_is_dropped_and_a_foreign_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(dir.path().to_owned());
    for begun_ms in [1, 2] {
        std::fs::write(segments::path_of(&options.dir, begun_ms), b"old").unwrap();
    }
    std::fs::write(options.dir.join("notes.txt"), b"mine").unwrap();
    let tracer = Tracer::start(options.clone()).unwrap();
    let invite = message("c1", "INVITE", "");
    hear(&tracer, &invite);
    answer(&tracer, CALL, &invite);
    assert_eq!(tracer.of_call(CALL).await.unwrap().len(), 4);
    let left: Vec<u64> = segments::list(&options.dir).unwrap().iter().map(|s| s.begun_ms).collect();
    // The second may have been written to until a moment ago.
    assert_eq!((left.len(), left[0]), (2, 2), "{left:?}");
    assert!(options.dir.join("notes.txt").exists());
}

#[test]
fn frames_end_where_bytes_are_torn_or_flipped() {
    let record = super::record::Record {
        at_us: 5,
        call: Some(CALL),
        body: Body::Effect { call_id: None, what: "something".into() },
    };
    let mut bytes = Vec::new();
    record.append(&mut bytes);
    let one = bytes.len();
    record.append(&mut bytes);
    assert_eq!(frames(&bytes).count(), 2);
    for length in one..bytes.len() {
        assert_eq!(frames(&bytes[..length]).count(), 1);
    }
    for at in 0..one {
        let mut flipped = bytes[..one].to_vec();
        flipped[at] ^= 0x10;
        assert_eq!(frames(&flipped).count(), 0, "byte {at}");
    }
    let (names, body) = frames(&bytes).next().unwrap();
    assert_eq!(super::record::read(names, body), Some(record));
}
