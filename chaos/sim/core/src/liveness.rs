//! When faults stop, calls go on to their ends, queues drain, ports come back and agents are ready,
//! within a bounded virtual time.

use tandem_core::call::leg::State as LegState;
use tandem_sip::transaction::GIVE_UP_MS;

use crate::event::Event;
use crate::simulation::Simulation;
use crate::{inv_watchers, limits};

/// How often it is looked.
pub const LOOK_MS: u64 = 500;

/// 64·T1 after the last trouble, and the time that its report takes.
const ACK_MS_MAX: u64 = GIVE_UP_MS + 6_000;

impl Simulation {
    /// A 200 is repeated until its ACK, and given up after 64·T1, whichever gateway lives.
    fn unacknowledged(&self) -> Option<String> {
        let clock = self.front().at;
        let waits = |call: &&tandem_core::call::state::Call| {
            let since = call.answered_at.filter(|at| clock.since(*at) > ACK_MS_MAX)?;
            let unacknowledged = call.caller().is_some_and(|leg| leg.state == LegState::Answered);
            // What a command that panicked brought is lost.
            let began = since.0.saturating_sub(limits::EPOCH_MS);
            let panicked = self.panic_at + limits::CLOCK_MS_MAX >= began && self.panic_at > 0;
            (unacknowledged && !panicked).then_some(())
        };
        let calm = self.now.saturating_sub(self.trouble_at) > ACK_MS_MAX;
        let found = self.front().calls.values().find(|call| calm && waits(call).is_some())?;
        Some(format!("call {} is answered, and nobody waits for its ACK any more", found.id))
    }

    pub fn on_rest(&mut self) {
        if let Some(what) = self.unacknowledged() {
            self.fail("liveness", what);
            return;
        }
        let unrest = self.unrest();
        let called = self.now > self.last_call_at;
        match unrest {
            None if called => {
                self.compare_worlds();
                let checked = self.watch.at_rest();
                self.check("acknowledged", checked);
                let told = inv_watchers::at_rest(self);
                self.check("watchers", told);
                self.rested = true;
            }
            Some(what) if self.now > self.heal_at.max(self.last_call_at) + limits::QUIET_MS_MAX => {
                self.fail("liveness", format!("faults stopped long ago, and {what}"));
            }
            Some(_) | None => self.schedule.put(self.now + LOOK_MS, Event::Rest),
        }
    }

    /// What has not come to rest.
    fn unrest(&self) -> Option<String> {
        let front = self.front();
        if let Some(call) = front.calls.values().next() {
            let legs: Vec<_> = call.legs.iter().map(|leg| leg.state_name()).collect();
            return Some(format!("call {} is {} with legs {legs:?}", call.id, call.state_name()));
        }
        if let Some(channel) = front.channels.keys().next() {
            return Some(format!("channel {channel} is taken"));
        }
        if let Some(queue) = front.queues.values().find(|queue| !queue.entries.is_empty()) {
            return Some(format!("queue {} is not empty", queue.id));
        }
        for gateway in front.gateways.values() {
            if gateway.free_ports.len() != usize::from(limits::PORTS) {
                return Some(format!("ports of {} are taken", gateway.id));
            }
        }
        let phones = self.peers.iter().filter_map(|peer| peer.agent);
        for agent in phones {
            let id = tandem_core::ids::AgentId::from((1_001 + u32::from(agent)).to_string());
            let Some(agent) = front.agents.get(&id) else {
                return Some(format!("agent {id} is not known"));
            };
            if !agent.is_available() {
                return Some(format!("agent {id} is {}", agent.state_name()));
            }
        }
        for gateway in &self.gateways {
            let pending = gateway.state.control.pending(0);
            let waits: Vec<String> = pending.map(crate::words::event).collect();
            if !waits.is_empty() {
                return Some(format!("{} still holds {waits:?}", gateway.name));
            }
        }
        let behind = self.nodes.iter().find(|node| node.replica.applied < self.consensus.committed);
        if let Some(node) = behind {
            return Some(format!("{} is behind", node.name));
        }
        let peer = self.peers.iter().find(|peer| peer.alive && peer.is_busy());
        if let Some(peer) = peer {
            return Some(format!("{} thinks that it has a call", peer.name()));
        }
        // Last, for registrations come and go.
        let effect = front.outbox.values().next();
        effect.map(|effect| format!("{} was never done", crate::words::effect(effect)))
    }
}
