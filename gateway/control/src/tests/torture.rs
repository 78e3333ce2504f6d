//! The messages of RFC 4475 and RFC 5118 at a gateway that is led: what each is answered, by
//! `torture/expectations.txt` of `tandem-sip`.

use std::path::PathBuf;

use tandem_sip::{Flow, Message, Response, parse, stamp_source};

use super::Bench;
use crate::Output;
use crate::link::Up;

/// What became of a message: the word of the table, and the answer where there is one.
fn meet(name: &str, bytes: &[u8]) -> (String, Option<Response>) {
    let mut bench = Bench::led();
    let message = match parse(bytes) {
        Ok(message) => message,
        Err(error) => {
            let answer = error.answerable.map(|response| *response);
            let word = answer.as_ref().map(|it| it.status.to_string());
            return (word.unwrap_or_else(|| "dropped".into()), answer);
        }
    };
    let peer = "127.0.0.1:6000".parse().unwrap();
    let flow = Flow::udp(bench.control.identity.vip, peer);
    let mut answers = Vec::new();
    // A second time: the answer is the same, and nothing is told to the cluster again.
    for _ in 0..2 {
        let mut message = message.clone();
        if let Message::Request(request) = &mut message {
            stamp_source(request, peer);
        }
        bench.control.on_message(bench.now, 0, &flow, message);
        bench.control.on_time(bench.now);
        while let Some(output) = bench.control.next_output() {
            match output {
                Output::Transmit(transmit) => {
                    assert_eq!(transmit.way.to.ip(), peer.ip(), "{name}: back to the peer");
                    match parse(&transmit.bytes).expect(name) {
                        Message::Response(response) => answers.push(response),
                        Message::Request(request) => panic!("{name}: {request:?}"),
                    }
                }
                Output::Up { up: Up::Event { .. }, .. } => {
                    return ("taken".into(), answers.pop());
                }
                Output::Up { up: Up::Done { .. }, .. } | Output::Media { .. } => {
                    panic!("{name}: {output:?}")
                }
            }
        }
    }
    let Some(answer) = answers.pop() else { return ("dropped".into(), None) };
    assert_eq!(answers.len(), 1, "{name}");
    // A nonce differs; all else is the same for each repetition (RFC 3261 §8.2.7).
    let bare = |mut response: Response| {
        response.headers.remove_other("WWW-Authenticate");
        response
    };
    assert_eq!(bare(answers.remove(0)), bare(answer.clone()), "{name}");
    (answer.status.to_string(), Some(answer))
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../actors/sip/torture")
}

fn bytes(name: &str) -> Vec<u8> {
    let archived = std::fs::read(folder().join(format!("{name}.dat"))).unwrap();
    if name.starts_with("rfc4475/") {
        return archived;
    }
    // See the table's own words.
    let text = String::from_utf8(archived).unwrap().replace('\n', "\r\n");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.trim_end(), ""));
    let lines = head.split("\r\n").filter(|line| !line.starts_with("Content-Length"));
    let head = lines.collect::<Vec<_>>().join("\r\n");
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn each_message_is_answered_as_the_rfc_says() {
    let table = std::fs::read_to_string(folder().join("expectations.txt")).unwrap();
    let mut messages = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, expected) = (words[0], words[3]);
        let (word, answer) = meet(name, &bytes(name));
        assert_eq!(word, expected, "{name}: {answer:?}");
        let Some(answer) = answer else { continue };
        messages += 1;
        let header = |name: &str| answer.headers.other(name).unwrap_or_default().to_owned();
        assert!(answer.headers.to_tag().is_some(), "{name}: a tag of ours");
        match answer.status {
            // Why, in the phrase.
            400 => assert!(answer.reason.starts_with("Bad Request ("), "{name}: {}", answer.reason),
            401 => assert!(header("WWW-Authenticate").starts_with("Digest realm="), "{name}"),
            405 | 501 if name != "rfc4475/mismatch02" => {
                assert!(header("Allow").contains("INVITE"), "{name}");
            }
            406 => assert!(header("Warning").contains("Accept"), "{name}"),
            // A MESSAGE is a text.
            415 if name == "rfc4475/mpart01" => assert_eq!(header("Accept"), "text/plain"),
            415 => assert!(header("Accept").contains("application/sdp"), "{name}"),
            420 => assert_eq!(
                header("Unsupported"),
                "nothingSupportsThis, nothingSupportsThisEither",
                "{name}"
            ),
            200 | 416 | 501 | 505 => {}
            status => panic!("{name}: {status}"),
        }
    }
    assert!(messages > 40, "{messages}");
}
