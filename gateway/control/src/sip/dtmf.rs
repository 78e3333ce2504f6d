//! Keys in the body of an INFO (RFC 6086 gives the frame; `application/dtmf-relay` and
//! `application/dtmf` are what phones put there, described by no RFC). Pure.

use tandem_core::ivr::keys::Digit;
use tandem_sip::{Method, Request};

/// Longer than any body that names one key.
const BODY_BYTES_MAX: usize = 128;

/// The key that an INFO names; its body is of no more use then. None for any other request, and
/// for what names no key, as a hook flash.
pub fn take_digit(request: &mut Request) -> Option<Digit> {
    if request.method != Method::Info || request.body.len() > BODY_BYTES_MAX {
        return None;
    }
    let kind = request.headers.content_type.as_deref()?.split(';').next()?.trim();
    let body = std::str::from_utf8(&request.body).ok()?;
    let signal = if kind.eq_ignore_ascii_case("application/dtmf-relay") {
        body.lines().find_map(signal)?
    } else if kind.eq_ignore_ascii_case("application/dtmf") {
        body.trim()
    } else {
        return None;
    };
    let digit = digit(signal)?;
    request.body = Vec::new();
    Some(digit)
}

/// `Signal=5`, beside lines as `Duration=160`.
fn signal(line: &str) -> Option<&str> {
    let (name, value) = line.split_once('=')?;
    name.trim().eq_ignore_ascii_case("signal").then(|| value.trim())
}

/// A key by itself, or by the number of its event (RFC 4733 §3.2).
fn digit(signal: &str) -> Option<Digit> {
    let mut keys = signal.chars();
    match (keys.next(), keys.next()) {
        (Some(key), None) => Digit::new(key.to_ascii_uppercase()),
        (_, _) => match signal.parse::<u8>().ok()? {
            10 => Digit::new('*'),
            11 => Digit::new('#'),
            event @ 12..=15 => Digit::new(char::from(b'A' + event - 12)),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key, and whether the body was taken out.
    fn taken(method: &str, kind: &str, body: &str) -> (Option<char>, bool) {
        let text = format!(
            "{method} sip:4000@127.0.0.10 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKi\r\n\
             From: <sip:138@x>;tag=a\r\nTo: <sip:4000@x>;tag=b\r\nCall-ID: c\r\nCSeq: 2 {method}\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let Ok(tandem_sip::Message::Request(mut request)) = tandem_sip::parse(text.as_bytes())
        else {
            panic!("{text}")
        };
        let digit = take_digit(&mut request);
        (digit.map(Digit::as_char), request.body.is_empty())
    }

    #[test]
    fn info_names_a_key_in_either_form() {
        let relay = "application/dtmf-relay";
        assert_eq!(taken("INFO", relay, "Signal=5\r\nDuration=160\r\n"), (Some('5'), true));
        assert_eq!(taken("INFO", relay, "Signal= #\r\nDuration= 250"), (Some('#'), true));
        assert_eq!(taken("INFO", relay, "duration=160\nsignal=10\n"), (Some('*'), true));
        assert_eq!(taken("INFO", "Application/DTMF-Relay;x=y", "Signal=a"), (Some('A'), true));
        assert_eq!(taken("INFO", "application/dtmf", "7"), (Some('7'), true));
        assert_eq!(taken("INFO", "application/dtmf", " 11\r\n"), (Some('#'), true));
        assert_eq!(taken("INFO", "application/dtmf", "15"), (Some('D'), true));
    }

    #[test]
    fn what_names_no_key_is_left_as_it_is() {
        assert_eq!(taken("INFO", "application/dtmf-relay", "Duration=160"), (None, false));
        assert_eq!(taken("INFO", "application/dtmf-relay", "Signal=16"), (None, false));
        assert_eq!(taken("INFO", "application/dtmf", "x"), (None, false));
        assert_eq!(taken("INFO", "application/dtmf", &"1".repeat(200)), (None, false));
        assert_eq!(taken("INFO", "application/media_control+xml", "5"), (None, false));
        assert_eq!(taken("BYE", "application/dtmf", "5"), (None, false));
    }
}
