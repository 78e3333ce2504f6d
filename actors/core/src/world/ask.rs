//! What the runtime and the machines ask of the world.

use std::net::SocketAddr;

use tandem_sip::{Carrier, ConnectionId, Millis};

use super::World;
use crate::command::{GatewayEvent, TransactionKey};
use crate::deadline::Deadline;
use crate::effect::Effect;
use crate::ids::{AgentId, CallId, EntityId, LegId, QueueId, SubscriptionId, TrunkId};
use crate::subscription::state::Subscription;

impl World {
    /// Which live entity an event is for; none where it makes one, or names none.
    pub fn route(&self, event: &GatewayEvent) -> Option<EntityId> {
        let call = |found: Option<&(CallId, LegId)>| found.map(|(call, _)| EntityId::Call(*call));
        match event {
            GatewayEvent::Login(_) | GatewayEvent::Invite(_) | GatewayEvent::FlowGone { .. } => {
                None
            }
            GatewayEvent::Register(register)
            | GatewayEvent::Subscribe(register)
            | GatewayEvent::Message(register) => Some(EntityId::Agent(register.agent.clone())),
            GatewayEvent::Request(inbound) | GatewayEvent::Info { inbound, .. } => {
                let headers = &inbound.request.headers;
                let tag = headers.to_tag().unwrap_or_default();
                call(self.leg_of_dialog(&headers.call_id, tag).as_ref())
                    .or_else(|| self.subscriber_of(&headers.call_id, tag))
            }
            GatewayEvent::Cancel { transaction, .. } | GatewayEvent::AckTimeout { transaction } => {
                call(self.indices.transactions.get(transaction))
            }
            GatewayEvent::Ack { call_id, local_tag, .. } => {
                call(self.leg_of_dialog(call_id, local_tag).as_ref())
            }
            GatewayEvent::Response { branch, .. } | GatewayEvent::ClientTimeout { branch } => {
                call(self.indices.branches.get(branch)).or_else(|| {
                    let message = self.messages.get(branch)?;
                    Some(EntityId::Agent(message.to.clone()))
                })
            }
            GatewayEvent::SubscriptionGone { call_id, local_tag } => {
                self.subscriber_of(call_id, local_tag)
            }
            GatewayEvent::RtpSilence { call, .. }
            | GatewayEvent::Rollover { call, .. }
            | GatewayEvent::Digit { call, .. }
            | GatewayEvent::PromptEnded { call, .. } => Some(EntityId::Call(*call)),
            GatewayEvent::Recorded(recorded) => Some(EntityId::Call(recorded.call)),
            GatewayEvent::Holdings(holdings) => {
                holdings.first().map(|holding| EntityId::Call(holding.call))
            }
            GatewayEvent::Quality(quality) => Some(EntityId::Call(quality.call)),
            GatewayEvent::PeerChange(_) | GatewayEvent::RegistrationChange(_) => None,
        }
    }

    /// Everything that has an actor on the leader.
    pub fn entities(&self) -> impl Iterator<Item = EntityId> {
        let calls = self.calls.keys().map(|id| EntityId::Call(*id));
        let agents = self.agents.keys().map(|id| EntityId::Agent(id.clone()));
        let queues = self.queues.keys().map(|id| EntityId::Queue(id.clone()));
        let channels = self.channels.keys().map(|id| EntityId::Channel(id.clone()));
        channels.chain(calls).chain(agents).chain(queues)
    }

    pub fn has(&self, entity: &EntityId) -> bool {
        match entity {
            EntityId::Channel(id) => self.channels.contains_key(id),
            EntityId::Call(id) => self.calls.contains_key(id),
            EntityId::Agent(id) => self.agents.contains_key(id),
            EntityId::Queue(id) => self.queues.contains_key(id),
            EntityId::Gateway(id) => self.gateways.contains_key(id),
        }
    }

    pub fn effects_of(&self, entity: &EntityId) -> impl Iterator<Item = &Effect> {
        self.outbox.values().filter(move |effect| effect.entity == *entity)
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.indices.deadlines.first().map(|(at, _)| *at)
    }

    /// Deadlines that `now` has passed, earliest first.
    pub fn due(&self, now: Millis) -> Vec<Deadline> {
        let passed = self.indices.deadlines.iter().take_while(|(at, _)| *at <= now);
        passed.map(|(_, deadline)| deadline.clone()).collect()
    }

    pub(crate) fn leg_of_dialog(&self, call_id: &str, tag: &str) -> Option<(CallId, LegId)> {
        let (id, leg) = self.indices.dialogs.get(tag).copied()?;
        let invite = &self.calls.get(&id)?.leg(leg)?.invite;
        (invite.headers.call_id == call_id).then_some((id, leg))
    }

    pub(crate) fn subscription_of_dialog(&self, call_id: &str, tag: &str) -> Option<&Subscription> {
        let id = self.indices.subscriptions.by_tag(tag)?;
        self.subscriptions.get(&id).filter(|known| known.dialog.call_id == call_id)
    }

    fn subscriber_of(&self, call_id: &str, tag: &str) -> Option<EntityId> {
        let known = self.subscription_of_dialog(call_id, tag)?;
        Some(EntityId::Agent(known.subscriber.clone()))
    }

    pub(crate) fn subscriptions_of(&self, agent: &AgentId) -> impl Iterator<Item = &Subscription> {
        let own = self.indices.subscriptions.of(agent);
        own.filter_map(|id| self.subscriptions.get(&id))
    }

    pub(crate) fn subscriptions_over(
        &self,
        connection: ConnectionId,
    ) -> impl Iterator<Item = &Subscription> {
        let over = self.indices.subscriptions.over(connection);
        over.filter_map(|id| self.subscriptions.get(&id))
    }

    pub(crate) fn has_watchers(&self) -> bool {
        self.indices.subscriptions.has_watchers()
    }

    pub(crate) fn is_watched(&self, agent: &AgentId) -> bool {
        self.indices.subscriptions.is_watched(agent)
    }

    /// Subscriptions to the agent's dialogs.
    pub(crate) fn watchers(&self, agent: &AgentId) -> impl Iterator<Item = SubscriptionId> {
        self.indices.subscriptions.watchers(agent)
    }

    /// Queues in which somebody waits.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &QueueId> {
        self.indices.waiting.iter()
    }

    /// Who may be offered a call of the queue, the longest idle first; the id breaks ties.
    pub(crate) fn ready(&self, queue: &QueueId) -> impl Iterator<Item = (Millis, &AgentId)> {
        let ready = self.indices.ready.get(queue);
        ready.into_iter().flatten().map(|(since, id)| (*since, id))
    }

    pub(crate) fn serves(&self, agent: &AgentId, queue: &QueueId) -> bool {
        self.indices.serves.get(agent).is_some_and(|queues| queues.contains(queue))
    }

    /// Channels of the trunk that are no row, the lowest first.
    pub(crate) fn idle_channels(&self, trunk: &TrunkId) -> impl Iterator<Item = u16> {
        self.indices.idle.get(trunk).into_iter().flatten().copied()
    }

    pub(crate) fn leg_of_branch(&self, branch: &str) -> Option<(CallId, LegId)> {
        self.indices.branches.get(branch).copied()
    }

    pub(crate) fn leg_of_transaction(&self, key: &TransactionKey) -> Option<(CallId, LegId)> {
        self.indices.transactions.get(key).copied()
    }

    /// Whose phones have registered from there.
    pub(crate) fn agents_from(&self, source: SocketAddr) -> impl Iterator<Item = &AgentId> {
        self.indices.flows.get(&source).into_iter().flatten()
    }

    /// Whose registered phone sends from there under its own name.
    pub(crate) fn agent_at(
        &self,
        source: SocketAddr,
        carrier: Carrier,
        user: &str,
    ) -> Option<&AgentId> {
        self.agents_at(source, carrier).find(|id| *id.0 == *user)
    }

    /// Whose registered phone is the only one there. Of several behind one address (a branch's PBX) none
    /// is: what comes from there under no agent's name is the PBX's own, a trunk's.
    pub(crate) fn lone_agent_at(&self, source: SocketAddr, carrier: Carrier) -> Option<&AgentId> {
        let mut there = self.agents_at(source, carrier);
        there.next().filter(|_| there.next().is_none())
    }

    /// Whose registered phones send from there, over the connection that they have registered over where
    /// they have one.
    fn agents_at(&self, source: SocketAddr, carrier: Carrier) -> impl Iterator<Item = &AgentId> {
        self.agents_from(source).filter(move |id| {
            let bindings = self.agents.get(*id).map_or(&[][..], |agent| &agent.bindings);
            bindings
                .iter()
                .any(|it| it.source == source && it.carrier.connection() == carrier.connection())
        })
    }
}
