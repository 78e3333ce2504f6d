//! Our own address, registered with carriers that want it (RFC 3261 §10.2).
//!
//! ```text
//! absent ──200──▶ registered ──refreshed in time──▶ registered
//!   ▲ refused, silent: again later, later each time     │ it lapses
//!   └───────────────────────────────────────────────────┘
//! ```
//! Each gateway registers its own Contact, and a carrier rings whichever it likes of them (§10): there
//! is nothing to hand over when one dies, and no leader is needed to refresh.

use std::collections::BTreeMap;

use tandem_core::config::Config;
use tandem_core::trunk::outward::{Credentials, Registration};
use tandem_sip::digest::{Authorization, Challenger, is_stale};
use tandem_sip::{Headers, Method, Millis, Response};

use super::Line;
use crate::limits;

const TIMED_OUT: u16 = 408;

/// A trunk is registered, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub trunk: Line,
    pub number: u64,
    pub up: bool,
    pub status: u16,
}

pub fn set_gauge(trunk: &Line, up: bool) {
    let Line { tenant, trunk } = trunk;
    let (tenant, trunk) = (tenant.to_string(), trunk.to_string());
    metrics::gauge!("tandem_trunk_registered", "tenant" => tenant, "trunk" => trunk).set(if up {
        1.0
    } else {
        0.0
    });
}

/// A REGISTER to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub trunk: Line,
    pub registration: Registration,
    /// The Call-ID and CSeq of all of them (§10.2.4).
    pub call: u64,
    pub cseq: u32,
    /// 0 takes the Contact away.
    pub expires_s: u32,
    pub proofs: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Send(Order),
    Silent {
        branch: String,
    },
    /// Nothing to send: it has lapsed.
    Lapsed(Change),
}

#[derive(Debug)]
struct Known {
    registration: Registration,
    credentials: Option<Credentials>,
    call: u64,
    cseq: u32,
    /// As the carrier wants it (423).
    expires_s: u32,
    /// When a REGISTER is due, or no longer waited for.
    due_at: Millis,
    under_way: Option<String>,
    /// By a header each: what was accepted last, or answers the last challenge; with how many
    /// requests it has proven.
    proofs: BTreeMap<&'static str, (String, u32)>,
    /// Of this attempt: challenges answered, and intervals raised.
    again: u32,
    failures: u32,
    until: Option<Millis>,
    leaving: bool,
    changes: u64,
}

#[derive(Debug, Default)]
pub struct Registrations {
    known: BTreeMap<Line, Known>,
    next: Option<Millis>,
    count: u64,
}

impl Registrations {
    /// Who changes nothing stays registered; who is left out lapses with the carrier.
    pub fn configure<'c>(&mut self, now: Millis, configs: impl Iterator<Item = (u32, &'c Config)>) {
        let mut before = std::mem::take(&mut self.known);
        let of = |(tenant, config): (u32, &'c Config)| {
            config.trunks.iter().map(move |trunk| (tenant, trunk))
        };
        for (tenant, trunk) in configs.flat_map(of) {
            let Some(out) = &trunk.out else { continue };
            let Some(registration) = &out.register else { continue };
            let same = |known: &Known| {
                known.registration == *registration && known.credentials == out.credentials
            };
            let line = Line { tenant, trunk: trunk.id.clone() };
            let known = before.remove(&line).filter(same).unwrap_or_else(|| {
                self.count += 1;
                Known {
                    registration: registration.clone(),
                    credentials: out.credentials.clone(),
                    call: self.count,
                    cseq: 0,
                    expires_s: registration.expires_s,
                    due_at: now,
                    under_way: None,
                    proofs: BTreeMap::new(),
                    again: 0,
                    failures: 0,
                    until: None,
                    leaving: false,
                    changes: 0,
                }
            });
            self.known.insert(line, known);
        }
        self.find_next();
    }

    /// Takes every Contact of ours away. True where a carrier is to hear of it.
    pub fn leave(&mut self, now: Millis) -> bool {
        for known in self.known.values_mut() {
            known.leaving = true;
            (known.due_at, known.under_way, known.again) = (now, None, 0);
        }
        self.known.retain(|_, known| known.until.is_some());
        self.find_next();
        !self.known.is_empty()
    }

    /// Has everybody heard?
    pub fn has_left(&self) -> bool {
        self.known.is_empty()
    }

    /// Each trunk that registers, and whether it is.
    pub fn trunks(&self) -> impl Iterator<Item = (&Line, bool)> {
        self.known.iter().map(|(trunk, known)| (trunk, known.until.is_some()))
    }

    pub fn next(&self) -> Option<Millis> {
        self.next
    }

    pub fn pop_due(&mut self, now: Millis) -> Option<Due> {
        if self.next.is_none_or(|at| at > now) {
            return None;
        }
        let due = self.known.iter_mut().find_map(|(trunk, known)| known.due(trunk, now));
        self.find_next();
        due
    }

    pub fn sent(&mut self, now: Millis, trunk: &Line, branch: &str) {
        if let Some(known) = self.known.get_mut(trunk) {
            known.under_way = Some(branch.to_owned());
            known.due_at = now.after(limits::REGISTER_REPLY_MS);
        }
        self.find_next();
    }

    /// A final answer; `jitter` is anything between 0 and 1,000, `cnonce` a name of no other.
    pub fn on_answer(
        &mut self,
        now: Millis,
        response: &Response,
        is_ours: impl Fn(&tandem_sip::NameAddr) -> bool,
        jitter: u64,
        cnonce: &str,
    ) -> Option<Change> {
        let branch = response.headers.branch();
        let of = |known: &Known| known.under_way.as_deref() == Some(branch);
        let (trunk, known) = self.known.iter_mut().find(|(_, known)| of(known))?;
        known.under_way = None;
        let change = known.on_answer(now, trunk, response, is_ours, jitter, cnonce);
        self.drop_left();
        change
    }

    pub fn on_silence(&mut self, now: Millis, branch: &str, jitter: u64) -> Option<Change> {
        let of = |known: &Known| known.under_way.as_deref() == Some(branch);
        let (trunk, known) = self.known.iter_mut().find(|(_, known)| of(known))?;
        known.under_way = None;
        let change = known.on_failure(now, trunk, TIMED_OUT, None, jitter);
        self.drop_left();
        change
    }

    fn drop_left(&mut self) {
        self.known.retain(|_, known| !(known.leaving && known.until.is_none()));
        self.find_next();
    }

    fn find_next(&mut self) {
        let next = |known: &Known| {
            let lapses = known.until.filter(|_| !known.leaving);
            lapses.map_or(known.due_at, |until| until.min(known.due_at))
        };
        self.next = self.known.values().map(next).min();
    }
}

impl Known {
    fn due(&mut self, trunk: &Line, now: Millis) -> Option<Due> {
        if !self.leaving && self.until.is_some_and(|until| until <= now) {
            self.until = None;
            return Some(Due::Lapsed(self.change(trunk, false, TIMED_OUT)));
        }
        if self.due_at > now {
            return None;
        }
        if let Some(branch) = &self.under_way {
            return Some(Due::Silent { branch: branch.clone() });
        }
        self.cseq += 1;
        let uri = self.registration.uri().to_string();
        let credentials = self.credentials.as_ref();
        let mut proofs = Vec::new();
        for (header, (proof, count)) in &mut self.proofs {
            *count += 1;
            let known = Authorization::parse(proof).ok();
            let ha1 = |algorithm| credentials.and_then(|it| it.ha1(algorithm));
            let next = known.and_then(|it| it.again(Method::Register.as_str(), &uri, *count, ha1));
            proofs.extend(next.map(|next| (*header, next)));
        }
        // Until it is said to be sent nothing else is due.
        self.due_at = now.after(limits::REGISTER_REPLY_MS);
        Some(Due::Send(Order {
            trunk: trunk.clone(),
            registration: self.registration.clone(),
            call: self.call,
            cseq: self.cseq,
            expires_s: if self.leaving { 0 } else { self.expires_s },
            proofs,
        }))
    }

    fn on_answer(
        &mut self,
        now: Millis,
        trunk: &Line,
        response: &Response,
        is_ours: impl Fn(&tandem_sip::NameAddr) -> bool,
        jitter: u64,
        cnonce: &str,
    ) -> Option<Change> {
        let (status, headers) = (response.status, &response.headers);
        if self.leaving && response.is_success() {
            self.until = None;
            return None;
        }
        if response.is_success() {
            let granted_s = granted_s(headers, is_ours, self.expires_s);
            if granted_s == 0 {
                return self.on_failure(now, trunk, status, None, jitter);
            }
            (self.again, self.failures) = (0, 0);
            let granted_ms = u64::from(granted_s) * 1_000;
            self.due_at = now.after(refresh_ms(granted_ms, jitter));
            let was = self.until.replace(now.after(granted_ms));
            return was.is_none().then(|| self.change(trunk, true, status));
        }
        if self.again < limits::REGISTER_AGAIN_MAX && self.takes(response, cnonce) {
            self.again += 1;
            self.due_at = now;
            return None;
        }
        let after_s = headers.other("Retry-After").and_then(|value| {
            let digits = value.trim().split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<u64>().ok()
        });
        self.on_failure(now, trunk, status, after_s, jitter)
    }

    /// The answer says how to ask again: with a proof, or for longer.
    fn takes(&mut self, response: &Response, cnonce: &str) -> bool {
        let headers = &response.headers;
        if response.status == 423 {
            // §10.2.8; a peer that wants more than a day is of no use.
            let min_s = headers.other("Min-Expires").and_then(|value| value.trim().parse().ok());
            let range = self.expires_s + 1..=limits::REGISTER_S_MAX;
            return min_s.filter(|min_s| range.contains(min_s)).is_some_and(|min_s: u32| {
                self.expires_s = min_s;
                true
            });
        }
        let challenger = Challenger::of_status(response.status);
        let Some((challenger, credentials)) = challenger.zip(self.credentials.as_ref()) else {
            return false;
        };
        let (uri, header) = (self.registration.uri().to_string(), challenger.answered_in());
        let answer = challenger.challenges(headers).find_map(|challenge| {
            // A password that was refused stays refused, unless only the nonce was too old.
            let refused =
                self.again > 0 && self.proofs.contains_key(header) && !is_stale(challenge);
            (!refused)
                .then(|| credentials.answer(challenge, Method::Register.as_str(), &uri, cnonce))?
        });
        let Some(answer) = answer else { return false };
        // It counts from 1 with the next request.
        self.proofs.insert(header, (answer, 0));
        true
    }

    fn on_failure(
        &mut self,
        now: Millis,
        trunk: &Line,
        status: u16,
        after_s: Option<u64>,
        jitter: u64,
    ) -> Option<Change> {
        self.again = 0;
        if self.leaving {
            self.until = None;
            return None;
        }
        // RFC 5626 §4.5: longer each time, half of it drawn, and bounded.
        let doubled = limits::REGISTER_RETRY_MS << self.failures.min(limits::REGISTER_DOUBLINGS);
        let most = doubled.min(limits::REGISTER_RETRY_MS_MAX);
        let wait_ms = most / 2 + most / 2 * jitter.min(1_000) / 1_000;
        let asked_ms = after_s.unwrap_or(0) * 1_000;
        self.due_at = now.after(wait_ms.max(asked_ms.min(limits::REGISTER_RETRY_MS_MAX)));
        self.failures = self.failures.saturating_add(1);
        self.proofs.clear();
        // What was granted holds on until it lapses (§10.2.4): calls in still come by it.
        let first = self.changes == 0 && self.until.is_none();
        first.then(|| self.change(trunk, false, status))
    }

    fn change(&mut self, trunk: &Line, up: bool, status: u16) -> Change {
        self.changes += 1;
        Change { trunk: trunk.clone(), number: self.changes, up, status }
    }
}

/// When to refresh: after half to 85 % of what was granted, so that not all come at once.
fn refresh_ms(granted_ms: u64, jitter: u64) -> u64 {
    granted_ms / 2 + granted_ms * 35 / 100 * jitter.min(1_000) / 1_000
}

/// For how long our Contact is bound, by its own parameter or by Expires (§10.2.4).
fn granted_s(
    headers: &Headers,
    is_ours: impl Fn(&tandem_sip::NameAddr) -> bool,
    asked_s: u32,
) -> u32 {
    let ours = headers.contact.iter().find(|contact| is_ours(contact));
    let said = ours.and_then(|contact| contact.param("expires")?.parse().ok());
    said.or(headers.expires).unwrap_or(asked_s).min(limits::REGISTER_S_MAX)
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;
