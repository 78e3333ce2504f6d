//! Splitting header values where a separator stands outside quotes and angle brackets.

/// The parts of `text` between `separator`s that stand outside `"…"` and `<…>`, trimmed.
pub(crate) fn split(text: &str, separator: char) -> Vec<&str> {
    scan(text, separator).0
}

/// As [`split`]; `None` where a quote or a bracket is never closed. What is appended to such a
/// text, a tag above all, would be taken for a part of it.
pub(crate) fn split_closed(text: &str, separator: char) -> Option<Vec<&str>> {
    let (parts, closed) = scan(text, separator);
    closed.then_some(parts)
}

fn scan(text: &str, separator: char) -> (Vec<&str>, bool) {
    let mut parts = Vec::new();
    let mut start = 0;
    let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' if !bracketed => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            c if c == separator && !quoted && !bracketed => {
                parts.push(text[start..at].trim());
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    (parts, !quoted && !bracketed)
}

/// A number of decimal digits alone: no sign, no white space. `None` beyond `u64`, too.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// As [`digits`], but a number too great is `greatest`.
pub(crate) fn digits_up_to(text: &str, greatest: u64) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(greatest).min(greatest))
}

/// A token (RFC 3261 §25.1).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte))
}
