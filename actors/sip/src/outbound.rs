//! What a REGISTER says of flows and of the way to its phone (RFC 5626, RFC 3327).

use crate::message::Headers;

pub const OPTION: &str = "outbound";
pub const PATH: &str = "path";

/// The phone knows of flows.
pub fn is_known(headers: &Headers) -> bool {
    supports(headers, OPTION)
}

/// The phone knows that there is a way to it.
pub fn knows_path(headers: &Headers) -> bool {
    supports(headers, PATH)
}

/// Whoever requires an option knows it, too.
fn supports(headers: &Headers, option: &str) -> bool {
    let mut named = headers.list("Supported").chain(headers.list("Require"));
    named.any(|name| name.eq_ignore_ascii_case(option))
}
