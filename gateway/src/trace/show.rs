//! Records as the API shows them.

use serde_json::{Value, json};
use tandem_core::time::rfc3339;
use tandem_sip::Millis;

use super::record::{Body, Direction, Record};

/// One item of `GET /v1/calls/{id}/trace`.
pub fn show(gateway: &str, record: &Record) -> Value {
    let at = rfc3339(Millis(record.at_us / 1_000));
    let (at_us, call_id) = (record.at_us, record.call_id());
    match &record.body {
        Body::Sip { direction, transport, local, peer, bytes, .. } => {
            let text = String::from_utf8_lossy(bytes);
            json!({
                "at": at, "at_us": at_us, "gateway": gateway, "kind": "sip",
                "direction": match direction {
                    Direction::Received => "received",
                    Direction::Sent => "sent",
                },
                "transport": transport.as_str(), "local": local.to_string(),
                "peer": peer.to_string(), "sip_call_id": call_id,
                "summary": summary_of(&text), "text": text,
            })
        }
        Body::Effect { what, .. } => json!({
            "at": at, "at_us": at_us, "gateway": gateway, "kind": "event",
            "direction": null, "transport": null, "local": null, "peer": null,
            "sip_call_id": call_id, "summary": what, "text": null,
        }),
    }
}

/// `INVITE 4001`, `200 OK (INVITE)`.
fn summary_of(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let mut words = first.splitn(3, ' ');
    let (one, two, three) = (words.next(), words.next(), words.next());
    match (one, two, three) {
        (Some("SIP/2.0"), Some(status), Some(reason)) => {
            let cseq = lines.find_map(|line| line.strip_prefix("CSeq: "));
            let method = cseq.and_then(|value| value.split(' ').nth(1)).unwrap_or("?");
            format!("{status} {reason} ({method})")
        }
        (Some(method), Some(uri), Some(_)) => {
            let user = uri.split(':').nth(1).and_then(|rest| rest.split_once('@'));
            match user {
                Some((user, _)) if method == "INVITE" => format!("{method} {user}"),
                Some(_) | None => method.to_owned(),
            }
        }
        _ => first.to_owned(),
    }
}
