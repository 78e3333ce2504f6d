//! The world as rows: a family and a key for each entity, so that an entry stores only what it
//! changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use tandem_sip::protobuf::{Encode, Writer};
use tandem_sip::{Millis, Request};

use crate::agent::state::Agent;
use crate::answered::Answered;
use crate::call::leg::Leg;
use crate::call::refused::Refused;
use crate::call::state::Call;
use crate::cdr::{Cdr, LegQuality, Manifest};
use crate::channel::state::Channel;
use crate::config::Config;
use crate::effect::{Effect, EffectId};
use crate::gateway::{Counts, Gateway};
use crate::ids::{AgentId, CallId, ChannelId, GatewayId, LegId, QueueId, SubscriptionId, TrunkId};
use crate::leases::Leases;
use crate::message::state::Relayed;
use crate::proto;
use crate::queue::state::Queue;
use crate::subscription::state::Subscription;
use crate::trunk::state::Trunk;
use crate::wire::{self, Counted, Error, Invite};
use crate::world::World;

pub const CALLS: &str = "calls";
/// By leg: written once, for it is most of a leg and never changes.
pub const INVITES: &str = "invites";
pub const AGENTS: &str = "agents";
pub const QUEUES: &str = "queues";
pub const CHANNELS: &str = "channels";
/// Of trunks outward, where something is to be remembered.
pub const TRUNKS: &str = "trunks";
/// With each login.
pub const GATEWAYS: &str = "gateways";
/// Of gateways, with each of their events.
pub const COUNTS: &str = "counts";
/// INVITEs that were refused a short while ago.
pub const REFUSED: &str = "refused";
/// Operators' commands that were answered a while ago, by key.
pub const ANSWERED: &str = "answered";
pub const OUTBOX: &str = "outbox";
/// Time and position, with every entry; the configuration, with those that change it.
pub const WORLD: &str = "world";
/// Of phones, to what their colleagues do.
pub const SUBSCRIPTIONS: &str = "subscriptions";
/// Texts between phones that wait for their answer.
pub const MESSAGES: &str = "messages";
/// History: written, never read back into the world.
pub const CDRS: &str = "cdrs";
/// History, by recording; behind each, what single gateways have of it.
pub const RECORDINGS: &str = "recordings";
/// History, by call and leg.
pub const QUALITIES: &str = "qualities";

/// What is written and never read back into the world; it grows with each call.
pub const HISTORY: &[&str] = &[CDRS, RECORDINGS, QUALITIES];

pub const FAMILIES: &[&str] = &[
    CALLS,
    INVITES,
    AGENTS,
    QUEUES,
    CHANNELS,
    GATEWAYS,
    COUNTS,
    REFUSED,
    ANSWERED,
    OUTBOX,
    WORLD,
    CDRS,
    RECORDINGS,
    QUALITIES,
    TRUNKS,
    SUBSCRIPTIONS,
    MESSAGES,
];

/// `None` deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    pub family: &'static str,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

fn row(family: &'static str, key: impl Into<Vec<u8>>, value: Option<Vec<u8>>) -> RowChange {
    RowChange { family, key: key.into(), value }
}

pub(crate) fn call(id: CallId, call: Option<&Call>) -> RowChange {
    row(CALLS, id.0.to_be_bytes(), call.map(|call| call.encoded()))
}

pub(crate) fn invite(leg: &Leg) -> RowChange {
    row(INVITES, leg.id.0.to_be_bytes(), Some(Invite(leg).encoded()))
}

pub(crate) fn no_invite(leg: LegId) -> RowChange {
    row(INVITES, leg.0.to_be_bytes(), None)
}

pub(crate) fn agent(id: &AgentId, agent: Option<&Agent>) -> RowChange {
    row(AGENTS, id.0.as_bytes(), agent.map(|agent| agent.encoded()))
}

pub(crate) fn queue(id: &QueueId, queue: Option<&Queue>) -> RowChange {
    row(QUEUES, id.0.as_bytes(), queue.map(|queue| queue.encoded()))
}

pub(crate) fn channel(id: &ChannelId, channel: Option<&Channel>) -> RowChange {
    let mut key = id.number.to_be_bytes().to_vec();
    key.extend(id.trunk.0.as_bytes());
    row(CHANNELS, key, channel.map(|channel| channel.encoded()))
}

pub(crate) fn trunk(id: &TrunkId, trunk: Option<&Trunk>) -> RowChange {
    row(TRUNKS, id.0.as_bytes(), trunk.map(|trunk| trunk.encoded()))
}

pub(crate) fn subscription(id: SubscriptionId, value: Option<&Subscription>) -> RowChange {
    row(SUBSCRIPTIONS, id.0.to_be_bytes(), value.map(|subscription| subscription.encoded()))
}

pub(crate) fn message(branch: &str, message: Option<&Relayed>) -> RowChange {
    row(MESSAGES, branch.as_bytes(), message.map(|message| message.encoded()))
}

pub(crate) fn gateway(gateway: &Gateway) -> RowChange {
    let value = gateway.encoded();
    row(GATEWAYS, gateway.id.0.as_bytes(), Some(value))
}

pub(crate) fn counts(gateway: &Gateway) -> RowChange {
    let value = Counted(&gateway.id, &gateway.counts).encoded();
    row(COUNTS, gateway.id.0.as_bytes(), Some(value))
}

pub(crate) fn refused(call: CallId, refused: Option<&Refused>) -> RowChange {
    row(REFUSED, call.0.to_be_bytes(), refused.map(|refused| refused.encoded()))
}

pub(crate) fn answered(key: &str, answered: Option<&Answered>) -> RowChange {
    row(ANSWERED, key.as_bytes(), answered.map(|answered| answered.encoded()))
}

pub(crate) fn effect(id: EffectId, effect: Option<&Effect>) -> RowChange {
    let mut key = id.index.to_be_bytes().to_vec();
    key.extend(id.ordinal.to_be_bytes());
    row(OUTBOX, key, effect.map(wire::encode_effect))
}

pub(crate) fn world(world: &World) -> RowChange {
    row(WORLD, b"world".as_slice(), Some(Position(world, None).encoded()))
}

/// A row of its own: it is long, and seldom changes.
pub(crate) fn config(world: &World) -> RowChange {
    let value = Position(world, world.config.as_ref()).encoded();
    row(WORLD, b"config".as_slice(), Some(value))
}

/// None where nobody ever leased anything.
pub(crate) fn leases(world: &World) -> Option<RowChange> {
    let leases = world.leases.as_ref()?;
    Some(row(WORLD, b"leases".as_slice(), Some(Leased(leases).encoded())))
}

struct Leased<'l>(&'l Leases);

impl Encode for Leased<'_> {
    fn encode(&self, to: &mut Writer) {
        to.message(170, self.0);
    }
}

/// A world's row, with the configuration or without.
struct Position<'w>(&'w World, Option<&'w Config>);

impl Encode for Position<'_> {
    fn encode(&self, to: &mut Writer) {
        let Self(world, config) = self;
        to.uint(1, world.shard);
        to.uint(2, world.at.0);
        to.uint(3, world.index);
        to.some_message(4, *config);
    }
}

pub(crate) fn cdr(cdr: &Cdr) -> RowChange {
    row(CDRS, cdr.key(), Some(cdr.encoded()))
}

pub(crate) fn manifest(manifest: &Manifest) -> RowChange {
    row(RECORDINGS, manifest.key(), Some(manifest.encoded()))
}

pub(crate) fn holding(manifest: &Manifest) -> RowChange {
    row(RECORDINGS, manifest.holding_key(), Some(manifest.encoded()))
}

pub(crate) fn quality(quality: &LegQuality) -> RowChange {
    row(QUALITIES, quality.key(), Some(quality.encoded()))
}

/// # Errors
/// Where the bytes are no record that this build knows.
pub fn decode_cdr(bytes: &[u8]) -> Result<Cdr, Error> {
    wire::cdr_from(proto::Cdr::decode(bytes)?)
}

/// # Errors
/// Where the bytes are no manifest that this build knows.
pub fn decode_manifest(bytes: &[u8]) -> Result<Manifest, Error> {
    Ok(wire::manifest_from(proto::Manifest::decode(bytes)?))
}

/// # Errors
/// Where the bytes are no leg's quality that this build knows.
pub fn decode_quality(bytes: &[u8]) -> Result<LegQuality, Error> {
    wire::leg_quality_from(proto::LegQuality::decode(bytes)?)
}

impl World {
    /// Every row that is stored and not history: what [`World::restore`] makes this world of again. Each is
    /// as it was written last, but that of the configuration says when this was.
    pub fn live_rows(&self) -> Vec<RowChange> {
        let mut rows = Vec::new();
        for (id, known) in &self.calls {
            rows.push(call(*id, Some(known)));
            rows.extend(known.legs.iter().map(invite));
        }
        rows.extend(self.agents.iter().map(|(id, known)| agent(id, Some(known))));
        rows.extend(self.queues.iter().map(|(id, known)| queue(id, Some(known))));
        rows.extend(self.channels.iter().map(|(id, known)| channel(id, Some(known))));
        rows.extend(self.trunks.iter().map(|(id, known)| trunk(id, Some(known))));
        let subscriptions = self.subscriptions.iter();
        rows.extend(subscriptions.map(|(id, known)| subscription(*id, Some(known))));
        rows.extend(self.messages.iter().map(|(branch, known)| message(branch, Some(known))));
        for known in self.gateways.values() {
            rows.extend([gateway(known), counts(known)]);
        }
        rows.extend(self.refused.values().map(|known| refused(known.call, Some(known))));
        rows.extend(self.answered.iter().map(|(key, known)| answered(key, Some(known))));
        rows.extend(self.outbox.iter().map(|(id, known)| effect(*id, Some(known))));
        rows.push(world(self));
        if self.config.is_some() {
            rows.push(config(self));
        }
        rows.extend(leases(self));
        rows
    }

    /// Takes in one stored row. Rows may come in any order; [`World::restored`] ends it.
    ///
    /// # Errors
    /// Where the row is of no family or encoding that this build knows.
    pub fn restore(&mut self, family: &str, value: &[u8]) -> Result<(), Error> {
        match family {
            CALLS => {
                self.restoring.calls.push(proto::Call::decode(value)?);
            }
            INVITES => {
                let (leg, request) = wire::invite_from(proto::Invite::decode(value)?)?;
                self.restoring.invites.insert(leg, request);
            }
            AGENTS => {
                let agent: Agent = proto::Agent::decode(value)?.try_into()?;
                self.agents.insert(agent.id.clone(), agent);
            }
            QUEUES => {
                let queue: Queue = proto::Queue::decode(value)?.into();
                self.queues.insert(queue.id.clone(), queue);
            }
            CHANNELS => {
                let channel: Channel = proto::Channel::decode(value)?.try_into()?;
                self.channels.insert(channel.id.clone(), channel);
            }
            TRUNKS => {
                let trunk: Trunk = proto::TrunkState::decode(value)?.try_into()?;
                self.trunks.insert(trunk.id.clone(), trunk);
            }
            SUBSCRIPTIONS => {
                let known: Subscription = proto::Subscription::decode(value)?.try_into()?;
                self.subscriptions.insert(known.id, known);
            }
            MESSAGES => {
                let message = wire::relayed_from(proto::Relayed::decode(value)?)?;
                self.messages.insert(message.branch.clone(), message);
            }
            GATEWAYS => {
                let gateway: Gateway = proto::Gateway::decode(value)?.try_into()?;
                self.gateways.insert(gateway.id.clone(), gateway);
            }
            COUNTS => {
                let (gateway, counts) = wire::counts_from(proto::Counts::decode(value)?)?;
                self.restoring.counts.insert(gateway, counts);
            }
            REFUSED => {
                let refused = wire::refused_from(proto::Refused::decode(value)?)?;
                self.refused.insert(refused.transaction.clone(), refused);
            }
            ANSWERED => {
                let answered = wire::answered_from(proto::Answered::decode(value)?)?;
                self.answered.insert(answered.key.clone(), answered);
            }
            OUTBOX => {
                let effect = wire::decode_effect(value)?;
                self.outbox.insert(effect.id, effect);
            }
            WORLD => {
                let world = proto::World::decode(value)?;
                self.at = self.at.max(Millis(world.at));
                self.index = self.index.max(world.index);
                if let Some(leases) = world.leases {
                    self.leases = Some(leases.try_into()?);
                }
                if let Some(config) = world.config {
                    self.config = Some(config.try_into()?);
                }
            }
            CDRS | RECORDINGS | QUALITIES => {}
            other => return Err(Error::Unknown("family", other.to_owned())),
        }
        Ok(())
    }

    /// All rows are in: what waited for others is put together, and what follows is derived.
    ///
    /// # Errors
    /// Where a row's other half is missing.
    pub fn restored(&mut self) -> Result<(), Error> {
        let Restoring { calls, mut invites, counts } = std::mem::take(&mut self.restoring);
        for call in calls {
            let call = Call::from_rows(call, &mut invites)?;
            self.calls.insert(call.id, call);
        }
        if let Some(leg) = invites.keys().next() {
            return Err(Error::Unknown("leg of an INVITE", leg.to_string()));
        }
        for (id, counts) in counts {
            let gateway = self.gateways.get_mut(&id);
            gateway.ok_or_else(|| Error::Unknown("gateway of counts", id.to_string()))?.counts =
                counts;
        }
        self.find_free_ports();
        self.index_all();
        Ok(())
    }
}

/// Rows that wait for the others of theirs: rows come in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Restoring {
    calls: Vec<proto::Call>,
    invites: BTreeMap<LegId, Arc<Request>>,
    counts: BTreeMap<GatewayId, Counts>,
}
