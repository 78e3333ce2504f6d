//! What nodes and gateway say to each other, as values: see `proto/tandem/link/v1/link.proto`.

use std::sync::Arc;

use tandem_core::command::GatewayEvent;
use tandem_core::config::Config;
use tandem_core::effect::{Effect, EffectId};

/// What a node says on its session.
#[derive(Clone, Debug)]
pub enum Down {
    /// On connect and at each change.
    Leading(Leading),
    /// `term` is the fencing term.
    Effect {
        shard: u32,
        term: u64,
        effect: Arc<Effect>,
    },
    Accepted(Accepted),
    Routing(Routing),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leading {
    pub shard: u32,
    pub term: u64,
    pub leading: bool,
}

/// The event is committed, or will never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub shard: u32,
    pub sequence: u64,
    /// It was refused: a new INVITE is then answered 503.
    pub overloaded: bool,
    pub retry_after_s: u32,
}

/// What a gateway needs to challenge and refuse by itself.
#[derive(Clone)]
pub struct Routing {
    pub shard: u32,
    /// Every tenant that there is, by number; each has a routing of its own.
    pub all: Vec<u32>,
    pub config: Box<Config>,
    /// The key of the digest nonces: the same on every gateway. Never logged.
    pub nonce_key: Vec<u8>,
}

impl std::fmt::Debug for Routing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routing").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// What the gateway tells the leader of a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Up {
    /// Sent again to each new leader until it is accepted.
    Event { shard: u32, sequence: u64, event: Arc<GatewayEvent> },
    /// Effects that were done; the leader trims its outbox.
    Done { shard: u32, effects: Vec<EffectId> },
}
