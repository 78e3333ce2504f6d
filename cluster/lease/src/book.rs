//! The leader's side: of whose lease it knows that it is over, and who is next.

use std::collections::BTreeMap;

use crate::{LEASE_MS, MARGIN_MS};

/// How long the others wait for a line's own process before one of them serves a line that nobody has served
/// since the cluster was made, from the moment in which the leader began.
pub const HOME_MS: u64 = 5_000;

/// Who serves a line, as the log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Empty: nobody; it was given back.
    pub process: String,
    /// Of the process.
    pub incarnation: u64,
    /// Of the line; grows with each grant, so that what an earlier life still says is known as such.
    pub life: u64,
}

/// A process that would serve lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    pub process: String,
    pub incarnation: u64,
    /// Lines that it serves.
    pub serves: usize,
    /// An operator wants it to serve none: it does where nobody else can.
    pub drained: bool,
    /// It could not serve this one of late.
    pub unable: bool,
}

/// What becomes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is served, or there is nobody who could.
    Nothing,
    /// It is looked at again at this moment.
    Wait { until_ms: u64 },
    /// To this process, of this incarnation.
    Give { process: String, incarnation: u64 },
}

/// What who leads knows of leases; of use only while it leads. Moments are of its boot clock, in milliseconds.
#[derive(Clone, Debug)]
pub struct Book {
    margin_ms: u64,
    began_ms: u64,
    /// Of a line: its life, and when that is over.
    counted: BTreeMap<String, (u64, u64)>,
    /// The last incarnation of each process that is proven dead.
    dead: BTreeMap<String, u64>,
}

impl Default for Book {
    fn default() -> Self {
        Self::with_margin(MARGIN_MS)
    }
}

impl Book {
    /// Of clocks that drift less, or, where its tests want it, more than is allowed for.
    pub fn with_margin(margin_ms: u64) -> Self {
        Self { margin_ms, began_ms: 0, counted: BTreeMap::new(), dead: BTreeMap::new() }
    }

    fn counted_from(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add(LEASE_MS + self.margin_ms)
    }

    /// A new leader has the grants of the log, but not their moments: it counts each from when others can have renewed it
    /// last ([`crate::Reign`]).
    pub fn begin(&mut self, since_ms: u64) {
        self.began_ms = since_ms;
        self.counted.clear();
    }

    /// The holder has asked, or was granted the line, and was heard of at this moment at the latest.
    pub fn renew(&mut self, line: &str, life: u64, now_ms: u64) {
        let until = self.counted_from(now_ms);
        let known = self.counted.entry(line.to_owned()).or_insert((life, until));
        if known.0 <= life {
            *known = (life, until.max(if known.0 == life { known.1 } else { 0 }));
        }
    }

    /// Every incarnation up to this one is proven dead: its leases are void.
    pub fn mourn(&mut self, process: &str, incarnation: u64) {
        let known = self.dead.entry(process.to_owned()).or_default();
        *known = incarnation.max(*known);
    }

    pub fn is_dead(&self, process: &str, incarnation: u64) -> bool {
        self.dead.get(process).is_some_and(|dead| incarnation <= *dead)
    }

    /// When another may serve the line.
    pub fn over_at_ms(&self, line: &str, grant: &Grant) -> u64 {
        if grant.process.is_empty() || self.is_dead(&grant.process, grant.incarnation) {
            return 0;
        }
        match self.counted.get(line) {
            Some((life, until)) if *life == grant.life => *until,
            _ => self.counted_from(self.began_ms),
        }
    }

    /// Whose a line shall be. `home` is the process that serves it as a rule; `askers` are those that have asked of
    /// late.
    pub fn next(
        &self,
        line: &str,
        home: &str,
        stored: Option<&Grant>,
        askers: &[Asker],
        now_ms: u64,
    ) -> Next {
        if let Some(grant) = stored {
            let over_ms = self.over_at_ms(line, grant);
            if now_ms < over_ms {
                return Next::Wait { until_ms: over_ms };
            }
        }
        let able =
            |asker: &&Asker| !asker.unable && !self.is_dead(&asker.process, asker.incarnation);
        let give = |asker: &Asker| Next::Give {
            process: asker.process.clone(),
            incarnation: asker.incarnation,
        };
        let own = askers.iter().filter(able).find(|asker| asker.process == home);
        if let Some(own) = own.filter(|own| !own.drained) {
            return give(own);
        }
        let home_until = self.began_ms.saturating_add(HOME_MS);
        if stored.is_none() && now_ms < home_until {
            return Next::Wait { until_ms: home_until };
        }
        let by_rank = |asker: &&Asker| (asker.drained, asker.serves, asker.process.clone());
        askers.iter().filter(able).min_by_key(by_rank).map_or(Next::Nothing, give)
    }
}

#[cfg(test)]
mod tests;
