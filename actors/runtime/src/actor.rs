//! One entity on the leader: its events in their order, its effects, its deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tandem_core::command::{Command, GatewayEvent, Origin};
use tandem_core::deadline::Deadline;
use tandem_core::effect::Effect;
use tandem_core::ids::{EntityId, GatewayId};
use tandem_core::{Rejection, Reply};

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

pub struct EntityActor;

pub struct State {
    pub entity: EntityId,
    pub place: Arc<Place>,
    /// Messages that are before the actor: what bounds its mailbox.
    pub mailbox: Arc<AtomicUsize>,
    /// It goes on with an entity of before: what that left undone is done again.
    pub rehydrate: bool,
}

impl Actor for EntityActor {
    type Msg = Message;
    type State = State;
    type Arguments = State;

    /// Rehydration: the entity's state is the replica's; what is undone is done again.
    async fn pre_start(
        &self,
        me: ActorRef<Message>,
        state: State,
    ) -> Result<State, ActorProcessingErr> {
        if state.rehydrate {
            state.mailbox.fetch_add(1, Ordering::Relaxed);
            me.cast(Message::PerformAll { gateway: None })?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.mailbox.fetch_sub(1, Ordering::Relaxed);
        match message {
            Message::Event { origin, event } => on_event(&state.place, origin, event),
            Message::Due(deadline) => on_due(&state.place, deadline),
            Message::Perform(effect) => {
                state.place.link.effect(state.place.term, &effect);
            }
            Message::PerformAll { gateway } => perform_all(state, gateway.as_ref()),
            Message::Panic => panic!("a test asked {} to panic", state.entity),
        }
        Ok(())
    }
}

fn perform_all(state: &State, gateway: Option<&GatewayId>) {
    let undone: Vec<Effect> = state.place.replica.read(|world| {
        let of_entity = world.effects_of(&state.entity);
        of_entity
            .filter(|effect| gateway.is_none_or(|gateway| effect.gateway == *gateway))
            .cloned()
            .collect()
    });
    for effect in &undone {
        state.place.link.effect(state.place.term, effect);
    }
}

/// Proposes an event; its gateway is told when it counts.
pub fn on_event(place: &Arc<Place>, origin: Origin, event: GatewayEvent) {
    let proposed = place.proposer.propose(Some(origin.clone()), Command::Gateway(event));
    let place = Arc::clone(place);
    tokio::spawn(async move {
        let verdict = match proposed.await {
            // It comes again when the one before it has come.
            Ok(Reply::Rejected(Rejection::TooEarly)) => return,
            Ok(Reply::Rejected(rejection)) => {
                tracing::debug!(%rejection, sequence = origin.sequence, "an event changed nothing");
                Verdict::Counted
            }
            Ok(Reply::Done) => Verdict::Counted,
            // The gateway keeps it for the next leader.
            Err(ProposeError::NotLeading | ProposeError::Failed(_)) => return,
            Err(ProposeError::Overloaded) => {
                Verdict::Overloaded { retry_after_s: crate::limits::RETRY_AFTER_S }
            }
        };
        place.link.accepted(&origin.gateway, place.replica.shard(), origin.sequence, verdict);
    });
}

fn on_due(place: &Arc<Place>, deadline: Deadline) {
    let proposed = place.proposer.propose(None, Command::Due(deadline));
    // One that is not committed is proposed again: the world still has it.
    tokio::spawn(proposed);
}
