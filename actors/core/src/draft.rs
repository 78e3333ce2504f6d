//! The write set of one command: what it reads through to the world and what it will change.
//! Dropped whole where the command is refused or panics.

use std::sync::Arc;

use tandem_sip::reason::Q850;
use tandem_sip::{Carrier, Millis, NameAddr, Param, Request, Response, Scheme, Uri, Via, host};

use crate::agent::state::Agent;
use crate::call::credentials;
use crate::call::leg::Leg;
use crate::call::refused::Refused;
use crate::call::state::Call;
use crate::cdr::{Cdr, LegQuality, Manifest};
use crate::changes::Changes;
use crate::channel::state::Channel;
use crate::command::TransactionKey;
use crate::config::Config;
use crate::effect::{Body, Effect, EffectId};
use crate::gateway::Gateway;
use crate::ids::{
    AgentId, CallId, ChannelId, EntityId, GatewayId, QueueId, RecordingId, SubscriptionId, TrunkId,
};
use crate::leases::Leases;
use crate::limits;
use crate::message::state::Relayed;
use crate::queue::state::Queue;
use crate::rng::{self, Rng};
use crate::subscription::state::Subscription;
use crate::trunk::state::Trunk;
use crate::world::{Meta, World};

/// What a UA of ours takes.
pub const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY, SUBSCRIBE";

pub struct Draft<'a> {
    pub world: &'a World,
    pub meta: &'a Meta,
    /// The world's time with this command: it never goes back.
    pub now: Millis,
    pub rng: Rng,
    /// The cause that the message gave which this command is about.
    pub said: Option<Q850>,
    pub writes: Writes,
}

/// `None` as a value deletes the row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writes {
    pub calls: Changes<CallId, Option<Call>>,
    pub agents: Changes<AgentId, Option<Agent>>,
    pub queues: Changes<QueueId, Option<Queue>>,
    pub channels: Changes<ChannelId, Option<Channel>>,
    pub trunks: Changes<TrunkId, Option<Trunk>>,
    pub subscriptions: Changes<SubscriptionId, Option<Subscription>>,
    /// By branch.
    pub messages: Changes<String, Option<Relayed>>,
    /// New lives.
    pub gateways: Changes<GatewayId, Gateway>,
    /// All nodes were dead: whether a gateway was, too, shows when it says something.
    pub dark: bool,
    /// Ports of lives that are known.
    pub ports: Vec<Ports>,
    pub config: Option<Box<Config>>,
    pub leases: Option<Leases>,
    pub effects: Vec<Effect>,
    /// Branches of requests of ours that need not be sent again: their peer has answered.
    pub answered_branches: Vec<String>,
    pub cdrs: Vec<Cdr>,
    pub manifests: Vec<Manifest>,
    /// What gateways have of recordings.
    pub holdings: Vec<Manifest>,
    pub qualities: Vec<LegQuality>,
    pub refused: Vec<Refused>,
    /// Live calls that have lived through one more takeover.
    pub at_risk: u64,
    /// What the command was about: its answer shows it.
    pub about: Option<EntityId>,
}

/// The ports that one command took from a gateway and gave back to it. No port is in both lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Ports {
    pub gateway: GatewayId,
    pub taken: Vec<u16>,
    pub given: Vec<u16>,
}

macro_rules! access {
    ($get:ident, $edit:ident, $rows:ident, $id:ty, $row:ty) => {
        pub fn $get(&self, id: &$id) -> Option<&$row> {
            match self.writes.$rows.get(id) {
                Some(written) => written.as_ref(),
                None => self.world.$rows.get(id),
            }
        }

        /// Copies the row into the write set at the first change.
        pub fn $edit(&mut self, id: &$id) -> Option<&mut $row> {
            if self.writes.$rows.get(id).is_none() {
                let row = self.world.$rows.get(id)?.clone();
                self.writes.$rows.insert(id.clone(), Some(row));
            }
            self.writes.$rows.get_mut(id)?.as_mut()
        }
    };
}

impl Writes {
    fn ports_of(&mut self, id: &GatewayId) -> &mut Ports {
        let known = self.ports.iter().position(|ports| ports.gateway == *id);
        let at = known.unwrap_or_else(|| {
            let none = Ports { gateway: id.clone(), taken: Vec::new(), given: Vec::new() };
            self.ports.push(none);
            self.ports.len() - 1
        });
        &mut self.ports[at]
    }
}

impl<'a> Draft<'a> {
    pub fn new(world: &'a World, meta: &'a Meta) -> Self {
        Self {
            world,
            meta,
            now: world.at.max(meta.at),
            rng: Rng::of_tenant(meta.seed, meta.shard),
            said: None,
            writes: Writes::default(),
        }
    }

    access!(call, call_mut, calls, CallId, Call);
    access!(agent, agent_mut, agents, AgentId, Agent);
    access!(queue, queue_mut, queues, QueueId, Queue);
    access!(channel, channel_mut, channels, ChannelId, Channel);
    access!(subscription, subscription_mut, subscriptions, SubscriptionId, Subscription);

    pub fn trunk(&self, id: &TrunkId) -> Option<&Trunk> {
        match self.writes.trunks.get(id) {
            Some(written) => written.as_ref(),
            None => self.world.trunks.get(id),
        }
    }

    pub fn gateway(&self, id: &GatewayId) -> Option<&Gateway> {
        self.writes.gateways.get(id).or_else(|| self.world.gateways.get(id))
    }

    pub fn config(&self) -> Option<&Config> {
        self.writes.config.as_deref().or(self.world.config.as_ref())
    }

    pub fn put_call(&mut self, call: Call) {
        self.writes.calls.insert(call.id, Some(call));
    }

    pub fn put_channel(&mut self, channel: Channel) {
        self.writes.channels.insert(channel.id.clone(), Some(channel));
    }

    pub fn effect(&mut self, entity: EntityId, gateway: &GatewayId, body: Body) {
        // An entry that made more effects than u16 counts would break the bound on calls first.
        let ordinal = u16::try_from(self.writes.effects.len()).unwrap_or(u16::MAX);
        let id = EffectId { shard: self.meta.shard, index: self.meta.index, ordinal };
        self.writes.effects.push(Effect { id, entity, gateway: gateway.clone(), body });
    }

    pub fn respond(&mut self, entity: EntityId, transaction: &TransactionKey, response: Response) {
        let body = Body::Respond { transaction: transaction.clone(), response: Arc::new(response) };
        self.effect(entity, &transaction.gateway, body);
    }

    /// The last word to an INVITE, which is said again to whoever asks.
    pub fn refuse(&mut self, call: CallId, transaction: &TransactionKey, response: Response) {
        let until = self.now.after(limits::REFUSED_MS);
        self.writes.refused.push(Refused { transaction: transaction.clone(), call, until });
        self.respond(EntityId::Call(call), transaction, response);
    }

    pub fn send(&mut self, call: CallId, leg: &Leg, request: impl Into<Arc<Request>>) {
        let (destination, carrier) = (leg.peer, leg.carrier);
        let mut request = request.into();
        if let Some(config) = self.config() {
            credentials::sign(config, leg, &mut request);
        }
        let body = Body::Send { request, destination, carrier };
        self.effect(EntityId::Call(call), &leg.gateway, body);
    }

    /// The topmost Via of a new transaction from `gateway`.
    pub fn via(&mut self, gateway: &GatewayId, carrier: Carrier) -> Via {
        let vip = self.vip(gateway);
        Via {
            transport: carrier.transport(),
            host: host(vip.ip()),
            port: Some(carrier.port(vip.port())),
            params: vec![
                Param { name: "branch".into(), value: Some(self.rng.hex_after(rng::COOKIE)) },
                Param { name: "rport".into(), value: None },
            ],
        }
    }

    pub fn vip(&self, gateway: &GatewayId) -> std::net::SocketAddr {
        let unknown = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        self.gateway(gateway).map_or(unknown, |gateway| gateway.vip)
    }

    /// Where in-dialog requests reach us, over what the dialog has been over so far.
    pub fn contact(&self, gateway: &GatewayId, carrier: Carrier) -> NameAddr {
        let vip = self.vip(gateway);
        let port = carrier.port(vip.port());
        let mut uri = Uri::sip(Some("tandem"), &host(vip.ip()), Some(port));
        if let Some(transport) = carrier.uri_param() {
            uri.params.push(Param { name: "transport".into(), value: Some(transport.into()) });
        }
        NameAddr::new(uri)
    }

    /// The same for the dialog of an INVITE: where that is of `sips`, so are we (RFC 3261 §12.1.1,
    /// RFC 5630 §5.1.2).
    pub fn contact_for(&self, invite: &Request, gateway: &GatewayId, carrier: Carrier) -> NameAddr {
        let mut contact = self.contact(gateway, carrier);
        let theirs = invite.headers.contact.first();
        let sips = invite.uri.scheme == Scheme::Sips
            || theirs.is_some_and(|contact| contact.uri.scheme == Scheme::Sips);
        if sips && carrier.is_secure() {
            contact.uri.scheme = Scheme::Sips;
            if let Carrier::Tls { .. } = carrier {
                // It says TLS by itself (RFC 3261 §26.2.2).
                contact.uri.params.clear();
            }
        }
        contact
    }

    /// The lowest port that is free.
    pub fn take_port(&mut self, id: &GatewayId) -> Option<u16> {
        if let Some(new) = self.writes.gateways.get_mut(id) {
            return new.free_ports.pop_first();
        }
        let gateway = self.world.gateways.get(id)?;
        let ports = self.writes.ports_of(id);
        let free = gateway.free_ports.iter().find(|port| !ports.taken.contains(port)).copied();
        let may_use = |port: &&u16| self.world.may_use_port(id, **port);
        let given = ports.given.iter().filter(may_use).min().copied();
        let port = [free, given].into_iter().flatten().min()?;
        if given == Some(port) {
            ports.given.retain(|other| *other != port);
        } else {
            ports.taken.push(port);
        }
        Some(port)
    }

    pub fn give_port(&mut self, id: &GatewayId, port: u16) {
        if port == 0 {
            return;
        }
        if let Some(new) = self.writes.gateways.get_mut(id) {
            if self.world.may_use_port(id, port) {
                new.free_ports.insert(port);
            }
            return;
        }
        let ports = self.writes.ports_of(id);
        if ports.taken.contains(&port) {
            ports.taken.retain(|other| *other != port);
        } else {
            ports.given.push(port);
        }
    }

    pub fn recording_id(&mut self) -> RecordingId {
        RecordingId(self.rng.next())
    }
}
