//! The dialog whose place a new one shall take (`Replaces`, RFC 3891): as a header, or in the URI
//! that a REFER names.

use crate::{Headers, Uri};

/// In Supported and Require.
pub const OPTION: &str = "replaces";

/// What RFC 3891 §6.1 says of the dialog, seen from whoever has it with the phone: from us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    pub call_id: String,
    pub to_tag: String,
    pub from_tag: String,
    pub early_only: bool,
}

/// The header that the URI asks the INVITE to have; none where it asks for none (RFC 3261 §19.1.1).
///
/// # Errors
/// The status that says what is wrong with it.
pub fn of_uri(uri: &Uri) -> Result<Option<Replaces>, u16> {
    let headers = uri.headers.as_deref().unwrap_or_default();
    let named = headers.split('&').filter_map(|header| header.split_once('='));
    let mut values = named.filter(|(name, _)| name.eq_ignore_ascii_case("replaces"));
    let Some((_, value)) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        // One INVITE replaces one dialog (RFC 3891 §3).
        return Err(400);
    }
    unescape(value).and_then(|value| parse(&value)).map(Some).ok_or(400)
}

/// The header of an INVITE; none where there is none.
///
/// # Errors
/// The status that says what is wrong with it.
pub fn of_headers(headers: &Headers) -> Result<Option<Replaces>, u16> {
    let named = |name: &'static str| {
        headers.other.iter().filter(move |header| header.name.eq_ignore_ascii_case(name))
    };
    let mut values = named("Replaces");
    let Some(header) = values.next() else { return Ok(None) };
    // One INVITE replaces one dialog, and joins none at the same time (RFC 3891 §3).
    if values.next().is_some() || named("Join").next().is_some() {
        return Err(400);
    }
    parse(&header.value).map(Some).ok_or(400)
}

fn parse(value: &str) -> Option<Replaces> {
    let mut parts = value.split(';').map(str::trim);
    let call_id = parts.next().filter(|call_id| !call_id.is_empty())?.to_owned();
    let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim(), value.trim());
        let tag = if name.eq_ignore_ascii_case("to-tag") {
            &mut to_tag
        } else if name.eq_ignore_ascii_case("from-tag") {
            &mut from_tag
        } else {
            early_only |= name.eq_ignore_ascii_case("early-only");
            continue;
        };
        if value.is_empty() || tag.replace(value.to_owned()).is_some() {
            return None;
        }
    }
    Some(Replaces { call_id, to_tag: to_tag?, from_tag: from_tag?, early_only })
}

/// RFC 3986 §2.1.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        rest = after;
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        bytes.push(u8::try_from(16 * digit(0)? + digit(1)?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_is_read_as_it_was_escaped() {
        let of = |headers: &str| {
            let uri: Uri = format!("sip:1002@x{headers}").parse().expect("a URI");
            of_uri(&uri)
        };
        let replaces = |early_only| Replaces {
            call_id: "a@b".into(),
            to_tag: "1".into(),
            from_tag: "2".into(),
            early_only,
        };
        assert_eq!(of(""), Ok(None));
        assert_eq!(of("?Subject=a"), Ok(None));
        assert_eq!(of("?Replaces=a%40b%3Bto-tag%3D1%3bfrom-tag%3d2"), Ok(Some(replaces(false))));
        let early = "?x=y&replaces=a%40b%3BFROM-TAG%3D2%3Bto-tag%3D1%3Bearly-only";
        assert_eq!(of(early), Ok(Some(replaces(true))));
        for wrong in [
            "?Replaces=a%3Bto-tag%3D1",
            "?Replaces=%3Bto-tag%3D1%3Bfrom-tag%3D2",
            "?Replaces=a%3Bto-tag%3D1%3Bto-tag%3D1%3Bfrom-tag%3D2",
            "?Replaces=a%3Bto-tag%3D%3Bfrom-tag%3D2",
            "?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2&Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2",
        ] {
            assert_eq!(of(wrong), Err(400), "{wrong}");
        }
    }
}
