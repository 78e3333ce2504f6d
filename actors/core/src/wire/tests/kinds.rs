//! Every encoding that is stored or sent by itself: how it is written, how it is read, and the
//! values whose golden file holds it.

use std::fmt::Debug;
use std::sync::Arc;

use prost::Message as _;
use tandem_sip::Request;

use crate::agent::state::Agent;
use crate::answered::Answered;
use crate::call::leg::Leg;
use crate::call::refused::Refused;
use crate::call::state::Call;
use crate::channel::state::Channel;
use crate::gateway::{Counts, Gateway};
use crate::ids::{GatewayId, LegId};
use crate::message::state::Relayed;
use crate::proto;
use crate::queue::state::Queue;
use crate::rows::{self, RowChange};
use crate::subscription::state::Subscription;
use crate::trunk::state::Trunk;
use crate::wire::{self, Error};
use crate::world::World;

use super::values::{self, Cases};

/// What is written for one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub case: &'static str,
    /// The row's key, where it is a row.
    pub key: Option<Vec<u8>>,
    pub bytes: Vec<u8>,
}

/// A row's key, and the bytes.
type Written = (Option<Vec<u8>>, Vec<u8>);

pub trait Kind {
    /// The message's name in `core.proto`.
    fn name(&self) -> &'static str;
    fn stored(&self) -> Vec<Stored>;
    /// Reads bytes of any origin.
    fn read(&self, bytes: &[u8]) -> Result<(), Error>;
    /// The bytes are read as the value of that case.
    fn assert_reads(&self, case: &str, bytes: &[u8]);
}

struct Of<T> {
    name: &'static str,
    cases: Cases<T>,
    write: fn(&T) -> Written,
    read: fn(&[u8]) -> Result<T, Error>,
}

impl<T: Debug + PartialEq> Kind for Of<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stored(&self) -> Vec<Stored> {
        let store = |(case, value): &(&'static str, T)| {
            let (key, bytes) = (self.write)(value);
            Stored { case, key, bytes }
        };
        self.cases.iter().map(store).collect()
    }

    fn read(&self, bytes: &[u8]) -> Result<(), Error> {
        (self.read)(bytes).map(drop)
    }

    fn assert_reads(&self, case: &str, bytes: &[u8]) {
        let value = self.cases.iter().find(|(name, _)| *name == case).map(|(_, value)| value);
        let value = value.unwrap_or_else(|| panic!("{} {case} has no value any more", self.name));
        assert_eq!((self.read)(bytes).as_ref(), Ok(value), "{} {case}", self.name);
    }
}

fn message(bytes: Vec<u8>) -> Written {
    (None, bytes)
}

fn row(change: RowChange) -> Written {
    (Some(change.key), change.value.expect("a value"))
}

/// Reads a row as a node does at its start.
fn restored(family: &str, bytes: &[u8]) -> Result<World, Error> {
    let mut world = World::new(3);
    world.restore(family, bytes)?;
    Ok(world)
}

/// A call whose legs have the INVITEs of the golden calls.
pub fn read_call(bytes: &[u8]) -> Result<Call, Error> {
    let calls = values::calls();
    let legs: Vec<&Leg> = calls.iter().flat_map(|(_, call)| &call.legs).collect();
    read_call_of(bytes, &legs)
}

/// A call whose legs have the INVITEs of those among `legs` that they are, as a node reads it.
pub fn read_call_of(bytes: &[u8], legs: &[&Leg]) -> Result<Call, Error> {
    let mut world = restored(rows::CALLS, bytes)?;
    let named = proto::Call::decode(bytes)?.legs;
    for leg in named.iter().filter(|leg| leg.invite.is_none()) {
        if let Some(known) = legs.iter().find(|known| known.id.0 == leg.id) {
            world.restore(rows::INVITES, &rows::invite(known).value.expect("a value"))?;
        }
    }
    world.restored()?;
    Ok(world.calls.into_values().next().expect("a row"))
}

pub fn read_counts(bytes: &[u8]) -> Result<(GatewayId, Counts), Error> {
    wire::counts_from(proto::Counts::decode(bytes)?)
}

fn write_counts((id, counts): &(GatewayId, Counts)) -> Written {
    let (_, mut gateway) = values::gateways().remove(0);
    (gateway.id, gateway.counts) = (id.clone(), counts.clone());
    row(rows::counts(&gateway))
}

pub fn read_invite(bytes: &[u8]) -> Result<(LegId, Arc<Request>), Error> {
    wire::invite_from(proto::Invite::decode(bytes)?)
}

fn write_invite((id, invite): &(LegId, Arc<Request>)) -> Written {
    let mut leg = values::calls()[0].1.legs[0].clone();
    (leg.id, leg.invite) = (*id, Arc::clone(invite));
    row(rows::invite(&leg))
}

/// One of its rows: what else is of it stands in others.
fn write_world(world: &World) -> Written {
    row(rows::leases(world).unwrap_or_else(|| rows::config(world)))
}

pub fn read_agent(bytes: &[u8]) -> Result<Agent, Error> {
    Ok(restored(rows::AGENTS, bytes)?.agents.into_values().next().expect("a row"))
}

pub fn read_queue(bytes: &[u8]) -> Result<Queue, Error> {
    Ok(restored(rows::QUEUES, bytes)?.queues.into_values().next().expect("a row"))
}

pub fn read_channel(bytes: &[u8]) -> Result<Channel, Error> {
    Ok(restored(rows::CHANNELS, bytes)?.channels.into_values().next().expect("a row"))
}

pub fn read_trunk(bytes: &[u8]) -> Result<Trunk, Error> {
    Ok(restored(rows::TRUNKS, bytes)?.trunks.into_values().next().expect("a row"))
}

pub fn read_subscription(bytes: &[u8]) -> Result<Subscription, Error> {
    let world = restored(rows::SUBSCRIPTIONS, bytes)?;
    Ok(world.subscriptions.into_values().next().expect("a row"))
}

pub fn read_message(bytes: &[u8]) -> Result<Relayed, Error> {
    Ok(restored(rows::MESSAGES, bytes)?.messages.into_values().next().expect("a row"))
}

pub fn read_gateway(bytes: &[u8]) -> Result<Gateway, Error> {
    Ok(restored(rows::GATEWAYS, bytes)?.gateways.into_values().next().expect("a row"))
}

pub fn read_refused(bytes: &[u8]) -> Result<Refused, Error> {
    wire::refused_from(proto::Refused::decode(bytes)?)
}

pub fn read_answered(bytes: &[u8]) -> Result<Answered, Error> {
    wire::answered_from(proto::Answered::decode(bytes)?)
}

macro_rules! kind {
    ($name:literal, $cases:ident, $write:expr, $read:expr) => {
        Box::new(Of { name: $name, cases: values::$cases(), write: $write, read: $read })
    };
}

pub fn kinds() -> Vec<Box<dyn Kind>> {
    vec![
        kind!("Envelope", envelopes, |v| message(wire::encode_envelope(v)), wire::decode_envelope),
        kind!("GatewayEvent", events, |v| message(wire::encode_event(v)), wire::decode_event),
        kind!("Config", configs, |v| message(wire::encode_config(v)), wire::decode_config),
        kind!("Effect", effects, |v| row(rows::effect(v.id, Some(v))), wire::decode_effect),
        kind!("World", worlds, write_world, |bytes| restored(rows::WORLD, bytes)),
        kind!("Call", calls, |v| row(rows::call(v.id, Some(v))), read_call),
        kind!("Invite", invites, write_invite, read_invite),
        kind!("Agent", agents, |v| row(rows::agent(&v.id, Some(v))), read_agent),
        kind!("Queue", queues, |v| row(rows::queue(&v.id, Some(v))), read_queue),
        kind!("Channel", channels, |v| row(rows::channel(&v.id, Some(v))), read_channel),
        kind!("TrunkState", trunks, |v| row(rows::trunk(&v.id, Some(v))), read_trunk),
        kind!(
            "Subscription",
            subscriptions,
            |v| row(rows::subscription(v.id, Some(v))),
            read_subscription
        ),
        kind!("Relayed", messages, |v| row(rows::message(&v.branch, Some(v))), read_message),
        kind!("Gateway", gateways, |v| row(rows::gateway(v)), read_gateway),
        kind!("Counts", counts, write_counts, read_counts),
        kind!("Refused", refused, |v| row(rows::refused(v.call, Some(v))), read_refused),
        kind!("Answered", answered, |v| row(rows::answered(&v.key, Some(v))), read_answered),
        kind!("Cdr", cdrs, |v| row(rows::cdr(v)), rows::decode_cdr),
        kind!("Manifest", manifests, |v| row(rows::manifest(v)), rows::decode_manifest),
        kind!("LegQuality", qualities, |v| row(rows::quality(v)), rows::decode_quality),
    ]
}
