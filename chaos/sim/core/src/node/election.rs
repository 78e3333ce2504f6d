//! Who leads: deaths, cuts and transfers, and what each node believes of it.

use tandem_core::command::Command;
use tandem_core::log_time::Source;

use super::Proposed;
use crate::consensus::NODES;
use crate::draws::For;
use crate::event::Event;
use crate::links::{Down, GATEWAYS};
use crate::names;
use crate::simulation::Simulation;

/// The supervisor reaps a dead leader and says so at once.
const OBITUARY_MS: (u64, u64) = (8, 60);
/// A leader that is merely silent is waited for.
const SILENCE_MS: (u64, u64) = (130, 500);
const AGAIN_MS: u64 = 40;
/// Of two nodes and a witness.
const MAJORITY: usize = 2;

impl Simulation {
    /// Are there enough voters for `leader` to commit?
    pub fn has_quorum(&self) -> bool {
        let nodes = self.nodes.iter().filter(|node| node.is_voter()).count();
        nodes > 0 && nodes + usize::from(self.consensus.witness_up) >= MAJORITY
    }

    pub fn on_commit(&mut self, term: u64, index: u64) {
        if self.consensus.term != term {
            return;
        }
        let leads = self.consensus.leader.is_some_and(|leader| self.nodes[leader].is_voter());
        if !leads || !self.has_quorum() {
            // Not lost: it commits when the majority is back, unless somebody else leads by then.
            self.schedule.put(self.now + AGAIN_MS, Event::Commit { term, index });
            return;
        }
        self.consensus.committed = self.consensus.committed.max(index);
        self.wake_replicas();
    }

    /// The leader is dead or silent: somebody will stand.
    pub fn expect_election(&mut self, proven: bool) {
        let (low, high) = if proven { OBITUARY_MS } else { SILENCE_MS };
        let at = self.now + self.draws.at(For::Election, self.now).between(low, high);
        self.schedule.put(at, Event::Election { term: self.consensus.term });
    }

    pub fn on_election(&mut self, term: u64) {
        let healthy = self.consensus.leader.is_some_and(|leader| self.nodes[leader].is_voter());
        if self.consensus.term != term || healthy {
            return;
        }
        let candidates: Vec<usize> = (0..NODES).filter(|n| self.nodes[*n].is_voter()).collect();
        if candidates.is_empty() || !self.has_quorum() {
            self.schedule.put(self.now + AGAIN_MS, Event::Election { term });
            return;
        }
        let mut random = self.draws.at(For::Election, self.now);
        let node = *random.pick(&candidates);
        let open = self.consensus.uncommitted().min(self.reachable_tail);
        let kept = match random.below(4) {
            0 => 0,
            1 => open,
            _ => random.below(open + 1),
        };
        self.elect(node, kept);
    }

    pub fn elect(&mut self, node: usize, kept: u64) {
        let old = self.consensus.leader;
        self.reachable_tail = u64::MAX;
        self.consensus.elect(node, kept);
        let term = self.consensus.term;
        self.count_leases_anew(node);
        self.tell(|sim| {
            (
                sim.nodes[node].name.clone(),
                format!("is elected in term {term}, {kept} entries kept"),
            )
        });
        let index = self.consensus.last_index();
        let mut random = self.draws.at(For::Commit, self.now);
        let at = self.consensus.commit_at(self.now, 3, &mut random);
        self.schedule.put(at, Event::Commit { term, index });
        for other in (0..NODES).filter(|other| Some(*other) == old || *other != node) {
            let owner = names::of(&[other as u64, self.now]);
            let at = self.now + self.draws.at(For::StepDown, owner).between(1, 30);
            self.schedule.put(at, Event::StepDown { node: other, term });
        }
    }

    /// A node hears of a later term.
    pub fn on_step_down(&mut self, n: usize, term: u64) {
        let node = &self.nodes[n];
        if !node.alive || node.believes.is_none_or(|believes| believes >= term) {
            return;
        }
        if node.cut || node.paused {
            let owner = names::of(&[n as u64, self.now]);
            let at = self.now + self.draws.at(For::StepDown, owner).between(5, AGAIN_MS);
            self.schedule.put(at, Event::StepDown { node: n, term });
            return;
        }
        self.step_down(n);
    }

    fn step_down(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(term) = node.believes.take() else { return };
        node.tear_down();
        // Acknowledged twice is harmless; never would keep the outbox full.
        let pending = std::mem::take(&mut node.pending);
        for waiting in pending.into_values() {
            node.done.extend(waiting.done);
        }
        self.cease_to_lead(n);
        self.tell(|sim| (sim.nodes[n].name.clone(), format!("leads no more in term {term}")));
        self.tell_leading(n);
    }

    /// It leads and has applied all that was acknowledged before.
    pub fn on_leading(&mut self, n: usize, term: u64) {
        if self.nodes[n].believes == Some(term) {
            return;
        }
        self.step_down(n);
        self.nodes[n].believes = Some(term);
        let dark = self.begin_to_lead(n) == Source::WallClock;
        let elected = Command::Elected { node: self.nodes[n].name.clone(), dark };
        self.propose(n, None, elected, Proposed::Elected);
    }

    pub fn tell_leading(&mut self, n: usize) {
        for g in 0..GATEWAYS {
            self.tell_leading_to(g, n);
        }
    }

    pub fn tell_leading_to(&mut self, g: usize, n: usize) {
        let node = &self.nodes[n];
        let leading = node.tree.is_some();
        let term = node.tree.or(node.believes).unwrap_or(self.consensus.term);
        self.send_down(g, n, Down::Leading { term, leading });
    }
}
