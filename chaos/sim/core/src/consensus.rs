//! Consensus as the core sees it: one log, a leader for each term, and what may become of a
//! proposal. It is committed, committed late, committed by the next leader, or discarded when the
//! leader changes; the proposer may or may not hear of it.

use std::rc::Rc;

use tandem_core::command::{Command, Envelope, GatewayEvent};

use crate::random::Random;

#[derive(Debug)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    /// What it is, see `names`.
    pub name: u64,
    /// None is a new leader's blank entry: it takes an index and applies nothing.
    pub envelope: Option<Rc<Envelope>>,
    pub proposal: Option<Proposal>,
    /// The command panics in `handle`, on every replica alike.
    pub panics: bool,
    /// It did, for it was not refused before.
    pub panicked: bool,
    /// Of what the first replica made of it; the others must make the same.
    pub digest: Option<u64>,
}

/// Who waits for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub node: usize,
    /// The process's life: a later one waits for nothing of an earlier one.
    pub life: u32,
    pub number: u64,
}

/// Who stands for election, and the third voter.
pub const NODES: usize = 2;

#[derive(Debug, Default)]
pub struct Consensus {
    log: Vec<Entry>,
    pub committed: u64,
    pub term: u64,
    /// Who leads in `term`, as the majority sees it.
    pub leader: Option<usize>,
    pub witness_up: bool,
    /// Commits take longer by this.
    pub slow_ms: u64,
    pub overloaded: bool,
    /// Of proposals, so many are given up and in no log.
    pub loses_percent: u64,
    /// The next commands that panic.
    pub panics: u32,
    last_commit_at: u64,
}

impl Consensus {
    pub fn new() -> Self {
        Self { witness_up: true, ..Self::default() }
    }

    pub fn last_index(&self) -> u64 {
        self.log.len() as u64
    }

    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.log.get(usize::try_from(index).ok()?.checked_sub(1)?)
    }

    pub fn entry_mut(&mut self, index: u64) -> Option<&mut Entry> {
        self.log.get_mut(usize::try_from(index).ok()?.checked_sub(1)?)
    }

    /// At the end of the leader's log. The majority has yet to store it.
    pub fn append(
        &mut self,
        name: u64,
        envelope: Option<Rc<Envelope>>,
        proposal: Option<Proposal>,
    ) -> u64 {
        let index = self.last_index() + 1;
        let panics = self.panics > 0 && envelope.as_deref().is_some_and(may_panic);
        if panics {
            self.panics -= 1;
        }
        self.log.push(Entry {
            index,
            term: self.term,
            name,
            envelope,
            proposal,
            panics,
            panicked: false,
            digest: None,
        });
        index
    }

    /// When an entry that is appended now is on a majority's disks: never before an earlier one.
    pub fn commit_at(&mut self, now: u64, ms_max: u64, random: &mut Random) -> u64 {
        let at = now + random.between(1, ms_max.max(1)) + self.slow_ms;
        self.last_commit_at = self.last_commit_at.max(at);
        self.last_commit_at
    }

    /// A new leader. Of the entries that nobody knows to be committed it has the first `kept`;
    /// the rest is discarded.
    pub fn elect(&mut self, node: usize, kept: u64) {
        self.term += 1;
        self.leader = Some(node);
        let length = self.committed + kept.min(self.last_index() - self.committed);
        // What was applied anywhere was committed, so nothing applied is ever discarded.
        self.log.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        self.append(0, None, None);
    }

    pub fn uncommitted(&self) -> u64 {
        self.last_index() - self.committed
    }
}

/// A login or a configuration that panics is not simulated: a gateway without a login serves
/// nothing at all, which nobody would fail to notice, and no rule of the runtime mends it.
fn may_panic(envelope: &Envelope) -> bool {
    !matches!(
        envelope.command,
        Command::Configure(_) | Command::Elected { .. } | Command::Gateway(GatewayEvent::Login(_))
    )
}

#[test]
fn new_leader_keeps_what_is_committed_and_the_head_of_the_rest() {
    let mut consensus = Consensus::new();
    consensus.elect(0, 0);
    for _ in 0..4 {
        consensus.append(0, None, None);
    }
    consensus.committed = 2;
    consensus.elect(1, 1);
    assert_eq!((consensus.last_index(), consensus.term), (4, 2));
    assert_eq!(consensus.entry(3).map(|entry| entry.term), Some(1));
    assert_eq!(consensus.entry(4).map(|entry| entry.term), Some(2));
}
