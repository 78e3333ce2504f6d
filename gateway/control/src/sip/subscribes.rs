//! What a SUBSCRIBE can't mean, whoever sends it (RFC 6665 §4.2.1.1). Pure.

use tandem_core::limits::SUBSCRIBED_S_MIN;
use tandem_core::subscription::state::Package;
use tandem_sip::event::Event;
use tandem_sip::{Method, Request, Response};

use super::edge::answer;

/// # Errors
/// The refusal.
pub fn check(request: &Request) -> Result<(), Box<Response>> {
    if request.method != Method::Subscribe {
        return Ok(());
    }
    let headers = &request.headers;
    let event = Event::of(headers).filter(|it| Package::NAMES.contains(&it.package.as_str()));
    let Some(event) = event else {
        let mut response = answer(request, 489);
        response.headers.push_other("Allow-Events", &Package::NAMES.join(", "));
        return Err(Box::new(response));
    };
    if headers.expires.is_some_and(|asked| asked > 0 && asked < SUBSCRIBED_S_MIN) {
        let mut response = answer(request, 423);
        response.headers.push_other("Min-Expires", &SUBSCRIBED_S_MIN.to_string());
        return Err(Box::new(response));
    }
    // Without an Accept what the package tells is taken (RFC 4235 §3.5, RFC 3842 §3.4).
    let told = Package::content_type(&event.package);
    let takes = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        [told, "application/*", "*/*"].iter().any(|known| range.eq_ignore_ascii_case(known))
    };
    if headers.other("Accept").is_some() && !headers.list("Accept").any(takes) {
        let mut response = answer(request, 406);
        response.headers.push_other("Accept", told);
        return Err(Box::new(response));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tandem_sip::Message;

    use super::*;

    fn refused(more: &str) -> Option<(u16, Vec<String>)> {
        let text = format!(
            "SUBSCRIBE sip:1002@demo SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKa\r\n\
             From: <sip:1001@demo>;tag=1\r\nTo: <sip:1002@demo>\r\nCall-ID: c\r\n\
             CSeq: 1 SUBSCRIBE\r\nContact: <sip:1001@127.0.0.1>\r\n{more}\r\n"
        );
        let Ok(Message::Request(request)) = tandem_sip::parse(text.as_bytes()) else {
            panic!("no request: {text}")
        };
        let response = check(&request).err()?;
        let told = response.headers.other.iter().map(|it| format!("{}: {}", it.name, it.value));
        Some((response.status, told.collect()))
    }

    #[test]
    fn package_that_nobody_tells_is_refused_with_those_that_are() {
        let events = vec!["Allow-Events: dialog, message-summary".to_owned()];
        for event in ["", "Event: presence\r\n", "Event: refer;id=3\r\n", "o: dialogs\r\n"] {
            assert_eq!(refused(event), Some((489, events.clone())), "{event}");
        }
        for event in ["o: dialog", "Event: Dialog;id=3", "Event: message-summary"] {
            assert_eq!(refused(&format!("{event}\r\n")), None, "{event}");
        }
    }

    #[test]
    fn time_is_long_enough_or_none_at_all() {
        let after = |s: u32| refused(&format!("Event: dialog\r\nExpires: {s}\r\n"));
        let least = vec![format!("Min-Expires: {SUBSCRIBED_S_MIN}")];
        assert_eq!(after(SUBSCRIBED_S_MIN - 1), Some((423, least)));
        assert_eq!(after(SUBSCRIBED_S_MIN), None);
        assert_eq!(after(0), None);
    }

    #[test]
    fn what_is_told_must_be_taken() {
        let takes = |accept: &str| refused(&format!("Event: dialog\r\nAccept: {accept}\r\n"));
        let told = vec!["Accept: application/dialog-info+xml".to_owned()];
        assert_eq!(takes("application/pidf+xml"), Some((406, told)));
        for accept in ["a/b, application/dialog-info+xml", "application/*;q=0.5", "*/*"] {
            assert_eq!(takes(accept), None, "{accept}");
        }
        let mwi = "Event: message-summary\r\nAccept: application/simple-message-summary\r\n";
        assert_eq!(refused(mwi), None);
    }
}
