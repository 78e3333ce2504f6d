//! What a subscription is to (RFC 6665 §8.2.1).

use crate::message::Headers;

/// Of an Event header: the package, and what tells subscriptions of one dialog apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// In small letters.
    pub package: String,
    pub id: Option<String>,
}

impl Event {
    /// None where the header is absent or names no package.
    pub fn of(headers: &Headers) -> Option<Self> {
        let mut parts = headers.other("Event")?.split(';').map(str::trim);
        let package = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
        let id = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("id").then(|| value.trim().to_owned())
        });
        Some(Self { package, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, parse};

    fn event(line: &str) -> Option<Event> {
        let text = format!(
            "SUBSCRIBE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 SUBSCRIBE\r\n\
             {line}\r\n"
        );
        match parse(text.as_bytes()).unwrap() {
            Message::Request(request) => Event::of(&request.headers),
            Message::Response(_) => panic!("a response"),
        }
    }

    #[test]
    fn package_and_id_are_read_in_the_long_form_and_the_short() {
        let named = |package: &str, id: Option<&str>| {
            Some(Event { package: package.into(), id: id.map(str::to_owned) })
        };
        assert_eq!(event("Event: dialog\r\n"), named("dialog", None));
        assert_eq!(event("o: Dialog ; x=1; ID = 7\r\n"), named("dialog", Some("7")));
        assert_eq!(event("Event: ;id=7\r\n"), None);
        assert_eq!(event(""), None);
    }
}
