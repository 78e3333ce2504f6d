//! A supervisor for each kind of entity: it starts actors, restarts those that panic, and gives up
//! on one that keeps panicking.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tandem_core::command::{Command, GatewayEvent, Origin};
use tandem_core::deadline::Deadline;
use tandem_core::effect::Effect;
use tandem_core::ids::{EntityId, GatewayId};
use tandem_sip::Millis;

use crate::actor::{self, EntityActor, Mailbox, Message, Place, State as ActorState, Wake};
use crate::limits;
use crate::ports::Verdict;

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

#[expect(
    clippy::large_enum_variant,
    reason = "most orders are events: a box would be one more allocation for each"
)]
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
    actor: Option<ActorRef<Wake>>,
    /// Handed from each actor of the entity to the next.
    mailbox: Arc<Mailbox>,
    crashes: VecDeque<Millis>,
    quarantined: bool,
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
            };
            self.spawn(me, entity, child, rehydrate);
        }
    }

    fn spawn(&mut self, me: &ActorRef<Order>, entity: EntityId, mut child: Child, rehydrate: bool) {
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
                child.actor = Some(actor);
            }
            Err(error) => tracing::error!(%entity, %error, "TD0104 an actor can't be started"),
        }
        self.children.insert(entity, child);
    }

    /// The entity is gone; what is before its actor is done all the same.
    fn remove(&mut self, entity: &EntityId) {
        let Some(child) = self.children.remove(entity) else { return };
        if let Some(actor) = &child.actor {
            self.by_actor.remove(&actor.get_id());
            actor.stop(None);
        }
        self.serve_without_actor(entity, &child.mailbox);
    }

    /// The machine decides, not the actor: an entity without one is served as well.
    fn serve_without_actor(&self, entity: &EntityId, mailbox: &Mailbox) {
        while let Some(message) = mailbox.pop() {
            actor::serve(&self.place, entity, message);
        }
    }

    fn deliver(&mut self, me: &ActorRef<Order>, entity: EntityId, message: Message) {
        self.ensure(me, entity.clone(), false);
        let Some(child) = self.children.get(&entity) else { return };
        if let Err(refused) = child.mailbox.push(message) {
            tracing::warn!(%entity, "a full mailbox");
            metrics::counter!("tandem_mailbox_full_total").increment(1);
            if let Message::Event { origin, .. } = *refused {
                let again = Verdict::Overloaded { retry_after_s: limits::RETRY_AFTER_S };
                self.place.link.accepted(&origin, self.place.replica.tenant(), again);
            }
            return;
        }
        match &child.actor {
            // One that has just died is restarted with its mailbox.
            Some(actor) => {
                let _ = actor.cast(Wake);
            }
            None if child.quarantined => {
                let mailbox = Arc::clone(&child.mailbox);
                self.serve_without_actor(&entity, &mailbox);
            }
            None => {}
        }
    }

    fn perform_for(&self, gateway: &GatewayId) {
        for (entity, child) in &self.children {
            let message = Message::PerformAll { gateway: Some(gateway.clone()) };
            match &child.actor {
                Some(actor) => match child.mailbox.push(message) {
                    Ok(()) => {
                        // As above.
                        let _ = actor.cast(Wake);
                    }
                    Err(message) => actor::serve(&self.place, entity, *message),
                },
                // One that is down does all of its effects when it is restarted.
                None if child.quarantined => actor::serve(&self.place, entity, message),
                None => {}
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
            let mailbox = Arc::clone(&child.mailbox);
            self.serve_without_actor(&entity, &mailbox);
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
            self.remove(entity);
            return;
        }
        if let Some(child) = self.children.remove(entity) {
            self.spawn(me, entity.clone(), child, true);
        }
    }
}
