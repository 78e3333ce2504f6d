//! What a message says of its session's timer (RFC 4028 §4, §5).

use crate::message::Headers;
use crate::scan;

/// The extension's name in Supported and Require.
pub const OPTION: &str = "timer";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    pub interval_s: u32,
    pub refresher: Option<Role>,
}

/// Of a side within the transaction, not within the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Uac,
    Uas,
}

impl SessionExpires {
    /// None where the header is absent, or can't be read: then there is no timer.
    pub fn of(headers: &Headers) -> Option<Self> {
        let mut parts = headers.other("Session-Expires")?.split(';').map(str::trim);
        let interval_s = seconds(parts.next()?)?;
        let refresher = parts.find_map(|part| {
            let (name, role) = part.split_once('=')?;
            let role = [("uac", Role::Uac), ("uas", Role::Uas)]
                .into_iter()
                .find(|(word, _)| role.trim().eq_ignore_ascii_case(word))?;
            name.trim().eq_ignore_ascii_case("refresher").then_some(role.1)
        });
        Some(Self { interval_s, refresher })
    }
}

/// The least interval that a 422 names.
pub fn min_se(headers: &Headers) -> Option<u32> {
    seconds(headers.other("Min-SE")?.split(';').next()?.trim())
}

/// Whether the sender knows session timers.
pub fn is_known(headers: &Headers) -> bool {
    let mut named = headers.list("Supported").chain(headers.list("Require"));
    named.any(|option| option.eq_ignore_ascii_case(OPTION))
}

fn seconds(text: &str) -> Option<u32> {
    scan::digits_up_to(text, u32::MAX.into()).and_then(|seconds| u32::try_from(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, parse};

    fn headers(lines: &str) -> Headers {
        let text = format!(
            "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\
             \r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
        );
        match parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request.headers,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn interval_and_refresher_are_read_however_they_are_written() {
        for (line, interval_s, refresher) in [
            ("Session-Expires: 1800\r\n", 1_800, None),
            ("x:90 ;lr; Refresher = UAC\r\n", 90, Some(Role::Uac)),
            ("session-expires: 4000000000000;refresher=uas\r\n", u32::MAX, Some(Role::Uas)),
            ("Session-Expires: 90;refresher=both\r\n", 90, None),
        ] {
            let read = SessionExpires::of(&headers(line));
            assert_eq!(read, Some(SessionExpires { interval_s, refresher }), "{line}");
        }
        for line in ["", "Session-Expires: soon\r\n", "Session-Expires: -1\r\n"] {
            assert_eq!(SessionExpires::of(&headers(line)), None, "{line}");
        }
        assert_eq!(min_se(&headers("Min-SE: 120;x=y\r\n")), Some(120));
    }

    #[test]
    fn extension_is_known_by_any_line_that_names_it() {
        assert!(is_known(&headers("k: 100rel\r\nSupported: replaces, Timer\r\n")));
        assert!(is_known(&headers("Require: timer\r\n")));
        assert!(!is_known(&headers("Supported: timers\r\n")));
    }
}
