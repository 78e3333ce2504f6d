//! The replicated world of one shard: it dispatches commands (`dispatch`), keeps what they
//! changed (`commit`) with the indices that follow from it (`indices`), and answers what the
//! runtime asks (`ask`).

mod answered;
mod ask;
mod commit;
mod dispatch;
mod indices;
mod messages;
mod refused;
mod subscriptions;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tandem_sip::Millis;

use crate::agent::state::Agent;
use crate::answered::Answered;
use crate::call::ending;
use crate::call::leg::State as LegState;
use crate::call::refused::Refused;
use crate::call::state::Call;
use crate::channel::state::Channel;
use crate::command::{Command, Envelope, TransactionKey};
use crate::config::Config;
use crate::draft::{Draft, Writes};
use crate::effect::{Effect, EffectId};
use crate::gateway::Gateway;
use crate::ids::{
    AgentId, CallId, ChannelId, EntityId, GatewayId, QueueId, SubscriptionId, TrunkId,
};
use crate::leases::{self, Leases};
use crate::message::state::Relayed;
use crate::queue::machine as queue;
use crate::queue::state::Queue;
use crate::rows::{Restoring, RowChange};
use crate::subscription::notify::tell_watchers;
use crate::subscription::state::Subscription;
use crate::survival::Survival;
use crate::trunk::state::Trunk;
use indices::Indices;

/// Rows that most commands write no more of.
const ROWS_USUAL: usize = 16;

/// Where in the log a command stands, and what it may not take from its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub at: Millis,
    pub seed: u64,
    pub version: u32,
    pub shard: u16,
    pub index: u64,
    pub term: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The tenant's number: its own for life, wherever it is.
    pub shard: u16,
    /// The shard that it is in. Shown, and no part of what is replicated.
    pub home: u16,
    /// The greatest time of any command.
    pub at: Millis,
    /// The log index applied last.
    pub index: u64,
    pub config: Option<Config>,
    /// None: all that gateways grant and trunks have.
    pub leases: Option<Leases>,
    pub calls: BTreeMap<CallId, Call>,
    pub agents: BTreeMap<AgentId, Agent>,
    pub queues: BTreeMap<QueueId, Queue>,
    pub channels: BTreeMap<ChannelId, Channel>,
    /// Trunks outward of which something is to be remembered.
    pub trunks: BTreeMap<TrunkId, Trunk>,
    /// What phones want to hear of.
    pub subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// Texts that wait for their phone's answer, by the branch of what we have sent.
    pub messages: BTreeMap<String, Relayed>,
    pub gateways: BTreeMap<GatewayId, Gateway>,
    /// INVITEs that were refused a short while ago.
    pub refused: BTreeMap<TransactionKey, Refused>,
    /// Operators' commands that were answered a while ago, by key.
    pub answered: BTreeMap<String, Answered>,
    /// Effects that no gateway has said to be done.
    pub outbox: BTreeMap<EffectId, Effect>,
    indices: Indices,
    pub(crate) restoring: Restoring,
}

/// Why nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("{entity} takes no {event} while it is {state}")]
    Illegal { entity: EntityId, state: &'static str, event: &'static str },
    #[error("there is no {0}")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
    #[error("it has counted before")]
    Repeated,
    #[error("the key {0:?} was used for another request before")]
    KeyReused(String),
    #[error("as many calls as the shard may have are live, or no port is free")]
    Full,
    #[error("the event is of an earlier life of its gateway")]
    Stale,
    #[error("an earlier event of its gateway is missing")]
    TooEarly,
    #[error("the command panicked: {0}")]
    Panicked(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Done,
    Rejected(Rejection),
}

/// What applying one entry came to, on every replica alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// In order. The leader performs them once the rows are stored.
    pub effects: Vec<Effect>,
    pub rows: Vec<RowChange>,
    pub touched: Vec<EntityId>,
    /// Counted once, by whoever leads.
    pub survival: Survival,
    pub reply: Reply,
    /// What an operator must know.
    pub alarm: Option<String>,
}

impl World {
    pub fn new(shard: u16) -> Self {
        Self { shard, home: shard, ..Self::default() }
    }

    /// Decides. Changes nothing.
    ///
    /// # Errors
    /// Why the command is refused.
    pub fn handle(&self, meta: &Meta, envelope: &Envelope) -> Result<Writes, Rejection> {
        let mut draft = Draft::new(self, meta);
        match &envelope.command {
            Command::Configure(config) => dispatch::configure(&mut draft, config),
            Command::Elected { dark, .. } => ending::on_elected(&mut draft, *dark),
            Command::Gateway(event) => {
                let origin = envelope.origin.as_ref();
                let origin = origin.ok_or(Rejection::Refused("an event without origin".into()))?;
                dispatch::gateway_event(&mut draft, origin, event)?;
            }
            Command::Due(deadline) => dispatch::due(&mut draft, deadline)?,
            Command::Operator(command) => dispatch::operator(&mut draft, command)?,
            Command::Keyed(keyed) => {
                self.check_key(keyed, draft.now)?;
                dispatch::operator(&mut draft, &keyed.command)?;
            }
            Command::Quarantine { entity, reason } => {
                dispatch::quarantine(&mut draft, entity, reason)
            }
            Command::Lease(granted) => leases::lease(&mut draft, granted)?,
            Command::Trim => {}
        }
        queue::match_all(&mut draft);
        drop_released_legs(&mut draft);
        tell_watchers(&mut draft);
        Ok(draft.writes)
    }

    /// Applies one entry: what [`handle`](Self::handle) decided, or its refusal. A panic is a
    /// refusal with an alarm; it changes nothing but time, acknowledgements and what has counted.
    pub fn apply(&mut self, meta: &Meta, envelope: &Envelope) -> Applied {
        self.apply_with(meta, envelope, Self::handle)
    }

    /// As [`apply`](Self::apply), with another way to decide: a simulator plants its bugs there,
    /// so that none lives here.
    pub fn apply_with(
        &mut self,
        meta: &Meta,
        envelope: &Envelope,
        decide: impl FnOnce(&Self, &Meta, &Envelope) -> Result<Writes, Rejection>,
    ) -> Applied {
        let decided = catch_unwind(AssertUnwindSafe(|| decide(self, meta, envelope)));
        let (writes, reply, alarm) = match decided {
            Ok(Ok(writes)) => (writes, Reply::Done, None),
            Ok(Err(rejection)) => (Writes::default(), Reply::Rejected(rejection), None),
            Err(panic) => {
                let what = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default();
                let alarm = format!("TD0102 command at index {} panicked: {what}", meta.index);
                (Writes::default(), Reply::Rejected(Rejection::Panicked(what)), Some(alarm))
            }
        };
        let mut rows = Vec::with_capacity(ROWS_USUAL);
        let survival = Survival::new(writes.at_risk, &writes.cdrs);
        let (touched, effects) = self.commit(meta, envelope, &reply, writes, &mut rows);
        Applied { effects, rows, touched, survival, reply, alarm }
    }
}

/// A leg that rang and is gone leaves a live call, so that calls stay small.
fn drop_released_legs(draft: &mut Draft<'_>) {
    for call in draft.writes.calls.values_mut().flatten().filter(|call| call.is_live()) {
        call.legs.retain(|leg| leg.is_caller() || leg.state != LegState::Released);
    }
}
