use crate::multipart::{Found, PARTS_MAX, find, is_optional};

const SDP: &str = "application/sdp";
const MIXED: &str = "multipart/mixed;boundary=\"b 1\"";

fn body(parts: &[&str]) -> Vec<u8> {
    let parts: String = parts.iter().map(|part| format!("\r\n--b 1\r\n{part}")).collect();
    format!("preamble{parts}\r\n--b 1--\r\nepilogue").into_bytes()
}

fn found<'a>(content_type: &str, body: &'a [u8]) -> Found<'a> {
    find(Some(content_type), body, SDP)
}

#[test]
fn body_is_found_alone_and_among_others() {
    assert_eq!(found("Application/SDP; charset=utf-8", b"v=0"), Found::Body(b"v=0"));
    assert_eq!(found("text/plain", b"v=0"), Found::Nothing);
    assert_eq!(find(None, b"v=0", SDP), Found::Nothing);
    let image = "Content-Type: image/png\r\nContent-ID: <a>\r\n\r\n\u{1}\r\n--b 2\r\n";
    let sdp = "content-type: application/sdp\r\nContent-Disposition: session\r\n\r\nv=0\r\na=x\r\n";
    let two = body(&[image, sdp, "Content-Type: application/sdp\r\n\r\nanother"]);
    assert_eq!(found(MIXED, &two), Found::Body(b"v=0\r\na=x\r\n"));
    let bare = String::from_utf8(two).unwrap().replace("\r\n", "\n").into_bytes();
    assert_eq!(found(MIXED, &bare), Found::Body(b"v=0\na=x\n"));
    assert_eq!(found(MIXED, &body(&[image])), Found::Nothing);
    assert_eq!(found(MIXED, &body(&["c: application/sdp\r\n\r\n"])), Found::Body(b""));
}

#[test]
fn last_alternative_counts_and_parts_may_hold_parts() {
    let first = "Content-Type: application/sdp\r\n\r\n1";
    let second = "Content-Type: application/sdp\r\n\r\n2";
    let strange = "Content-Type: application/sdp-ng\r\nContent-Disposition: session;handling=required\r\n\r\n3";
    let parts = body(&[first, second, strange]);
    assert_eq!(found("multipart/alternative;boundary=\"b 1\"", &parts), Found::Body(b"2"));
    let inner =
        format!("Content-Type: {}\r\n\r\n--i\r\n{first}\r\n--i--", "multipart/related;boundary=i");
    assert_eq!(found(MIXED, &body(&[&inner])), Found::Body(b"1"));
}

#[test]
fn part_that_must_be_understood_and_is_not_refuses_the_whole() {
    let part = |handling: &str| {
        format!("Content-Type: application/isup\r\nContent-Disposition: signal{handling}\r\n\r\nx")
    };
    let sdp = "Content-Type: application/sdp\r\n\r\nv=0";
    for (handling, expected) in [
        (";handling=required", Found::Refused),
        (" ; Handling = Required", Found::Refused),
        (";handling=optional", Found::Body(b"v=0".as_slice())),
        ("", Found::Body(b"v=0")),
    ] {
        assert_eq!(found(MIXED, &body(&[&part(handling), sdp])), expected, "{handling}");
    }
    assert!(is_optional(Some("render; handling=optional")));
    assert!(!is_optional(Some("render")) && !is_optional(None));
}

#[test]
fn parts_that_can_not_be_told_apart_are_refused() {
    let sdp = "Content-Type: application/sdp\r\n\r\nv=0";
    let whole = body(&[sdp]);
    for content_type in
        ["multipart/mixed", "multipart/mixed;boundary=", "multipart/mixed;boundary=c"]
    {
        assert_eq!(found(content_type, &whole), Found::Refused, "{content_type}");
    }
    assert_eq!(
        found(&format!("multipart/mixed;boundary={}", "b".repeat(71)), &whole),
        Found::Refused
    );
    assert_eq!(found(MIXED, &whole[..whole.len() - 14]), Found::Refused, "never closed");
    assert_eq!(found(MIXED, &body(&vec![sdp; PARTS_MAX + 1])), Found::Refused);
    assert!(matches!(found(MIXED, &body(&vec![sdp; PARTS_MAX])), Found::Body(_)));
    // Deeper than anybody nests.
    let nested = |depth: usize| {
        (0..depth).fold(sdp.to_owned(), |part, n| {
            format!(
                "Content-Type: multipart/mixed;boundary=d{n}\r\n\r\n--d{n}\r\n{part}\r\n--d{n}--"
            )
        })
    };
    assert_eq!(found(MIXED, &body(&[&nested(2)])), Found::Body(b"v=0"));
    assert_eq!(found(MIXED, &body(&[&nested(3)])), Found::Refused);
}
