//! The datagrams of `torture/`, in the spirit of RFC 4475: what each is read as, byte for byte.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::transaction::Key;
use crate::{Message, Request, parse};

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Read,
    /// Refused with this status, counted under this word.
    Answered(u16, &'static str),
    Dropped(&'static str),
}
use Fate::{Answered, Dropped, Read};

const CASES: &[(&str, Fate)] = &[
    ("ack_with_bad_length", Dropped("content_length")),
    ("at_sign_in_uri_headers", Read),
    ("bad_contact", Answered(400, "header")),
    ("bad_length_beyond_end", Answered(400, "content_length")),
    ("bad_length_negative", Answered(400, "header")),
    ("bad_length_signed", Answered(400, "header")),
    ("bad_length_twice", Answered(400, "twice")),
    ("bad_second_via", Answered(400, "header")),
    ("binary_body", Read),
    ("branch_is_only_the_cookie", Read),
    ("call_id_empty", Answered(400, "header")),
    ("carriage_return_within_a_value", Read),
    ("commas_in_quotes_and_brackets", Read),
    ("contact_headers_without_brackets", Answered(400, "header")),
    ("contact_star", Read),
    ("cseq_signed", Answered(400, "header")),
    ("cseq_too_great", Answered(400, "header")),
    ("empty", Dropped("keep_alive")),
    ("empty_list_elements", Read),
    ("empty_reason", Read),
    ("escape_in_method", Read),
    ("escaped_null_in_user", Read),
    ("escapes_in_uris", Read),
    ("header_name_with_space", Answered(400, "header")),
    ("header_without_colon", Answered(400, "header")),
    ("http", Dropped("start_line")),
    ("ipv6_everywhere", Read),
    ("keep_alive_before_the_message", Read),
    ("keep_alive_lines", Dropped("keep_alive")),
    ("keep_alive_zeros", Dropped("keep_alive")),
    ("latin1_in_one_line", Read),
    ("line_feeds_alone", Read),
    ("long_values", Read),
    ("maximal_numbers", Read),
    ("method_mismatch", Answered(400, "method_mismatch")),
    ("method_mismatch_unknown", Answered(501, "method_mismatch")),
    ("no_call_id", Answered(400, "missing")),
    ("no_content_length", Read),
    ("no_space_before_bracket", Read),
    ("no_via", Dropped("missing")),
    ("nothing_but_a_start_line", Dropped("missing")),
    ("odd_characters", Read),
    ("peer_of_rfc_2543", Read),
    ("quote_never_closed", Answered(400, "header")),
    ("quote_never_closed_behind_tag", Answered(400, "header")),
    ("reason_left_out", Read),
    ("response_of_another_version", Dropped("start_line")),
    ("response_with_bad_length", Dropped("content_length")),
    ("response_with_great_cseq", Dropped("header")),
    ("second_message_behind_the_first", Read),
    ("semicolon_in_user", Read),
    ("single_headers_twice", Answered(400, "twice")),
    ("spaces_and_folds", Read),
    ("spaces_in_start_line", Read),
    ("status_of_two_digits", Dropped("start_line")),
    ("status_too_great", Dropped("start_line")),
    ("stun_binding", Dropped("keep_alive")),
    ("tls_hello", Dropped("start_line")),
    ("too_many_contacts", Answered(400, "header")),
    ("too_many_headers", Answered(400, "too_many_headers")),
    ("unknown_scheme", Read),
    ("unknown_transports", Read),
    ("unusual_reason", Read),
    ("uri_in_brackets", Answered(400, "header")),
    ("uri_port_too_great", Answered(400, "header")),
    ("uri_with_spaces", Answered(400, "header")),
    ("version_in_lower_case", Read),
    ("version_unknown", Answered(505, "version")),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("torture")
}

fn bytes(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.sip"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn request(name: &str) -> Request {
    match parse(&bytes(name)) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name} is no request: {other:?}"),
    }
}

#[test]
fn each_datagram_meets_its_fate() {
    for (name, fate) in CASES {
        let found = match parse(&bytes(name)) {
            Ok(message) => {
                assert_eq!(parse(&message.to_bytes()), Ok(message), "{name} is not written back");
                Read
            }
            Err(error) => match error.answerable {
                Some(response) => {
                    // The refusal itself must be a message that the peer can read.
                    let again = parse(&response.to_bytes());
                    assert_eq!(again, Ok(Message::Response((*response).clone())), "{name}");
                    Answered(response.status, error.kind.word())
                }
                None => Dropped(error.kind.word()),
            },
        };
        assert_eq!(found, *fate, "{name}");
    }
}

#[test]
fn each_file_has_a_case() {
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".sip").map(str::to_owned))
        .collect();
    let cases: BTreeSet<String> = CASES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, cases);
}

#[test]
fn each_datagram_is_survived_however_it_is_cut() {
    for (name, _) in CASES {
        let whole = bytes(name);
        for end in (0..whole.len()).step_by(1 + whole.len() / 512) {
            let _ = parse(&whole[..end]);
        }
    }
}

#[test]
fn folded_headers_are_one_value() {
    let invite = request("spaces_and_folds");
    let headers = &invite.headers;
    assert_eq!(headers.from.display.as_deref(), Some("Ada \\\""));
    assert_eq!((headers.from_tag(), headers.to_tag()), (Some("f98"), Some("77n")));
    assert_eq!(headers.via.len(), 3);
    assert_eq!(headers.via[2].branch(), Some("z9hG4bKb"));
    assert_eq!((headers.max_forwards, headers.cseq.number), (Some(68), 9));
    assert_eq!(headers.other("newfangled"), Some("first half second half"));
    assert_eq!(headers.other("Subject"), Some(""));
    assert_eq!(headers.contact[0].param("q"), Some("0.33"));
    assert_eq!(headers.route[0].uri.param("lr"), Some(""));
    assert_eq!(invite.body, b"body");
}

#[test]
fn odd_characters_stay_where_they_stood() {
    let odd = request("odd_characters");
    assert!(odd.method.as_str().starts_with("!odd-Method"));
    assert!(odd.uri.user.as_deref().is_some_and(|user| user.contains("?,/;;*:")));
    assert_eq!(odd.uri.host, "example.com");
    assert_eq!(odd.headers.to.display.as_deref(), Some("BEL:\u{7} NUL:\0 DEL:\u{7f}"));

    let semicolon = request("semicolon_in_user");
    assert_eq!(semicolon.uri.user.as_deref(), Some("desk;par=u%40example.net"));
    assert!(semicolon.uri.params.is_empty());

    let contact = &request("at_sign_in_uri_headers").headers.contact[0];
    assert_eq!(contact.uri.user.as_deref(), Some("ada"));
    assert_eq!(contact.uri.headers.as_deref(), Some("Replaces=a@b"));

    let contacts = request("commas_in_quotes_and_brackets").headers.contact;
    assert_eq!(contacts.len(), 2);
    assert_eq!(contacts[0].display.as_deref(), Some("a, b"));
    assert_eq!(contacts[0].param("x"), Some("\"c,d\""));
}

#[test]
fn line_of_latin1_does_not_spoil_its_neighbours() {
    let options = request("latin1_in_one_line");
    assert_eq!(options.headers.from.display.as_deref(), Some("Zoë"));
    assert_eq!(options.headers.other("X-Town"), Some("München"));
}

#[test]
fn carriage_return_smuggles_no_header() {
    let options = request("carriage_return_within_a_value");
    assert_eq!(options.headers.other("X-B"), None);
    assert!(!options.to_bytes().windows(4).any(|four| four == b"\rX-B"));
}

#[test]
fn body_is_what_content_length_says_or_all_that_is_there() {
    assert_eq!(request("binary_body").body, b"\x00\xff\r\n\r\n\x80\x01\n");
    assert_eq!(request("no_content_length").body, b"all of it\r\n");
    assert_eq!(request("second_message_behind_the_first").body, b"");
}

#[test]
fn old_peers_name_no_transaction() {
    for name in ["peer_of_rfc_2543", "branch_is_only_the_cookie"] {
        assert_eq!(Key::of(&request(name)), None, "{name}");
    }
}
