//! Bodies of several parts (RFC 2046 §5.1, RFC 5621): where one wants to hold only one kind.

use crate::scan;

/// Parts of one body that are looked at.
pub const PARTS_MAX: usize = 16;
/// How deep parts may hold parts.
const DEPTH_MAX: usize = 3;
/// RFC 2046 §5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// What a body says of the one kind that its reader understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Body(&'a [u8]),
    /// Nothing of that kind, and nothing that must be understood.
    Nothing,
    /// A part that is not understood says that it must be (`handling=required`, RFC 3261 §20.11),
    /// or the parts can't be told apart.
    Refused,
}

/// Whether a Content-Type is of this kind, whatever its parameters.
pub fn is_kind(content_type: Option<&str>, kind: &str) -> bool {
    content_type
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(kind))
}

/// Whether a Content-Disposition says that a body need not be understood (RFC 3261 §20.11).
pub fn is_optional(disposition: Option<&str>) -> bool {
    handling(disposition).is_some_and(|handling| handling.eq_ignore_ascii_case("optional"))
}

/// The body of that kind: the whole body, or a part of a multipart one. Of alternatives the last
/// counts, which is the best (RFC 2046 §5.1.4); else the first.
///
/// A part that is not understood is refused only where it says itself that it must be: gateways to
/// the old network and phones with a picture of their caller leave that out.
pub fn find<'a>(content_type: Option<&str>, body: &'a [u8], kind: &str) -> Found<'a> {
    find_within(content_type, body, kind, DEPTH_MAX)
}

fn find_within<'a>(
    content_type: Option<&str>,
    body: &'a [u8],
    kind: &str,
    depth: usize,
) -> Found<'a> {
    if is_kind(content_type, kind) {
        return Found::Body(body);
    }
    let Some(content_type) = content_type.filter(|it| is_multipart(it)) else {
        return Found::Nothing;
    };
    let Some(parts) = parts(content_type, body).filter(|_| depth > 0) else {
        return Found::Refused;
    };
    let alternatives = is_kind(Some(content_type), "multipart/alternative");
    let mut found = Found::Nothing;
    for part in parts {
        match find_within(part.content_type.as_deref(), part.body, kind, depth - 1) {
            Found::Body(body) if alternatives || found == Found::Nothing => {
                found = Found::Body(body);
            }
            Found::Body(_) => {}
            Found::Nothing if alternatives || !part.is_required() => {}
            Found::Nothing | Found::Refused => return Found::Refused,
        }
    }
    found
}

fn is_multipart(content_type: &str) -> bool {
    content_type.trim().get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"))
}

struct Part<'a> {
    content_type: Option<String>,
    disposition: Option<String>,
    body: &'a [u8],
}

impl Part<'_> {
    fn is_required(&self) -> bool {
        handling(self.disposition.as_deref()).is_some_and(|it| it.eq_ignore_ascii_case("required"))
    }
}

fn handling(disposition: Option<&str>) -> Option<&str> {
    parameter(disposition?, "handling")
}

fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    scan::split(value, ';').into_iter().skip(1).find_map(|part| {
        let (known, value) = part.split_once('=')?;
        let value = value.trim();
        let plain = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        known.trim().eq_ignore_ascii_case(name).then_some(plain.unwrap_or(value))
    })
}

/// `None` where no boundary can be found, or there are too many parts.
fn parts<'a>(content_type: &str, body: &'a [u8]) -> Option<Vec<Part<'a>>> {
    let boundary = parameter(content_type, "boundary")?;
    if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
        return None;
    }
    let mut parts = Vec::new();
    // Where the content of the part that is open begins; what is before the first is a preamble.
    let mut open: Option<usize> = None;
    let mut at = 0;
    while at < body.len() {
        let next = body[at..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(body.len(), |end| at + end + 1);
        let line = body[at..next].trim_ascii_end();
        let rest = line.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary.as_bytes()));
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || *rest == b"--") {
            if let Some(start) = open.take() {
                if parts.len() >= PARTS_MAX {
                    return None;
                }
                parts.push(part(without_line_end(&body[start..at])));
            }
            if rest == b"--" {
                return Some(parts);
            }
            open = Some(next);
        }
        at = next;
    }
    // The last boundary never came.
    None
}

/// The line end before a boundary is the boundary's.
fn without_line_end(content: &[u8]) -> &[u8] {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    content.strip_suffix(b"\r").unwrap_or(content)
}

fn part(content: &[u8]) -> Part<'_> {
    let mut part = Part { content_type: None, disposition: None, body: &[] };
    let mut at = 0;
    while at < content.len() {
        let next = content[at..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(content.len(), |end| at + end + 1);
        let line = content[at..next].trim_ascii_end();
        at = next;
        if line.is_empty() {
            part.body = &content[at..];
            break;
        }
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|it| it.split_once(':'))
        else {
            continue;
        };
        let value = value.trim().to_owned();
        match name.trim() {
            name if name.eq_ignore_ascii_case("Content-Type") => part.content_type = Some(value),
            name if name.eq_ignore_ascii_case("c") => part.content_type = Some(value),
            name if name.eq_ignore_ascii_case("Content-Disposition") => {
                part.disposition = Some(value);
            }
            _ => {}
        }
    }
    part
}
