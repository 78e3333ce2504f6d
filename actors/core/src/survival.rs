//! Which calls takeovers put at risk, and which they cost: what the promise is measured by.

use crate::call::ending;
use crate::cdr::{Cdr, Disposition, Side};

/// What one entry says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survival {
    /// Live calls whose leader or gateway became another process: one each time.
    pub at_risk: u64,
    /// Of those that had been, how many ended because nobody could go on with them.
    pub lost: u64,
}

impl Survival {
    pub(crate) fn new(at_risk: u64, cdrs: &[Cdr]) -> Self {
        let lost = cdrs.iter().filter(|cdr| is_lost(cdr)).count();
        Self { at_risk, lost: u64::try_from(lost).unwrap_or(u64::MAX) }
    }
}

/// Whether a takeover may have cost the call. In doubt it has: a phone that was unplugged long after one
/// counts, too.
fn is_lost(cdr: &Cdr) -> bool {
    let broken_off = [
        ending::NO_ACK,
        ending::RTP_SILENCE,
        ending::SESSION_EXPIRED,
        ending::CALLER_UNREACHABLE,
        ending::AGENT_UNREACHABLE,
        ending::CALLEE_UNREACHABLE,
    ];
    let by_us = cdr.hung_up_by == Side::System;
    let failed = cdr.disposition == Disposition::Failed;
    cdr.takeovers > 0 && by_us && (failed || broken_off.contains(&cdr.cause.as_str()))
}
