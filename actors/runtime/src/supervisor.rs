//! A supervisor for each kind of entity: it starts actors, restarts those that panic, and gives up
//! on one that keeps panicking.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tandem_core::command::{Command, GatewayEvent, Origin};
use tandem_core::deadline::Deadline;
use tandem_core::effect::Effect;
use tandem_core::ids::{EntityId, GatewayId};
use tandem_sip::Millis;

use crate::actor::{self, EntityActor, Message, Place, State as ActorState};
use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Trunks,
    Calls,
    Agents,
    Queues,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Trunks, Self::Calls, Self::Agents, Self::Queues];

    pub fn of(entity: &EntityId) -> Option<Self> {
        match entity {
            EntityId::Channel(_) => Some(Self::Trunks),
            EntityId::Call(_) => Some(Self::Calls),
            EntityId::Agent(_) => Some(Self::Agents),
            EntityId::Queue(_) => Some(Self::Queues),
            EntityId::Gateway(_) => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trunks => "trunks",
            Self::Calls => "calls",
            Self::Agents => "agents",
            Self::Queues => "queues",
        }
    }
}

pub enum Order {
    /// Entities of these kinds are live: each shall have an actor.
    /// `rehydrate`: what they have left undone is done again.
    Live {
        entities: Vec<EntityId>,
        rehydrate: bool,
    },
    Gone(EntityId),
    Event {
        entity: EntityId,
        origin: Origin,
        event: GatewayEvent,
    },
    Due {
        entity: EntityId,
        deadline: Deadline,
    },
    Perform(Effect),
    PerformFor(GatewayId),
    Restart(EntityId),
    Panic(EntityId),
    Count(ractor::RpcReplyPort<usize>),
}

pub struct Supervisor;

pub struct State {
    kind: Kind,
    place: Arc<Place>,
    children: BTreeMap<EntityId, Child>,
    by_actor: BTreeMap<ractor::ActorId, EntityId>,
}

struct Child {
    actor: Option<ActorRef<Message>>,
    mailbox: Arc<AtomicUsize>,
    crashes: VecDeque<Millis>,
    quarantined: bool,
    /// Events that came while it was down.
    missed: VecDeque<Message>,
}

impl Actor for Supervisor {
    type Msg = Order;
    type State = State;
    type Arguments = (Kind, Arc<Place>);

    async fn pre_start(
        &self,
        _me: ActorRef<Order>,
        (kind, place): (Kind, Arc<Place>),
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { kind, place, children: BTreeMap::new(), by_actor: BTreeMap::new() })
    }

    async fn handle(
        &self,
        me: ActorRef<Order>,
        order: Order,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Live { entities, rehydrate } => {
                for entity in entities {
                    state.ensure(&me, entity, rehydrate);
                }
            }
            Order::Gone(entity) => state.remove(&entity),
            Order::Event { entity, origin, event } => {
                state.deliver(&me, entity, Message::Event { origin, event });
            }
            Order::Due { entity, deadline } => {
                state.deliver(&me, entity, Message::Due(deadline));
            }
            Order::Perform(effect) => {
                let entity = effect.entity.clone();
                state.deliver(&me, entity, Message::Perform(effect));
            }
            Order::PerformFor(gateway) => state.perform_for(&gateway),
            Order::Restart(entity) => state.restart(&me, &entity),
            Order::Panic(entity) => state.deliver(&me, entity, Message::Panic),
            Order::Count(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(state.children.len());
            }
        }
        metrics::gauge!("tandem_actors", "kind" => state.kind.as_str())
            .set(state.children.len() as f64);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Order>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, why) => {
                state.on_crash(&me, cell.get_id(), &why.to_string());
            }
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                state.by_actor.remove(&cell.get_id());
            }
            _ => {}
        }
        Ok(())
    }
}

impl State {
    fn ensure(&mut self, me: &ActorRef<Order>, entity: EntityId, rehydrate: bool) {
        if !self.children.contains_key(&entity) {
            let child = Child {
                actor: None,
                mailbox: Arc::default(),
                crashes: VecDeque::new(),
                quarantined: false,
                missed: VecDeque::new(),
            };
            self.spawn(me, entity, child, rehydrate);
        }
    }

    fn spawn(&mut self, me: &ActorRef<Order>, entity: EntityId, mut child: Child, rehydrate: bool) {
        child.mailbox = Arc::default();
        let arguments = ActorState {
            entity: entity.clone(),
            place: Arc::clone(&self.place),
            mailbox: Arc::clone(&child.mailbox),
            rehydrate,
        };
        let spawned = ractor::ActorRuntime::<EntityActor>::spawn_linked_instant(
            None,
            EntityActor,
            arguments,
            me.get_cell(),
        );
        match spawned {
            Ok((actor, _)) => {
                self.by_actor.insert(actor.get_id(), entity.clone());
                for message in child.missed.drain(..) {
                    child.mailbox.fetch_add(1, Ordering::Relaxed);
                    // An actor that is gone already is restarted with what it missed.
                    let _ = actor.cast(message);
                }
                child.actor = Some(actor);
            }
            Err(error) => tracing::error!(%entity, %error, "TD0104 an actor can't be started"),
        }
        self.children.insert(entity, child);
    }

    fn remove(&mut self, entity: &EntityId) {
        if let Some(child) = self.children.remove(entity)
            && let Some(actor) = child.actor
        {
            self.by_actor.remove(&actor.get_id());
            // Stops behind what is before it.
            actor.stop(None);
        }
    }

    fn deliver(&mut self, me: &ActorRef<Order>, entity: EntityId, message: Message) {
        self.ensure(me, entity.clone(), false);
        let Some(child) = self.children.get_mut(&entity) else { return };
        if child.quarantined {
            // Without an actor the entity is still served: the machine decides, not the actor.
            serve_without_actor(&self.place, message);
            return;
        }
        match &child.actor {
            Some(actor) if child.mailbox.load(Ordering::Relaxed) < limits::MAILBOX_MAX => {
                child.mailbox.fetch_add(1, Ordering::Relaxed);
                if let Err(ractor::MessagingErr::SendErr(message)) = actor.cast(message) {
                    child.missed.push_back(message);
                }
            }
            None if child.missed.len() < limits::MAILBOX_MAX => child.missed.push_back(message),
            Some(_) | None => {
                tracing::warn!(%entity, "a full mailbox: the event waits for its gateway");
                metrics::counter!("tandem_mailbox_full_total").increment(1);
            }
        }
    }

    fn perform_for(&self, gateway: &GatewayId) {
        for child in self.children.values() {
            if let Some(actor) = &child.actor {
                child.mailbox.fetch_add(1, Ordering::Relaxed);
                // One that is gone does all of its effects when it is restarted.
                let _ = actor.cast(Message::PerformAll { gateway: Some(gateway.clone()) });
            }
        }
    }

    fn on_crash(&mut self, me: &ActorRef<Order>, id: ractor::ActorId, why: &str) {
        let Some(entity) = self.by_actor.remove(&id) else { return };
        let now = self.place.proposer.clock().now();
        let Some(child) = self.children.get_mut(&entity) else { return };
        child.actor = None;
        child.crashes.push_back(now);
        while child.crashes.front().is_some_and(|at| now.since(*at) > limits::CRASH_WINDOW_MS) {
            child.crashes.pop_front();
        }
        metrics::counter!("tandem_actor_restarts_total", "kind" => self.kind.as_str()).increment(1);
        tracing::warn!(%entity, why, crashes = child.crashes.len(), "an actor crashed");
        if child.crashes.len() >= limits::CRASHES_MAX {
            child.quarantined = true;
            tracing::error!(%entity, "TD0101 an actor crashes again and again: quarantined");
            metrics::counter!("tandem_actor_quarantined_total").increment(1);
            for message in std::mem::take(&mut child.missed) {
                serve_without_actor(&self.place, message);
            }
            let reason = "actor_crashed".to_owned();
            tokio::spawn(self.place.proposer.propose(None, Command::Quarantine { entity, reason }));
            return;
        }
        let doublings = u32::try_from(child.crashes.len() - 1).unwrap_or(0);
        let back_off = limits::RESTART_MS_MIN.saturating_mul(1 << doublings);
        let back_off = Duration::from_millis(back_off.min(limits::RESTART_MS_MAX));
        me.send_after(back_off, move || Order::Restart(entity));
    }

    fn restart(&mut self, me: &ActorRef<Order>, entity: &EntityId) {
        // It may have ended while it was down.
        if !self.place.replica.read(|world| world.has(entity)) {
            self.children.remove(entity);
            return;
        }
        if let Some(child) = self.children.remove(entity) {
            self.spawn(me, entity.clone(), child, true);
        }
    }
}

fn serve_without_actor(place: &Arc<Place>, message: Message) {
    match message {
        Message::Event { origin, event } => actor::on_event(place, origin, event),
        Message::Due(deadline) => {
            tokio::spawn(place.proposer.propose(None, Command::Due(deadline)));
        }
        Message::Perform(effect) => {
            place.link.effect(place.term, &effect);
        }
        Message::PerformAll { .. } | Message::Panic => {}
    }
}
