//! Who calls, and who has sent the call on, as a carrier says it: the asserted identity (RFC 3325),
//! Diversion (RFC 5806) and History-Info (RFC 7044).

use tandem_sip::{Headers, NameAddr, Scheme, Uri};

use crate::limits;
use crate::trunk::numbers::{Rewrite, rewritten};

/// What a caller is called who is not to be known.
pub const ANONYMOUS: &str = "anonymous";
/// Where they call from (RFC 3323 §4.1.1.3).
pub const NOBODY: &str = "anonymous.invalid";
pub const ASSERTED: &str = "P-Asserted-Identity";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// What agents and their phones are shown.
    pub shown: String,
    /// What a carrier vouches for, shown or not.
    pub asserted: Option<String>,
    /// The number that sent the call on last.
    pub diverted_from: Option<String>,
}

impl Identity {
    /// The numbers as we write them.
    pub fn rewritten(self, rules: &[Rewrite]) -> Self {
        let ours = |number: String| rewritten(rules, &number);
        Self {
            shown: ours(self.shown),
            asserted: self.asserted.map(ours),
            diverted_from: self.diverted_from.map(ours),
        }
    }
}

/// Of a caller. Only what a trunk's peer says of others is believed (§5).
pub fn of(headers: &Headers, trusted: bool) -> Identity {
    let from = headers.from.uri.user.clone().unwrap_or_default();
    if !trusted {
        return Identity { shown: from, ..Identity::default() };
    }
    let asserted = asserted(headers);
    let is_anonymous = from.is_empty()
        || from.eq_ignore_ascii_case(ANONYMOUS)
        || headers.from.uri.host.eq_ignore_ascii_case(NOBODY);
    let shown = match &asserted {
        _ if is_private(headers) => ANONYMOUS.to_owned(),
        Some(asserted) if is_anonymous => asserted.clone(),
        None if is_anonymous => ANONYMOUS.to_owned(),
        Some(_) | None => from,
    };
    Identity { shown, asserted, diverted_from: diverted_from(headers) }
}

/// Two values there may be, a SIP URI and a telephone number (§9.1): the first that has a number.
fn asserted(headers: &Headers) -> Option<String> {
    headers.addresses(ASSERTED).find_map(|value| number_of(&value))
}

/// The caller wants not to be known: `id` (§9.3), or one of RFC 3323 §4.2 that hides as much.
fn is_private(headers: &Headers) -> bool {
    let lines = headers.other.iter().filter(|it| it.name.eq_ignore_ascii_case("Privacy"));
    let mut wanted = lines.flat_map(|it| it.value.split([';', ','])).map(str::trim);
    wanted.any(|it| ["id", "user", "header"].iter().any(|known| it.eq_ignore_ascii_case(known)))
}

/// The topmost Diversion is the last (RFC 5806 §5); of a history the last entry is where the call
/// goes, and the one before it who sent it there (RFC 7044 §5).
fn diverted_from(headers: &Headers) -> Option<String> {
    if let Some(last) = headers.addresses("Diversion").next() {
        return number_of(&last);
    }
    let history: Vec<NameAddr> =
        headers.addresses("History-Info").take(limits::HISTORY_MAX).collect();
    let before = history.len().checked_sub(2)?;
    number_of(history.get(before)?)
}

/// The user of a SIP URI, or a telephone number without its parameters. None where that is too long
/// to be one.
fn number_of(address: &NameAddr) -> Option<String> {
    let Uri { scheme, user, host, .. } = &address.uri;
    let number = match scheme {
        Scheme::Sip | Scheme::Sips => user.clone()?,
        Scheme::Tel => host.split(';').next().unwrap_or_default().to_owned(),
        Scheme::Other(_) => return None,
    };
    (1..=limits::DIGITS_MAX).contains(&number.len()).then_some(number)
}
