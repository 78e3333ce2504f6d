//! What a MESSAGE can't bring, whoever sends it (RFC 3428). Pure.

use tandem_core::limits::MESSAGE_BYTES_MAX;
use tandem_sip::{Method, Request, Response};

use super::edge::answer;

const TEXT: &str = "text/plain";

/// # Errors
/// The refusal.
pub fn check(request: &Request) -> Result<(), Box<Response>> {
    if request.method != Method::Message || request.is_in_dialog() {
        return Ok(());
    }
    let named = request.headers.content_type.as_deref().unwrap_or_default();
    let kind = named.split(';').next().unwrap_or_default().trim();
    let plain = request.headers.other("Content-Encoding").is_none();
    if !kind.eq_ignore_ascii_case(TEXT) || !plain {
        let mut response = answer(request, 415);
        response.headers.push_other("Accept", TEXT);
        response.headers.push_other("Accept-Encoding", "identity");
        return Err(Box::new(response));
    }
    if request.body.len() > MESSAGE_BYTES_MAX {
        return Err(Box::new(answer(request, 413)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tandem_sip::Message;

    use super::*;

    fn refused(more: &str, body: &str) -> Option<u16> {
        let text = format!(
            "MESSAGE sip:1002@demo SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKa\r\n\
             From: <sip:1001@demo>;tag=1\r\nTo: <sip:1002@demo>\r\nCall-ID: c\r\n\
             CSeq: 1 MESSAGE\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let Ok(Message::Request(request)) = tandem_sip::parse(text.as_bytes()) else {
            panic!("no request: {text}")
        };
        check(&request).err().map(|response| response.status)
    }

    #[test]
    fn text_is_plain_and_short() {
        let plain = "Content-Type: text/plain;charset=utf-8\r\n";
        assert_eq!(refused(plain, "Lunch?"), None);
        assert_eq!(refused(plain, &"x".repeat(MESSAGE_BYTES_MAX)), None);
        assert_eq!(refused(plain, &"x".repeat(MESSAGE_BYTES_MAX + 1)), Some(413));
        assert_eq!(refused("Content-Type: text/html\r\n", "<b>"), Some(415));
        assert_eq!(refused("", "Lunch?"), Some(415));
        assert_eq!(refused(&format!("{plain}Content-Encoding: gzip\r\n"), "x"), Some(415));
    }
}
