//! Actors that panic: restarted with back-off, quarantined when they do it again and again. What
//! they left undone is done again.

use std::collections::VecDeque;
use std::sync::Arc;

use tandem_core::command::{Command, GatewayEvent, Origin};
use tandem_core::ids::EntityId;

use super::Proposed;
use crate::event::Event;
use crate::limits;
use crate::names;
use crate::simulation::Simulation;

#[derive(Debug, Default)]
pub struct Child {
    down: bool,
    quarantined: bool,
    crashes: VecDeque<u64>,
    /// Events that came while it was down.
    missed: VecDeque<(Origin, Arc<GatewayEvent>)>,
    /// How often it will panic again after its restart.
    again: u32,
}

impl Child {
    pub fn is_down(&self) -> bool {
        self.down
    }

    pub fn miss_event(&mut self, origin: Origin, event: Arc<GatewayEvent>) {
        // A full mailbox: the event waits for the next session of its gateway.
        if self.missed.len() < limits::MAILBOX_MAX {
            self.missed.push_back((origin, event));
        }
    }
}

impl Simulation {
    /// The actor of the picked entity panics; and `times - 1` times after a restart.
    pub fn panic_actor(&mut self, n: usize, pick: u64, times: u32) {
        if self.nodes[n].tree.is_none() {
            return;
        }
        let world = &self.nodes[n].replica.world;
        // Calls have the most to lose.
        let calls: Vec<EntityId> = world.calls.keys().map(|id| EntityId::Call(*id)).collect();
        let entities: Vec<EntityId> = if calls.is_empty() || pick.is_multiple_of(3) {
            world.entities().collect()
        } else {
            calls
        };
        // Whom it strikes does not change when somebody else is not there.
        let lot = |entity: &&EntityId| names::of(&[pick, names::entity(entity)]);
        let Some(entity) = entities.iter().min_by_key(lot).cloned() else { return };
        self.crash(n, entity, times.saturating_sub(1));
    }

    fn crash(&mut self, n: usize, entity: EntityId, again: u32) {
        self.tell(|sim| (sim.nodes[n].name.clone(), format!("the actor of {entity} panics")));
        let now = self.now;
        let node = &mut self.nodes[n];
        let child = node.children.entry(entity.clone()).or_default();
        if child.quarantined || child.down {
            return;
        }
        child.down = true;
        child.again = again;
        child.crashes.push_back(now);
        while child.crashes.front().is_some_and(|at| now - at > limits::CRASH_WINDOW_MS) {
            child.crashes.pop_front();
        }
        if child.crashes.len() >= limits::CRASHES_MAX {
            self.quarantine(n, entity);
            return;
        }
        let doublings = u32::try_from(child.crashes.len() - 1).unwrap_or(0);
        let back_off = (limits::RESTART_MS_MIN << doublings).min(limits::RESTART_MS_MAX);
        let (life, term) = (node.life, node.tree.unwrap_or_default());
        self.schedule.put(now + back_off, Event::Restart { node: n, life, term, entity });
    }

    /// Without an actor the entity is still served: the machine decides, not the actor.
    fn quarantine(&mut self, n: usize, entity: EntityId) {
        let Some(child) = self.nodes[n].children.get_mut(&entity) else { return };
        child.quarantined = true;
        child.down = false;
        let missed = std::mem::take(&mut child.missed);
        for (origin, event) in missed {
            self.propose_event(n, origin, &event, false);
        }
        let reason = "actor_crashed".to_owned();
        self.propose(n, None, Command::Quarantine { entity, reason }, Proposed::Other);
    }

    pub fn on_restart(&mut self, n: usize, life: u32, term: u64, entity: &EntityId) {
        let node = &mut self.nodes[n];
        if node.life != life || node.tree != Some(term) {
            return;
        }
        if node.paused {
            let again = Event::Restart { node: n, life, term, entity: entity.clone() };
            node.backlog.push(again);
            return;
        }
        let here = node.replica.world.has(entity);
        let Some(child) = node.children.get_mut(entity) else { return };
        child.down = false;
        let (again, missed) = (child.again, std::mem::take(&mut child.missed));
        let undone: Vec<_> =
            node.replica.world.effects_of(entity).map(|effect| Arc::new(effect.clone())).collect();
        for effect in undone {
            self.perform(n, term, &effect);
        }
        for (origin, event) in missed {
            self.propose_event(n, origin, &event, false);
        }
        if !here {
            // It ended while it was down: what came for it counts all the same, but no more.
            self.nodes[n].children.remove(entity);
        } else if again > 0 {
            self.crash(n, entity.clone(), again - 1);
        }
    }
}
