//! What is due of an address that this process has taken: pure, time is an input.

use crate::limits::{ANNOUNCE_AFTER_MS, DEFEND_MS, RENEW_MS};

/// What is to be done next. Moments are of the boot clock, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The lease is over: another may serve the line in a moment.
    Drop,
    /// The lease is held again.
    Take,
    /// Its life in the kernel ends otherwise.
    Renew,
    /// Neighbours are told where it is.
    Announce,
    /// Nothing, until then; none: until the lease is renewed.
    Wait { until_ms: Option<u64> },
}

/// An address over one life of a line.
///
///   Here ──lease over──▶ Away ──lease held──▶ Here
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    state: State,
    /// When another host's claim was answered last.
    defended_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Here { since_ms: u64, announced: usize, renew_ms: u64 },
    Away,
}

impl Keeping {
    /// It came to this host at that moment, and nobody was told yet.
    pub fn taken_at(now_ms: u64) -> Self {
        Self { state: here(now_ms), defended_ms: None }
    }

    /// `lease_until_ms`: as the fence has it. What is said to be due is taken for done.
    pub fn next(&mut self, now_ms: u64, lease_until_ms: u64) -> Due {
        let is_held = now_ms < lease_until_ms;
        match &mut self.state {
            State::Here { .. } if !is_held => {
                self.state = State::Away;
                Due::Drop
            }
            State::Here { since_ms, announced, renew_ms } => {
                let announce_ms = ANNOUNCE_AFTER_MS.get(*announced).map(|after| *since_ms + after);
                if announce_ms.is_some_and(|at| at <= now_ms) {
                    *announced += 1;
                    return Due::Announce;
                }
                if *renew_ms <= now_ms {
                    *renew_ms = now_ms + RENEW_MS;
                    return Due::Renew;
                }
                let first = announce_ms.unwrap_or(u64::MAX).min(*renew_ms).min(lease_until_ms);
                Due::Wait { until_ms: Some(first) }
            }
            State::Away if is_held => {
                self.state = here(now_ms);
                Due::Take
            }
            State::Away => Due::Wait { until_ms: None },
        }
    }

    /// Another host answers for the address; whether it is told once more whose it is.
    pub fn defends(&mut self, now_ms: u64) -> bool {
        let is_here = matches!(self.state, State::Here { .. });
        let rested = self.defended_ms.is_none_or(|last| now_ms.saturating_sub(last) >= DEFEND_MS);
        if is_here && rested {
            self.defended_ms = Some(now_ms);
        }
        is_here && rested
    }
}

fn here(now_ms: u64) -> State {
    State::Here { since_ms: now_ms, announced: 0, renew_ms: now_ms + RENEW_MS }
}

#[cfg(test)]
mod tests;
