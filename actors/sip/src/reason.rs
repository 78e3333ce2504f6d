//! Why a request or a refusal was sent (RFC 3326, RFC 6432), and the causes of ITU-T Q.850 behind
//! it: both directions of RFC 3398 §7.2.4.1 and §8.2.6.1.

use std::fmt;

use crate::message::Headers;
use crate::scan;

/// A cause of ITU-T Q.850: 1 to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Q850(u8);

impl Q850 {
    pub const NORMAL: Self = Self(16);
    pub const USER_BUSY: Self = Self(17);
    pub const NO_ANSWER: Self = Self(19);
    pub const NO_CIRCUIT: Self = Self(34);
    pub const TEMPORARY_FAILURE: Self = Self(41);
    pub const TIMER_EXPIRED: Self = Self(102);

    /// None where Q.850 has no such number.
    pub fn new(cause: u8) -> Option<Self> {
        (1..=127).contains(&cause).then_some(Self(cause))
    }

    pub fn get(self) -> u8 {
        self.0
    }

    /// The cause behind a SIP refusal (RFC 3398 §8.2.6.1). 487 has none: who asked for it knows
    /// why. For 488 and 606, whose cause hangs on a Warning, it is the unspecified one.
    pub fn of_status(status: u16) -> Option<Self> {
        let cause = match status {
            404 | 485 | 604 => 1,
            486 | 600 => 17,
            480 => 18,
            401 | 402 | 403 | 407 | 603 => 21,
            410 => 22,
            482 | 483 => 25,
            484 => 28,
            488 | 606 => 31,
            502 => 38,
            400 | 481 | 500 | 503 => 41,
            405 => 63,
            406 | 415 | 501 => 79,
            408 | 504 => 102,
            487 => return None,
            413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
            // What RFC 3398 does not know, by its class (RFC 3261 §8.1.3.2).
            300..=399 | 500..=599 => 41,
            400..=499 | 600..=699 => 31,
            _ => return None,
        };
        Some(Self(cause))
    }

    /// The refusal of an INVITE for this cause (RFC 3398 §7.2.4.1). None for normal clearing.
    pub fn status(self) -> Option<u16> {
        let status = match self.0 {
            1 | 2 | 3 | 26 => 404,
            16 => return None,
            17 => 486,
            18 => 408,
            19 | 20 | 31 => 480,
            21 | 55 | 57 | 87 => 403,
            22 | 23 => 410,
            27 => 502,
            28 => 484,
            29 | 79 => 501,
            34 | 38 | 41 | 42 | 47 | 58 | 88 => 503,
            65 | 70 => 488,
            102 => 504,
            // 111 and 127 among them.
            _ => 500,
        };
        Some(status)
    }

    /// As Q.850 names it, for those that RFC 3398 maps.
    pub fn text(self) -> Option<&'static str> {
        let text = match self.0 {
            1 => "Unallocated (unassigned) number",
            2 => "No route to specified transit network",
            3 => "No route to destination",
            16 => "Normal call clearing",
            17 => "User busy",
            18 => "No user responding",
            19 => "No answer from user",
            20 => "Subscriber absent",
            21 => "Call rejected",
            22 => "Number changed",
            23 => "Redirection to new destination",
            25 => "Exchange routing error",
            26 => "Non-selected user clearing",
            27 => "Destination out of order",
            28 => "Invalid number format",
            29 => "Facility rejected",
            31 => "Normal, unspecified",
            34 => "No circuit/channel available",
            38 => "Network out of order",
            41 => "Temporary failure",
            42 => "Switching equipment congestion",
            47 => "Resource unavailable, unspecified",
            58 => "Bearer capability not presently available",
            63 => "Service or option not available",
            65 => "Bearer capability not implemented",
            79 => "Service or option not implemented",
            88 => "Incompatible destination",
            102 => "Recovery on timer expiry",
            111 => "Protocol error, unspecified",
            127 => "Interworking, unspecified",
            _ => return None,
        };
        Some(text)
    }

    /// What a message gives as its cause: the Q.850 one, or else what its SIP status stands for. A
    /// 200 there says that somebody else has the call, which is no failure.
    pub fn of_reason(headers: &Headers) -> Option<Self> {
        let of = |protocol| values(headers).find_map(|value| cause_of(value, protocol));
        let q850 = of("Q.850").and_then(|cause| u8::try_from(cause).ok()).and_then(Self::new);
        q850.or_else(|| of("SIP").and_then(Self::of_status))
    }
}

/// The Reason value of this cause.
impl fmt::Display for Q850 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Q.850;cause={}", self.0)?;
        match self.text() {
            Some(text) => write!(f, ";text=\"{text}\""),
            None => Ok(()),
        }
    }
}

/// What a phone is told that rang for a call which another has taken: it missed nothing (RFC 3326
/// §3).
pub const COMPLETED_ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

fn values(headers: &Headers) -> impl Iterator<Item = &str> {
    let lines = headers.other.iter().filter(|it| it.name.eq_ignore_ascii_case("Reason"));
    lines.flat_map(|it| scan::split(&it.value, ','))
}

fn cause_of(value: &str, protocol: &str) -> Option<u16> {
    let mut parts = scan::split(value, ';').into_iter();
    if !parts.next()?.trim().eq_ignore_ascii_case(protocol) {
        return None;
    }
    let cause = parts.find_map(|part| {
        let (name, cause) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("cause").then(|| cause.trim())
    })?;
    scan::digits(cause).and_then(|cause| u16::try_from(cause).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, parse};

    fn headers(reasons: &[&str]) -> Headers {
        let lines: String = reasons.iter().map(|it| format!("Reason: {it}\r\n")).collect();
        let text = format!(
            "BYE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n{lines}\r\n"
        );
        match parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request.headers,
            other => panic!("{other:?}"),
        }
    }

    fn read(reasons: &[&str]) -> Option<u8> {
        Q850::of_reason(&headers(reasons)).map(Q850::get)
    }

    #[test]
    fn cause_of_q850_goes_before_that_of_sip_wherever_it_stands() {
        assert_eq!(read(&["Q.850;cause=17;text=\"User busy\""]), Some(17));
        assert_eq!(read(&["SIP;cause=480 , Q.850 ; cause=19 ;text=\"a, b; cause=1\""]), Some(19));
        assert_eq!(read(&["SIP ;text=\"x\";cause=486"]), Some(17));
        assert_eq!(read(&["SIP;cause=603", "q.850;Cause=34"]), Some(34));
    }

    #[test]
    fn what_is_no_cause_is_none() {
        for reason in [
            "Q.850",
            "Q.850;cause=0",
            "Q.850;cause=128",
            "Q.850;cause=272",
            "Q.850;cause=x",
            "SIP;cause=200;text=\"Call completed elsewhere\"",
            "SIP;cause=487",
            "preemption;cause=1",
            "",
        ] {
            assert_eq!(read(&[reason]), None, "{reason}");
        }
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn what_we_write_is_read_as_it_was() {
        for cause in (1..=127).filter_map(Q850::new) {
            assert_eq!(read(&[&cause.to_string()]), Some(cause.get()));
        }
        assert_eq!(Q850::USER_BUSY.to_string(), "Q.850;cause=17;text=\"User busy\"");
        assert_eq!(Q850(99).to_string(), "Q.850;cause=99");
    }

    #[test]
    fn tables_of_rfc_3398_hold_both_ways() {
        let refusals = [(404, 1), (486, 17), (480, 18), (403, 21), (410, 22), (484, 28), (502, 38)];
        let more = [(503, 41), (501, 79), (504, 102), (500, 41), (600, 17), (603, 21), (487, 0)];
        for (status, cause) in refusals.into_iter().chain(more) {
            assert_eq!(Q850::of_status(status).map_or(0, Q850::get), cause, "{status}");
        }
        let causes = [(1, 404), (16, 0), (17, 486), (18, 408), (19, 480), (21, 403), (27, 502)];
        let more = [(28, 484), (34, 503), (65, 488), (79, 501), (102, 504), (127, 500), (99, 500)];
        for (cause, status) in causes.into_iter().chain(more) {
            assert_eq!(Q850(cause).status().unwrap_or(0), status, "{cause}");
        }
        for status in 300..700 {
            assert_eq!(Q850::of_status(status).is_none(), status == 487, "{status}");
        }
    }
}
