//! Numbers as a carrier writes them, and as we do: E.164 with a +, a national prefix, a line of a
//! PBX. Which number is shown to whom we call is said here, too.

use std::net::IpAddr;

use tandem_sip::{NameAddr, Uri};

use super::outward::Outward;
use super::routing::is_number;
use crate::call::identity::{ANONYMOUS, ASSERTED, NOBODY};
use crate::call::outbound;
use crate::limits;

/// A number that begins with `from` begins with `to` instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub from: String,
    pub to: String,
}

/// What a carrier's callers dial and are known by, made ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    pub called: Vec<Rewrite>,
    pub calling: Vec<Rewrite>,
}

/// The rule with the longest beginning decides, and only one; a number that none fits, that is no
/// number or that would become too long stays as it is.
pub fn rewritten(rules: &[Rewrite], number: &str) -> String {
    let fits = rules.iter().filter(|rule| number.starts_with(&rule.from));
    let rule = fits.max_by_key(|rule| rule.from.len()).filter(|_| is_number(number));
    let new = rule.map(|rule| format!("{}{}", rule.to, &number[rule.from.len()..]));
    new.filter(|new| (1..=limits::DIGITS_MAX).contains(&new.len()))
        .unwrap_or_else(|| number.to_owned())
}

/// Who calls, as the carrier is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// In From.
    pub number: String,
    /// For the carrier's eyes alone (RFC 3325 §9.1).
    pub asserted: Option<String>,
}

pub fn shown(out: &Outward, from: &str) -> Shown {
    let number = match &out.caller_id {
        Some(number) => number.clone(),
        None => rewritten(&out.calling, from),
    };
    if !out.hide_caller {
        return Shown { number, asserted: None };
    }
    let asserted = is_number(&number).then_some(number);
    Shown { number: ANONYMOUS.to_owned(), asserted }
}

/// A header that is no part of the dialog.
type Header = (&'static str, String);

/// From, without a tag, and what goes with it: where nobody shall know, the carrier knows and tells
/// nobody (RFC 3323 §4.2, 3325 §9).
pub fn sender(shown: &Shown, vip: IpAddr) -> (NameAddr, Vec<Header>) {
    if shown.number != ANONYMOUS {
        return (outbound::sender(&shown.number, vip), Vec::new());
    }
    let mut from = NameAddr::new(Uri::sip(Some(ANONYMOUS), NOBODY, None));
    from.display = Some("Anonymous".into());
    let mut also = vec![("Privacy", "id".to_owned())];
    let identity = shown.asserted.as_deref().map(|number| outbound::sender(number, vip));
    also.extend(identity.map(|identity| (ASSERTED, identity.to_string())));
    (from, also)
}

/// Whose call it was before it was sent on (RFC 5806 §4).
pub fn diverted(by: &str, vip: IpAddr) -> Header {
    ("Diversion", format!("{};reason=deflection", outbound::sender(by, vip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &[(&str, &str)]) -> Vec<Rewrite> {
        let rule = |(from, to): &(&str, &str)| Rewrite { from: (*from).into(), to: (*to).into() };
        rules.iter().map(rule).collect()
    }

    #[test]
    fn longest_beginning_decides_and_one_rule_only() {
        let rules = rules(&[("00", "+"), ("0", "+49"), ("+49", "0"), ("", "+4930")]);
        for (number, expected) in [
            ("0044123", "+44123"),
            ("030123", "+4930123"),
            ("+4930", "030"),
            ("123", "+4930123"),
            ("anonymous", "anonymous"),
            ("", ""),
        ] {
            assert_eq!(rewritten(&rules, number), expected);
        }
        assert_eq!(rewritten(&[], "123"), "123");
    }

    #[test]
    fn number_that_would_vanish_or_be_too_long_stays() {
        assert_eq!(rewritten(&rules(&[("123", "")]), "123"), "123");
        let long = "1".repeat(limits::DIGITS_MAX);
        assert_eq!(rewritten(&rules(&[("1", "+1")]), &long), long);
    }
}
