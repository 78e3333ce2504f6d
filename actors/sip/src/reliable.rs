//! Provisional responses that are acknowledged (RFC 3262): what their headers say.

use crate::message::{Headers, Method, Request, Response};
use crate::scan;

/// The extension's name in Supported and Require.
pub const OPTION: &str = "100rel";
/// §7.1. Counting never wraps, so the first number leaves room.
pub const RSEQ_MAX: u32 = (1 << 31) - 1;

/// What a PRACK acknowledges (§7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    pub rseq: u32,
    /// Of the request that the response answered.
    pub cseq: u32,
    pub method: Method,
}

impl RAck {
    /// None where the header is absent or can't be read.
    pub fn of(prack: &Request) -> Option<Self> {
        let mut words = prack.headers.other("RAck")?.split_ascii_whitespace();
        let rack = Self {
            rseq: number(words.next()?)?,
            cseq: number(words.next()?)?,
            method: Method::from(words.next()?),
        };
        words.next().is_none().then_some(rack)
    }
}

/// The sender takes reliable responses only.
pub fn is_required(headers: &Headers) -> bool {
    headers.list("Require").any(|option| option.eq_ignore_ascii_case(OPTION))
}

/// The number of a response that wants a PRACK: none of a 100 or a final one (§4).
pub fn rseq(response: &Response) -> Option<u32> {
    let reliable = (101..=199).contains(&response.status) && is_required(&response.headers);
    let number = number(response.headers.other("RSeq")?)?;
    (reliable && (1..=RSEQ_MAX).contains(&number)).then_some(number)
}

/// Makes a response one that wants a PRACK.
pub fn number_response(response: &mut Response, rseq: u32) {
    response.headers.push_other("Require", OPTION);
    response.headers.push_other("RSeq", &rseq.to_string());
}

fn number(text: &str) -> Option<u32> {
    u32::try_from(scan::digits_up_to(text.trim(), u64::from(u32::MAX) + 1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, parse};

    fn message(first: &str, lines: &str) -> Message {
        let text = format!(
            "{first}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 2 PRACK\r\n{lines}\r\n"
        );
        parse(text.as_bytes()).unwrap()
    }

    fn rack(line: &str) -> Option<RAck> {
        match message("PRACK sip:a@b SIP/2.0", line) {
            Message::Request(prack) => RAck::of(&prack),
            Message::Response(_) => panic!("a request"),
        }
    }

    fn rseq_of(first: &str, lines: &str) -> Option<u32> {
        match message(first, lines) {
            Message::Response(response) => rseq(&response),
            Message::Request(_) => panic!("a response"),
        }
    }

    #[test]
    fn rack_names_response_and_request() {
        let read = rack("RAck: 776656  1 INVITE\r\n");
        assert_eq!(read, Some(RAck { rseq: 776_656, cseq: 1, method: Method::Invite }));
        for line in ["", "RAck: 1 INVITE\r\n", "RAck: 1 1 INVITE x\r\n", "RAck: -1 1 INVITE\r\n"] {
            assert_eq!(rack(line), None, "{line}");
        }
        assert_eq!(rack("RAck: 4294967296 1 INVITE\r\n"), None);
    }

    #[test]
    fn response_is_reliable_where_it_says_so_and_may_be() {
        let lines = "Require: 100rel\r\nRSeq: 5\r\n";
        assert_eq!(rseq_of("SIP/2.0 183 Session Progress", lines), Some(5));
        for (first, lines) in [
            ("SIP/2.0 100 Trying", lines),
            ("SIP/2.0 200 OK", lines),
            ("SIP/2.0 180 Ringing", "RSeq: 5\r\n"),
            ("SIP/2.0 180 Ringing", "Require: 100rel\r\n"),
            ("SIP/2.0 180 Ringing", "Require: 100rel\r\nRSeq: 0\r\n"),
            ("SIP/2.0 180 Ringing", "Require: 100rel\r\nRSeq: 2147483648\r\n"),
        ] {
            assert_eq!(rseq_of(first, lines), None, "{first} {lines}");
        }
    }
}
