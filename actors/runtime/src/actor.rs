//! One entity on the leader: its events in their order, its effects, its deadlines.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tandem_core::command::{Command, GatewayEvent, Origin};
use tandem_core::deadline::Deadline;
use tandem_core::effect::Effect;
use tandem_core::ids::{EntityId, GatewayId};
use tandem_core::{Rejection, Reply};

use crate::limits;
use crate::ports::{Link, ProposeError, Verdict};
use crate::proposer::Proposer;
use crate::replica::Replica;

/// What an actor needs; the same for every actor of a shard in one term.
pub struct Place {
    pub term: u64,
    pub replica: Arc<Replica>,
    pub proposer: Proposer,
    pub link: Arc<dyn Link>,
}

pub enum Message {
    Event {
        origin: Origin,
        event: GatewayEvent,
    },
    Due(Deadline),
    Perform(Effect),
    /// Everything that no gateway has done yet, or only this gateway's part of it.
    PerformAll {
        gateway: Option<GatewayId>,
    },
    /// For tests of supervision.
    Panic,
}

/// What is before an actor. It outlives the actor: a panic costs what was in hand, no more.
#[derive(Default)]
pub struct Mailbox {
    queue: Mutex<VecDeque<Message>>,
}

impl Mailbox {
    /// # Errors
    /// The message, where too many wait.
    pub fn push(&self, message: Message) -> Result<(), Box<Message>> {
        let mut queue = self.queue.lock();
        if queue.len() >= limits::MAILBOX_MAX {
            return Err(Box::new(message));
        }
        queue.push_back(message);
        Ok(())
    }

    /// Taken out before it is handled: what makes an actor panic does so once.
    pub fn pop(&self) -> Option<Message> {
        self.queue.lock().pop_front()
    }
}

/// There is something in the mailbox.
pub struct Wake;

pub struct EntityActor;

pub struct State {
    pub entity: EntityId,
    pub place: Arc<Place>,
    pub mailbox: Arc<Mailbox>,
    /// It goes on with an entity of before: what that left undone is done again.
    pub rehydrate: bool,
}

impl Actor for EntityActor {
    type Msg = Wake;
    type State = State;
    type Arguments = State;

    /// Rehydration: the entity's state is the replica's; what is undone is done again.
    async fn pre_start(
        &self,
        me: ActorRef<Wake>,
        state: State,
    ) -> Result<State, ActorProcessingErr> {
        if state.rehydrate {
            perform_all(&state.place, &state.entity, None);
        }
        me.cast(Wake)?;
        Ok(state)
    }

    async fn handle(
        &self,
        _me: ActorRef<Wake>,
        Wake: Wake,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        while let Some(message) = state.mailbox.pop() {
            if matches!(message, Message::Panic) {
                panic!("a test asked {} to panic", state.entity);
            }
            serve(&state.place, &state.entity, message);
        }
        Ok(())
    }
}

/// What an actor does with a message; also done for an entity that has no actor.
pub fn serve(place: &Arc<Place>, entity: &EntityId, message: Message) {
    match message {
        Message::Event { origin, event } => on_event(place, origin, event),
        Message::Due(deadline) => on_due(place, deadline),
        Message::Perform(effect) => {
            place.link.effect(place.term, &effect);
        }
        Message::PerformAll { gateway } => perform_all(place, entity, gateway.as_ref()),
        Message::Panic => {}
    }
}

fn perform_all(place: &Place, entity: &EntityId, gateway: Option<&GatewayId>) {
    let undone: Vec<Effect> = place.replica.read(|world| {
        let of_entity = world.effects_of(entity);
        of_entity
            .filter(|effect| gateway.is_none_or(|gateway| effect.gateway == *gateway))
            .cloned()
            .collect()
    });
    for effect in &undone {
        place.link.effect(place.term, effect);
    }
}

/// Proposes an event; its gateway is told when it counts.
pub fn on_event(place: &Arc<Place>, origin: Origin, event: GatewayEvent) {
    let login = matches!(event, GatewayEvent::Login(_));
    let proposed = place.proposer.propose(Some(origin.clone()), Command::Gateway(event));
    let place = Arc::clone(place);
    tokio::spawn(async move {
        if let Some(verdict) = verdict(login, proposed.await) {
            place.link.accepted(&origin, place.replica.tenant(), verdict);
        }
    });
}

/// What a gateway is told of its event; nothing where it must keep it for the next leader.
pub fn verdict(login: bool, outcome: Result<Reply, ProposeError>) -> Option<Verdict> {
    let again = Verdict::Overloaded { retry_after_s: limits::RETRY_AFTER_S };
    match outcome {
        Ok(Reply::Done | Reply::Rejected(Rejection::Repeated)) => Some(Verdict::Counted),
        // It counts when the one before it has come.
        Ok(Reply::Rejected(Rejection::TooEarly)) => Some(again),
        // All that the gateway says hangs on its login.
        Ok(Reply::Rejected(rejection)) if login => {
            tracing::warn!(%rejection, "a gateway's login was refused");
            Some(again)
        }
        Ok(Reply::Rejected(rejection)) => {
            tracing::debug!(%rejection, "an event changed nothing");
            Some(Verdict::Counted)
        }
        Err(ProposeError::Overloaded) => Some(again),
        Err(ProposeError::NotLeading | ProposeError::Failed(_)) => None,
    }
}

fn on_due(place: &Arc<Place>, deadline: Deadline) {
    let proposed = place.proposer.propose(None, Command::Due(deadline));
    // One that is not committed is proposed again: the world still has it.
    tokio::spawn(proposed);
}
