//! What a leader does, by the rules of `actors/runtime`: it proposes events and passed deadlines,
//! performs effects once their entry is stored, and tells gateways what counts.

use std::rc::Rc;
use std::sync::Arc;

use tandem_core::command::{Command, Envelope, GatewayEvent, Origin};
use tandem_core::effect::{Body, Effect, EffectId};
use tandem_core::ids::{EntityId, GatewayId};
use tandem_core::{Meta, Rejection, Reply};

use super::replica::Released;
use super::{Pending, Proposed};
use crate::consensus::{NODES, Proposal};
use crate::draws::For;
use crate::event::Event;
use crate::limits;
use crate::links::{Down, GATEWAYS};
use crate::names;
use crate::plant::Plant;
use crate::planted::DEADLINE_EARLY_MS;
use crate::random::Random;
use crate::simulation::Simulation;

/// The feature version that is simulated.
const VERSION: u32 = 1;

impl Simulation {
    // --- proposing ---------------------------------------------------------------------------

    /// Submitted now, in the order of calls.
    pub fn propose(&mut self, n: usize, origin: Option<Origin>, command: Command, what: Proposed) {
        let done = std::mem::take(&mut self.nodes[n].done);
        let Some(term) = self.nodes[n].believes else {
            self.nodes[n].done = done;
            return;
        };
        if self.consensus.overloaded && what != Proposed::Elected {
            self.nodes[n].done = done;
            self.on_overloaded(n, &what);
            return;
        }
        let name = names::command(&command);
        let mut random = self.draws.next(For::Command, name);
        if self.is_lost(n, &what, &mut random) {
            self.nodes[n].done = done;
            return;
        }
        let at = self.log_now(n);
        let node = &mut self.nodes[n];
        node.last_proposal += 1;
        let number = node.last_proposal;
        let proposal = Proposal { node: n, life: node.life, number };
        let envelope = Envelope {
            at,
            seed: random.draw(),
            version: VERSION,
            origin,
            done: done.clone(),
            command,
        };
        node.pending.insert(number, Pending { what: what.clone(), done });
        if self.options.has(Plant::AcceptBeforeCommit)
            && let Proposed::Event { gateway, life, sequence, .. } = &what
        {
            self.accept(n, gateway, *life, *sequence, false);
        }
        if self.options.has(Plant::AnswerBeforeCommit) {
            self.perform_early(n, term, &envelope);
        }
        // Who was deposed and does not know proposes into the void.
        if self.consensus.leader != Some(n) || self.consensus.term != term {
            return;
        }
        self.check_time(at);
        let index = self.consensus.append(name, Some(Rc::new(envelope)), Some(proposal));
        let ms_max = self.settings.commit_ms_max;
        let at = self.consensus.commit_at(self.now, ms_max, &mut random);
        self.schedule.put(at, Event::Commit { term, index });
    }

    /// A leader has given up on a commit: whoever waits for it hears nothing.
    fn is_lost(&mut self, n: usize, what: &Proposed, random: &mut Random) -> bool {
        let percent = self.consensus.loses_percent;
        let (of_event, new_call) = match what {
            Proposed::Elected | Proposed::Asked { .. } => return false,
            Proposed::Event { new_call, .. } => (true, *new_call),
            Proposed::Other => (false, false),
        };
        let lost = percent > 0 && random.percent(percent);
        if lost && new_call {
            self.nodes[n].admissions = self.nodes[n].admissions.saturating_sub(1);
        }
        if lost && of_event {
            self.coverage.mark("an event is given up by its leader");
        }
        lost
    }

    fn on_overloaded(&mut self, n: usize, what: &Proposed) {
        if let Proposed::Event { gateway, life, sequence, new_call } = what {
            if *new_call {
                self.nodes[n].admissions = self.nodes[n].admissions.saturating_sub(1);
            }
            self.accept(n, gateway, *life, *sequence, true);
        }
    }

    fn accept(
        &mut self,
        n: usize,
        gateway: &GatewayId,
        life: u64,
        sequence: u64,
        overloaded: bool,
    ) {
        let Some(g) = self.gateway_named(gateway) else { return };
        if overloaded {
            self.nodes[n].heard.remove(&(gateway.clone(), life, sequence));
        }
        self.send_down(g, n, Down::Accepted { life, sequence, overloaded });
    }

    /// A planted bug: effects leave before their entry is anybody's.
    fn perform_early(&mut self, n: usize, term: u64, envelope: &Envelope) {
        let index = self.consensus.last_index() + 1;
        let (at, seed, version) = (envelope.at, envelope.seed, envelope.version);
        let meta = Meta { at, seed, version, shard: 0, index, term };
        let decided = self.nodes[n].replica.world.handle(&meta, envelope);
        for effect in decided.map(|writes| writes.effects).unwrap_or_default() {
            self.send_effect(n, term, &Arc::new(effect));
        }
    }

    // --- what comes from gateways --------------------------------------------------------------

    /// Without actors it is dropped: the gateway keeps it for the leader.
    pub fn on_gateway_event(&mut self, n: usize, origin: Origin, event: &Arc<GatewayEvent>) {
        if self.nodes[n].tree.is_none() {
            return;
        }
        if self.options.has(Plant::AskOnce) {
            // Of each life of a gateway, and with each session anew.
            let name = (origin.gateway.clone(), origin.incarnation, origin.sequence);
            if !self.nodes[n].heard.insert(name) {
                return;
            }
        }
        let world = &self.nodes[n].replica.world;
        let entity = world.route(event).filter(|id| world.has(id));
        if let Some(entity) = &entity
            && let Some(child) = self.nodes[n].children.get_mut(entity)
            && child.is_down()
        {
            child.miss_event(origin, Arc::clone(event));
            return;
        }
        let new_call = matches!(**event, GatewayEvent::Invite(_));
        if new_call && self.nodes[n].admissions >= limits::ADMISSIONS_MAX {
            self.accept(n, &origin.gateway, origin.incarnation, origin.sequence, true);
            return;
        }
        self.nodes[n].admissions += usize::from(new_call);
        self.propose_event(n, origin, event, new_call);
    }

    pub fn propose_event(
        &mut self,
        n: usize,
        origin: Origin,
        event: &Arc<GatewayEvent>,
        new_call: bool,
    ) {
        let what = Proposed::Event {
            gateway: origin.gateway.clone(),
            life: origin.incarnation,
            sequence: origin.sequence,
            new_call,
        };
        self.propose(n, Some(origin), Command::Gateway((**event).clone()), what);
    }

    pub fn on_done(&mut self, n: usize, effects: &[EffectId]) {
        let node = &mut self.nodes[n];
        node.done.extend_from_slice(effects);
        if node.done.len() >= limits::DONE_MAX && node.tree.is_some() {
            self.propose(n, None, Command::Trim, Proposed::Other);
        }
    }

    pub fn on_trim(&mut self, n: usize, life: u32) {
        if self.nodes[n].life != life {
            return;
        }
        let node = &self.nodes[n];
        if node.is_up() && node.tree.is_some() && !node.done.is_empty() {
            self.propose(n, None, Command::Trim, Proposed::Other);
        }
        self.schedule.put(self.now + limits::DONE_MS_MAX, Event::Trim { node: n, life });
    }

    /// A gateway has a session here: what it has not done is sent to it.
    pub fn on_session(&mut self, g: usize, n: usize) {
        let Some(term) = self.nodes[n].tree else { return };
        if self.options.has(Plant::ForgetDone) {
            return;
        }
        let gateway = self.gateways[g].name.clone();
        self.perform_where(n, term, |effect| effect.gateway == gateway);
    }

    // --- what was committed --------------------------------------------------------------------

    /// Actors for every live entity; what was left undone is done.
    fn build(&mut self, n: usize) {
        let Some(term) = self.nodes[n].believes else { return };
        self.nodes[n].tear_down();
        self.nodes[n].tree = Some(term);
        if self.options.has(Plant::ForgetDeadline) && term > 1 {
            self.nodes[n].forgets_before = self.nodes[n].replica.applied;
        }
        self.tell(|sim| (sim.nodes[n].name.clone(), format!("its actors serve in term {term}")));
        if !(self.options.has(Plant::SkipOutbox) || self.options.has(Plant::ForgetDone)) {
            self.perform_where(n, term, |_| true);
        }
        self.tell_leading(n);
        self.configure(n);
        self.wake_deadlines(n);
    }

    fn perform_where(&mut self, n: usize, term: u64, wanted: impl Fn(&Effect) -> bool) {
        let outbox = self.nodes[n].replica.world.outbox.values();
        let undone: Vec<Arc<Effect>> =
            outbox.filter(|effect| wanted(effect)).map(|effect| Arc::new(effect.clone())).collect();
        for effect in undone {
            let effect = self.composed_anew(term, effect);
            self.perform(n, term, &effect);
        }
    }

    /// A planted bug: a request that is done again gets a branch of its own.
    fn composed_anew(&mut self, term: u64, effect: Arc<Effect>) -> Arc<Effect> {
        if !self.options.has(Plant::SendTwiceOnLeaderChange) || term <= 1 {
            return effect;
        }
        let mut anew = (*effect).clone();
        if let Body::Send { request, .. } = &mut anew.body
            && let Some(via) = Arc::make_mut(request).headers.via.first_mut()
            && let Some(branch) = via.params.iter_mut().find(|param| param.name == "branch")
        {
            branch.value = Some(format!(
                "z9hG4bK{:016x}",
                self.draws.next(For::Branch, names::entity(&anew.entity)).draw()
            ));
            anew.id.ordinal |= 0x8000;
        }
        Arc::new(anew)
    }

    /// All that an actor has to do for it; one that is down does it when it is back.
    pub fn perform(&mut self, n: usize, term: u64, effect: &Arc<Effect>) {
        let node = &self.nodes[n];
        let down = node.children.get(&effect.entity).is_some_and(super::actors::Child::is_down);
        if down && node.replica.world.has(&effect.entity) {
            return;
        }
        self.send_effect(n, term, effect);
    }

    pub fn send_effect(&mut self, n: usize, term: u64, effect: &Arc<Effect>) {
        let Some(g) = self.gateway_named(&effect.gateway) else { return };
        self.send_down(g, n, Down::Effect { term, effect: Arc::clone(effect) });
    }

    /// What an entry came to, once its rows are stored.
    pub fn on_released(&mut self, n: usize, life: u32, released: Released) {
        if let Some(term) = self.nodes[n].tree {
            for effect in &released.effects {
                self.perform(n, term, effect);
            }
        }
        let Some(proposal) = released.proposal else { return };
        if proposal.node == n
            && proposal.life == life
            && let Some(pending) = self.nodes[n].pending.remove(&proposal.number)
        {
            self.on_reply(n, pending.what, &released.reply);
        }
    }

    fn on_reply(&mut self, n: usize, what: Proposed, reply: &Reply) {
        match what {
            Proposed::Elected => self.build(n),
            Proposed::Event { gateway, life, sequence, new_call } => {
                if new_call {
                    self.nodes[n].admissions = self.nodes[n].admissions.saturating_sub(1);
                }
                // One that came too early comes again after a while, as one that was refused.
                let early = *reply == Reply::Rejected(Rejection::TooEarly)
                    && !self.options.has(Plant::EventBeforeLogin);
                self.accept(n, &gateway, life, sequence, early);
            }
            Proposed::Asked { placed } => self.on_placed(n, placed, reply),
            Proposed::Other => {}
        }
    }

    // --- deadlines -----------------------------------------------------------------------------

    /// Sees to it that the node looks when the next deadline passes by its clock.
    pub fn wake_deadlines(&mut self, n: usize) {
        if self.nodes[n].tree.is_none() {
            return;
        }
        let Some(next) = self.nodes[n].replica.world.next_deadline() else { return };
        let at = self.look_at(n, next).next_multiple_of(limits::DEADLINE_TICK_MS);
        self.wake_node_at(n, at);
    }

    fn wake_node_at(&mut self, n: usize, at: u64) {
        if self.nodes[n].wake_at.is_none_or(|armed| at < armed) {
            self.nodes[n].wake_at = Some(at);
            self.schedule.put(at, Event::WakeNode { node: n, life: self.nodes[n].life });
        }
    }

    /// Hands passed deadlines over; one that does not come true is handed over again.
    pub fn on_wake_node(&mut self, n: usize, life: u32) {
        if self.nodes[n].life != life || self.nodes[n].wake_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.nodes[n].wake_at = None;
        if !self.nodes[n].is_up() || self.nodes[n].tree.is_none() {
            return;
        }
        let early = self.options.has(Plant::DeadlineEarly);
        let early_ms = if early { DEADLINE_EARLY_MS } else { 0 };
        let clock = self.log_now(n);
        let due = self.nodes[n].replica.world.due(clock.after(early_ms));
        let node = &mut self.nodes[n];
        node.handed.retain(|deadline, _| due.contains(deadline));
        let mut again = None;
        for deadline in due {
            let handed = self.nodes[n].handed.get(&deadline);
            let fresh = handed.is_none_or(|at| clock.since(*at) >= limits::DEADLINE_AGAIN_MS);
            let entity = deadline.entity();
            again = Some(self.now + limits::DEADLINE_AGAIN_MS);
            if !fresh || self.is_forgotten(n, &entity) {
                continue;
            }
            self.nodes[n].handed.insert(deadline.clone(), clock);
            // An actor that is down gets it again later.
            if !self.nodes[n].children.get(&entity).is_some_and(super::actors::Child::is_down) {
                self.propose(n, None, Command::Due(deadline), Proposed::Other);
            }
        }
        if let Some(at) = again {
            self.wake_node_at(n, at.next_multiple_of(limits::DEADLINE_TICK_MS));
        } else {
            self.wake_deadlines(n);
        }
    }

    fn is_forgotten(&self, n: usize, entity: &EntityId) -> bool {
        self.options.has(Plant::ForgetDeadline)
            && self.watch.touched_at(entity) <= self.nodes[n].forgets_before
    }

    /// A desk's or operator's command, to whoever serves.
    pub fn operate(&mut self, command: Command) {
        if let Some(n) = self.serving() {
            self.propose(n, None, command, Proposed::Other);
        }
    }

    pub fn serving(&self) -> Option<usize> {
        (0..NODES).find(|n| {
            self.nodes[*n].is_up()
                && self.nodes[*n].tree.is_some()
                && self.consensus.leader == Some(*n)
        })
    }

    pub fn gateway_named(&self, name: &GatewayId) -> Option<usize> {
        (0..GATEWAYS).find(|g| self.gateways[*g].name == *name)
    }
}
